// SPDX-License-Identifier: GPL-2.0

//! Having something that takes long pause, or stop.

use crate::error::Result;
use core::pin::pin;
use kernel::prelude::*;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;

/// What is wanted, and where the work is.
#[derive(Default)]
struct Wish {
    pause: bool,
    stop: bool,
    /// There is work, and it waits here.
    is_paused: bool,
    is_running: bool,
}

impl Rules for Wish {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
}

/// Has something that takes long pause, or stop.
pub struct Control(Monitor<Wish>);

impl Control {
    /// Nothing is wanted.
    pub fn new() -> Self {
        Self(Monitor::new(Wish::default()))
    }

    /// Has the work pause at the next place where it can, and returns when it does, or has ended.
    pub async fn pause(&self) {
        self.0.with(|wish, _| wish.pause = true);
        let entry = pin!(self.0.entry(()));
        let paused = entry.as_ref().wait(|turn| {
            let wish = &turn.state;
            (wish.is_paused || !wish.is_running).then_some(())
        });
        paused.await;
    }

    /// Lets the work go on.
    pub fn resume(&self) {
        self.0.with(|wish, waiting| {
            wish.pause = false;
            waiting.wake_all();
        });
    }

    /// Has the work fail with `EAGAIN` at the next place where it can, also if it pauses.
    pub fn stop(&self) {
        self.0.with(|wish, waiting| {
            wish.stop = true;
            waiting.wake_all();
        });
    }

    /// The work begins, or has ended. It is not to stop, as far as is known.
    pub(crate) fn set_running(&self, running: bool) {
        self.0.with(|wish, waiting| {
            wish.is_running = running;
            wish.is_paused = false;
            wish.stop = false;
            waiting.wake_all();
        });
    }

    /// The work may pause here; fails if it is to stop.
    pub(crate) async fn check(&self) -> Result {
        let entry = pin!(self.0.entry(()));
        let checked = entry.as_ref().wait(|turn| {
            let wish = &mut *turn.state;
            let waits = wish.pause && !wish.stop;
            let is_news = waits && !wish.is_paused;
            wish.is_paused = waits;
            if is_news {
                turn.others.wake_all();
            }
            (!waits).then_some(wish.stop)
        });
        match checked.await {
            false => Ok(()),
            true => Err(EAGAIN.into()),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}
