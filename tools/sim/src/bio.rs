// SPDX-License-Identifier: GPL-2.0

//! A user's request, with its data.

use crate::disk::Operation;
use crate::disk::SimDisk;
use crate::fault::Kind;
use kernel::prelude::*;
use runtime::disk::SECTOR_SIZE;

/// A user's request to the device under test.
#[derive(Clone, Debug)]
pub struct SimBio {
    /// What it asks for.
    pub kind: Kind,
    /// The first sector.
    pub sector: u64,
    /// How many sectors.
    pub sectors: u64,
    /// Whether a write has to be stable when it completes.
    pub fua: bool,
    /// What is to be written, or what was read.
    pub data: Vec<u8>,
}

impl SimBio {
    /// A read of `sectors` sectors.
    pub fn read(sector: u64, sectors: u64) -> Self {
        let data = vec![0xA5; sectors as usize * SECTOR_SIZE];
        Self {
            kind: Kind::Read,
            sector,
            sectors,
            fua: false,
            data,
        }
    }

    /// A write of `data`.
    pub fn write(sector: u64, data: Vec<u8>, fua: bool) -> Self {
        let sectors = (data.len() / SECTOR_SIZE) as u64;
        Self {
            kind: Kind::Write,
            sector,
            sectors,
            fua,
            data,
        }
    }

    /// A discard.
    pub fn discard(sector: u64, sectors: u64) -> Self {
        Self {
            kind: Kind::Discard,
            sector,
            sectors,
            fua: false,
            data: Vec::new(),
        }
    }

    /// A flush.
    pub fn flush() -> Self {
        Self {
            kind: Kind::Flush,
            sector: 0,
            sectors: 0,
            fua: false,
            data: Vec::new(),
        }
    }

    /// Cuts the request to its first `sectors` sectors and returns the rest.
    pub fn split(&mut self, sectors: u64) -> Self {
        assert!(
            0 < sectors && sectors < self.sectors,
            "a request was cut outside of itself"
        );
        let data = match self.kind {
            Kind::Read | Kind::Write => self.data.split_off(sectors as usize * SECTOR_SIZE),
            Kind::Flush | Kind::Discard => Vec::new(),
        };
        let rest = Self {
            kind: self.kind,
            sector: self.sector + sectors,
            sectors: self.sectors - sectors,
            fua: self.fua,
            data,
        };
        self.sectors = sectors;
        rest
    }

    /// Lets `disk` do what the request asks for, at the same place.
    pub async fn forward(&mut self, disk: &SimDisk) -> Result {
        let operation = match self.kind {
            Kind::Read => Operation::read(self.sector, self.sectors),
            Kind::Write => Operation::write(self.sector, self.data.clone(), self.fua),
            Kind::Flush => Operation::flush(),
            Kind::Discard => Operation::discard(self.sector, self.sectors),
        };
        let (data, result) = disk.submit(operation).await;
        if self.kind == Kind::Read && result.is_ok() {
            self.data = data;
        }
        result
    }
}
