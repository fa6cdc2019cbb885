// SPDX-License-Identifier: GPL-2.0

//! Invariants 1 to 7: geometry block and super block.

use crate::finding::Findings;
use crate::finding::Place;
use crate::image::Image;
use crate::volume::Volume;
use crate::Shape;
use vdo::format::geometry;
use vdo::format::geometry::REGION_IDS;
use vdo::format::layout;
use vdo::format::recovery_journal;
use vdo::format::slab;
use vdo::format::slab_journal;
use vdo::format::summary;
use vdo::format::Fault;
use vdo::format::Geometry;
use vdo::format::Page;
use vdo::format::SlabConfig;
use vdo::format::SuperBlock;
use vdo::format::BLOCK_SIZE;
use vdo::format::MAX_SEQUENCE;

/// Opens a volume, if its sizes make enough sense to go on.
pub(crate) fn open<'a>(
    image: &'a dyn Image,
    shape: Shape,
    toy: bool,
    findings: &mut Findings,
) -> Option<Volume<'a>> {
    check_shape(shape, findings)?;
    let geometry = open_geometry(image, findings)?;
    let super_block = open_super_block(image, &geometry, findings)?;
    let before = findings.errors();
    check_super_block(&super_block, image, &geometry, findings);
    check_layout(&super_block, &geometry, toy, findings);
    check_depot(&super_block, toy, findings);
    check_block_map(&super_block, toy, findings);
    if let Err(error) = super_block.check(&geometry) {
        if findings.errors() == before {
            findings.error(3, Place::SuperBlock, format!("not usable: {error}"));
        }
    }
    // Where nothing is where it is looked for, everything looks wrong.
    if findings.errors() > 0 {
        findings.note(0, Place::Volume, "nothing else was looked at");
        return None;
    }
    let mut volume = Volume::new(image, geometry, super_block, shape);
    volume.toy = toy;
    Some(volume)
}

/// A shape is the caller's, not the volume's; this only keeps nonsense from going further.
fn check_shape(shape: Shape, findings: &mut Findings) -> Option<()> {
    let journal = shape.journal.entries_per_sector;
    let slab = shape.slab_journal;
    let standard = slab_journal::Shape::STANDARD;
    let most = recovery_journal::Shape::STANDARD.entries_per_sector;
    let sound = (1..=most).contains(&journal)
        && (1..=standard.full).contains(&slab.full)
        && (slab.full..=standard.data).contains(&slab.data);
    if !sound {
        findings.error(0, Place::Volume, "no journal has blocks of this shape");
    }
    sound.then_some(())
}

fn open_geometry(image: &dyn Image, findings: &mut Findings) -> Option<Geometry> {
    let mut page: Box<Page> = Box::new([0; BLOCK_SIZE]);
    if let Err(error) = image.read_block(0, &mut page) {
        findings.unreadable(0, &error);
        return None;
    }
    if geometry::is_blank(&page) {
        findings.error(1, Place::Geometry, "blank: there is no volume");
        return None;
    }
    let geometry = match Geometry::decode(&page) {
        Ok(geometry) => geometry,
        Err(fault) => {
            findings.error(1, Place::Geometry, fault.to_string());
            return None;
        }
    };
    if geometry.region_ids != REGION_IDS {
        let text = format!("the regions have ids {:?}", geometry.region_ids);
        findings.warn(1, Place::Geometry, text);
    }
    if !geometry.index_memory.is_known() {
        let text = format!("unknown index memory {:#x}", geometry.index_memory.0);
        findings.error(1, Place::Geometry, text);
    }
    if geometry.sparse > 1 {
        let text = format!("sparse is {}, not 0 or 1", geometry.sparse);
        findings.error(1, Place::Geometry, text);
    }
    if let Err(fault) = geometry.check() {
        findings.error(1, Place::Geometry, fault.to_string());
        return None;
    }
    Some(geometry)
}

fn open_super_block(
    image: &dyn Image,
    geometry: &Geometry,
    findings: &mut Findings,
) -> Option<SuperBlock> {
    let mut page: Box<Page> = Box::new([0; BLOCK_SIZE]);
    let block = geometry.device_block(geometry.data_start)?;
    if let Err(error) = image.read_block(block, &mut page) {
        findings.unreadable(geometry.data_start, &error);
        return None;
    }
    match SuperBlock::decode(&page) {
        Ok(super_block) => Some(super_block),
        Err(fault) => {
            findings.error(invariant_of(fault), Place::SuperBlock, fault.to_string());
            None
        }
    }
}

/// Returns the invariant that a super block breaks which cannot even be decoded.
fn invariant_of(fault: Fault) -> u8 {
    match fault {
        Fault::Field { name: "state", .. } => 3,
        Fault::Partitions | Fault::PartitionTwice { .. } => 4,
        Fault::Field { name, .. } if name.starts_with("flat") || name == "root count" => 6,
        Fault::Field { .. } => 5,
        _ => 2,
    }
}

fn check_super_block(
    super_block: &SuperBlock,
    image: &dyn Image,
    geometry: &Geometry,
    findings: &mut Findings,
) {
    let place = Place::SuperBlock;
    if super_block.nonce != geometry.nonce {
        findings.error(2, place, "its nonce is not that of the geometry block");
    }
    if !(1..=layout::MAX_LOGICAL).contains(&super_block.logical_blocks) {
        let text = format!("{} logical blocks", super_block.logical_blocks);
        findings.error(3, place, text);
    }
    let physical = super_block.physical_blocks;
    let there = image.blocks().saturating_add(geometry.bio_offset);
    let end = super_block.partitions.summary.end();
    if end > there {
        let text = format!("the partitions end at block {end}, but the device has {there}");
        findings.error(3, place, text);
    }
    if physical > layout::MAX_PHYSICAL || physical > there {
        let text = format!("{physical} physical blocks, but the device has {there}");
        findings.error(3, place, text);
    }
    if !super_block.recovery_journal_size.is_power_of_two() {
        let text = format!(
            "a recovery journal of {} blocks",
            super_block.recovery_journal_size
        );
        findings.error(3, place, text);
    }
    if super_block.slab_journal_blocks > 256 {
        let text = format!(
            "slab journals of {} blocks",
            super_block.slab_journal_blocks
        );
        findings.error(3, place, text);
    }
    if super_block.slab_journal_blocks >= super_block.slab_size {
        findings.error(3, place, "the slab journal fills the slab");
    }
    if !(1..MAX_SEQUENCE).contains(&super_block.journal_start) {
        let text = format!("the journal starts at {}", super_block.journal_start);
        findings.error(7, place, text);
    }
}

fn check_layout(super_block: &SuperBlock, geometry: &Geometry, toy: bool, findings: &mut Findings) {
    let place = Place::SuperBlock;
    let partitions = &super_block.partitions;
    if partitions
        .check(geometry, super_block.physical_blocks)
        .is_err()
    {
        findings.error(4, place, "the partitions do not fill the volume");
    }
    if partitions.journal.blocks != super_block.recovery_journal_size {
        findings.error(4, place, "the recovery journal does not fill its partition");
    }
    if partitions.summary.blocks != summary::BLOCKS.into() {
        let text = format!("a slab summary of {} blocks", partitions.summary.blocks);
        findings.error(4, place, text);
    }
    let roots = u64::from(super_block.root_count);
    if partitions.block_map.blocks != roots || !toy && roots != layout::ROOTS.into() {
        let text = format!(
            "{roots} trees, and a partition of {} blocks for their roots",
            partitions.block_map.blocks
        );
        findings.error(4, place, text);
    }
}

fn check_depot(super_block: &SuperBlock, toy: bool, findings: &mut Findings) {
    let place = Place::SuperBlock;
    let depot = &super_block.depot;
    let smallest = if toy { 1 } else { slab::MIN_SLAB_BLOCKS };
    let sizes = u64::from(smallest)..=u64::from(slab::MAX_SLAB_BLOCKS);
    if !super_block.slab_size.is_power_of_two() || !sizes.contains(&super_block.slab_size) {
        findings.error(
            3,
            place,
            format!("slabs of {} blocks", super_block.slab_size),
        );
    }
    let blocks = u32::try_from(super_block.slab_size);
    let journal_blocks = u32::try_from(super_block.slab_journal_blocks);
    let expected = match (blocks, journal_blocks) {
        (Ok(blocks), Ok(journal_blocks)) => SlabConfig::new(blocks, journal_blocks).ok(),
        _ => None,
    };
    // Thresholds are free in a simulation.
    let expected = match expected {
        Some(expected) if toy => Some(SlabConfig {
            flushing: depot.slab.flushing,
            blocking: depot.slab.blocking,
            scrubbing: depot.slab.scrubbing,
            ..expected
        }),
        expected => expected,
    };
    if expected != Some(depot.slab) {
        let text = format!("slabs are divided as {:?}, not {expected:?}", depot.slab);
        findings.error(5, place, text);
    }
    let partition = &super_block.partitions.depot;
    if depot.first_block != partition.start {
        let text = format!("the first slab is at {}", depot.first_block);
        findings.error(5, place, text);
    }
    if super_block.last_block != depot.last_block() {
        findings.error(5, place, "the slabs end with a part of one");
    }
    if !(1..=slab::MAX_SLABS).contains(&depot.slab_count) {
        findings.error(5, place, format!("{} slabs", depot.slab_count));
    }
    let waste = partition.end().checked_sub(super_block.last_block);
    if waste.is_none_or(|waste| waste >= depot.slab.blocks.into()) {
        findings.error(5, place, "the slabs do not fill their partition");
    }
}

fn check_block_map(super_block: &SuperBlock, toy: bool, findings: &mut Findings) {
    let place = Place::SuperBlock;
    if super_block.root_origin != super_block.partitions.block_map.start {
        let text = format!("the first root page is at {}", super_block.root_origin);
        findings.error(6, place, text);
    }
    let zones = u32::from(super_block.zone_count);
    if zones > summary::COPIES || !toy && zones > super_block.depot.slab_count {
        findings.error(6, place, format!("{zones} zones"));
    }
}
