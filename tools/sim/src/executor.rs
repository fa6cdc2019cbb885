// SPDX-License-Identifier: GPL-2.0

//! Runs tasks one at a time, in an order that the seed picks.
//!
//! A ready task may be kept waiting while devices go on, and a task is now and then polled without
//! a reason: both are allowed to a real executor too. Tasks are dropped before they are done only
//! when the machine loses power.

use crate::world::Micros;
use crate::world::World;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;

/// How long a ready task may be kept waiting.
const SLOWEST_POLL: Micros = 10_000;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was waited for has come true.
    Done,
    /// The power failed.
    Crashed,
    /// Nothing will ever happen again, or nothing useful has for too long; these tasks wait.
    Stuck(Vec<String>),
}

/// A set of tasks in a world.
pub struct Executor<'a> {
    world: World,
    tasks: Vec<Option<Task<'a>>>,
    ready: Arc<Ready>,
    inbox: Inbox<'a>,
    steps: u64,
    max_steps: u64,
    max_time: Micros,
}

type Inbox<'a> = Rc<RefCell<Vec<Task<'a>>>>;

struct Task<'a> {
    name: String,
    daemon: bool,
    future: Pin<Box<dyn Future<Output = ()> + 'a>>,
}

/// The tasks that were woken and not yet polled.
#[derive(Default)]
struct Ready(Mutex<Vec<usize>>);

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Ready {
    fn with<R>(&self, f: impl FnOnce(&mut Vec<usize>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, task: usize) {
        self.with(|tasks| {
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        });
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

/// Spawns tasks into an executor, also from within its tasks.
#[derive(Clone)]
pub struct Spawner<'a> {
    inbox: Inbox<'a>,
    world: World,
}

/// What a task will return.
pub struct Join<T>(Rc<RefCell<Joined<T>>>);

struct Joined<T> {
    value: Option<T>,
    done: bool,
    waker: Option<Waker>,
}

impl<T> Join<T> {
    /// Returns true once the task has returned.
    pub fn is_done(&self) -> bool {
        self.0.borrow().done
    }

    /// Takes what the task has returned.
    pub fn take(&self) -> Option<T> {
        self.0.borrow_mut().value.take()
    }
}

impl<T> Future for Join<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut joined = self.0.borrow_mut();
        joined.waker = Some(cx.waker().clone());
        joined.value.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<'a> Spawner<'a> {
    /// Starts a task that has to end.
    pub fn spawn<T: 'a>(&self, name: &str, future: impl Future<Output = T> + 'a) -> Join<T> {
        self.start(name, false, future)
    }

    /// Starts a task that may wait for ever.
    pub fn spawn_daemon<T: 'a>(&self, name: &str, future: impl Future<Output = T> + 'a) -> Join<T> {
        self.start(name, true, future)
    }

    fn start<T: 'a>(
        &self,
        name: &str,
        daemon: bool,
        future: impl Future<Output = T> + 'a,
    ) -> Join<T> {
        let joined = Rc::new(RefCell::new(Joined {
            value: None,
            done: false,
            waker: None,
        }));
        let join = Join(joined.clone());
        let future = async move {
            let value = future.await;
            let mut joined = joined.borrow_mut();
            joined.value = Some(value);
            joined.done = true;
            if let Some(waker) = joined.waker.take() {
                waker.wake();
            }
        };
        self.world.trace(|| format!("spawn    {name}"));
        self.inbox.borrow_mut().push(Task {
            name: name.to_owned(),
            daemon,
            future: Box::pin(future),
        });
        join
    }
}

impl<'a> Executor<'a> {
    /// Creates an executor in `world`.
    pub fn new(world: &World) -> Self {
        Self {
            world: world.clone(),
            tasks: Vec::new(),
            ready: Arc::default(),
            inbox: Rc::default(),
            steps: 0,
            max_steps: 1_000_000,
            max_time: 600_000_000,
        }
    }

    /// Sets after how many steps and how much virtual time one run counts as stuck.
    pub fn set_limits(&mut self, max_steps: u64, max_time: Micros) {
        self.max_steps = max_steps;
        self.max_time = max_time;
    }

    /// Returns how many steps were made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns a handle that spawns into this executor.
    pub fn spawner(&self) -> Spawner<'a> {
        Spawner {
            inbox: self.inbox.clone(),
            world: self.world.clone(),
        }
    }

    /// Starts a task that has to end.
    pub fn spawn<T: 'a>(&self, name: &str, future: impl Future<Output = T> + 'a) -> Join<T> {
        self.spawner().spawn(name, future)
    }

    /// Starts a task that may wait for ever.
    pub fn spawn_daemon<T: 'a>(&self, name: &str, future: impl Future<Output = T> + 'a) -> Join<T> {
        self.spawner().spawn_daemon(name, future)
    }

    /// Runs until every task that has to end has ended.
    pub fn run(&mut self) -> Outcome {
        loop {
            self.adopt();
            if self.unfinished().is_empty() {
                return Outcome::Done;
            }
            let before = self.unfinished().len();
            match self.run_until(|this| this.unfinished().len() != before) {
                Outcome::Done => {}
                other => return other,
            }
        }
    }

    /// Runs until nothing would happen any more.
    pub fn run_until_idle(&mut self) -> Outcome {
        match self.run_until(|_| false) {
            Outcome::Stuck(waiting) if !self.idle() => Outcome::Stuck(waiting),
            Outcome::Stuck(_) => Outcome::Done,
            other => other,
        }
    }

    /// Runs until `task` has returned, and gives what it returned.
    pub fn run_task<T>(&mut self, task: &Join<T>) -> Result<T, Outcome> {
        match self.run_until(|_| task.is_done()) {
            Outcome::Done => task.take().ok_or(Outcome::Done),
            other => Err(other),
        }
    }

    /// Runs for `duration`, or until nothing would happen any more.
    pub fn run_for(&mut self, duration: Micros) -> Outcome {
        let end = self.world.now().saturating_add(duration);
        self.run_until(|this| this.world.now() >= end || this.idle())
    }

    /// Runs until `condition` holds; it is looked at after every step.
    pub fn run_until(&mut self, mut condition: impl FnMut(&Self) -> bool) -> Outcome {
        let last_step = self.steps.saturating_add(self.max_steps);
        let end = self.world.now().saturating_add(self.max_time);
        loop {
            self.adopt();
            if self.world.crashed() {
                return Outcome::Crashed;
            }
            if condition(self) {
                return Outcome::Done;
            }
            if self.idle() || self.steps >= last_step || self.world.now() > end {
                return Outcome::Stuck(self.unfinished());
            }
            self.step();
        }
    }

    /// Cuts the power: drops every task where it stands.
    pub fn power_off(mut self) {
        self.world.crash();
        // Tasks are dropped in any order, as their memory is not read again.
        while !self.tasks.is_empty() {
            let index = self
                .world
                .with_rng(|rng| rng.below(self.tasks.len() as u64));
            drop(self.tasks.swap_remove(index as usize));
        }
    }

    fn idle(&self) -> bool {
        self.ready.with(|ready| ready.is_empty())
            && self.inbox.borrow().is_empty()
            && !self.world.has_event()
    }

    fn unfinished(&self) -> Vec<String> {
        let alive = self.tasks.iter().flatten().filter(|task| !task.daemon);
        alive.map(|task| task.name.clone()).collect()
    }

    /// Takes in the tasks that were spawned since.
    fn adopt(&mut self) {
        for task in self.inbox.borrow_mut().drain(..) {
            self.ready.push(self.tasks.len());
            self.tasks.push(Some(task));
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        self.world.step(self.steps);
        if self.world.crashed() {
            return;
        }
        let ready = self.ready.with(|ready| ready.len()) as u64;
        let hurry = self.world.has_event_within(SLOWEST_POLL)
            && self.world.with_rng(|rng| rng.chance(1, 8));
        if ready == 0 || hurry {
            self.world.fire();
        } else if self.world.with_rng(|rng| rng.chance(1, 32)) {
            let any = self
                .world
                .with_rng(|rng| rng.below(self.tasks.len() as u64));
            self.poll(any as usize);
        } else {
            let index = self.world.with_rng(|rng| rng.below(ready)) as usize;
            let task = self.ready.with(|ready| ready.swap_remove(index));
            self.poll(task);
        }
    }

    fn poll(&mut self, number: usize) {
        let Some(task) = &mut self.tasks[number] else {
            return;
        };
        self.world.trace(|| format!("poll     {}", task.name));
        let waker = Waker::from(Arc::new(TaskWaker {
            task: number,
            ready: self.ready.clone(),
        }));
        if task
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            self.world.trace(|| format!("end      {}", task.name));
            self.tasks[number] = None;
        }
    }
}
