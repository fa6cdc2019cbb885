// SPDX-License-Identifier: GPL-2.0

//! Bios that leave `map` uncompleted, and are completed later by their owner.
//!
//! The memory that device-mapper reserves with each bio links those that wait in line: taking one,
//! and having it wait, allocates nothing.

use core::mem;
use core::ptr::NonNull;
use dm::map::PER_BIO_ALIGN;
use dm::BioInfo;
use dm::MapBio;
use dm::MapResult;
use kernel::bindings;
use kernel::prelude::*;
use kext::bio;
use kext::bio::Bio;
use kext::bio::DataReader;
use kext::bio::Status;

/// What is noted with a held bio.
struct Note {
    bio: NonNull<bindings::bio>,
    /// The next one in line.
    next: Option<NonNull<Note>>,
    info: BioInfo,
}

/// How much memory must be reserved with each bio: an argument for
/// [`dm::CtrTarget::set_per_io_data_size`].
pub const SIZE: usize = size_of::<Note>();

const _: () = assert!(
    align_of::<Note>() <= PER_BIO_ALIGN,
    "device-mapper aligns to less"
);

/// A bio that is ours. Dropped, it fails with `EIO`.
///
/// # Invariants
///
/// The note lies in the memory of its bio, which is valid and ours. No other `HeldBio` has it.
pub struct HeldBio(NonNull<Note>);

// SAFETY: A bio belongs to no thread.
unsafe impl Send for HeldBio {}

/// Gives `bio` to `keep`, to be completed later.
///
/// If device-mapper has not reserved enough memory for the note, the bio fails with `EIO`.
pub fn hold<'a>(bio: MapBio<'a>, keep: impl FnOnce(HeldBio)) -> MapResult<'a> {
    let note = Note {
        bio: NonNull::dangling(),
        next: None,
        info: bio.info(),
    };
    let (raw, memory) = bio.into_raw();
    if let Some(place) = memory.place::<Note>() {
        // SAFETY: This is a place for a note, and ours until the bio is completed.
        unsafe { place.write(Note { bio: raw, ..note }) };
        // INVARIANT: The bio is ours, from `into_raw`, and this is the only one that has it.
        keep(HeldBio(place));
    } else {
        kernel::pr_err_once!("a note does not fit into the memory reserved with its bio\n");
        // SAFETY: The bio is valid and ours, from `into_raw`, and not used after this.
        unsafe { bio::end(raw, Status::from_result(Err(EIO))) };
    }
    // SAFETY: The bio was completed, or is completed by who has it, once: one that is forgotten is
    // not, and device-mapper waits for it. `map` returns this.
    unsafe { MapResult::submitted() }
}

impl HeldBio {
    fn note(&self) -> &Note {
        // SAFETY: By the type invariant the note is in memory of a bio that was not completed. Who
        // changes it has no reference to it.
        unsafe { self.0.as_ref() }
    }

    /// Returns what the bio asks for.
    pub fn info(&self) -> &BioInfo {
        &self.note().info
    }

    /// Returns a reader of the data.
    pub fn reader(&self) -> DataReader<'_> {
        // SAFETY: By the type invariant the bio is valid and ours, and here nobody changes it.
        unsafe { Bio::from_raw(self.note().bio) }.reader()
    }

    /// Completes the bio.
    pub fn complete(self, result: Result) {
        let raw = self.note().bio;
        mem::forget(self);
        // SAFETY: By the type invariant the bio is valid and ours. It is not used after this:
        // `self` is gone.
        unsafe { bio::end(raw, Status::from_result(result)) };
    }
}

impl Drop for HeldBio {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the bio is valid and ours. It is not used after this:
        // `self` is gone then.
        unsafe { bio::end(self.note().bio, Status::from_result(Err(EIO))) };
    }
}

/// A first-in-first-out queue of bios.
///
/// # Invariants
///
/// From `first` on, each note names the next, up to `last`, which names none. There is no `HeldBio`
/// for any of them but `first`, and their bios are valid and ours.
#[derive(Default)]
pub struct HeldBios {
    first: Option<HeldBio>,
    last: Option<NonNull<Note>>,
}

// SAFETY: Bios belong to no thread, and nobody else knows these.
unsafe impl Send for HeldBios {}

impl HeldBios {
    /// Adds a bio at the end.
    pub fn push(&mut self, bio: HeldBio) {
        let note = bio.0;
        match self.last.replace(note) {
            None => self.first = Some(bio),
            Some(last) => {
                mem::forget(bio);
                // INVARIANT: `note` was the only `HeldBio` of its bio, and is forgotten.
                // SAFETY: By the type invariant the note is in memory of a bio that was not
                // completed. There is no reference to it: those from `first` borrow `self`.
                unsafe { (*last.as_ptr()).next = Some(note) };
            }
        }
    }

    /// Returns the first.
    pub fn first(&self) -> Option<&HeldBio> {
        self.first.as_ref()
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<HeldBio> {
        let bio = self.first.take()?;
        // SAFETY: By the invariant of `bio` the note is in memory of a bio that was not completed,
        // and there is no reference to it.
        let next = unsafe { (*bio.0.as_ptr()).next.take() };
        // INVARIANT: By that of `self` the next note is that of a bio that is valid and ours, and
        // has no `HeldBio`.
        self.first = next.map(HeldBio);
        if self.first.is_none() {
            self.last = None;
        }
        Some(bio)
    }
}

impl Drop for HeldBios {
    fn drop(&mut self) {
        // Each bio fails.
        while self.pop().is_some() {}
    }
}
