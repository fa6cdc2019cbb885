// SPDX-License-Identifier: GPL-2.0

//! `dmox vdo dump`.

use super::open_volume;
use super::uuid_text;
use crate::device::Device;
use crate::failure::Failure;
use crate::failure::Result;
use crate::output;
use serde_json::json;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use vdo::format::block_map;
use vdo::format::block_map::Validity;
use vdo::format::reference;
use vdo::format::summary;
use vdo::format::tree;
use vdo::format::tree::Forest;
use vdo::format::tree::ROOT_HEIGHT;
use vdo::format::Geometry;
use vdo::format::JournalPoint;
use vdo::format::Lbn;
use vdo::format::Mapping;
use vdo::format::Partition;
use vdo::format::Pbn;
use vdo::format::SummaryEntry;
use vdo::format::SuperBlock;

/// Shows what is on disk as it is; of a crashed volume, without what a recovery would change.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The device or file
    device: PathBuf,
    /// Show where this logical block is stored, and the pages that say so
    #[arg(long, value_name = "LBN")]
    lbn: Option<Lbn>,
    /// Show the reference counts of this slab
    #[arg(long, value_name = "NUMBER")]
    slab: Option<u32>,
    /// Show what the summary says of each slab
    #[arg(long)]
    slabs: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let device = Device::open_shared(&self.device)?;
        let (geometry, super_block) = open_volume(&device)?;
        let volume = Volume {
            device,
            geometry,
            super_block,
        };
        let value = match (self.lbn, self.slab) {
            (Some(lbn), _) => volume.logical(lbn)?,
            (None, Some(slab)) => volume.slab(slab)?,
            (None, None) if self.slabs => volume.slabs()?,
            (None, None) => volume.header(),
        };
        output::print(&value, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}

struct Volume {
    device: Device,
    geometry: Geometry,
    super_block: SuperBlock,
}

impl Volume {
    fn read(&self, pbn: Pbn) -> Result<Box<vdo::format::Page>> {
        match self.geometry.device_block(pbn) {
            Some(block) => self.device.read(block),
            None => Err(Failure::new(format!("block {pbn} is not on the device"))),
        }
    }

    fn header(&self) -> Value {
        let geometry = &self.geometry;
        let found = &self.super_block;
        let depot = &found.depot;
        let partition = |part: Partition| json!({ "start": part.start, "blocks": part.blocks });
        json!({
            "geometry": {
                "version": format!("{:?}", geometry.version),
                "uuid": uuid_text(&geometry.uuid),
                "nonce": geometry.nonce,
                "bio_offset": geometry.bio_offset,
                "index_start": geometry.index_start,
                "data_start": geometry.data_start,
                "index_memory": geometry.index_memory.0 as i32,
                "sparse": geometry.sparse == 1,
            },
            "volume": {
                "state": format!("{:?}", found.state),
                "complete_recoveries": found.complete_recoveries,
                "read_only_recoveries": found.read_only_recoveries,
                "logical_blocks": found.logical_blocks,
                "physical_blocks": found.physical_blocks,
                "slab_size": found.slab_size,
                "recovery_journal_size": found.recovery_journal_size,
                "slab_journal_blocks": found.slab_journal_blocks,
            },
            "partitions": {
                "block_map": partition(found.partitions.block_map),
                "slab_depot": partition(found.partitions.depot),
                "recovery_journal": partition(found.partitions.journal),
                "slab_summary": partition(found.partitions.summary),
            },
            "recovery_journal": {
                "journal_start": found.journal_start,
                "logical_blocks_used": found.logical_blocks_used,
                "block_map_data_blocks": found.block_map_data_blocks,
            },
            "slab_depot": {
                "slabs": depot.slab_count,
                "first_block": depot.first_block,
                "last_block": found.last_block,
                "zones": found.zone_count,
                "data_blocks": depot.slab.data_blocks,
                "reference_count_blocks": depot.slab.reference_blocks,
                "flushing_threshold": depot.slab.flushing,
                "blocking_threshold": depot.slab.blocking,
                "scrubbing_threshold": depot.slab.scrubbing,
            },
            "block_map": { "root_origin": found.root_origin, "roots": found.root_count },
        })
    }

    /// The way from the root to a logical block.
    fn logical(&self, lbn: Lbn) -> Result<Value> {
        let found = &self.super_block;
        if lbn >= found.logical_blocks {
            let text = format!("the last logical block is {}", found.logical_blocks - 1);
            return Err(Failure::new(text));
        }
        let forest = Forest::new(found.root_count, found.logical_blocks);
        let forest = forest.ok_or_else(|| Failure::new("a volume without roots"))?;
        let (number, slot) = tree::leaf(lbn);
        let path = forest.path(number);
        let mut pages = Vec::new();
        let mut pbn = found.root_origin + u64::from(path.tree);
        let mut mapping = Mapping::UNMAPPED;
        for height in (0..=ROOT_HEIGHT).rev() {
            let slot = if height == 0 { slot } else { path.slot(height) };
            let page = self.read(pbn)?;
            let validity = block_map::validate(&page, found.nonce, pbn);
            mapping = match validity {
                Validity::Valid => block_map::entry(&page, slot),
                _ => Mapping::UNMAPPED,
            };
            pages.push(json!({
                "height": height,
                "page": pbn,
                "valid": validity == Validity::Valid,
                "slot": slot,
                "block": mapping.pbn,
                "state": mapping.state.bits(),
            }));
            if !mapping.is_mapped() {
                break;
            }
            pbn = mapping.pbn;
        }
        let stored = match (mapping.is_mapped(), mapping.pbn, mapping.state.slot()) {
            (false, _, _) => "nowhere: it was never written, or discarded".into(),
            (true, 0, _) => "nowhere: it is zero".into(),
            (true, pbn, None) => format!("in block {pbn}"),
            (true, pbn, Some(slot)) => format!("in block {pbn}, as compressed fragment {slot}"),
        };
        Ok(json!({ "lbn": lbn, "tree": path.tree, "stored": stored, "pages": pages }))
    }

    fn summary(&self, slab: u32) -> Result<SummaryEntry> {
        let found = &self.super_block;
        let (block, index) = summary::place(slab);
        let copy = slab % u32::from(found.zone_count.max(1)) * summary::BLOCKS_PER_COPY;
        let page = self.read(found.partitions.summary.start + u64::from(copy + block))?;
        Ok(summary::entry(&page, index))
    }

    fn slabs(&self) -> Result<Value> {
        let mut slabs = Vec::new();
        for slab in 0..self.super_block.depot.slab_count {
            let entry = self.summary(slab)?;
            slabs.push(json!({
                "slab": slab,
                "journal_offset": entry.tail_block_offset,
                "fullness_hint": entry.fullness_hint,
                "counts_on_disk": entry.load_ref_counts,
                "dirty": entry.is_dirty,
            }));
        }
        Ok(json!({ "slabs": slabs }))
    }

    /// The reference blocks of a slab, as they are on disk.
    fn slab(&self, slab: u32) -> Result<Value> {
        let depot = &self.super_block.depot;
        if slab >= depot.slab_count {
            let text = format!("there are {} slabs, from 0 on", depot.slab_count);
            return Err(Failure::new(text));
        }
        let entry = self.summary(slab)?;
        let mut blocks = Vec::new();
        for index in 0..depot.slab.used_reference_blocks() {
            let pbn = depot.reference_block(slab, index);
            let mut counts = [0; reference::COUNTS_PER_BLOCK as usize];
            let points = reference::decode(&*self.read(pbn)?, &mut counts);
            let with =
                |wanted: &dyn Fn(u8) -> bool| counts.iter().filter(|&&count| wanted(count)).count();
            let newest = points.iter().max().copied().unwrap_or(JournalPoint::NONE);
            blocks.push(json!({
                "block": pbn,
                "free": with(&|count| count == 0),
                "used": with(&|count| (1..=reference::MAX_COUNT).contains(&count)),
                "shared": with(&|count| (2..reference::MAX_COUNT).contains(&count)),
                "full_or_pages": with(&|count| count == reference::MAX_COUNT),
                "provisional": with(&|count| count == reference::PROVISIONAL),
                "commit_point": format!("{}/{}", newest.sequence, newest.entry),
            }));
        }
        Ok(json!({
            "slab": slab,
            "first_block": depot.origin(slab),
            "journal_offset": entry.tail_block_offset,
            "fullness_hint": entry.fullness_hint,
            "counts_on_disk": entry.load_ref_counts,
            "dirty": entry.is_dirty,
            "reference_blocks": if entry.load_ref_counts { json!(blocks) } else { Value::Null },
        }))
    }
}
