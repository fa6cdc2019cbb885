// SPDX-License-Identifier: GPL-2.0

//! Requests that change something, as the core gets them, and who waits for them.

use kernel::prelude::*;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use vdo::world::Bio;
use vdo::world::BioList;
use vdo::world::Data;
use vdo::world::Operation;

/// A request in the hands of the core.
pub struct SimBio {
    operation: Operation,
    fua: bool,
    sector: u64,
    sectors: u32,
    data: Vec<u8>,
    end: Arc<Mutex<End>>,
}

#[derive(Default)]
struct End {
    result: Option<Result>,
    waker: Option<Waker>,
}

/// Who waits for a request.
pub struct Wait(Arc<Mutex<End>>);

impl SimBio {
    /// A request, and who waits for it. `data` is empty but for writes.
    pub fn new(
        operation: Operation,
        fua: bool,
        sector: u64,
        sectors: u32,
        data: Vec<u8>,
    ) -> (Self, Wait) {
        let end = Arc::default();
        let wait = Wait(Arc::clone(&end));
        let bio = Self {
            operation,
            fua,
            sector,
            sectors,
            data,
            end,
        };
        (bio, wait)
    }

    fn end(&self, result: Result) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropped after it was completed, it stays so.
        end.result.get_or_insert(result);
        let waker = end.waker.take();
        drop(end);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Wait {
    type Output = Result;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result> {
        let mut end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match end.result {
            Some(result) => Poll::Ready(result),
            None => {
                end.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for SimBio {
    fn drop(&mut self) {
        self.end(Err(EIO));
    }
}

impl Bio for SimBio {
    fn operation(&self) -> Operation {
        self.operation
    }

    fn is_fua(&self) -> bool {
        self.fua
    }

    fn sector(&self) -> u64 {
        self.sector
    }

    fn sectors(&self) -> u32 {
        self.sectors
    }

    fn data(&self) -> impl Data + '_ {
        Reader(&self.data)
    }

    fn complete(self, result: Result) {
        self.end(result);
    }
}

struct Reader<'a>(&'a [u8]);

impl Data for Reader<'_> {
    fn is_zero(&self, bytes: usize) -> bool {
        self.0[..bytes].iter().all(|byte| *byte == 0)
    }

    fn copy(&mut self, to: &mut [u8]) {
        let (front, rest) = self.0.split_at(to.len());
        to.copy_from_slice(front);
        self.0 = rest;
    }

    fn skip(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }
}

/// A line of requests.
#[derive(Default)]
pub struct Line(VecDeque<SimBio>);

impl BioList for Line {
    type Bio = SimBio;

    fn push(&mut self, bio: SimBio) {
        self.0.push_back(bio);
    }

    fn first(&self) -> Option<&SimBio> {
        self.0.front()
    }

    fn pop(&mut self) -> Option<SimBio> {
        self.0.pop_front()
    }
}
