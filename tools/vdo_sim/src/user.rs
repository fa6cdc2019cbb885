// SPDX-License-Identifier: GPL-2.0

//! Who uses the volume: sends requests the way device-mapper does, and checks the answers.

use crate::answers::Asked;
use crate::answers::Asks;
use crate::inspect::Expected;
use crate::machine::Machine;
use crate::toy::BLOCK_SECTORS;
use kernel::prelude::*;
use runtime::disk::SECTOR_SIZE;
use sim::clock::sleep;
use sim::model::End;
use sim::model::Shape;
use sim::pattern;
use sim::Model;
use std::cell::Cell;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use vdo::format::block_map;
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
}

impl User {
    /// Returns a user who knows that the volume must show `model`.
    pub fn new(machine: &Rc<Machine>, model: Model) -> Self {
        Self {
            machine: machine.clone(),
            model: Rc::new(RefCell::new(model)),
            gave_up: Rc::default(),
        }
    }

    /// Returns what was wrong first, if anything was.
    pub fn violation(&self) -> Option<String> {
        self.machine.violation()
    }

    /// Notes that something is wrong.
    pub fn complain(&self, text: String) {
        self.machine.complain(text);
    }

    /// Reads sectors and checks what comes. Returns what was read.
    ///
    /// # Errors
    ///
    /// That of the read.
    pub async fn read(&self, sectors: Range<u64>) -> Result<Vec<u8>> {
        let asked = self.admit(Asks::Read, 0).await;
        let read = self.model.borrow_mut().begin_read(sectors.clone());
        let gave_up = self.gave_up.get();
        let (data, result) = self.fetch(sectors).await;
        self.leave(&asked, result);
        result?;
        // When the volume gives up, the model forgets what this read may have found before.
        if self.gave_up.get() == gave_up {
            let checked = self.model.borrow_mut().end_read(&read, &data);
            checked.unwrap_or_else(|violation| self.complain(violation.to_string()));
        }
        Ok(data)
    }

    /// Reads everything and checks it. Returns what was read.
    ///
    /// # Errors
    ///
    /// That of the read.
    pub async fn read_all(&self) -> Result<Vec<u8>> {
        self.read(0..self.machine.plan.space.sectors()).await
    }

    /// Reads everything after a boot. If `expected` is known, it must be just that. From now on
    /// no other version may come back; unless the volume is read-only: a rebuild may find more.
    ///
    /// # Errors
    ///
    /// That of the read.
    pub async fn settle(&self, expected: Option<Expected>) -> Result {
        let data = self.read_all().await?;
        if self.machine.is_read_only() {
            return Ok(());
        }
        let settled = self.model.borrow_mut().settle(0, &data, "after boot");
        settled.unwrap_or_else(|violation| self.complain(violation.to_string()));
        let Some(expected) = expected else {
            return Ok(());
        };
        let expected = expected.content;
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
        self.write_shaped(sectors, Shape::default(), fua).await
    }

    /// Writes data of some shape.
    pub async fn write_shaped(&self, sectors: Range<u64>, shape: Shape, fua: bool) -> Result {
        let asked = self.admit_room(&sectors).await;
        let write = self.model.borrow_mut().begin_shaped(sectors.clone(), shape);
        let data = self.model.borrow().data(write);
        let result = self.send(Operation::Write, fua, sectors, &data).await;
        self.end(&asked, write, result, fua);
        result
    }

    /// Writes zeroes, or asks for them.
    pub async fn zero(&self, sectors: Range<u64>, operation: Operation, fua: bool) -> Result {
        let asked = self.admit_room(&sectors).await;
        let write = self.model.borrow_mut().begin_zeroes(sectors.clone());
        let data = match operation {
            Operation::Write => vec![0; length(&sectors) as usize * SECTOR_SIZE],
            _ => Vec::new(),
        };
        let result = self.send(operation, fua, sectors, &data).await;
        self.end(&asked, write, result, fua);
        result
    }

    /// Discards sectors of the volume, which may be more than what the model has of it.
    pub async fn discard(&self, sectors: Range<u64>, fua: bool) -> Result {
        let own = self.machine.plan.space.inside(sectors.clone());
        let is_whole = sectors.start % BLOCK_SECTORS == 0 && sectors.end % BLOCK_SECTORS == 0;
        let blocks = blocks(&own);
        let asked = match is_whole {
            true => self.admit(Asks::Less, blocks).await,
            // What is discarded in part is written.
            false => self.admit(Asks::Room(0), blocks + 2).await,
        };
        let write = self.model.borrow_mut().begin_zeroes(own);
        let (start, length) = (sectors.start, length(&sectors));
        let result = self
            .machine
            .submit(Operation::Discard, fua, start, length, &[])
            .await;
        self.end(&asked, write, result, fua);
        result
    }

    /// Waits until nothing is left to recover. If nobody has changed anything since the boot, as
    /// many blocks must be free as were `expected`.
    pub async fn recovered(&self, expected: Option<Expected>) {
        let machine = &self.machine;
        machine.recovered().await;
        let Some(Expected { free, .. }) = expected.filter(|_| !machine.is_read_only()) else {
            return;
        };
        if machine.free() != free {
            let found = machine.free();
            self.complain(format!(
                "recovered: {found} blocks are free, {free} should be"
            ));
        }
    }

    /// Puts what was written on stable storage.
    pub async fn flush(&self) -> Result {
        let asked = self.admit(Asks::Flush, 0).await;
        let flush = self.model.borrow_mut().begin_flush();
        let result = self
            .machine
            .submit(Operation::Flush, false, 0, 0, &[])
            .await;
        self.leave(&asked, result);
        if result.is_ok() {
            self.model.borrow_mut().end_flush(flush);
        }
        result
    }

    fn end(&self, asked: &Rc<Asked>, write: sim::model::Write, result: Result, fua: bool) {
        let end = match result {
            Ok(()) if fua => End::Durable,
            // Acknowledged, and given up before we heard of it.
            Ok(()) if self.machine.is_read_only() => End::Failed,
            Ok(()) => End::Acknowledged,
            Err(_) => End::Failed,
        };
        self.leave(asked, result);
        self.model.borrow_mut().end_write(write, end);
    }

    /// A volume that went read-only may have lost what it acknowledged and nobody flushed.
    fn notice(&self) {
        self.machine.check_mode();
        self.machine.check_map();
        if self.machine.is_read_only() && !self.gave_up.replace(true) {
            self.model.borrow_mut().give_up();
        }
    }

    async fn admit_room(&self, sectors: &Range<u64>) -> Rc<Asked> {
        let leaf = |sector: u64| sector / BLOCK_SECTORS / u64::from(block_map::ENTRIES);
        let parts = self.machine.plan.space.cut(sectors.clone());
        let leaves = parts
            .into_iter()
            .map(|(part, place)| 1 + leaf(place + length(&part) - 1) - leaf(place));
        self.admit(Asks::Room(leaves.sum()), blocks(sectors)).await
    }

    /// Waits until the device is not suspended.
    async fn admit(&self, asks: Asks, blocks: u64) -> Rc<Asked> {
        while self.machine.suspended.get() {
            sleep(&self.machine.world, 50).await;
        }
        self.machine.in_flight.set(self.machine.in_flight.get() + 1);
        self.machine.answers.ask(&self.machine, asks, blocks)
    }

    /// A request has been answered.
    fn leave(&self, asked: &Rc<Asked>, result: Result) {
        self.machine.in_flight.set(self.machine.in_flight.get() - 1);
        self.notice();
        let answered = self.machine.answers.answer(&self.machine, asked, result);
        if let Some(text) = answered {
            self.complain(text);
        }
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

/// Returns how many blocks these sectors touch.
fn blocks(sectors: &Range<u64>) -> u64 {
    sectors.end.div_ceil(BLOCK_SECTORS) - sectors.start / BLOCK_SECTORS
}
