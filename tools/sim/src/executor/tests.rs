// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::clock::sleep;
use crate::fault::CrashPoint;
use crate::harness;
use crate::rng::Rng;
use runtime::sync::Lock;

/// Every edge, for a few steps of others.
fn everywhere(seed: u64) -> Preemption {
    Preemption {
        rng: Rng::new(seed),
        one_in: 2,
        steps: 8,
        hot_one_in: 0,
        hot_permille: 0,
        hot_steps: 0,
        salt: 0,
    }
}

/// Two tasks add to a number, in two steps that are not one. Returns what comes of it.
fn add_twice(seed: u64, preempted: bool) -> u64 {
    let world = World::new(seed);
    let mut executor = Executor::new(&world);
    if preempted {
        executor.preempt(everywhere(seed));
    }
    let number = Rc::new(Lock::new(0));
    for _ in 0..2 {
        let number = number.clone();
        executor.spawn("adder", async move {
            let seen = number.with(|number| *number);
            number.with(|number| *number = seen + 1);
        });
    }
    assert_eq!(executor.run(), Outcome::Done);
    number.with(|number| *number)
}

#[test]
fn two_locks_are_one_step_unless_tasks_are_preempted() {
    assert!((0..64).all(|seed| add_twice(seed, false) == 2));
    let results = |wanted| {
        (0..64)
            .filter(|&seed| add_twice(seed, true) == wanted)
            .count()
    };
    assert!(results(1) > 0 && results(2) > 0);
    assert_eq!(results(1) + results(2), 64);
}

#[test]
fn a_seed_preempts_the_same_tasks_again() {
    for seed in 0..64 {
        assert_eq!(add_twice(seed, true), add_twice(seed, true));
    }
}

#[test]
fn a_task_that_is_woken_while_it_is_preempted_is_polled_again() {
    for seed in 0..64 {
        let world = World::new(seed);
        let mut executor = Executor::new(&world);
        executor.preempt(everywhere(seed));
        // Woken at any moment: also after it has looked, and before it says that it waits.
        let state = Rc::new(Lock::new((false, None::<Waker>)));
        let waiting = state.clone();
        executor.spawn("waiter", async move {
            std::future::poll_fn(|context| {
                waiting.with(|state| state.1 = Some(context.waker().clone()));
                waiting.with(|state| match state.0 {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })
            })
            .await;
        });
        executor.spawn("waker", async move {
            let waker = state.with(|state| {
                state.0 = true;
                state.1.take()
            });
            waker.into_iter().for_each(Waker::wake);
        });
        assert_eq!(executor.run(), Outcome::Done);
    }
}

#[test]
fn a_crash_ends_a_task_in_the_middle_of_a_poll() {
    struct Dropped(Rc<Cell<bool>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let mut halves = 0;
    for seed in 0..64 {
        let world = World::new(seed);
        let mut executor = Executor::new(&world);
        executor.preempt(everywhere(seed));
        world.crash_at(CrashPoint::Step(3));
        let (done, dropped) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let (steps, local) = (done.clone(), Dropped(dropped.clone()));
        executor.spawn("victim", async move {
            let _local = local;
            let lock = Lock::new(());
            for _ in 0..2 {
                steps.set(steps.get() + 1);
                lock.with(|()| ());
            }
            std::future::pending::<()>().await;
        });
        let others = world.clone();
        executor.spawn("others", async move {
            loop {
                sleep(&others, 10).await;
            }
        });
        assert_eq!(executor.run(), Outcome::Crashed);
        halves += u32::from(done.get() == 1);
        assert!(done.get() != 1 || dropped.get(), "locals are dropped");
        executor.power_off();
        assert!(dropped.get());
    }
    assert!(halves > 0);
}

#[test]
fn who_spins_for_a_task_that_is_preempted_is_named() {
    let found = harness::first_failure(0..64, |seed| {
        let world = World::new(seed);
        let mut executor = Executor::new(&world);
        executor.preempt(everywhere(seed));
        let state = Rc::new(Lock::new(0));
        let slow = state.clone();
        executor.spawn("slow", async move {
            slow.with(|state| *state = 1);
            slow.with(|state| *state = 2);
        });
        executor.spawn("spinner", async move {
            while state.with(|state| *state == 1) {}
        });
        assert_eq!(executor.run(), Outcome::Done);
        Ok(())
    });
    let text = found.unwrap().text;
    assert!(text.contains("spinner does not wait"), "{text}");
}
