// SPDX-License-Identifier: GPL-2.0

//! The clock of the simulated machine.

use crate::world::Alarm;
use crate::world::Event;
use crate::world::Micros;
use crate::world::World;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::clock::Millis;
use runtime::clock::Timer;
use std::future::Future;
use std::task::Context;
use std::task::Poll;

const MICROS_IN_MILLI: Micros = 1000;

/// The clock of a world.
#[derive(Clone)]
pub struct SimClock(World);

impl SimClock {
    /// Returns the clock of `world`.
    pub fn new(world: &World) -> Self {
        Self(world.clone())
    }
}

impl Clock for SimClock {
    type Timer = SimTimer;

    fn now_ms(&self) -> Millis {
        self.0.now() / MICROS_IN_MILLI
    }

    fn timer(&self) -> Result<SimTimer> {
        // Stands for the kernel's allocation of a timer.
        KBox::new(0_u8, GFP_KERNEL)?;
        Ok(SimTimer(self.0.clone()))
    }
}

/// A timer of a world.
pub struct SimTimer(World);

impl Timer for SimTimer {
    fn sleep(&mut self, duration_ms: Millis) -> impl Future<Output = ()> + Send {
        sleep(&self.0, duration_ms.saturating_mul(MICROS_IN_MILLI))
    }
}

/// Waits for `duration`.
pub fn sleep(world: &World, duration: Micros) -> Sleep {
    Sleep {
        world: world.clone(),
        duration,
        alarm: None,
    }
}

/// A task that waits for a moment.
pub struct Sleep {
    world: World,
    duration: Micros,
    alarm: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.world.lock();
        let id = *this.alarm.get_or_insert_with(|| {
            let id = state.id();
            // Timers are late by chance, never early.
            let late = state.rng.below(this.duration / 8 + 1);
            state.timers.insert(
                id,
                Alarm {
                    fired: false,
                    waker: None,
                },
            );
            state.schedule(this.duration.saturating_add(late), Event::Alarm(id));
            id
        });
        match state.timers.get_mut(&id) {
            Some(alarm) if !alarm.fired => {
                alarm.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => {
                state.timers.remove(&id);
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.alarm {
            self.world.lock().timers.remove(&id);
        }
    }
}
