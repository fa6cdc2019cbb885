// SPDX-License-Identifier: GPL-2.0

//! A machine for crowds: its disks complete at once, or when they are let go, and its tasks are
//! polled in the order in which they were woken. It counts what the core does for each request.

use clone::copier::Tools;
use clone::engine::Engine;
use clone::engine::Settings;
use clone::geometry::Geometry;
use clone::route::Operation;
use clone::route::Request;
use clone::route::Route;
use clone::volume::Volume;
use kernel::prelude::*;
use kernel::sync::Arc;
use runtime::clock::Clock;
use runtime::clock::Timer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::SECTOR_SIZE;
use runtime::steps;
use sim::disk::SimBuffer;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::future::Future;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A disk. Clones are handles on the same one.
#[derive(Clone)]
pub struct Quick(std::sync::Arc<Mutex<Shared>>);

struct Shared {
    sectors: u64,
    /// What it holds; a disk for data holds nothing, and reads as junk.
    bytes: Vec<u8>,
    held: bool,
    waiting: Vec<Waker>,
    moved: u64,
}

impl Quick {
    fn new(sectors: u64, bytes: Vec<u8>) -> Self {
        Self(std::sync::Arc::new(Mutex::new(Shared {
            sectors,
            bytes,
            held: false,
            waiting: Vec::new(),
            moved: 0,
        })))
    }

    /// Holds all operations, or lets them go.
    pub fn hold(&self, held: bool) {
        let waiting = {
            let mut shared = lock(&self.0);
            shared.held = held;
            std::mem::take(&mut shared.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Returns how many sectors were read, written and discarded.
    pub fn moved(&self) -> u64 {
        lock(&self.0).moved
    }

    async fn pass(&self, sectors: u64) {
        poll_fn(|context| {
            let mut shared = lock(&self.0);
            if shared.held {
                shared.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            shared.moved += sectors;
            Poll::Ready(())
        })
        .await;
    }
}

impl Disk for Quick {
    type Buffer = SimBuffer;

    fn sectors(&self) -> u64 {
        lock(&self.0).sectors
    }

    fn buffer(&self, pages: usize) -> Result<SimBuffer> {
        SimBuffer::new(pages)
    }

    async fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        mut buffer: SimBuffer,
        page: usize,
    ) -> (SimBuffer, Result) {
        self.pass(sectors.into()).await;
        let from = sector as usize * SECTOR_SIZE;
        let to = from + sectors as usize * SECTOR_SIZE;
        if let Some(bytes) = lock(&self.0).bytes.get(from..to) {
            buffer.scatter(page, bytes);
        }
        (buffer, Ok(()))
    }

    async fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: SimBuffer,
        page: usize,
        _: Durability,
    ) -> (SimBuffer, Result) {
        self.pass(sectors.into()).await;
        let from = sector as usize * SECTOR_SIZE;
        let to = from + sectors as usize * SECTOR_SIZE;
        if let Some(bytes) = lock(&self.0).bytes.get_mut(from..to) {
            bytes.copy_from_slice(&buffer.to_bytes(page, sectors.into()));
        }
        (buffer, Ok(()))
    }

    async fn flush(&self, buffer: SimBuffer) -> (SimBuffer, Result) {
        (buffer, Ok(()))
    }
}

/// No time goes by.
pub struct Still;

impl Clock for Still {
    type Timer = Still;

    fn now_ms(&self) -> u64 {
        0
    }

    fn timer(&self) -> Result<Still> {
        Ok(Still)
    }
}

impl Timer for Still {
    async fn sleep(&mut self, _: u64) {}
}

/// What the core sees of the machine beside its devices.
pub struct Host(Still);

impl clone::engine::World for Host {
    type Disk = Quick;
    type Clock = Still;

    fn clock(&self) -> &Still {
        &self.0
    }

    fn event(&self) {}

    fn error(&self, text: fmt::Arguments<'_>) {
        panic!("{text}");
    }

    fn hydration_failed(&self) {
        panic!("a copy failed");
    }

    fn throttle_percent(&self) -> u32 {
        100
    }
}

/// A bio in the hands of the core.
struct Bio {
    destination: Quick,
    sectors: u64,
}

impl Request for Bio {
    async fn forward(&mut self) -> Result {
        self.destination.pass(self.sectors).await;
        Ok(())
    }
}

struct Ready {
    tasks: VecDeque<usize>,
    queued: Vec<bool>,
}

struct TaskWaker {
    task: usize,
    ready: std::sync::Arc<Mutex<Ready>>,
}

impl Wake for TaskWaker {
    fn wake(self: std::sync::Arc<Self>) {
        let mut ready = lock(&self.ready);
        if !std::mem::replace(&mut ready.queued[self.task], true) {
            ready.tasks.push_back(self.task);
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Polls of tasks.
    pub polls: u64,
    /// Steps under locks.
    pub steps: u64,
    /// The most steps while a lock was held once.
    pub longest: u64,
    /// The most sectors that one poll has moved.
    pub longest_poll: u64,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The machine.
pub struct Crowd {
    /// The engine under test.
    pub engine: Arc<Engine<Host>>,
    /// The source.
    pub source: Quick,
    /// The destination.
    pub destination: Quick,
    tasks: Vec<Option<Task>>,
    ready: std::sync::Arc<Mutex<Ready>>,
    alive: Rc<RefCell<u64>>,
}

impl Crowd {
    /// Starts a clone with all its workers.
    pub fn new(geometry: Geometry, metadata_blocks: usize, settings: Settings) -> Self {
        let bytes = vec![0; metadata_blocks * 4096];
        let metadata = Quick::new(bytes.len() as u64 / 512, bytes);
        let data = || Quick::new(geometry.length(), Vec::new());
        let (source, destination) = (data(), data());
        let metadata = Arc::new(metadata, GFP_KERNEL).expect("memory");
        let volume = at_once(Volume::load(metadata.clone(), geometry, false)).expect("blank");
        at_once(volume.activate(metadata, false)).expect("a format");
        let volume = Arc::new(volume, GFP_KERNEL).expect("memory");
        let (host, from, to) = (Host(Still), source.clone(), destination.clone());
        let engine = Engine::new(host, volume, from, to, settings).expect("memory");
        let mut crowd = Self {
            engine: Arc::new(engine, GFP_KERNEL).expect("memory"),
            source,
            destination,
            tasks: Vec::new(),
            ready: std::sync::Arc::new(Mutex::new(Ready {
                tasks: VecDeque::new(),
                queued: Vec::new(),
            })),
            alive: Rc::default(),
        };
        let small = std::iter::repeat_n(1, clone::copier::SMALL_WORKERS);
        let large = std::iter::repeat_n(settings.large_pages, clone::copier::LARGE_WORKERS);
        for pages in small.chain(large) {
            let tools = Tools::new(&crowd.engine, pages).expect("memory");
            let engine = crowd.engine.clone();
            crowd.spawn(Engine::run_worker(engine, tools));
        }
        crowd
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        let mut ready = lock(&self.ready);
        ready.tasks.push_back(self.tasks.len());
        ready.queued.push(true);
        self.tasks.push(Some(Box::pin(task)));
    }

    /// Returns how many requests have not ended.
    pub fn waiting(&self) -> u64 {
        *self.alive.borrow()
    }

    /// Sends a request; it is served when the machine runs.
    pub fn send(&mut self, operation: Operation, sectors: Range<u64>) {
        match self.engine.route(operation, sectors) {
            Route::Serve(job, front) => {
                let mut bio = Bio {
                    destination: self.destination.clone(),
                    sectors: front.end - front.start,
                };
                let (engine, alive) = (self.engine.clone(), self.alive.clone());
                *alive.borrow_mut() += 1;
                self.spawn(async move {
                    engine.serve(job, &mut bio).await;
                    *alive.borrow_mut() -= 1;
                });
            }
            Route::Remap(..) | Route::Complete => (),
            Route::Fail(error) => panic!("{error:?}"),
        }
    }

    /// Runs until nobody has anything to do.
    pub fn run(&mut self) -> Work {
        let mut work = Work::default();
        steps::take();
        loop {
            let number = {
                let mut ready = lock(&self.ready);
                let Some(number) = ready.tasks.pop_front() else {
                    break;
                };
                ready.queued[number] = false;
                number
            };
            let Some(task) = &mut self.tasks[number] else {
                continue;
            };
            let waker = Waker::from(std::sync::Arc::new(TaskWaker {
                task: number,
                ready: self.ready.clone(),
            }));
            let before = self.source.moved() + self.destination.moved();
            work.polls += 1;
            if task
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                self.tasks[number] = None;
            }
            let moved = self.source.moved() + self.destination.moved() - before;
            work.longest_poll = work.longest_poll.max(moved);
        }
        let made = steps::take();
        (work.steps, work.longest) = (made.all, made.longest);
        work
    }
}

/// Runs what has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}
