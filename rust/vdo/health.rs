// SPDX-License-Identifier: GPL-2.0

//! Read-only mode: where a volume goes when its metadata can no longer be trusted or written.
//!
//! There is no way back but a restart. That finds the volume read-only if something is wrong with
//! it, which the super block says then; not if there was no memory, or if something could not be
//! read: what was flushed is all there, as after a crash. (A volume whose table is for reading only
//! is write-protected, which is another thing: nothing is wrong with it, and the next table may end
//! it.)
//!
//! Whoever waits for something that will not happen any more must be woken, and ask
//! [`Health::check`]: that is the task's job that waits for [`Health::failed`].

use crate::error::Error;
use crate::error::Result;
use crate::error::Status;
use core::pin::pin;
use kernel::prelude::ENOMEM;
use runtime::monitor::Entries;
use runtime::monitor::Monitor;
use runtime::monitor::Rules;
use runtime::sync::AtomicU32;

/// Whether a volume can be written.
pub struct Health {
    read_only: AtomicU32,
    /// Not 0 while the storage must not be written, though it could.
    protected: AtomicU32,
    /// Not 0 if a restart changes nothing.
    lasting: AtomicU32,
    cause: Monitor<Cause>,
}

#[derive(Default)]
struct Cause {
    /// The first one.
    error: Option<Error>,
    is_told: bool,
    stopping: bool,
}

impl Rules for Cause {
    type Key = ();

    fn left(&mut self, (): &(), _: &mut Entries<'_, ()>) {}
}

impl Health {
    /// A volume that can be written, or one that could not from the start.
    pub fn new(read_only: bool) -> Self {
        Self {
            read_only: AtomicU32::new(read_only.into()),
            protected: AtomicU32::new(0),
            lasting: AtomicU32::new(read_only.into()),
            cause: Monitor::new(Cause::default()),
        }
    }

    /// Returns true in read-only mode.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load_acquire() != 0
    }

    /// Returns true while the volume is write-protected.
    pub fn is_protected(&self) -> bool {
        self.protected.load_acquire() != 0
    }

    /// Begins or ends write protection. The volume is suspended.
    pub fn set_protected(&self, protected: bool) {
        self.protected.store_release(protected.into());
    }

    /// Returns true if a restart finds the volume read-only.
    pub fn is_lasting(&self) -> bool {
        self.lasting.load_acquire() != 0
    }

    /// Returns why read-only mode was entered, if it was not there from the start.
    pub fn cause(&self) -> Option<Error> {
        self.cause.with(|cause, _| cause.error)
    }

    /// Fails in read-only mode, and while the volume is write-protected.
    pub fn check(&self) -> Result {
        if self.is_read_only() || self.is_protected() {
            return Err(Error::READ_ONLY);
        }
        Ok(())
    }

    /// Enters read-only mode because of `error`. In any context; only the first cause is told.
    pub fn enter_read_only(&self, error: Error) {
        self.lasting.store_release(1);
        self.stop_writing(error);
    }

    /// Enters read-only mode until the next start, because of an `error` that says nothing about
    /// the volume.
    pub fn stop_writing(&self, error: Error) {
        self.cause.with(|cause, waiting| {
            if self.read_only.swap(1) == 0 {
                cause.error = Some(error);
                waiting.wake_all();
            }
        });
    }

    /// Enters read-only mode where `result` is an error, for good unless it is a lack of memory;
    /// gives it back.
    pub fn watch<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Ok(_) | Err(Error::READ_ONLY) => {}
            Err(error) if error == Error::Errno(ENOMEM) => self.stop_writing(error),
            Err(error) => self.enter_read_only(error),
        }
        result
    }

    /// As [`watch`](Self::watch), for somebody who changes nothing before this: a lack of space or
    /// memory, and what could not be read, is an error for whoever asked.
    pub fn watch_look_up<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(Error::Errno(_) | Error::Status(Status::NoSpace)) => result,
            _ => self.watch(result),
        }
    }

    /// Waits until read-only mode is entered and returns why, or `None` at the end.
    pub async fn failed(&self) -> Option<Error> {
        let entry = pin!(self.cause.entry(()));
        entry
            .as_ref()
            .wait(|turn| match (turn.state.error, turn.state.stopping) {
                (Some(error), _) if !turn.state.is_told => {
                    turn.state.is_told = true;
                    Some(Some(error))
                }
                (_, true) => Some(None),
                (_, false) => None,
            })
            .await
    }

    /// Ends the wait for read-only mode.
    pub fn stop(&self) {
        self.cause.with(|cause, waiting| {
            cause.stopping = true;
            waiting.wake_all();
        });
    }
}
