// SPDX-License-Identifier: GPL-2.0

//! What several CPUs do at once without a lock, explored by loom.
//!
//! Run it with `RUSTFLAGS="--cfg loom" cargo test --release -p interleavings` and a target
//! directory of its own; without `--cfg loom` there is nothing here.

#![cfg(loom)]

pub mod world;

use loom::sync::Notify;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;

/// Explores `f`, with up to `switches` switches between threads where none was needed;
/// `LOOM_MAX_PREEMPTIONS` overrules that.
pub fn explore(switches: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(switches);
    // Also engines are set up inside.
    model.max_branches = model.max_branches.max(100_000);
    model.check(f);
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

/// Runs `future` to its end on this thread. A wake that is lost is a deadlock that loom reports.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let bell = Arc::new(Bell(Notify::new()));
    let waker = Waker::from(bell.clone());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => bell.0.wait(),
        }
    }
}
