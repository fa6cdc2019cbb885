// SPDX-License-Identifier: GPL-2.0

//! Who uses the clone device: sends requests the way device-mapper does, and checks the answers.

use crate::flaw::Flaw;
use crate::machine::Machine;
use clone::route::Operation;
use clone::route::Request;
use clone::route::Route;
use clone::route::Side;
use clone::route::Verdict;
use kernel::prelude::*;
use sim::clock::sleep;
use sim::fault::Kind;
use sim::model::End;
use sim::Model;
use sim::SimBio;
use sim::SimDisk;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

/// Who uses the device of a machine.
#[derive(Clone)]
pub struct User {
    /// The machine.
    pub machine: Rc<Machine>,
    /// What the device must show.
    pub model: Rc<RefCell<Model>>,
    violation: Rc<RefCell<Option<String>>>,
}

/// A part of a request in the hands of the core.
struct Part {
    bio: SimBio,
    destination: SimDisk,
}

impl Request for Part {
    async fn forward(&mut self) -> Result {
        self.bio.forward(&self.destination).await
    }
}

impl User {
    /// Returns a user who knows that the device must show `model`.
    pub fn new(machine: &Rc<Machine>, model: Model) -> Self {
        Self {
            machine: machine.clone(),
            model: Rc::new(RefCell::new(model)),
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
        let (data, result) = self
            .send(SimBio::read(sectors.start, length(&sectors)))
            .await;
        if result.is_ok() {
            let checked = self.model.borrow_mut().end_read(&read, &data);
            if let Err(violation) = checked {
                self.complain(violation.to_string());
            }
        }
        result
    }

    /// Reads everything while nobody else uses the device. It must stay that way from now on.
    pub async fn settle(&self, when: &'static str) {
        if let Err(error) = self.settle_if_readable(when).await {
            self.complain(format!("{when}: a read failed: {error:?}"));
        }
    }

    /// As [`settle`](Self::settle), if the read does not fail.
    ///
    /// # Errors
    ///
    /// That of the read.
    pub async fn settle_if_readable(&self, when: &'static str) -> Result {
        self.admit().await;
        let sectors = self.machine.plan.geometry.length();
        let (data, result) = self.send(SimBio::read(0, sectors)).await;
        result?;
        let settled = self.model.borrow_mut().settle(0, &data, when);
        settled.unwrap_or_else(|violation| self.complain(violation.to_string()));
        Ok(())
    }

    /// Writes a new version of sectors.
    pub async fn write(&self, sectors: Range<u64>, fua: bool) -> Result {
        self.admit().await;
        let write = self.model.borrow_mut().begin_write(sectors.clone());
        let data = self.model.borrow().data(write);
        let (_, result) = self.send(SimBio::write(sectors.start, data, fua)).await;
        let end = match result {
            Ok(()) if fua => End::Durable,
            Ok(()) => End::Acknowledged,
            Err(_) => End::Failed,
        };
        self.model.borrow_mut().end_write(write, end);
        result
    }

    /// Discards sectors. Only whole regions may be touched.
    pub async fn discard(&self, sectors: Range<u64>) -> Result {
        self.admit().await;
        let geometry = &self.machine.plan.geometry;
        let regions = geometry.covered(&sectors);
        let touched = if regions.is_empty() {
            0..0
        } else {
            geometry.sectors(&regions)
        };
        let discard = self.model.borrow_mut().begin_discard(touched);
        let (_, result) = self
            .send(SimBio::discard(sectors.start, length(&sectors)))
            .await;
        let end = if result.is_ok() {
            End::Acknowledged
        } else {
            End::Failed
        };
        self.model.borrow_mut().end_write(discard, end);
        result
    }

    /// Puts what was written on stable storage.
    pub async fn flush(&self) -> Result {
        self.admit().await;
        let flush = self.model.borrow_mut().begin_flush();
        let (_, result) = self.send(SimBio::flush()).await;
        if result.is_ok() {
            self.model.borrow_mut().end_flush(flush);
        }
        result
    }

    /// Waits until the device is not suspended.
    async fn admit(&self) {
        while self.machine.suspended.get() {
            sleep(&self.machine.world, 50).await;
        }
        self.machine.in_flight.set(self.machine.in_flight.get() + 1);
    }

    /// Sends a request, in the parts that the core cuts it into, and returns what was read.
    async fn send(&self, bio: SimBio) -> (Vec<u8>, Result) {
        let mut parts = Vec::new();
        let mut result = Ok(());
        let mut rest = self.cut(bio);
        while let Some(bio) = rest.pop_front() {
            let (part, left) = self.map(bio);
            left.into_iter().for_each(|left| rest.push_front(left));
            match part {
                Ok(part) => parts.push(part),
                Err(ended) => result = result.and(ended),
            }
        }
        let mut data = Vec::new();
        for part in parts {
            let (bytes, ended) = part.await;
            data.extend(bytes);
            result = result.and(ended);
        }
        self.machine.in_flight.set(self.machine.in_flight.get() - 1);
        (data, result)
    }

    /// Cuts a request where the clone has something between what users see.
    fn cut(&self, mut bio: SimBio) -> VecDeque<SimBio> {
        let mut pieces = VecDeque::new();
        if let Some(islands) = self.machine.plan.islands() {
            while islands.end(bio.sector) < bio.sector + bio.sectors {
                let rest = bio.split(islands.end(bio.sector) - bio.sector);
                pieces.push_back(std::mem::replace(&mut bio, rest));
            }
        }
        pieces.push_back(bio);
        pieces
    }

    /// Has the core route the front of a request; returns the task that serves it, or how it
    /// ended at once, and the rest.
    fn map(&self, mut bio: SimBio) -> (Mapped, Option<SimBio>) {
        let machine = &self.machine;
        let Some(table) = machine.active() else {
            return (Err(Err(EIO)), None);
        };
        let operation = match bio.kind {
            Kind::Read => Operation::Read,
            Kind::Write => Operation::Write { fua: bio.fua },
            Kind::Discard => Operation::Discard,
            Kind::Flush => Operation::Flush,
        };
        let islands = machine.plan.islands();
        let place = islands.map_or(bio.sector, |islands| islands.place(bio.sector));
        let sectors = place..place + bio.sectors;
        let plain = matches!(operation, Operation::Read | Operation::Write { fua: false });
        let finished = plain && table.engine.is_finished();
        let route = table.engine.route(operation, sectors.clone());
        if finished {
            // The kernel's glue does not ask for the route then.
            assert_eq!(route, Route::Remap(Side::Destination, sectors.clone()));
        }
        machine
            .world
            .trace(|| format!("map      {operation:?} {route:?}"));
        if table.read_only
            && matches!(bio.kind, Kind::Write | Kind::Discard)
            && matches!(route, Route::Remap(..) | Route::Serve(..))
        {
            self.complain(format!("a read-only table lets {operation:?} pass"));
        }
        let cut = |bio: &mut SimBio, front: Range<u64>| {
            if bio.kind == Kind::Discard {
                (bio.sector, bio.sectors) = (bio.sector + front.start - place, length(&front));
            } else if length(&front) < bio.sectors {
                return Some(bio.split(length(&front)));
            }
            None
        };
        match route {
            Route::Complete => (Err(Ok(())), None),
            Route::Fail(error) => (Err(Err(error)), None),
            Route::Remap(side, front) => {
                let rest = cut(&mut bio, front);
                let disk = match side {
                    Side::Source => machine.source.clone(),
                    Side::Destination => table.destination.clone(),
                };
                let task = machine.spawner().spawn("remapped", async move {
                    let result = bio.forward(&disk).await;
                    (bio.data, result)
                });
                (Ok(task), rest)
            }
            Route::Serve(job, front) => {
                let rest = cut(&mut bio, front);
                if let (Kind::Discard, Some(Flaw::DiscardUnderCopy)) = (bio.kind, machine.plan.flaw)
                {
                    let volume = table.engine.volume();
                    volume
                        .map()
                        .set_hydrated(&volume.geometry().covered(&sectors));
                    return (Err(Ok(())), rest);
                }
                let mut part = Part {
                    bio,
                    destination: table.destination.clone(),
                };
                let task = machine.spawner().spawn("served", async move {
                    let result = match table.engine.serve(job, &mut part).await {
                        Verdict::Remap => part.bio.forward(&part.destination).await,
                        Verdict::End(result) => result,
                    };
                    (part.bio.data, result)
                });
                (Ok(task), rest)
            }
        }
    }
}

type Mapped = std::result::Result<sim::executor::Join<(Vec<u8>, Result)>, Result>;

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}
