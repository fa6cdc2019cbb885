// SPDX-License-Identifier: GPL-2.0

//! Who uses the volume: sends requests the way device-mapper does, and checks the answers.

use crate::machine::Machine;
use crate::toy::BLOCK_SECTORS;
use kernel::prelude::*;
use runtime::disk::SECTOR_SIZE;
use sim::clock::sleep;
use sim::model::End;
use sim::pattern;
use sim::Model;
use std::cell::Cell;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use vdo::format::Lbn;
use vdo::format::BLOCK_SIZE as BLOCK;
use vdo::world::Operation;

/// Who uses the volume of a machine.
#[derive(Clone)]
pub struct User {
    /// The machine.
    pub machine: Rc<Machine>,
    /// What the volume must show.
    pub model: Rc<RefCell<Model>>,
    /// Whether the volume gave up what it had acknowledged.
    gave_up: Rc<Cell<bool>>,
    violation: Rc<RefCell<Option<String>>>,
}

impl User {
    /// Returns a user who knows that the volume must show `model`.
    pub fn new(machine: &Rc<Machine>, model: Model) -> Self {
        Self {
            machine: machine.clone(),
            model: Rc::new(RefCell::new(model)),
            gave_up: Rc::default(),
            violation: Rc::default(),
        }
    }

    /// Returns what was wrong first, if anything was.
    pub fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    /// Notes that something is wrong.
    pub fn complain(&self, text: String) {
        self.machine.world.trace(|| format!("WRONG    {text}"));
        self.violation.borrow_mut().get_or_insert(text);
    }

    /// Reads sectors and checks what comes.
    pub async fn read(&self, sectors: Range<u64>) -> Result {
        self.admit().await;
        let read = self.model.borrow_mut().begin_read(sectors.clone());
        let (data, result) = self.fetch(sectors).await;
        self.leave();
        if result.is_ok() {
            self.notice();
            let checked = self.model.borrow_mut().end_read(&read, &data);
            if let Err(violation) = checked {
                self.complain(violation.to_string());
            }
        }
        result
    }

    /// Reads everything and checks it. Returns what was read.
    ///
    /// # Errors
    ///
    /// That of the read.
    pub async fn read_all(&self) -> Result<Vec<u8>> {
        self.admit().await;
        let sectors = 0..self.machine.plan.space.sectors();
        let read = self.model.borrow_mut().begin_read(sectors.clone());
        let (data, result) = self.fetch(sectors).await;
        self.leave();
        result?;
        self.notice();
        let checked = self.model.borrow_mut().end_read(&read, &data);
        checked.unwrap_or_else(|violation| self.complain(violation.to_string()));
        Ok(data)
    }

    /// Reads everything after a boot. If `expected` is known, it must be just that. From now on
    /// no other version may come back; unless the volume is read-only: a rebuild may find more.
    ///
    /// # Errors
    ///
    /// That of the read.
    pub async fn settle(&self, expected: Option<Vec<u8>>) -> Result {
        let data = self.read_all().await?;
        if self.machine.is_read_only() {
            return Ok(());
        }
        let settled = self.model.borrow_mut().settle(0, &data, "after boot");
        settled.unwrap_or_else(|violation| self.complain(violation.to_string()));
        let Some(expected) = expected else {
            return Ok(());
        };
        let mut blocks = data.chunks(BLOCK).zip(expected.chunks(BLOCK));
        if let Some(block) = blocks.position(|(found, wanted)| found != wanted) {
            let first = |bytes: &[u8]| {
                let sector = block as u64 * BLOCK_SECTORS;
                pattern::describe(sector, &bytes[block * BLOCK..][..SECTOR_SIZE])
            };
            self.complain(format!(
                "after boot: LBN {} holds {}, the journal says {}",
                self.machine.plan.space.lbn(block as u64),
                first(&data),
                first(&expected)
            ));
        }
        Ok(())
    }

    /// Writes a new version of sectors.
    pub async fn write(&self, sectors: Range<u64>, fua: bool) -> Result {
        self.admit().await;
        let write = self.model.borrow_mut().begin_write(sectors.clone());
        let data = self.model.borrow().data(write);
        let result = self.send(Operation::Write, fua, sectors, &data).await;
        self.end(write, result, fua);
        result
    }

    /// Writes zeroes, or asks for them.
    pub async fn zero(&self, sectors: Range<u64>, operation: Operation, fua: bool) -> Result {
        self.admit().await;
        let write = self.model.borrow_mut().begin_zeroes(sectors.clone());
        let data = match operation {
            Operation::Write => vec![0; length(&sectors) as usize * SECTOR_SIZE],
            _ => Vec::new(),
        };
        let result = self.send(operation, fua, sectors, &data).await;
        self.end(write, result, fua);
        result
    }

    /// Writes blocks of which the first one is zero.
    pub async fn write_mixed(&self, sectors: Range<u64>, fua: bool) -> Result {
        let middle = (sectors.start + BLOCK_SECTORS).min(sectors.end);
        self.admit().await;
        let (zeroes, rest) = {
            let mut model = self.model.borrow_mut();
            let zeroes = model.begin_zeroes(sectors.start..middle);
            (zeroes, model.begin_write(middle..sectors.end))
        };
        let mut data = vec![0; (middle - sectors.start) as usize * SECTOR_SIZE];
        data.extend(self.model.borrow().data(rest));
        let result = self.send(Operation::Write, fua, sectors, &data).await;
        self.end(zeroes, result, fua);
        self.end(rest, result, fua);
        result
    }

    /// Discards a range of the volume, which may be larger than what the model has of it.
    pub async fn discard(&self, lbns: Range<Lbn>) -> Result {
        self.admit().await;
        let blocks = self.machine.plan.space.inside(lbns.clone());
        let sectors = blocks.start * BLOCK_SECTORS..blocks.end * BLOCK_SECTORS;
        let write = self.model.borrow_mut().begin_zeroes(sectors);
        let start = lbns.start * BLOCK_SECTORS;
        let length = (lbns.end - lbns.start) * BLOCK_SECTORS;
        let result = self
            .machine
            .submit(Operation::Discard, false, start, length, &[])
            .await;
        self.leave();
        self.end(write, result, false);
        result
    }

    /// Puts what was written on stable storage.
    pub async fn flush(&self) -> Result {
        self.admit().await;
        let flush = self.model.borrow_mut().begin_flush();
        let result = self
            .machine
            .submit(Operation::Flush, false, 0, 0, &[])
            .await;
        self.leave();
        if result.is_ok() {
            self.model.borrow_mut().end_flush(flush);
        }
        result
    }

    fn end(&self, write: sim::model::Write, result: Result, fua: bool) {
        let end = match result {
            Ok(()) if fua => End::Durable,
            // Acknowledged, and given up before we heard of it.
            Ok(()) if self.machine.is_read_only() => End::Failed,
            Ok(()) => End::Acknowledged,
            Err(_) => End::Failed,
        };
        self.notice();
        self.model.borrow_mut().end_write(write, end);
    }

    /// A volume that went read-only may have lost what it acknowledged and nobody flushed.
    fn notice(&self) {
        if self.machine.is_read_only() && !self.gave_up.replace(true) {
            self.model.borrow_mut().give_up();
        }
    }

    /// Waits until the device is not suspended.
    async fn admit(&self) {
        while self.machine.suspended.get() {
            sleep(&self.machine.world, 50).await;
        }
        self.machine.in_flight.set(self.machine.in_flight.get() + 1);
    }

    fn leave(&self) {
        self.machine.in_flight.set(self.machine.in_flight.get() - 1);
    }

    async fn send(
        &self,
        operation: Operation,
        fua: bool,
        sectors: Range<u64>,
        data: &[u8],
    ) -> Result {
        let mut waits = Vec::new();
        for (part, place) in self.machine.plan.space.cut(sectors.clone()) {
            let bytes = |sector: u64| (sector - sectors.start) as usize * SECTOR_SIZE;
            let data = data
                .get(bytes(part.start)..bytes(part.end))
                .unwrap_or_default();
            waits.push(
                self.machine
                    .submit(operation, fua, place, length(&part), data),
            );
        }
        let mut result = Ok(());
        for wait in waits {
            result = wait.await.and(result);
        }
        self.leave();
        result
    }

    async fn fetch(&self, sectors: Range<u64>) -> (Vec<u8>, Result) {
        let mut tasks = Vec::new();
        for (part, place) in self.machine.plan.space.cut(sectors) {
            tasks.push(self.machine.read(place, length(&part)));
        }
        let mut data = Vec::new();
        let mut result = Ok(());
        for task in tasks {
            let (bytes, ended) = task.await;
            data.extend(bytes);
            result = result.and(ended);
        }
        (data, result)
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}
