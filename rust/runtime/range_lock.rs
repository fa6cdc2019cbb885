// SPDX-License-Identifier: GPL-2.0

//! Exclusive claims on ranges of numbers, first come, first served.
//!
//! A claim waits for every earlier claim that overlaps it, whether that one is held or waits
//! itself, so nobody starves. A task holds at most one claim of a lock: there is no order to get
//! wrong.
//!
//! # What it costs
//!
//! Any number of claims may be held and wait at once, and the lock is one that completions take: so
//! every step under it is short. Claims stand in a [`tree`], which finds what overlaps a range.
//! Claims on the same range queue up behind the first of them, outside of the tree. A claim that
//! has to wait stands *behind* one that is in its way, the latest if there are several, and is
//! looked at again when that one leaves. If many stand behind it, a few are woken, and the last of
//! these *carries* the others: it wakes the next few when it is polled.

#![expect(
    unsafe_code,
    reason = "the tree and the rings run through the futures that claim"
)]

mod ring;
mod tree;

use crate::steps::step;
use crate::sync::Lock;
use core::cell::UnsafeCell;
use core::future::Future;
use core::marker::PhantomPinned;
use core::ops::Range;
use core::pin::Pin;
use core::ptr::addr_of_mut;
use core::task::Context;
use core::task::Poll;
use core::task::Waker;
use ring::Links;
use tree::Branches;
use tree::Tree;

/// Claims that are woken at once; the last of them wakes as many again.
const WAKES: usize = 4;

/// A lock on ranges of numbers.
pub struct RangeLock {
    claims: Lock<Claims>,
}

/// Who claims something.
struct Claims {
    tree: Tree,
    /// How many claims were made so far.
    made: u64,
}

/// A claim, as others see it.
///
/// # Invariants
///
/// A node that is not `Outside` is alive and pinned, and is touched only by who holds the lock.
#[repr(C)]
struct Node {
    /// Its place in one of the queues of another, if it is in one. The first field: that is how a
    /// queue finds its nodes.
    links: Links,
    range: Range<u64>,
    /// Which claim of the lock it is, in order of arrival.
    number: u64,
    place: Place,
    branches: Branches,
    /// Later claims on the same range.
    twins: Links,
    /// Claims that are looked at again when this one has left.
    behind: Links,
    /// Claims that are to be looked at again, and have not been woken yet.
    carried: Links,
    waker: Option<Waker>,
}

/// Where a claim stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Not made yet, or given up.
    Outside,
    /// In the queue of an earlier one on the same range.
    Twin,
    /// In the tree, in the `behind` or `carried` of another, or about to be polled.
    Waiting,
    /// In the tree.
    Held,
}

// SAFETY: The tree is only pointers to nodes; their wakers are `Send`, and the rest is plain data
// that is touched under the lock.
unsafe impl Send for Claims {}

/// A claim on a range; dropping it gives the range up.
pub struct Claim<'l> {
    lock: &'l RangeLock,
    node: UnsafeCell<Node>,
    _pin: PhantomPinned,
}

// SAFETY: The node is touched only under the lock, and what is in it may move to another thread.
unsafe impl Send for Claim<'_> {}

// SAFETY: As above.
unsafe impl Sync for Claim<'_> {}

impl RangeLock {
    /// Creates a lock on which nothing is claimed.
    pub fn new() -> Self {
        Self::below(u64::MAX)
    }

    /// As [`RangeLock::new`]; it is fastest if the numbers are below `limit`.
    pub fn below(limit: u64) -> Self {
        Self {
            claims: Lock::new(Claims {
                tree: Tree::new(limit),
                made: 0,
            }),
        }
    }

    /// Returns true if nobody holds a claim, or waits for one.
    pub fn is_idle(&self) -> bool {
        self.claims.with(|claims| claims.tree.is_empty())
    }

    /// Returns a claim that is not yet made: pin it, then [`acquire`] or
    /// [`try_acquire`] it.
    pub fn claim(&self, range: Range<u64>) -> Claim<'_> {
        Claim {
            lock: self,
            node: UnsafeCell::new(Node {
                links: Links::new(),
                range,
                number: 0,
                place: Place::Outside,
                branches: Branches::new(),
                twins: Links::new(),
                behind: Links::new(),
                carried: Links::new(),
                waker: None,
            }),
            _pin: PhantomPinned,
        }
    }
}

impl Default for RangeLock {
    fn default() -> Self {
        Self::new()
    }
}

impl Claims {
    /// Makes the claim of `node`, which is `Waiting` then, or a `Twin`.
    ///
    /// # Safety
    ///
    /// `node` is `Outside`, alive, and pinned, and leaves before it goes away; the lock is held.
    unsafe fn enter(&mut self, node: *mut Node) {
        self.made += 1;
        // SAFETY: The node is ours by the lock; who is found in the tree is alive and another one.
        unsafe {
            (*node).number = self.made;
            (*node).place = match self.tree.insert(node) {
                None => Place::Waiting,
                Some(first) => {
                    ring::push(addr_of_mut!((*first).twins), node);
                    Place::Twin
                }
            };
        }
    }

    /// Looks whether the turn of `node` has come.
    ///
    /// # Safety
    ///
    /// `node` has entered; the lock is held.
    unsafe fn is_due(&mut self, node: *mut Node) -> bool {
        // SAFETY: By the contract the node is alive, and who is in the tree is too.
        unsafe {
            wake_some(addr_of_mut!((*node).carried));
            if (*node).place == Place::Waiting {
                ring::unlink(node);
                match self.tree.find(&(*node).range, (*node).number) {
                    None => (*node).place = Place::Held,
                    Some(other) => ring::push(addr_of_mut!((*other).behind), node),
                }
            }
            (*node).place == Place::Held
        }
    }

    /// The claim of `node` ends.
    ///
    /// # Safety
    ///
    /// `node` has entered; the lock is held.
    unsafe fn leave(&mut self, node: *mut Node) {
        // SAFETY: By the contract the node is alive, and so is everybody in the tree and in its
        // queues.
        unsafe {
            ring::unlink(node);
            let waiting = addr_of_mut!((*node).behind);
            ring::append(waiting, addr_of_mut!((*node).carried));
            if (*node).place != Place::Twin {
                match ring::pop(addr_of_mut!((*node).twins)) {
                    None => self.tree.remove(node),
                    Some(next) => {
                        self.tree.replace(node, next);
                        (*next).place = Place::Waiting;
                        let twins = addr_of_mut!((*next).twins);
                        ring::append(twins, addr_of_mut!((*node).twins));
                        wake(next);
                    }
                }
            }
            (*node).place = Place::Outside;
            wake_some(waiting);
        }
    }
}

/// Has a few of the queue of `waiting` looked at again, the others carried by the last of them.
///
/// # Safety
///
/// `waiting` is the head of a queue of nodes that have entered; the lock is held.
unsafe fn wake_some(waiting: *mut Links) {
    for more in (0..WAKES).rev() {
        // SAFETY: By the contract, and who has entered is alive.
        unsafe {
            let Some(node) = ring::pop(waiting) else {
                return;
            };
            if more == 0 {
                ring::append(addr_of_mut!((*node).carried), waiting);
            }
            wake(node);
        }
    }
}

/// # Safety
///
/// `node` has entered; the lock is held.
unsafe fn wake(node: *mut Node) {
    step();
    // SAFETY: By the contract the node is alive, and ours.
    if let Some(waker) = unsafe { (*node).waker.take() } {
        waker.wake();
    }
}

/// Returns true if the ranges have a number in common; an empty range has none with any other.
fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

/// Waits until the claim's range is free of earlier claims, then holds it.
pub async fn acquire(claim: Pin<&Claim<'_>>) {
    Acquire(claim).await;
}

struct Acquire<'c, 'l>(Pin<&'c Claim<'l>>);

impl Future for Acquire<'_, '_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let node = self.0.node.get();
        self.0.lock.claims.with(|claims| {
            // SAFETY: The node is ours by the lock, pinned, and leaves when the claim is dropped.
            unsafe {
                if (*node).range.is_empty() {
                    return Poll::Ready(());
                }
                if (*node).place == Place::Outside {
                    claims.enter(node);
                }
                if claims.is_due(node) {
                    (*node).waker = None;
                    return Poll::Ready(());
                }
                match &mut (*node).waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
            }
            Poll::Pending
        })
    }
}

/// Holds the claim's range if nobody holds or waits for a part of it; else returns false, and the
/// claim is to be dropped.
pub fn try_acquire(claim: Pin<&Claim<'_>>) -> bool {
    let node = claim.node.get();
    claim.lock.claims.with(|claims| {
        // SAFETY: As in `Acquire::poll`.
        unsafe {
            if (*node).range.is_empty() {
                return true;
            }
            if (*node).place == Place::Outside {
                if claims.tree.find(&(*node).range, u64::MAX).is_some() {
                    return false;
                }
                claims.enter(node);
            }
            claims.is_due(node)
        }
    })
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let node = self.node.get();
        self.lock.claims.with(|claims| {
            // SAFETY: The node is ours by the lock, and alive until this drop has ended.
            unsafe {
                if (*node).place != Place::Outside {
                    claims.leave(node);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
