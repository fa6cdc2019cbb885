// SPDX-License-Identifier: GPL-2.0

//! The engine of a volume, made for the kernel: its sizes, and its tasks.

use crate::world::KernelWorld;
use kernel::prelude::*;
use kernel::sync::Arc;
use platform::disk::KernelDisk;
use platform::executor::Executor;
use vdo::admin::table::Settings;
use vdo::dedupe::askers::ASKERS;
use vdo::dedupe::index;
use vdo::error::Result as VdoResult;
use vdo::format::recovery_journal;
use vdo::format::slab_journal;
use vdo::tuning::Tuning;
use vdo::volume::open::Opened;

/// The engine of a volume in the kernel.
pub(crate) type Engine = vdo::volume::engine::Engine<KernelWorld>;

/// Tasks that write pages of the block map, with one I/O each.
const PAGE_WRITERS: usize = 2;

/// Workers that serve what changes something. Each has memory for one batch.
const WORKERS: usize = 8;

/// Workers for a few blocks each, for storage that takes its time: who writes block by block, and
/// waits for each to be taken, has so many more on their way.
const SMALL_WORKERS: usize = 120;
const SMALL_BLOCKS: usize = 4;

/// Tasks that wait for blocks of which a write is on its way, for the next one.
const CLAIMERS: usize = 64;

/// Journal blocks that are not applied yet, at most.
///
/// What a crash leaves of them must fit into one slab journal on top of what blocks new entries
/// there: 208 blocks, a partial one, and 2 changes for each of 217 entries, 1299 in a block, are to
/// be less than the 222 that are scrubbed before the volume is used. So at most 38.
const JOURNAL_MEMORY_BLOCKS: u64 = 32;

/// Tasks that write fragments which had to wait for others: each has two blocks on their way.
const PACKERS: usize = 4;

/// Blocks in a batch: a bio of the largest size that device-mapper hands us.
const BATCH_BLOCKS: usize = 256;

fn tuning(opened: &Opened, settings: &Settings) -> Tuning {
    Tuning {
        workers: WORKERS,
        small_workers: SMALL_WORKERS,
        small_blocks: SMALL_BLOCKS,
        claimers: CLAIMERS,
        packers: PACKERS,
        batch_blocks: BATCH_BLOCKS,
        fragment_reads: 16,
        journal_memory_blocks: JOURNAL_MEMORY_BLOCKS,
        journal_io_blocks: 16,
        journal_grant: usize::MAX,
        commit_delay_ms: 100,
        cache_pages: settings.cache_blocks as usize,
        maximum_age: opened.maximum_age,
        slab_journal_pages: 16,
        io_pages: 64,
        journal_shape: recovery_journal::Shape::STANDARD,
        slab_journal_shape: slab_journal::Shape::STANDARD,
        index_shape: index::shape(&opened.geometry),
    }
}

/// Makes the engine of a volume.
#[inline(never)]
pub(crate) fn new(
    world: KernelWorld,
    disk: Arc<KernelDisk>,
    opened: &Opened,
    settings: &Settings,
) -> VdoResult<Arc<Engine>> {
    let tuning = tuning(opened, settings);
    let engine = Engine::new(world, disk, &opened.geometry, opened.super_block, tuning)?;
    Ok(Arc::new(engine, GFP_KERNEL)?)
}

/// Starts the tasks; they run until the engine is stopped.
pub(crate) fn spawn_tasks(engine: &Arc<Engine>, executor: &Executor) -> VdoResult {
    for worker in 0..engine.workers() {
        spawn_worker(engine, executor, worker)?;
    }
    let own = || engine.clone();
    for _ in 0..engine.tuning().claimers {
        executor.spawn(Engine::run_claimer(own()))?;
    }
    spawn_packers(engine, executor)?;
    executor.spawn(Engine::run_journal_writer(own()))?;
    executor.spawn(Engine::run_journal_timer(own()))?;
    executor.spawn(Engine::run_applier(own()))?;
    for _ in 0..PAGE_WRITERS {
        executor.spawn(Engine::run_page_writer(own(), engine.page_writer()?))?;
    }
    executor.spawn(Engine::run_slab_committer(own()))?;
    executor.spawn(Engine::run_reference_writer(own()))?;
    executor.spawn(Engine::run_scrubber(own()))?;
    spawn_index(engine, executor)?;
    executor.spawn(Engine::run_guard(own()))?;
    executor.spawn(Engine::run_watch(own()))?;
    Ok(())
}

#[inline(never)]
fn spawn_index(engine: &Arc<Engine>, executor: &Executor) -> VdoResult {
    for _ in 0..ASKERS {
        executor.spawn(Engine::run_asker(engine.clone()))?;
    }
    executor.spawn(Engine::run_asker_timer(engine.clone()))?;
    executor.spawn(Engine::run_index(engine.clone()))?;
    Ok(executor.spawn(Engine::run_index_writer(engine.clone()))?)
}

#[inline(never)]
fn spawn_packers(engine: &Arc<Engine>, executor: &Executor) -> VdoResult {
    for _ in 0..engine.tuning().packers {
        let batch = engine.packer_batch()?;
        executor.spawn(Engine::run_packer(engine.clone(), batch))?;
    }
    let timer = engine.packer_timer()?;
    Ok(executor.spawn(Engine::run_packer_timer(engine.clone(), timer))?)
}

#[inline(never)]
fn spawn_worker(engine: &Arc<Engine>, executor: &Executor, worker: usize) -> VdoResult {
    let batch = engine.batch(worker)?;
    Ok(executor.spawn(Engine::run_worker(engine.clone(), batch))?)
}
