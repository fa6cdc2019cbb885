// SPDX-License-Identifier: GPL-2.0

//! `dmox vdo format`.
//!
//! The geometry block is zeroed first and written last: a format that was interrupted leaves a
//! blank device, never half a volume.

use super::size;
use super::uuid_text;
use crate::device::Device;
use crate::failure::Failure;
use crate::failure::Result;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;
use vdo::error::Error;
use vdo::error::Status;
use vdo::format::geometry;
use vdo::format::layout::Parameters;
use vdo::format::layout::ROOTS;
use vdo::format::recovery_journal::RECOVERY_JOURNAL_BLOCKS;
use vdo::format::slab::SLAB_JOURNAL_BLOCKS;
use vdo::format::IndexMemory;
use vdo::format::BLOCK_SIZE;

/// The volume takes the whole device. The start of the device must be blank.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The device or file
    device: PathBuf,
    /// The size that the volume shows, as 500G or 2T; without it, what surely fits
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    logical_size: Option<u64>,
    /// Slabs have 2^BITS blocks: 13 (32 MiB) to 23 (32 GiB)
    #[arg(long, value_name = "BITS", default_value_t = 19,
        value_parser = clap::value_parser!(u32).range(13..=23))]
    slab_bits: u32,
    /// Memory of the deduplication index in GiB: 0.25, 0.5, 0.75, or 1 to 1024
    #[arg(long, value_name = "GIB", default_value = "0.25", value_parser = index_memory)]
    index_memory: IndexMemory,
    /// Keep ten times as much in the index, most of it on disk only
    #[arg(long)]
    sparse_index: bool,
    /// Format although the device is not blank
    #[arg(long)]
    force: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut device = Device::open(&self.device, true)?;
        let physical_blocks = device.blocks()?;
        let parameters = self.parameters(physical_blocks)?;
        let (geometry, super_block) = parameters
            .plan()
            .map_err(|error| device.failure(explain(error, &parameters)))?;
        if !self.force && !geometry::is_blank(&*device.read(0)?) {
            return Err(device.failure("is not blank; --force formats it all the same"));
        }

        device.zero(0, 2)?;
        device.flush()?;
        let partitions = &super_block.partitions;
        device.zero(partitions.block_map.start, partitions.block_map.blocks)?;
        device.zero(partitions.journal.start, partitions.journal.blocks)?;
        device.flush()?;
        let mut page = Box::new([0; BLOCK_SIZE]);
        super_block.encode(&mut page);
        device.write(geometry.data_start, &page)?;
        device.flush()?;
        geometry.encode(&mut page);
        device.write(0, &page)?;
        device.flush()?;

        let block = BLOCK_SIZE as u64;
        let slab = &super_block.depot.slab;
        println!("uuid: {}", uuid_text(&geometry.uuid));
        println!(
            "logical size: {}",
            size::text(super_block.logical_blocks * block)
        );
        println!("physical size: {}", size::text(physical_blocks * block));
        println!(
            "slabs: {} of {}, {} for data",
            super_block.depot.slab_count,
            size::text(u64::from(slab.blocks) * block),
            size::text(super_block.depot.data_blocks() * block)
        );
        Ok(ExitCode::SUCCESS)
    }

    fn parameters(&self, physical_blocks: u64) -> Result<Parameters> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(|_| Failure::new("the clock is wrong"))?;
        Ok(Parameters {
            nonce: now.as_micros() as u64,
            uuid: random_uuid()?,
            physical_blocks,
            logical_blocks: self.logical_size.map(|size| size / BLOCK_SIZE as u64),
            slab_blocks: 1 << self.slab_bits,
            slab_journal_blocks: SLAB_JOURNAL_BLOCKS,
            recovery_journal_blocks: RECOVERY_JOURNAL_BLOCKS,
            roots: ROOTS,
            index_memory: self.index_memory,
            sparse: self.sparse_index,
            index_blocks: None,
        })
    }
}

fn explain(error: Error, parameters: &Parameters) -> String {
    match error {
        Error::Status(Status::NoSpace) => match parameters.minimum_blocks() {
            Ok(blocks) => {
                let bytes = blocks * BLOCK_SIZE as u64;
                format!("is too small: at least {bytes} bytes are needed")
            }
            Err(error) => error.to_string(),
        },
        Error::Status(Status::TooManySlabs) => {
            "is too large for slabs of this size; see --slab-bits".into()
        }
        error => error.to_string(),
    }
}

fn random_uuid() -> Result<[u8; 16]> {
    let mut uuid = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut uuid)?;
    // Version 4, of the common variant.
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    Ok(uuid)
}

fn index_memory(text: &str) -> Result<IndexMemory, String> {
    let memory = match text {
        "0.25" => IndexMemory::QUARTER,
        "0.5" | "0.50" => IndexMemory::HALF,
        "0.75" => IndexMemory::THREE_QUARTERS,
        whole => IndexMemory(whole.parse().unwrap_or(0)),
    };
    let is_whole = (1..=IndexMemory::MAX_GIB).contains(&memory.0);
    if text.starts_with("0.") && memory.is_known() || is_whole {
        Ok(memory)
    } else {
        Err("0.25, 0.5, 0.75, or 1 to 1024".into())
    }
}
