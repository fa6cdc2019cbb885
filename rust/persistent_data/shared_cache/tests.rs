// SPDX-License-Identifier: GPL-2.0

//! Many tasks on one cache, in a simulated machine, against a model.
//!
//! Blocks hold counters; a change stores its own number in one. Several changes in a row are as
//! old as each other.

mod crash;
mod pressure;

use super::*;
use kernel::error::code::EIO;
use kernel::error::Error;
use runtime::disk::Disk;
use runtime::disk::Part;
use runtime::disk::PAGE_SECTORS;
use runtime::disk::PAGE_SIZE;
use sim::clock::sleep;
use sim::disk::SimBuffer;
use sim::disk::SimDisk;
use sim::rng::Rng;
use sim::world::World;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::Mutex;
use std::vec::Vec;

/// Blocks of the disk.
const BLOCKS: u64 = 24;

/// Blocks from here on are kept.
const KEPT: u64 = 20;

/// Counters in a block, one in each sector but the first.
const SLOTS: u64 = 7;

const MAGIC: u64 = 0x7061_6765_2121_2121;
const VALID_AT: usize = 16;

/// How many changes have the same age.
const CHANGES_OF_AGE: u64 = 10;

fn residence(block: u64) -> Residence {
    match block >= KEPT {
        true => Residence::Kept,
        false => Residence::Evictable,
    }
}

fn number(page: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
}

fn put(page: &mut Page, at: usize, value: u64) {
    page[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Where a counter is: at the start of a sector.
fn slot_at(slot: u64) -> usize {
    (slot as usize + 1) * 512
}

fn make_block(page: &mut Page, block: u64) {
    page.fill(0);
    put(page, 0, MAGIC);
    put(page, 8, block);
    put(page, VALID_AT, 1);
}

fn is_valid(page: &[u8], block: u64) -> bool {
    number(page, 0) == MAGIC && number(page, 8) == block && number(page, VALID_AT) == 1
}

/// Returns a disk of which every third block is valid, and the others are junk.
fn image(rng: &mut Rng) -> Vec<u8> {
    let mut image = Vec::new();
    for block in 0..BLOCKS {
        let mut page = [0; PAGE_SIZE];
        if block % 3 == 0 {
            make_block(&mut page, block);
        } else {
            for bytes in page.chunks_mut(8) {
                bytes.copy_from_slice(&rng.next_u64().to_le_bytes());
            }
        }
        image.extend_from_slice(&page);
    }
    image
}

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Blocks are written without regard to the gate.
    NoGate,
    /// The first version of a new block says that it is valid.
    SingleWrite,
    /// What is changed is said to be written.
    EarlyAge,
}

struct Sectors {
    disk: SimDisk,
    flaw: Flaw,
    dead: AtomicBool,
    loads: AtomicU64,
}

impl Store for Sectors {
    type Buffer = SimBuffer;
    type Error = Error;

    fn buffer(&self, pages: usize) -> Result<SimBuffer, Error> {
        self.disk.buffer_of_parts(pages, pages)
    }

    fn buffer_now(&self, pages: usize) -> Result<SimBuffer, Error> {
        self.disk.buffer_now(pages, pages)
    }

    async fn read(
        &self,
        block: u64,
        _: Residence,
        buffer: SimBuffer,
    ) -> (SimBuffer, Result<(), Error>) {
        self.loads.fetch_add(1, SeqCst);
        let sector = block * PAGE_SECTORS;
        self.disk.read(sector, PAGE_SECTORS as u32, buffer).await
    }

    fn part(&self, block: u64, blocks: u32, page: usize) -> Part {
        Part::new(block * PAGE_SECTORS, blocks * PAGE_SECTORS as u32, page)
    }

    async fn read_parts(&self, _: Residence, buffer: SimBuffer, parts: &mut [Part]) -> SimBuffer {
        self.loads.fetch_add(parts.len() as u64, SeqCst);
        self.disk.read_parts(buffer, parts).await
    }

    async fn write_parts(&self, _: Residence, buffer: SimBuffer, parts: &mut [Part]) -> SimBuffer {
        self.disk.write_parts(buffer, parts).await
    }

    async fn flush(&self, buffer: SimBuffer) -> (SimBuffer, Result<(), Error>) {
        self.disk.flush(buffer).await
    }

    fn loaded(&self, block: u64, _: Residence, page: &mut Page) -> Result<Origin, Error> {
        if is_valid(page, block) {
            return Ok(Origin::Written);
        }
        make_block(page, block);
        Ok(Origin::Fresh)
    }

    fn set_valid(&self, page: &mut Page, valid: bool) {
        let valid = valid || self.flaw == Flaw::SingleWrite;
        put(page, VALID_AT, valid.into());
    }

    fn check(&self) -> Result<(), Error> {
        match self.dead.load(SeqCst) {
            true => Err(EIO),
            false => Ok(()),
        }
    }

    fn failed(&self, _: Error) {
        self.dead.store(true, SeqCst);
    }
}

/// Changes in order, which are committed when the gate asks for it, or by chance.
struct Journal {
    world: World,
    /// Which counter each change was made to; the first is number 1.
    changes: Mutex<Vec<(u64, u64)>>,
    committed: AtomicU64,
    /// No change that is older is needed any more, as far as is on stable storage.
    head: AtomicU64,
    flaw: Flaw,
}

fn age(change: u64) -> u64 {
    change / CHANGES_OF_AGE
}

impl Journal {
    fn last(&self) -> u64 {
        self.changes.lock().unwrap().len() as u64
    }

    /// Adds a change, which is then made without waiting.
    fn add(&self, block: u64, slot: u64) -> Change {
        let mut changes = self.changes.lock().unwrap();
        changes.push((block, slot));
        let newest = changes.len() as u64;
        Change {
            oldest: age(newest),
            newest,
        }
    }

    /// Returns the newest change of each counter among those that `chosen` accepts.
    fn newest(&self, chosen: impl Fn(u64) -> bool) -> BTreeMap<(u64, u64), u64> {
        let changes = self.changes.lock().unwrap();
        let numbered = (1..).zip(changes.iter());
        numbered
            .filter(|(number, _)| chosen(*number))
            .map(|(number, counter)| (*counter, number))
            .collect()
    }
}

impl Gate<Error> for Journal {
    async fn pass(&self, newest: u64) -> Result<(), Error> {
        assert!(newest <= self.last());
        if self.flaw != Flaw::NoGate && self.committed.load(SeqCst) < newest {
            let time = self.world.with_rng(|rng| rng.below(500));
            sleep(&self.world, time).await;
            self.committed.fetch_max(newest, SeqCst);
        }
        Ok(())
    }
}

/// A machine with a cache.
struct Machine {
    world: World,
    disk: SimDisk,
    cache: SharedCache<Sectors>,
    journal: Journal,
}

/// Tasks that may wait for a block while they have another.
const HOLDERS: usize = 2;

fn machine(seed: u64, pages: usize, flaw: Flaw) -> Machine {
    let world = World::new(seed);
    let disk = world.add_disk("pages", image(&mut Rng::new(seed)));
    let store = Sectors {
        disk: disk.clone(),
        flaw,
        dead: AtomicBool::new(false),
        loads: AtomicU64::new(0),
    };
    let size = Size {
        pages,
        parts: 4,
        loaders: 2,
        holders: HOLDERS,
    };
    let cache = SharedCache::new(store, size).unwrap();
    let journal = Journal {
        world: world.clone(),
        changes: Mutex::default(),
        committed: AtomicU64::new(0),
        head: AtomicU64::new(0),
        flaw,
    };
    Machine {
        world,
        disk,
        cache,
        journal,
    }
}

impl Machine {
    async fn pause(&self, rng: &mut Rng) {
        if rng.chance(1, 2) {
            let time = rng.below(300);
            sleep(&self.world, time).await;
        }
    }

    /// Reads and changes blocks at random. What is read is what was written last.
    async fn user(&self, mut rng: Rng, rounds: u64) -> Result<(), String> {
        for _ in 0..rounds {
            let block = rng.below(BLOCKS);
            let slot = rng.below(SLOTS);
            let found = if rng.chance(1, 8) {
                self.cache.try_read(block, |page| self.judge(page, block))
            } else {
                let pinned = self.cache.pin(block, residence(block)).await;
                let pinned = pinned.map_err(|error| format!("pin: {error:?}"))?;
                assert_eq!(pinned.block(), block);
                self.pause(&mut rng).await;
                if rng.chance(2, 3) {
                    let change = self.journal.add(block, slot);
                    pinned.update(change, |page| put(page, slot_at(slot), change.newest));
                    self.pause(&mut rng).await;
                }
                Some(pinned.read(|page| self.judge(page, block)))
            };
            found.unwrap_or(Ok(()))?;
            self.pause(&mut rng).await;
        }
        Ok(())
    }

    /// A block in memory holds the newest of everything.
    fn judge(&self, page: &Page, block: u64) -> Result<(), String> {
        if !is_valid(page, block) {
            return Err(format!("block {block} is not valid in memory"));
        }
        let newest = self.journal.newest(|_| true);
        for slot in 0..SLOTS {
            let found = number(page, slot_at(slot));
            let expected = newest.get(&(block, slot)).copied().unwrap_or(0);
            if found != expected {
                return Err(format!("{block}/{slot}: {found}, expected {expected}"));
            }
        }
        Ok(())
    }

    /// Gives old parts of the journal up, as far as the cache allows it, and has it write.
    async fn reaper(&self, keep: u64) {
        loop {
            let time = self.world.with_rng(|rng| rng.below(2000));
            sleep(&self.world, time).await;
            let now = age(self.journal.last() + 1);
            let head = match self.journal.flaw {
                Flaw::EarlyAge => now,
                _ => self.cache.oldest_change().unwrap_or(now),
            };
            let (_, flushed) = self.disk.flush(self.disk.buffer(1).unwrap()).await;
            if flushed.is_err() {
                return;
            }
            self.journal.head.fetch_max(head, SeqCst);
            self.cache.write_before(now.saturating_sub(keep));
        }
    }

    async fn writer(&self, pages: usize) {
        let writer = self.cache.writer(pages).unwrap();
        self.cache.run_writer(writer, &self.journal).await;
    }

    /// What a crash leaves is covered by the journal on both sides.
    fn judge_disk(&self, image: &[u8]) -> Result<(), String> {
        let committed = self.journal.committed.load(SeqCst);
        let head = self.journal.head.load(SeqCst);
        let gone = self.journal.newest(|change| age(change) < head);
        let changes = self.journal.changes.lock().unwrap();
        for (block, page) in (0..).zip(image.chunks(PAGE_SIZE)) {
            let valid = is_valid(page, block);
            for slot in 0..SLOTS {
                let found = match valid {
                    true => number(page, slot_at(slot)),
                    false => 0,
                };
                let needed = gone.get(&(block, slot)).copied().unwrap_or(0);
                let known = changes.get(found.wrapping_sub(1) as usize) == Some(&(block, slot));
                if found > committed || found < needed || (found != 0 && !known) {
                    return Err(format!(
                        "{block}/{slot}: {found}, which must be {needed} to {committed}"
                    ));
                }
            }
        }
        Ok(())
    }
}
