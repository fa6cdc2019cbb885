// SPDX-License-Identifier: GPL-2.0

//! Runs tasks one at a time, in an order that the seed picks.
//!
//! A ready task may be kept waiting while devices go on, and a task is now and then polled without
//! a reason: both are allowed to a real executor too. Tasks are dropped before they are done only
//! when the machine loses power.
//!
//! As a rule a task runs undisturbed up to where it waits. With a [`Preemption`] it may stop at the
//! edges of locks while others run, and other CPUs seem to. Those are polled on top of its stack:
//! one that interrupts it can be interrupted itself, but goes on before it does. If the power fails
//! meanwhile, the tasks on the stack are unwound.

use crate::preemption::Preemption;
use crate::world::Micros;
use crate::world::World;
use kernel::alloc::with_waiting;
use runtime::preempt;
use runtime::preempt::Edge;
use runtime::preempt::Hook;
use std::cell::Cell;
use std::cell::RefCell;
use std::future::Future;
use std::panic::catch_unwind;
use std::panic::resume_unwind;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;
use std::thread;

/// How long a ready task may be kept waiting.
const SLOWEST_POLL: Micros = 10_000;

/// How many tasks may be on the stack at once.
const DEEPEST: u32 = 4;

/// How long a task may be preempted, also by tasks that are preempted themselves; else only timers
/// might be left to run.
pub const LONGEST_PREEMPTION: Micros = 100_000;

/// A task that gets so far in one poll waits for somebody without saying so.
const LONGEST_POLL: u64 = 20_000;

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
    core: Rc<Core<'a>>,
    max_steps: u64,
    max_time: Micros,
}

/// What is in use also in the middle of a step, when a task is preempted.
struct Core<'a> {
    world: World,
    tasks: RefCell<Vec<Slot<'a>>>,
    ready: Arc<Ready>,
    inbox: Inbox<'a>,
    steps: Cell<u64>,
    preemption: RefCell<Option<Preemption>>,
    /// What runs at the edges of locks, with a preemption.
    hook: RefCell<Option<Hook>>,
    /// The task that is being polled, and how many are.
    current: Cell<usize>,
    depth: Cell<u32>,
    /// When the task on the bottom of the stack is to go on.
    until: Cell<Micros>,
    /// How many edges the current task has met in this poll.
    edges: Cell<u64>,
}

/// The place of a task.
enum Slot<'a> {
    /// It waits.
    Waits(Task<'a>),
    /// It is on the stack.
    Runs(Rc<str>),
    /// It has ended.
    Ended,
}

/// What the tasks on the stack are unwound with when the power fails.
struct PowerOff;

type Inbox<'a> = Rc<RefCell<Vec<Task<'a>>>>;

struct Task<'a> {
    name: Rc<str>,
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
            name: name.into(),
            daemon,
            future: Box::pin(future),
        });
        join
    }
}

impl Executor<'static> {
    /// Has tasks preempted from now on.
    pub fn preempt(&mut self, preemption: Preemption) {
        self.core.preemption.replace(Some(preemption));
        let core = Rc::downgrade(&self.core);
        self.core.hook.replace(Some(Rc::new(move |edge| {
            if let Some(core) = core.upgrade() {
                core.at_edge(edge);
            }
        })));
    }
}

impl<'a> Executor<'a> {
    /// Creates an executor in `world`.
    pub fn new(world: &World) -> Self {
        Self {
            core: Rc::new(Core {
                world: world.clone(),
                tasks: RefCell::default(),
                ready: Arc::default(),
                inbox: Rc::default(),
                steps: Cell::new(0),
                preemption: RefCell::default(),
                hook: RefCell::default(),
                current: Cell::new(0),
                depth: Cell::new(0),
                until: Cell::new(0),
                edges: Cell::new(0),
            }),
            max_steps: 1_000_000,
            max_time: 600_000_000,
        }
    }

    /// Sets after how many steps and how much virtual time one run counts as stuck.
    pub fn set_limits(&mut self, max_steps: u64, max_time: Micros) {
        self.max_steps = max_steps;
        self.max_time = max_time;
    }

    /// Returns whether a task that has to end has not.
    pub fn is_busy(&self) -> bool {
        !self.core.unfinished().is_empty()
    }

    /// Returns how many steps were made so far.
    pub fn steps(&self) -> u64 {
        self.core.steps.get()
    }

    /// Returns a handle that spawns into this executor.
    pub fn spawner(&self) -> Spawner<'a> {
        Spawner {
            inbox: self.core.inbox.clone(),
            world: self.core.world.clone(),
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
            self.core.adopt();
            let before = self.core.unfinished().len();
            if before == 0 {
                return Outcome::Done;
            }
            match self.run_until(|this| this.core.unfinished().len() != before) {
                Outcome::Done => {}
                other => return other,
            }
        }
    }

    /// Runs until nothing would happen any more.
    pub fn run_until_idle(&mut self) -> Outcome {
        match self.run_until(|_| false) {
            Outcome::Stuck(waiting) if !self.core.idle() => Outcome::Stuck(waiting),
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
        let end = self.core.world.now().saturating_add(duration);
        self.run_until(|this| this.core.world.now() >= end || this.core.idle())
    }

    /// Runs until `condition` holds; it is looked at after every step.
    pub fn run_until(&mut self, mut condition: impl FnMut(&Self) -> bool) -> Outcome {
        let last_step = self.steps().saturating_add(self.max_steps);
        let end = self.core.world.now().saturating_add(self.max_time);
        loop {
            self.core.adopt();
            if self.core.world.crashed() {
                return Outcome::Crashed;
            }
            if condition(self) {
                return Outcome::Done;
            }
            let is_late = self.steps() >= last_step || self.core.world.now() > end;
            if self.core.idle() || is_late {
                return Outcome::Stuck(self.core.unfinished());
            }
            self.core.step();
        }
    }

    /// Cuts the power: drops every task where it stands.
    pub fn power_off(self) {
        self.core.world.crash();
        // Tasks are dropped in any order, as their memory is not read again.
        let mut tasks = self.core.tasks.take();
        while !tasks.is_empty() {
            let count = tasks.len() as u64;
            let index = self.core.world.with_rng(|rng| rng.below(count));
            drop(tasks.swap_remove(index as usize));
        }
    }
}

impl<'a> Core<'a> {
    fn idle(&self) -> bool {
        self.inbox.borrow().is_empty() && !self.world.has_event() && self.count_ready() == 0
    }

    fn unfinished(&self) -> Vec<String> {
        let tasks = self.tasks.borrow();
        let alive = tasks.iter().filter_map(|slot| match slot {
            Slot::Waits(task) if !task.daemon => Some(task.name.to_string()),
            _ => None,
        });
        alive.collect()
    }

    /// Takes in the tasks that were spawned since.
    fn adopt(&self) {
        let mut tasks = self.tasks.borrow_mut();
        for task in self.inbox.borrow_mut().drain(..) {
            self.ready.push(tasks.len());
            tasks.push(Slot::Waits(task));
        }
    }

    /// Returns how many tasks could be polled now.
    fn count_ready(&self) -> usize {
        let tasks = self.tasks.borrow();
        self.ready.with(|ready| {
            // Those on the stack come to it later.
            let runs = |task: &&usize| matches!(tasks[**task], Slot::Runs(_));
            ready.len() - ready.iter().filter(runs).count()
        })
    }

    /// Takes one of those tasks.
    fn take_ready(&self, index: usize) -> usize {
        let tasks = self.tasks.borrow();
        self.ready.with(|ready| {
            let mut places =
                (0..ready.len()).filter(|place| !matches!(tasks[ready[*place]], Slot::Runs(_)));
            let place = places.nth(index).expect("a task that is ready");
            ready.swap_remove(place)
        })
    }

    fn step(&self) {
        self.steps.set(self.steps.get() + 1);
        self.world.step(self.steps.get());
        if self.world.crashed() {
            return;
        }
        let ready = self.count_ready() as u64;
        let hurry = self.world.has_event_within(SLOWEST_POLL)
            && self.world.with_rng(|rng| rng.chance(1, 8));
        if ready == 0 || hurry {
            self.world.fire();
        } else if self.world.with_rng(|rng| rng.chance(1, 32)) {
            let count = self.tasks.borrow().len() as u64;
            let any = self.world.with_rng(|rng| rng.below(count));
            self.poll(any as usize);
        } else {
            let index = self.world.with_rng(|rng| rng.below(ready)) as usize;
            self.poll(self.take_ready(index));
        }
    }

    fn poll(&self, number: usize) {
        let Some(mut task) = self.take(number) else {
            return;
        };
        self.world.trace(|| format!("poll     {}", task.name));
        let waker = Waker::from(Arc::new(TaskWaker {
            task: number,
            ready: self.ready.clone(),
        }));
        let before = (self.current.get(), self.depth.get(), self.edges.get());
        self.current.set(number);
        self.depth.set(before.1 + 1);
        self.edges.set(0);
        let future = task.future.as_mut();
        let poll = || future.poll(&mut Context::from_waker(&waker));
        let polled = self.guard(|| with_waiting(poll));
        self.current.set(before.0);
        self.depth.set(before.1);
        self.edges.set(before.2);
        let slot = if polled.is_ready() {
            self.world.trace(|| format!("end      {}", task.name));
            Slot::Ended
        } else {
            Slot::Waits(task)
        };
        self.tasks.borrow_mut()[number] = slot;
    }

    /// Takes a task that waits, to poll it.
    fn take(&self, number: usize) -> Option<Task<'a>> {
        let slot = &mut self.tasks.borrow_mut()[number];
        let Slot::Waits(task) = &*slot else {
            return None;
        };
        let runs = Slot::Runs(task.name.clone());
        match std::mem::replace(slot, runs) {
            Slot::Waits(task) => Some(task),
            _ => None,
        }
    }

    /// Polls a task by `poll`. On the bottom of the stack, it ends where the power fails.
    fn guard(&self, poll: impl FnOnce() -> Poll<()>) -> Poll<()> {
        let hook = self.hook.borrow().clone();
        let Some(hook) = hook.filter(|_| self.depth.get() == 1) else {
            return poll();
        };
        match catch_unwind(AssertUnwindSafe(|| preempt::with_hook(hook, poll))) {
            Ok(polled) => polled,
            Err(panic) if panic.is::<PowerOff>() => Poll::Pending,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// The current task is at an edge: others may run now.
    fn at_edge(&self, edge: Edge) {
        if thread::panicking() {
            return;
        }
        self.edges.set(self.edges.get() + 1);
        let Some(name) = self.running(self.current.get()) else {
            return;
        };
        assert!(
            self.edges.get() < LONGEST_POLL,
            "{name} does not wait for whom it needs"
        );
        let is_late = self.depth.get() > 1 && self.world.now() > self.until.get();
        if is_late || self.depth.get() >= DEEPEST {
            return;
        }
        let steps = self.preemption.borrow_mut();
        let steps = { steps }.as_mut().map_or(0, |how| how.steps(&name, edge));
        if steps == 0 {
            return;
        }
        self.world
            .trace(|| format!("preempt  {name} {edge:?} for {steps}"));
        if self.depth.get() == 1 {
            let until = self.world.now().saturating_add(LONGEST_PREEMPTION);
            self.until.set(until);
        }
        for _ in 0..steps {
            self.adopt();
            let Some(left) = self.until.get().checked_sub(self.world.now()) else {
                break;
            };
            if self.count_ready() == 0 && !self.world.has_event_within(left) {
                break;
            }
            self.step();
            if self.world.crashed() {
                resume_unwind(Box::new(PowerOff));
            }
        }
        self.world.trace(|| format!("go on    {name}"));
    }

    /// Returns the name of a task that is on the stack.
    fn running(&self, number: usize) -> Option<Rc<str>> {
        match self.tasks.borrow().get(number) {
            Some(Slot::Runs(name)) => Some(name.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
