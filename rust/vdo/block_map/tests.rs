// SPDX-License-Identifier: GPL-2.0

//! The map in a simulated machine, with a journal and an allocator that are models.

mod crash;
mod damage;

use super::*;
use crate::fixture::world::arc;
use crate::fixture::world::storage;
use crate::fixture::world::TestWorld;
use crate::format::block_map;
use crate::format::tree;
use crate::format::Lbn;
use crate::format::Mapping;
use crate::format::Operation;
use crate::format::RecoveryEntry;
use crate::format::SlabConfig;
use crate::format::BLOCK_SIZE;
use sim::clock::sleep;
use sim::disk::SimDisk;
use sim::rng::Rng;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

const NONCE: u64 = 0x6e6f_6e63_6521;
const ROOTS: u32 = 3;
const ROOT_ORIGIN: Pbn = 1;
const FIRST_BLOCK: Pbn = 8;
const ENTRIES: u64 = block_map::ENTRIES as u64;

/// Leaf pages, the last of which is cut short.
const LEAVES: u64 = 21;
const LOGICAL_BLOCKS: u64 = 20 * ENTRIES + 100;

/// Pages above them: three in each tree.
const INTERIOR: u64 = 3 * ROOTS as u64;

/// Entries in a block of the journal.
const ENTRIES_OF_BLOCK: u64 = 8;

fn depot() -> DepotLayout {
    DepotLayout {
        first_block: FIRST_BLOCK,
        slab_count: 2,
        slab: SlabConfig::new(64, 4).unwrap(),
    }
}

/// Returns a disk with empty roots, and junk everywhere else.
fn image(rng: &mut Rng) -> Vec<u8> {
    let mut image = vec![0; depot().last_block() as usize * BLOCK_SIZE];
    let junk = FIRST_BLOCK as usize * BLOCK_SIZE;
    for bytes in image[junk..].chunks_mut(8) {
        bytes.copy_from_slice(&rng.next_u64().to_le_bytes());
    }
    image
}

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Pages are written without regard to the journal.
    NoGate,
    /// The first version of a new page says that it is initialized.
    SingleWrite,
    /// The journal gives up what changed pages need.
    NoHold,
}

/// A journal: entries in order, committed when it is asked for.
struct Ledger {
    world: sim::world::World,
    entries: Mutex<Vec<Option<RecoveryEntry>>>,
    committed: AtomicU64,
    /// The first block that is needed, as far as is on stable storage.
    head: AtomicU64,
    /// Nothing can be reserved any more.
    closed: AtomicBool,
    flaw: Flaw,
}

/// Places behind so many others.
struct Places {
    before: u64,
    len: usize,
}

/// Returns the block of the entry behind `before` others.
fn sequence(before: u64) -> Sequence {
    1 + before / ENTRIES_OF_BLOCK
}

impl Ledger {
    fn new(world: &sim::world::World, flaw: Flaw) -> Self {
        Self {
            world: world.clone(),
            entries: Mutex::default(),
            committed: AtomicU64::new(0),
            head: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            flaw,
        }
    }

    fn len(&self) -> u64 {
        self.entries.lock().unwrap().len() as u64
    }

    async fn reserve(&self, len: usize) -> Result<Places> {
        let time = self.world.with_rng(|rng| rng.below(200));
        sleep(&self.world, time).await;
        if self.closed.load(SeqCst) {
            return Err(Error::READ_ONLY);
        }
        let mut entries = self.entries.lock().unwrap();
        let before = entries.len() as u64;
        entries.extend((0..len).map(|_| None));
        Ok(Places { before, len })
    }

    fn fill(&self, places: Places, new: &[RecoveryEntry]) {
        assert_eq!(places.len, new.len());
        let mut entries = self.entries.lock().unwrap();
        for (place, entry) in entries[places.before as usize..].iter_mut().zip(new) {
            assert!(place.replace(*entry).is_none());
        }
    }

    /// Returns the entries of the blocks from `head` on, up to the last one committed.
    fn replayed(&self, head: Sequence) -> Vec<RecoveryEntry> {
        let entries = self.entries.lock().unwrap();
        let committed = self.committed.load(SeqCst);
        let kept = (0..committed).filter(|&before| sequence(before) >= head);
        kept.map(|before| entries[before as usize].unwrap())
            .collect()
    }

    fn count(&self, operation: Operation) -> u64 {
        let entries = self.entries.lock().unwrap();
        let filled = entries.iter().flatten();
        filled.filter(|entry| entry.operation == operation).count() as u64
    }
}

impl Gate<Error> for Ledger {
    async fn pass(&self, newest: u64) -> Result {
        let filled = |entries: &[Option<_>]| entries.iter().all(Option::is_some);
        assert!(filled(&self.entries.lock().unwrap()[..newest as usize]));
        if self.flaw != Flaw::NoGate && self.committed.load(SeqCst) < newest {
            let time = self.world.with_rng(|rng| rng.below(500));
            sleep(&self.world, time).await;
            self.committed.fetch_max(newest, SeqCst);
        }
        Ok(())
    }
}

impl Log for Ledger {
    type Place = Places;

    async fn reserve_one(&self) -> Result<Places> {
        self.reserve(1).await
    }

    fn change(&self, places: &Places) -> Change {
        Change {
            oldest: sequence(places.before),
            newest: places.before + places.len as u64,
        }
    }

    fn fill_one(&self, places: Places, entry: RecoveryEntry) {
        self.fill(places, &[entry]);
    }
}

/// Blocks that are free, in any order.
struct FreeBlocks {
    world: sim::world::World,
    blocks: Mutex<Vec<Pbn>>,
}

impl FreeBlocks {
    fn new(world: &sim::world::World, count: usize) -> Self {
        let all = FIRST_BLOCK..depot().last_block();
        let blocks = all.filter(|&pbn| depot().is_data_block(pbn));
        Self {
            world: world.clone(),
            blocks: Mutex::new(blocks.take(count).collect()),
        }
    }

    fn len(&self) -> u64 {
        self.blocks.lock().unwrap().len() as u64
    }
}

impl Allocator for FreeBlocks {
    async fn allocate_one(&self) -> Result<Pbn> {
        let time = self.world.with_rng(|rng| rng.below(50));
        sleep(&self.world, time).await;
        let mut blocks = self.blocks.lock().unwrap();
        if blocks.is_empty() {
            return Err(Status::NoSpace.into());
        }
        let any = self.world.with_rng(|rng| rng.below(blocks.len() as u64));
        Ok(blocks.swap_remove(any as usize))
    }

    fn release_one(&self, pbn: Pbn) {
        let mut blocks = self.blocks.lock().unwrap();
        assert!(!blocks.contains(&pbn));
        blocks.push(pbn);
    }
}

/// A machine with a volume that has nothing but a map.
struct Machine {
    sim: sim::world::World,
    disk: SimDisk,
    world: Arc<TestWorld>,
    health: Arc<Health>,
    map: BlockMap<TestWorld>,
    ledger: Ledger,
    free: FreeBlocks,
    /// The newest mapping of each block.
    model: Mutex<BTreeMap<Lbn, Mapping>>,
}

impl Machine {
    fn new(seed: u64, pages: usize, flaw: Flaw) -> Self {
        let image = image(&mut Rng::new(seed));
        Self::with_image(seed, image, pages, flaw, false)
    }

    fn with_image(seed: u64, image: Vec<u8>, pages: usize, flaw: Flaw, read_only: bool) -> Self {
        let sim = sim::world::World::new(seed);
        let disk = sim.add_disk("volume", image);
        let world = TestWorld::new(&sim);
        let health = arc(Health::new(read_only));
        let config = BlockMapConfig {
            root_origin: ROOT_ORIGIN,
            roots: ROOTS,
            nonce: NONCE,
            logical_blocks: LOGICAL_BLOCKS,
            workers: 1,
            depot: depot(),
            cache_pages: pages,
            write_pages: 4,
        };
        let map = BlockMap::new(config, world.clone(), storage(&disk), health.clone());
        let map = map.unwrap();
        if flaw == Flaw::SingleWrite {
            map.cache.store().break_first_writes();
        }
        Self {
            ledger: Ledger::new(&sim, flaw),
            free: FreeBlocks::new(&sim, usize::MAX),
            model: Mutex::default(),
            sim,
            disk,
            world,
            health,
            map,
        }
    }

    /// Maps blocks of one leaf page.
    async fn write(&self, page_number: u64, slots: &[u16], new: Mapping) -> Result {
        let map = &self.map;
        let pbn = map
            .leaf_or_allocate(page_number, &self.ledger, &self.free)
            .await?;
        let page = map.pin(pbn, Kind::Leaf).await?;
        let places = self.ledger.reserve(slots.len()).await?;
        let mut entries = Vec::new();
        page.update(self.ledger.change(&places), |page| {
            for &slot in slots {
                entries.push(RecoveryEntry {
                    operation: Operation::Data,
                    page: pbn,
                    slot,
                    new,
                    old: block_map::entry(page, slot),
                });
                block_map::set_entry(page, slot, new);
            }
        });
        let mut model = self.model.lock().unwrap();
        for (&slot, entry) in slots.iter().zip(&entries) {
            let before = model.insert(tree::first_lbn(page_number) + u64::from(slot), new);
            assert_eq!(entry.old, before.unwrap_or(Mapping::UNMAPPED));
        }
        self.ledger.fill(places, &entries);
        Ok(())
    }

    /// Returns the mapping of a block.
    async fn read(&self, lbn: Lbn) -> Result<Mapping> {
        let (page_number, slot) = tree::leaf(lbn);
        let leaf = match self.map.try_leaf(page_number) {
            Some(leaf) => leaf?,
            None => self.map.leaf(page_number).await?,
        };
        let Some(pbn) = leaf else {
            return Ok(Mapping::UNMAPPED);
        };
        let page = match self.map.try_pin(pbn) {
            Some(page) => page,
            None => self.map.pin(pbn, Kind::Leaf).await?,
        };
        Ok(page.read(|page| block_map::entry(page, slot)))
    }

    /// Compares all mappings with `expected`.
    async fn compare(&self, expected: &BTreeMap<Lbn, Mapping>) -> Result<(), String> {
        for page_number in 0..LEAVES {
            let fail = |error: Error| format!("leaf page {page_number}: {error}");
            let leaf = self.map.leaf(page_number).await.map_err(fail)?;
            let page = match leaf {
                Some(pbn) => Some(self.map.pin(pbn, Kind::Leaf).await.map_err(fail)?),
                None => None,
            };
            for slot in 0..block_map::ENTRIES {
                let lbn = tree::first_lbn(page_number) + u64::from(slot);
                let found = page.as_ref().map_or(Mapping::UNMAPPED, |page| {
                    page.read(|page| block_map::entry(page, slot))
                });
                let expected = expected.get(&lbn).copied().unwrap_or(Mapping::UNMAPPED);
                if found != expected {
                    return Err(format!("LBN {lbn}: {found:?}, expected {expected:?}"));
                }
            }
        }
        Ok(())
    }

    async fn writer(&self) {
        let writer = self.map.writer().unwrap();
        self.map.run_writer(writer, &self.ledger).await;
    }
}
