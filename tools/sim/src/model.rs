// SPDX-License-Identifier: GPL-2.0

//! What each sector of a device under test may hold, as its user is entitled to see it.
//!
//! Every write is a version of its sectors. A write that was acknowledged supersedes what was
//! acknowledged before it was issued; of writes that overlap in time any may be the newest. A
//! read must find a version that was not superseded when the read was issued. A version may come
//! back after a crash until its successor is durable: by a flush that was issued after the
//! successor's acknowledgement, or because the successor had FUA. A discard leaves anything.

use crate::pattern;
use crate::pattern::Sector;
use runtime::disk::SECTOR_SIZE;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Orders what happens to a model.
pub type Stamp = u64;

/// The model of a device.
#[derive(Clone)]
pub struct Model {
    now: Stamp,
    sectors: Vec<Vec<Candidate>>,
    writes: Vec<WriteState>,
    /// Sectors of which a device shows the same version, always.
    unit: u64,
}

/// A write or discard that the model knows of; its number is the version of what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write(usize);

/// A flush that the model knows of.
#[derive(Clone, Copy, Debug)]
pub struct Flush(Stamp);

/// A read that the model knows of.
#[derive(Clone, Debug)]
pub struct Read {
    range: Range<u64>,
    issued: Stamp,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was acknowledged.
    Acknowledged,
    /// It was acknowledged, and had FUA.
    Durable,
    /// It failed: its sectors hold it or what was there before.
    Failed,
}

/// Data that is not all different, or not all there.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// Sectors of zeroes.
    pub holes: Vec<Range<u64>>,
    /// The rest repeats every so many sectors, and is what other writes with this name have, too.
    pub copies: Option<(u64, u64)>,
}

impl Shape {
    fn sector(&self, version: u64, number: u64) -> Sector {
        if self.holes.iter().any(|hole| hole.contains(&number)) {
            return [0; SECTOR_SIZE];
        }
        match self.copies {
            Some((name, period)) => pattern::sector(name, number % period),
            None => pattern::sector(version, number),
        }
    }
}

#[derive(Clone)]
struct WriteState {
    range: Range<u64>,
    issued: Stamp,
    ended: Option<Stamp>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Pattern,
    Zeroes,
    Shaped(Shape),
    Anything,
    /// What a device held that others wrote.
    Given(Arc<Vec<u8>>),
    /// What was found where anything was allowed.
    Seen(Box<Sector>),
}

/// A version that a sector may hold now or after a crash.
#[derive(Clone)]
struct Candidate {
    version: usize,
    superseded: Option<Stamp>,
    /// A successor is durable, so that this version cannot come back after a crash.
    buried: bool,
}

impl Candidate {
    fn new(version: usize) -> Self {
        Self {
            version,
            superseded: None,
            buried: false,
        }
    }
}

/// A sector that holds what it may not.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The sector.
    pub sector: u64,
    /// What was allowed.
    pub allowed: Vec<String>,
    /// What was found.
    pub found: String,
    /// What was going on.
    pub when: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sector,
            allowed,
            found,
            when,
        } = self;
        write!(
            f,
            "{when}: sector {sector} holds {found}, allowed: {}",
            allowed.join(" or ")
        )
    }
}

impl Model {
    /// Creates the model of a device whose sectors hold their initial pattern.
    pub fn new(sectors: u64) -> Self {
        Self::of(sectors, 1, Content::Pattern)
    }

    /// Creates the model of a device that reads as zeroes. All writes go to whole units of `unit`
    /// sectors, and a unit never shows parts of several.
    pub fn zeroed(sectors: u64, unit: u64) -> Self {
        Self::of(sectors, unit, Content::Zeroes)
    }

    /// Creates the model of a device that holds `data` to begin with; see [`Self::zeroed`].
    pub fn holding(data: Vec<u8>, unit: u64) -> Self {
        let sectors = (data.len() / SECTOR_SIZE) as u64;
        Self::of(sectors, unit, Content::Given(Arc::new(data)))
    }

    fn of(sectors: u64, unit: u64, content: Content) -> Self {
        let initial = Candidate::new(pattern::INITIAL as usize);
        Self {
            now: 1,
            unit,
            sectors: vec![vec![initial]; sectors as usize],
            writes: vec![WriteState {
                range: 0..sectors,
                issued: 0,
                ended: Some(0),
                content,
            }],
        }
    }

    /// Returns the size of the device in sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors.len() as u64
    }

    /// Rises whenever what the device may show, now or after a crash, may have become another.
    pub fn stamp(&self) -> Stamp {
        self.now
    }

    /// Returns what each sector may hold, in a form that is equal if and only if that is equal.
    pub fn signature(&self) -> Vec<Vec<(usize, Option<Vec<u8>>)>> {
        let signature = |candidate: &Candidate| {
            let seen = match &self.writes[candidate.version].content {
                Content::Pattern | Content::Zeroes | Content::Shaped(_) | Content::Given(_) => None,
                Content::Anything => Some(Vec::new()),
                Content::Seen(bytes) => Some(bytes.to_vec()),
            };
            (candidate.version, seen)
        };
        self.sectors
            .iter()
            .map(|candidates| candidates.iter().map(signature).collect())
            .collect()
    }

    /// A write to `range` is about to be issued.
    pub fn begin_write(&mut self, range: Range<u64>) -> Write {
        self.begin(range, Content::Pattern)
    }

    /// As [`begin_write`](Self::begin_write), of data of some shape.
    pub fn begin_shaped(&mut self, range: Range<u64>, shape: Shape) -> Write {
        self.begin(range, Content::Shaped(shape))
    }

    /// A discard of `range` is about to be issued. `range` is what it may touch.
    pub fn begin_discard(&mut self, range: Range<u64>) -> Write {
        self.begin(range, Content::Anything)
    }

    /// A write of zeroes to `range` is about to be issued, or a discard that zeroes all of it.
    pub fn begin_zeroes(&mut self, range: Range<u64>) -> Write {
        self.begin(range, Content::Zeroes)
    }

    /// Returns the bytes that `write` has to write.
    pub fn data(&self, write: Write) -> Vec<u8> {
        let WriteState { range, content, .. } = &self.writes[write.0];
        let version = write.0 as u64;
        match content {
            Content::Shaped(shape) => range
                .clone()
                .flat_map(|number| shape.sector(version, number))
                .collect(),
            _ => pattern::run(version, range.start, range.end - range.start),
        }
    }

    /// A write or discard has ended.
    pub fn end_write(&mut self, write: Write, end: End) {
        let now = self.tick();
        let issued = self.writes[write.0].issued;
        let range = self.writes[write.0].range.clone();
        self.writes[write.0].ended = Some(now);
        if end == End::Failed {
            return;
        }
        for number in range {
            for candidate in &mut self.sectors[number as usize] {
                let ended = self.writes[candidate.version].ended;
                if ended.is_some_and(|ended| ended < issued) {
                    candidate.superseded.get_or_insert(now);
                    candidate.buried |= end == End::Durable;
                }
            }
        }
    }

    /// A flush is about to be issued.
    pub fn begin_flush(&mut self) -> Flush {
        Flush(self.tick())
    }

    /// A flush was acknowledged.
    pub fn end_flush(&mut self, flush: Flush) {
        for candidate in self.sectors.iter_mut().flatten() {
            candidate.buried |= candidate.superseded.is_some_and(|at| at < flush.0);
        }
    }

    /// A read of `range` is about to be issued.
    pub fn begin_read(&mut self, range: Range<u64>) -> Read {
        Read {
            range,
            issued: self.tick(),
        }
    }

    /// A read was acknowledged with `data`.
    pub fn end_read(&mut self, read: &Read, data: &[u8]) -> Result<(), Violation> {
        self.check(read, data, "read")
    }

    /// The power failed: what was under way may have happened, what was not durable may be gone.
    pub fn crash(&mut self) {
        let now = self.tick();
        for write in &mut self.writes {
            write.ended.get_or_insert(now);
        }
        for candidates in &mut self.sectors {
            candidates.retain(|candidate| !candidate.buried);
            for candidate in candidates {
                candidate.superseded = None;
            }
        }
    }

    /// The device gave up what it had acknowledged and was not durable: from now on that may be
    /// gone, or not.
    pub fn give_up(&mut self) {
        self.tick();
        // What is buried stays so. A read that was issued before that may still find it.
        let all = self.sectors.iter_mut().flatten();
        for candidate in all.filter(|candidate| !candidate.buried) {
            candidate.superseded = None;
        }
    }

    /// `data` was read from `start` on while nothing else was going on. From now on the sectors
    /// hold just that.
    pub fn settle(&mut self, start: u64, data: &[u8], when: &'static str) -> Result<(), Violation> {
        let sectors = (data.len() / SECTOR_SIZE) as u64;
        let read = self.begin_read(start..start + sectors);
        self.check(&read, data, when)?;
        let unit = self.unit as usize * SECTOR_SIZE;
        for (first, unit) in (start..).step_by(self.unit as usize).zip(data.chunks(unit)) {
            let shared = self.version_of(first, unit);
            for (number, bytes) in (first..).zip(unit.chunks_exact(SECTOR_SIZE)) {
                let version = shared.or_else(|| self.version_of(number, bytes));
                let version = version.unwrap_or_else(|| {
                    let mut seen = Box::new([0; SECTOR_SIZE]);
                    seen.copy_from_slice(bytes);
                    let write = self.begin(number..number + 1, Content::Seen(seen));
                    self.writes[write.0].ended = Some(self.now);
                    write.0
                });
                self.sectors[number as usize] = vec![Candidate::new(version)];
            }
        }
        Ok(())
    }

    fn begin(&mut self, range: Range<u64>, content: Content) -> Write {
        let issued = self.tick();
        let version = self.writes.len();
        for candidates in &mut self.sectors[range.start as usize..range.end as usize] {
            candidates.push(Candidate::new(version));
        }
        self.writes.push(WriteState {
            range,
            issued,
            ended: None,
            content,
        });
        Write(version)
    }

    fn tick(&mut self) -> Stamp {
        self.now += 1;
        self.now
    }

    fn check(&self, read: &Read, data: &[u8], when: &'static str) -> Result<(), Violation> {
        let mut sectors = read.range.clone().zip(data.chunks_exact(SECTOR_SIZE));
        let mut unit: Option<BTreeSet<usize>> = None;
        sectors.try_for_each(|(number, bytes)| {
            let candidates = self.sectors[number as usize].iter();
            let current = candidates
                .filter(|candidate| candidate.superseded.is_none_or(|at| at > read.issued));
            let allowed: BTreeSet<usize> = current.map(|candidate| candidate.version).collect();
            let mut found = allowed.clone();
            found.retain(|version| self.matches(*version, number, bytes));
            let torn = match unit.take().filter(|_| number % self.unit != 0) {
                Some(before) => {
                    let both: BTreeSet<usize> = before.intersection(&found).copied().collect();
                    let torn = both.is_empty();
                    unit = Some(both);
                    torn
                }
                None => {
                    unit = Some(found.clone());
                    false
                }
            };
            if !found.is_empty() && !torn {
                return Ok(());
            }
            let mut names: Vec<String> = allowed.into_iter().map(|it| self.name(it)).collect();
            if torn && !found.is_empty() {
                names.push("but the sector before is of another version".to_owned());
            }
            Err(Violation {
                sector: number,
                allowed: names,
                found: pattern::describe(number, bytes),
                when,
            })
        })
    }

    fn matches(&self, version: usize, number: u64, bytes: &[u8]) -> bool {
        match &self.writes[version].content {
            Content::Pattern => pattern::is(version as u64, number, bytes),
            Content::Zeroes => bytes.iter().all(|byte| *byte == 0),
            Content::Shaped(shape) => shape.sector(version as u64, number) == *bytes,
            Content::Given(data) => data[number as usize * SECTOR_SIZE..].starts_with(bytes),
            Content::Seen(seen) => **seen == *bytes,
            Content::Anything => true,
        }
    }

    /// Returns the version that holds just these bytes, from sector `first` on.
    fn version_of(&self, first: u64, bytes: &[u8]) -> Option<usize> {
        let candidates = self.sectors[first as usize]
            .iter()
            .map(|candidate| candidate.version);
        let exact = |version: &usize| !matches!(self.writes[*version].content, Content::Anything);
        let holds = |version: usize, number: u64, bytes: &[u8]| {
            let mut candidates = self.sectors[number as usize].iter();
            candidates.any(|candidate| candidate.version == version)
                && self.matches(version, number, bytes)
        };
        candidates.filter(exact).find(|version| {
            let mut sectors = (first..).zip(bytes.chunks_exact(SECTOR_SIZE));
            sectors.all(|(number, bytes)| holds(*version, number, bytes))
        })
    }

    fn name(&self, version: usize) -> String {
        match &self.writes[version].content {
            Content::Pattern if version as u64 == pattern::INITIAL => "the initial data".to_owned(),
            Content::Pattern | Content::Shaped(_) => format!("version {version}"),
            Content::Given(_) => "what was there in the beginning".to_owned(),
            Content::Zeroes => format!("zeroes of version {version}"),
            Content::Anything => "anything".to_owned(),
            Content::Seen(_) => "what was there after the crash".to_owned(),
        }
    }
}
