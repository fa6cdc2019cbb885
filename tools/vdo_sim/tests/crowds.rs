// SPDX-License-Identifier: GPL-2.0

//! A request costs the same, whatever number of others waits.
//!
//! A crowd of requests comes at once while the storage does nothing, so that all of them wait; then
//! the storage goes on. Counted are the entries that are looked at under locks, and the polls of
//! who waits there.

use kernel::sync::Arc;
use runtime::disk::SECTOR_SIZE;
use runtime::steps;
use sim::clock::sleep;
use sim::fault::Kind;
use sim::Executor;
use sim::World;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;
use vdo::volume::engine::Engine;
use vdo::world::Operation;
use vdo_sim::host::Host;
use vdo_sim::machine::Machine;
use vdo_sim::plan::Plan;
use vdo_sim::reader::SimRead;
use vdo_sim::toy::BLOCK_SECTORS;

/// Blocks that the crowds want.
const BLOCKS: u64 = 8;

/// What the crowds are made of.
#[derive(Clone, Copy, Debug)]
enum Crowd {
    /// Reads of blocks whose leaf page is not in memory.
    Reads,
    /// Reads of a block that is being written in part.
    ReadsBesideWrite,
    Writes,
    WritesOfParts,
    WritesFua,
    WriteZeroes,
    Discards,
    /// Flushes, while something is not settled.
    Flushes,
    /// All of them.
    Mixed,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Many tasks that are polled when they are woken, and nobody else with them.
struct Tasks {
    tasks: Vec<Option<Task>>,
    left: usize,
    polls: u64,
    woken: std::sync::Arc<Woken>,
}

#[derive(Default)]
struct Woken(Mutex<(VecDeque<usize>, Option<Waker>)>);

struct TaskWaker(usize, std::sync::Arc<Woken>);

impl Wake for TaskWaker {
    fn wake(self: std::sync::Arc<Self>) {
        let mut woken = self.1 .0.lock().unwrap();
        woken.0.push_back(self.0);
        if let Some(waker) = woken.1.take() {
            waker.wake();
        }
    }
}

impl Tasks {
    fn new(tasks: Vec<Task>) -> Self {
        let all = (0..tasks.len()).collect();
        Self {
            left: tasks.len(),
            polls: 0,
            tasks: tasks.into_iter().map(Some).collect(),
            woken: std::sync::Arc::new(Woken(Mutex::new((all, None)))),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut woken = self.woken.0.lock().unwrap();
            let Some(number) = woken.0.pop_front() else {
                woken.1 = Some(context.waker().clone());
                break;
            };
            drop(woken);
            let Some(task) = &mut self.tasks[number] else {
                continue;
            };
            self.polls += 1;
            let waker = Waker::from(std::sync::Arc::new(TaskWaker(number, self.woken.clone())));
            if task
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                self.tasks[number] = None;
                self.left -= 1;
            }
        }
        match self.left {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

/// Returns a request of a crowd.
fn request(machine: &Rc<Machine>, crowd: Crowd, number: u64) -> Task {
    let machine = machine.clone();
    let place = number % BLOCKS * BLOCK_SECTORS;
    let (operation, fua, place, sectors) = match crowd {
        Crowd::Reads => return read(&machine, place),
        Crowd::ReadsBesideWrite if number > 0 => return read(&machine, 0),
        Crowd::ReadsBesideWrite => (Operation::Write, false, 1, 1),
        Crowd::Writes => (Operation::Write, false, place, BLOCK_SECTORS),
        Crowd::WritesOfParts => (Operation::Write, false, place + 1, 1),
        Crowd::WritesFua => (Operation::Write, true, place, BLOCK_SECTORS),
        Crowd::WriteZeroes => (Operation::WriteZeroes, false, place, BLOCK_SECTORS),
        Crowd::Discards => (Operation::Discard, false, place, BLOCK_SECTORS),
        Crowd::Flushes if number > 0 => (Operation::Flush, false, 0, 0),
        Crowd::Flushes => (Operation::Write, false, place, BLOCK_SECTORS),
        Crowd::Mixed => {
            let kinds = [
                Crowd::Reads,
                Crowd::Writes,
                Crowd::WritesOfParts,
                Crowd::WritesFua,
                Crowd::WriteZeroes,
                Crowd::Discards,
                Crowd::Flushes,
            ];
            let kind = kinds[number as usize % kinds.len()];
            return request(&machine, kind, number);
        }
    };
    Box::pin(async move {
        let data = match operation {
            Operation::Write => vec![7; sectors as usize * SECTOR_SIZE],
            _ => Vec::new(),
        };
        let done = machine.submit(operation, fua, place, sectors, &data).await;
        done.expect("a request");
    })
}

fn read(machine: &Machine, place: u64) -> Task {
    let engine: Arc<Engine<Host>> = machine.volume().expect("a volume").engine.clone();
    let mut bio = SimRead::new(machine.disk.clone(), place, BLOCK_SECTORS as u32);
    Box::pin(async move {
        engine.read(&mut bio).await.expect("a read");
    })
}

/// Returns how many steps a request takes in a crowd of so many.
fn steps_of_one(crowd: Crowd, count: u64) -> u64 {
    let mut plan = Plan {
        batch_blocks: 24,
        ..Plan::default()
    };
    plan.toy.layout.slabs = 8;
    plan.toy.layout.journal_blocks = 32;
    // The blocks exist, and nothing of them is in memory.
    let image = run(&plan, plan.image(), |machine| async move {
        let data = vec![1; BLOCKS as usize * BLOCK_SECTORS as usize * SECTOR_SIZE];
        let sectors = BLOCKS * BLOCK_SECTORS;
        let write = machine.submit(Operation::Write, false, 0, sectors, &data);
        write.await.expect("a write");
    });
    let taken = Rc::new(std::cell::Cell::new(0));
    let own = taken.clone();
    run(&plan, image, move |machine| async move {
        steps::take();
        let tasks = (0..count).map(|number| request(&machine, crowd, number));
        let mut tasks = Tasks::new(tasks.collect());
        machine.disk.hold(&[Kind::Read, Kind::Write, Kind::Flush]);
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            match tasks.poll(context) {
                // All were polled.
                Poll::Pending if polls == 1 => Poll::Ready(()),
                other => other,
            }
        })
        .await;
        sleep(&machine.world, 10_000).await;
        machine.disk.hold(&[]);
        machine.disk.release();
        poll_fn(|context| tasks.poll(context)).await;
        own.set((steps::take().all + tasks.polls) / count);
    });
    taken.get()
}

fn run<F>(plan: &Plan, image: Vec<u8>, life: impl FnOnce(Rc<Machine>) -> F) -> Vec<u8>
where
    F: Future<Output = ()> + 'static,
{
    let world = World::new(1);
    let mut executor = Executor::new(&world);
    executor.set_limits(u64::MAX, u64::MAX);
    let machine = Machine::new(&world, executor.spawner(), plan, image);
    let life = life(machine.clone());
    let driver = executor.spawn("driver", async move {
        machine.start().await.expect("a start");
        life.await;
        machine.remove().await;
    });
    executor.run_task(&driver).expect("it ends");
    world.images().swap_remove(0)
}

fn costs_the_same(crowd: Crowd) {
    let [few, many, crowds] = [10, 1000, 50_000].map(|count| steps_of_one(crowd, count));
    println!("{crowd:?}: {few}, {many}, {crowds} steps a request");
    // Where few wait the tasks that run anyway are most of it.
    let most = few.max(many);
    assert!(
        crowds <= most + most / 4 + 4,
        "{crowd:?}: {few}, {many}, {crowds} steps a request"
    );
}

#[test]
fn reads() {
    costs_the_same(Crowd::Reads);
}

#[test]
fn reads_beside_a_write() {
    costs_the_same(Crowd::ReadsBesideWrite);
}

#[test]
fn writes() {
    costs_the_same(Crowd::Writes);
}

#[test]
fn writes_of_parts() {
    costs_the_same(Crowd::WritesOfParts);
}

#[test]
fn writes_fua() {
    costs_the_same(Crowd::WritesFua);
}

#[test]
fn write_zeroes() {
    costs_the_same(Crowd::WriteZeroes);
}

#[test]
fn discards() {
    costs_the_same(Crowd::Discards);
}

#[test]
fn flushes() {
    costs_the_same(Crowd::Flushes);
}

#[test]
fn all_kinds_at_once() {
    costs_the_same(Crowd::Mixed);
}
