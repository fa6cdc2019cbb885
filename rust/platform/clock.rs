// SPDX-License-Identifier: GPL-2.0

//! The kernel's time, as `runtime` wants it.

use core::future::Future;
use core::pin::Pin;
use core::task::Context;
use core::task::Poll;
use core::task::Waker;
use kernel::prelude::*;
use kext::timer;
use kext::timer::TimerFunction;
use runtime::clock::Clock;
use runtime::clock::Millis;
use runtime::clock::Timer;
use runtime::sync::Lock;

/// Nanoseconds in a millisecond.
const NS_PER_MS: u64 = 1_000_000;

/// The kernel's monotonic clock.
#[derive(Clone, Copy)]
pub struct KernelClock;

impl Clock for KernelClock {
    type Timer = KernelTimer;

    fn now_ms(&self) -> Millis {
        timer::monotonic_ns() / NS_PER_MS
    }

    fn timer(&self) -> Result<KernelTimer> {
        Ok(KernelTimer(timer::Timer::new(Alarm(Lock::new(
            State::Expired,
        )))?))
    }
}

/// A timer of the kernel.
pub struct KernelTimer(timer::Timer<Alarm>);

struct Alarm(Lock<State>);

enum State {
    Armed(Waker),
    Expired,
}

impl TimerFunction for Alarm {
    fn expired(&self) {
        let before = self
            .0
            .with(|state| core::mem::replace(state, State::Expired));
        if let State::Armed(waker) = before {
            waker.wake();
        }
    }
}

impl Timer for KernelTimer {
    fn sleep(&mut self, duration_ms: Millis) -> impl Future<Output = ()> + Send {
        Sleep {
            timer: &self.0,
            duration_ms,
            armed: false,
        }
    }
}

struct Sleep<'t> {
    timer: &'t timer::Timer<Alarm>,
    duration_ms: Millis,
    armed: bool,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let alarm = self.timer.data();
        if self.armed {
            return alarm.0.with(|state| match state {
                State::Armed(waker) => {
                    waker.clone_from(context.waker());
                    Poll::Pending
                }
                State::Expired => Poll::Ready(()),
            });
        }
        alarm
            .0
            .with(|state| *state = State::Armed(context.waker().clone()));
        self.timer.arm(self.duration_ms);
        self.armed = true;
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        let alarm = self.timer.data();
        if self.armed && alarm.0.with(|state| matches!(state, State::Armed(_))) {
            self.timer.stop();
            drop(
                alarm
                    .0
                    .with(|state| core::mem::replace(state, State::Expired)),
            );
        }
    }
}
