// SPDX-License-Identifier: GPL-2.0

//! What becomes of a request: decided in `map()`, without waiting or allocating; of reads, and of
//! writes without FUA, also without a lock.
//!
//! A request is cut at the first change of state only, so that neighbours of equal state are one
//! I/O. What can go straight to a device is remapped; the rest becomes a [`Job`] for a task.

use crate::engine::Engine;
use crate::engine::World;
use crate::geometry::RegionRange;
use crate::geometry::SectorRange;
use crate::volume::Mode;
use core::future::Future;
use kernel::prelude::*;

/// What a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Read sectors.
    Read,
    /// Write sectors; with `fua` they are on stable storage when the write completes.
    Write {
        /// Forced unit access.
        fua: bool,
    },
    /// Forget the content of sectors.
    Discard,
    /// Put all completed writes on stable storage.
    Flush,
}

/// One of the two data devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The device that is cloned; only read.
    Source,
    /// The device that the clone becomes.
    Destination,
}

/// What `map()` does with the front of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Send these sectors to a device; the rest comes again.
    Remap(Side, SectorRange),
    /// Give these sectors to [`Engine::serve`]; the rest comes again.
    Serve(Job, SectorRange),
    /// Complete the whole request: there is nothing to do.
    Complete,
    /// Fail the whole request.
    Fail(Error),
}

/// Work that has to wait for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// A write to a part of a region that is not hydrated.
    WritePart {
        /// The region.
        region: u64,
        /// Forced unit access.
        fua: bool,
    },
    /// A write of whole regions, at least one of them not hydrated.
    WriteWhole {
        /// The regions.
        regions: RegionRange,
        /// Forced unit access.
        fua: bool,
    },
    /// A write with FUA to hydrated regions while something awaits a commit.
    WriteStable,
    /// A discard of regions, at least one of them not hydrated.
    Discard {
        /// The regions.
        regions: RegionRange,
    },
    /// A flush.
    Flush,
}

/// How a served request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send the request to the destination as it stands; its result is the user's.
    Remap,
    /// Complete the request.
    End(Result),
}

/// A user's request in the hands of a task.
pub trait Request: Send {
    /// Sends the request as it stands to the destination and waits for the result.
    fn forward(&mut self) -> impl Future<Output = Result> + Send;

    /// As [`forward`](Self::forward), but what the task does next, up to where it waits or ends,
    /// may be done in an interrupt: it is short, and starts no I/O.
    fn forward_briefly(&mut self) -> impl Future<Output = Result> + Send {
        self.forward()
    }
}

impl<W: World> Engine<W> {
    /// Returns true if reads, and writes without FUA, all go to the destination as they are, for
    /// good. [`route`](Self::route) says the same of each, but takes longer.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.volume.map.is_shrunk() && !self.is_read_only()
    }

    /// Decides what becomes of a request for `sectors` (empty for a flush).
    pub fn route(&self, operation: Operation, sectors: SectorRange) -> Route {
        match operation {
            Operation::Read => self.route_read(sectors),
            Operation::Write { fua } => self.route_write(sectors, fua),
            Operation::Discard => self.route_discard(sectors),
            Operation::Flush => self.route_flush(),
        }
    }

    fn route_read(&self, sectors: SectorRange) -> Route {
        // A set bit is seen by whoever was told of the write that set it, so a read that must see
        // a write never goes to the source.
        let (hydrated, front) = self.front(sectors);
        if hydrated {
            return Route::Remap(Side::Destination, front);
        }
        self.copier.saw_user();
        Route::Remap(Side::Source, front)
    }

    fn route_write(&self, sectors: SectorRange, fua: bool) -> Route {
        if self.is_read_only() || (fua && !self.may_write()) {
            return Route::Fail(EIO);
        }
        let (hydrated, front) = self.front(sectors.clone());
        if hydrated {
            return if fua && !self.is_committed() {
                Route::Serve(Job::WriteStable, front)
            } else {
                Route::Remap(Side::Destination, front)
            };
        }
        if !self.may_write() {
            return Route::Fail(EIO);
        }
        let geometry = &self.volume.geometry;
        let regions = geometry.covered(&sectors);
        let first = geometry.touched(&sectors).start;
        if regions.start == first && !regions.is_empty() {
            let front = geometry.sectors(&regions);
            Route::Serve(Job::WriteWhole { regions, fua }, front)
        } else {
            let front = intersect(&geometry.sectors(&(first..first + 1)), &sectors);
            Route::Serve(Job::WritePart { region: first, fua }, front)
        }
    }

    fn route_discard(&self, sectors: SectorRange) -> Route {
        let regions = self.volume.geometry.covered(&sectors);
        if regions.is_empty() {
            return Route::Complete;
        }
        let sectors = self.volume.geometry.sectors(&regions);
        if !self.volume.map.is_range_hydrated(&regions) {
            // A discard is a hint: without a way to record it, it is dropped.
            return if self.may_write() {
                Route::Serve(Job::Discard { regions }, sectors)
            } else {
                Route::Complete
            };
        }
        if self.passes_discards_down() && !self.is_read_only() {
            Route::Remap(Side::Destination, sectors)
        } else {
            Route::Complete
        }
    }

    fn route_flush(&self) -> Route {
        if self.volume.mode() != Mode::ReadWrite {
            return Route::Fail(EIO);
        }
        if self.is_committed() {
            Route::Remap(Side::Destination, 0..0)
        } else if self.may_write() {
            Route::Serve(Job::Flush, 0..0)
        } else {
            // What memory knows is to get to disk, and may not.
            Route::Fail(EIO)
        }
    }

    /// Returns true if everything that was set so far is on stable storage.
    fn is_committed(&self) -> bool {
        self.volume.commits.is_idle(&self.volume.map)
    }

    /// Returns whether the first sector of `sectors` is hydrated, and the part of `sectors` up to
    /// where that changes.
    fn front(&self, sectors: SectorRange) -> (bool, SectorRange) {
        let geometry = &self.volume.geometry;
        let run = self.volume.map.run(&geometry.touched(&sectors));
        let end = geometry.sectors(&(0..run.end)).end;
        (run.hydrated, sectors.start..end.min(sectors.end))
    }
}

fn intersect(a: &SectorRange, b: &SectorRange) -> SectorRange {
    a.start.max(b.start)..a.end.min(b.end)
}
