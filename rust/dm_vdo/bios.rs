// SPDX-License-Identifier: GPL-2.0

//! Bios of users, as the core wants them.

use dm::map::Kind;
use dm::Device;
use kernel::prelude::*;
use kext::bio::BioSet;
use kext::bio::DataReader;
use platform::bio_task::BioIo;
use platform::bio_task::Part;
use platform::held_bio::HeldBio;
use platform::held_bio::HeldBios;
use vdo::world;
use vdo::world::Operation;

const SECTOR_SHIFT: u32 = 9;

/// A bio that changes something.
pub(crate) struct UserBio(HeldBio);

impl UserBio {
    pub(crate) fn new(bio: HeldBio) -> Self {
        Self(bio)
    }
}

impl world::Bio for UserBio {
    fn operation(&self) -> Operation {
        match self.0.info().kind {
            Kind::Discard => Operation::Discard,
            Kind::WriteZeroes => Operation::WriteZeroes,
            Kind::Flush => Operation::Flush,
            _ => Operation::Write,
        }
    }

    fn is_fua(&self) -> bool {
        self.0.info().is_fua
    }

    fn sector(&self) -> u64 {
        self.0.info().sector
    }

    fn sectors(&self) -> u32 {
        self.0.info().sectors
    }

    fn data(&self) -> impl world::Data + '_ {
        UserData(self.0.reader())
    }

    fn complete(self, result: Result) {
        self.0.complete(result);
    }
}

/// The data of a write.
struct UserData<'a>(DataReader<'a>);

impl world::Data for UserData<'_> {
    fn is_zero(&self, bytes: usize) -> bool {
        self.0.is_zero(short(bytes))
    }

    fn copy(&mut self, to: &mut [u8]) {
        self.0.copy_to(to);
    }

    fn skip(&mut self, bytes: usize) {
        self.0.skip(short(bytes));
    }
}

/// A line of them.
#[derive(Default)]
pub(crate) struct UserBios {
    first: Option<UserBio>,
    rest: HeldBios,
}

impl world::BioList for UserBios {
    type Bio = UserBio;

    fn push(&mut self, bio: UserBio) {
        if self.first.is_none() {
            self.first = Some(bio);
        } else {
            self.rest.push(bio.0);
        }
    }

    fn first(&self) -> Option<&UserBio> {
        self.first.as_ref()
    }

    fn pop(&mut self) -> Option<UserBio> {
        let next = self.rest.pop().map(UserBio);
        core::mem::replace(&mut self.first, next)
    }
}

/// A bio that reads, in its own task.
pub(crate) struct UserRead<'a> {
    /// The bio.
    pub(crate) io: BioIo<'a>,
    /// The storage.
    pub(crate) device: &'a Device,
    /// Where bios for parts of it come from.
    pub(crate) parts: &'a BioSet,
}

impl world::ReadBio for UserRead<'_> {
    fn sector(&self) -> u64 {
        self.io.info().sector
    }

    fn sectors(&self) -> u32 {
        self.io.info().sectors
    }

    async fn forward(&mut self, sector: u64) -> Result {
        // What follows gives up a claim, no more.
        self.io.forward_briefly(self.device, sector).await
    }

    async fn start_part(&mut self, offset: usize, sector: u64, sectors: u32) -> Result {
        let part = Part {
            skip: short(offset) >> SECTOR_SHIFT,
            sectors,
            sector,
        };
        self.io.start_part(self.parts, self.device, part).await
    }

    async fn finish_parts(&mut self) -> Result {
        self.io.finish_parts().await
    }

    fn zero(&mut self, offset: usize, bytes: usize) {
        self.io.zero(short(offset), short(bytes));
    }

    fn copy_in(&mut self, offset: usize, data: &[u8]) {
        self.io.copy_in(short(offset), data);
    }

    async fn leave_map(&mut self) {
        self.io.leave_map().await;
    }
}

/// No bio has more bytes than this can hold.
fn short(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
