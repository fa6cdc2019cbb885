// SPDX-License-Identifier: GPL-2.0

//! Queues that run through the nodes themselves, so that any member can be taken out, and whole
//! queues change hands, in a few steps.
//!
//! Everything here is done with the lock held, on nodes that are alive and do not move. No
//! reference to a node is made: who calls may have one to another part of it.

use super::Node;
use crate::steps::step;
use core::ptr;
use core::ptr::addr_of_mut;

/// The head of a queue, or a node's place in one.
///
/// # Invariants
///
/// Both are null: of an empty queue that was never used, or of a node that is in none. Or they lead
/// to live neighbours in a closed ring of one head and its members.
pub(super) struct Links {
    next: *mut Links,
    prev: *mut Links,
}

impl Links {
    pub(super) const fn new() -> Self {
        Self {
            next: ptr::null_mut(),
            prev: ptr::null_mut(),
        }
    }
}

/// Appends `node` to the queue of `head`.
///
/// # Safety
///
/// `head` is that of a queue, and `node` is in none; see also the [module](self).
pub(super) unsafe fn push(head: *mut Links, node: *mut Node) {
    step();
    // SAFETY: By the contract; the last one is alive by the invariant.
    unsafe {
        open(head);
        let member = addr_of_mut!((*node).links);
        let last = (*head).prev;
        (*member).prev = last;
        (*member).next = head;
        (*last).next = member;
        (*head).prev = member;
    }
}

/// Takes the first node out of the queue of `head`.
///
/// # Safety
///
/// `head` is that of a queue; see also the [module](self).
pub(super) unsafe fn pop(head: *mut Links) -> Option<*mut Node> {
    // SAFETY: By the contract. What is in the queue and is not its head is the first field of a
    // node.
    unsafe {
        open(head);
        let first = (*head).next;
        if first == head {
            return None;
        }
        let node: *mut Node = first.cast();
        unlink(node);
        Some(node)
    }
}

/// Takes `node` out of the queue that it is in, if it is in one.
///
/// # Safety
///
/// See the [module](self).
pub(super) unsafe fn unlink(node: *mut Node) {
    step();
    // SAFETY: By the contract; neighbours are alive by the invariant.
    unsafe {
        let member = addr_of_mut!((*node).links);
        let Links { next, prev } = *member;
        if !next.is_null() {
            (*prev).next = next;
            (*next).prev = prev;
            *member = Links::new();
        }
    }
}

/// Moves all nodes of the queue of `from` to the end of that of `to`.
///
/// # Safety
///
/// They are the heads of two queues; see also the [module](self).
pub(super) unsafe fn append(to: *mut Links, from: *mut Links) {
    step();
    // SAFETY: By the contract; what the heads lead to is alive by the invariant.
    unsafe {
        open(to);
        open(from);
        let (first, last) = ((*from).next, (*from).prev);
        if first == from {
            return;
        }
        let before = (*to).prev;
        (*before).next = first;
        (*first).prev = before;
        (*last).next = to;
        (*to).prev = last;
        *from = Links::new();
    }
}

/// Closes the ring of a head that was never used.
///
/// # Safety
///
/// See the [module](self).
unsafe fn open(head: *mut Links) {
    // SAFETY: By the contract.
    unsafe {
        if (*head).next.is_null() {
            (*head).next = head;
            (*head).prev = head;
        }
    }
}
