// SPDX-License-Identifier: GPL-2.0

//! Has the engine look after itself every second, where it may sleep.

use crate::engine::Engine;
use kernel::prelude::*;
use kernel::sync::Arc;
use kext::timer::Timer;
use kext::timer::TimerFunction;
use platform::executor::Executor;
use runtime::pool::Pool;
use runtime::sync::AtomicU32;

const PERIOD_MS: u64 = 1000;

/// Wakes a task every second, while it is armed.
pub(crate) struct Ticker {
    timer: Timer<Clapper>,
    bell: Arc<Bell>,
}

/// What passes from the timer to the task.
struct Bell {
    /// Given by the timer, taken by the task. There is room for one.
    strokes: Pool<Stroke>,
    stopping: AtomicU32,
}

struct Stroke;

struct Clapper(Arc<Bell>);

impl TimerFunction for Clapper {
    const PERIOD_MS: Option<u64> = Some(PERIOD_MS);

    fn expired(&self) {
        self.0.ring();
    }
}

impl Bell {
    /// Wakes the task, unless it was woken already.
    fn ring(&self) {
        self.strokes.give(Stroke);
    }

    async fn run(bell: Arc<Self>, engine: Arc<Engine>) {
        loop {
            let _: Stroke = bell.strokes.take().await;
            if bell.stopping.load_acquire() != 0 {
                return;
            }
            engine.tick();
        }
    }
}

impl Ticker {
    /// Starts the task.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(engine: &Arc<Engine>, executor: &Executor) -> Result<Self> {
        let mut strokes = KVec::with_capacity(1, GFP_KERNEL)?;
        strokes.push(Stroke, GFP_KERNEL)?;
        let bell = Bell {
            strokes: Pool::new(strokes),
            stopping: AtomicU32::new(0),
        };
        let bell = Arc::new(bell, GFP_KERNEL)?;
        let timer = Timer::new(Clapper(bell.clone()))?;
        executor.spawn(Bell::run(bell.clone(), engine.clone()))?;
        Ok(Self { timer, bell })
    }

    /// The task looks after the engine from now on.
    pub(crate) fn start(&self) {
        self.timer.arm(PERIOD_MS);
    }

    /// It does no more, for now.
    pub(crate) fn pause(&self) {
        self.timer.stop();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.timer.stop();
        self.bell.stopping.store_release(1);
        self.bell.ring();
    }
}
