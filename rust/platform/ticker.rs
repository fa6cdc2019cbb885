// SPDX-License-Identifier: GPL-2.0

//! Has something done every second, by a task: where one may sleep.

use crate::executor::Executor;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kext::timer::Timer;
use kext::timer::TimerFunction;
use runtime::pool::Pool;

const PERIOD_MS: u64 = 1000;

/// Has something done every second, from [`Ticker::start`] to [`Ticker::pause`].
///
/// Its drop ends the task, which the executor's then waits for.
pub struct Ticker {
    timer: Timer<Alarm>,
    shared: Arc<Shared>,
}

/// What timer, task and owner share.
#[pin_data]
struct Shared {
    /// Given by the timer, taken by the task. There is room for one.
    expirations: Pool<Expiration>,
    /// Held by the task while it does what is to be done.
    #[pin]
    stage: Mutex<Stage>,
    tick: KBox<dyn Fn() + Send + Sync>,
}

/// A time that has come.
struct Expiration;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Paused,
    Ticking,
    Ended,
}

struct Alarm(Arc<Shared>);

impl TimerFunction for Alarm {
    const PERIOD_MS: Option<u64> = Some(PERIOD_MS);

    fn expired(&self) {
        self.0.wake();
    }
}

impl Shared {
    /// Wakes the task, unless it was woken already.
    fn wake(&self) {
        self.expirations.give(Expiration);
    }

    async fn run(shared: Arc<Self>) {
        loop {
            let _: Expiration = shared.expirations.take().await;
            if shared.tick() == Stage::Ended {
                return;
            }
        }
    }

    fn tick(&self) -> Stage {
        let stage = self.stage.lock();
        if *stage == Stage::Ticking {
            (self.tick)();
        }
        *stage
    }

    fn set(&self, stage: Stage) {
        *self.stage.lock() = stage;
    }
}

impl Ticker {
    /// Starts the task, on `executor`; it does nothing yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(executor: &Executor, tick: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let mut expirations = KVec::with_capacity(1, GFP_KERNEL)?;
        expirations.push(Expiration, GFP_KERNEL)?;
        let tick: KBox<dyn Fn() + Send + Sync> = KBox::new(tick, GFP_KERNEL)?;
        let shared = Arc::pin_init(
            pin_init!(Shared {
                expirations: Pool::new(expirations),
                stage <- new_mutex!(Stage::Paused, "Ticker::stage"),
                tick,
            }),
            GFP_KERNEL,
        )?;
        let timer = Timer::new(Alarm(shared.clone()))?;
        executor.spawn(Shared::run(shared.clone()))?;
        Ok(Self { timer, shared })
    }

    /// It is done every second from now on.
    pub fn start(&self) {
        self.shared.set(Stage::Ticking);
        self.timer.arm(PERIOD_MS);
    }

    /// It is done no more; waits if it is just being done.
    pub fn pause(&self) {
        self.timer.stop();
        self.shared.set(Stage::Paused);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.timer.stop();
        self.shared.set(Stage::Ended);
        self.shared.wake();
    }
}
