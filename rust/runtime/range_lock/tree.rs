// SPDX-License-Identifier: GPL-2.0

//! A tree of claims that is searched by range.
//!
//! Where a claim stands follows from the bits of its range: from the root on, a bit of its start
//! says at each level whether it goes low or high, and when these are used up, bits of its end. So no order
//! of arrival makes the tree deeper than a range has bits, and there is nothing to balance. A node
//! knows the *span* of its subtree, from which a search sees that nothing there can be what it
//! looks for.
//!
//! Everything here is done with the lock held, on nodes that are alive and do not move.

use super::overlap;
use super::Node;
use crate::steps::step;
use core::ops::Range;
use core::ptr;
use core::ptr::addr_of_mut;

/// A tree of nodes.
///
/// # Invariants
///
/// Every node that is reachable from `root` is alive and pinned, and is touched only by who holds
/// the lock. No two have the same range.
pub(super) struct Tree {
    root: *mut Node,
    /// The bits of a start that tell claims apart.
    bits: u32,
}

/// A node's place in the tree.
pub(super) struct Branches {
    up: *mut Node,
    low: *mut Node,
    high: *mut Node,
    span: Span,
}

/// What there is in a subtree.
#[derive(Clone, Copy)]
struct Span {
    /// The smallest start.
    start: u64,
    /// The largest end.
    end: u64,
    /// The claim that came first.
    first: u64,
    /// The claim that came last.
    last: u64,
}

impl Branches {
    pub(super) const fn new() -> Self {
        Self {
            up: ptr::null_mut(),
            low: ptr::null_mut(),
            high: ptr::null_mut(),
            span: Span {
                start: 0,
                end: 0,
                first: 0,
                last: 0,
            },
        }
    }
}

impl Span {
    fn of(range: &Range<u64>, number: u64) -> Self {
        Self {
            start: range.start,
            end: range.end,
            first: number,
            last: number,
        }
    }

    fn add(&mut self, other: &Span) {
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    /// Returns true if a claim that overlaps `range` and came before number `before` may be there.
    fn may_hold(&self, range: &Range<u64>, before: u64) -> bool {
        self.start < range.end && range.start < self.end && self.first < before
    }
}

impl Tree {
    /// Creates an empty tree for numbers below `limit`.
    pub(super) const fn new(limit: u64) -> Self {
        Self {
            root: ptr::null_mut(),
            bits: u64::BITS - limit.leading_zeros(),
        }
    }

    /// Returns true if nothing is claimed.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_null()
    }

    /// Puts `node` into the tree, or returns the node there that has its range.
    ///
    /// # Safety
    ///
    /// `node` is in no tree, its number is the highest so far, and it leaves before it goes away;
    /// see also the [module](self).
    pub(super) unsafe fn insert(&mut self, node: *mut Node) -> Option<*mut Node> {
        let mut up = ptr::null_mut();
        let mut place = addr_of_mut!(self.root);
        let mut depth = 0;
        // SAFETY: By the contract, and by the invariant of the tree.
        unsafe {
            let span = Span::of(&(*node).range, (*node).number);
            while !(*place).is_null() {
                step();
                let at = *place;
                // Also right if it stays out: its range and its place are there, and nobody looks
                // for the last claim but to choose the better of two.
                (*at).branches.span.add(&span);
                if (*at).range == (*node).range {
                    return Some(at);
                }
                place = if goes_high(&(*node).range, self.bits, depth) {
                    addr_of_mut!((*at).branches.high)
                } else {
                    addr_of_mut!((*at).branches.low)
                };
                up = at;
                depth += 1;
            }
            (*node).branches = Branches {
                up,
                span,
                ..Branches::new()
            };
            *place = node;
        }
        None
    }

    /// Takes `node` out.
    ///
    /// # Safety
    ///
    /// `node` is in the tree; see also the [module](self).
    pub(super) unsafe fn remove(&mut self, node: *mut Node) {
        // SAFETY: By the contract, and by the invariant of the tree.
        unsafe {
            // A leaf from below has the bits that lead here, too.
            let mut leaf = node;
            loop {
                step();
                let Branches { low, high, .. } = (*leaf).branches;
                leaf = match (low.is_null(), high.is_null()) {
                    (true, true) => break,
                    (false, _) => low,
                    (true, false) => high,
                };
            }
            let up = (*leaf).branches.up;
            *self.place_of(leaf) = ptr::null_mut();
            if leaf == node {
                refresh(up);
            } else {
                self.put_in_place(leaf, node);
                refresh(if up == node { leaf } else { up });
            }
        }
    }

    /// Puts `new`, which has the same range, in the place of `old`.
    ///
    /// # Safety
    ///
    /// `old` is in the tree, `new` is not, and leaves before it goes away; see also the
    /// [module](self).
    pub(super) unsafe fn replace(&mut self, old: *mut Node, new: *mut Node) {
        // SAFETY: By the contract.
        unsafe {
            self.put_in_place(new, old);
            refresh(new);
        }
    }

    /// # Safety
    ///
    /// As [`Tree::replace`], but the ranges may differ, and spans are to be refreshed.
    unsafe fn put_in_place(&mut self, new: *mut Node, old: *mut Node) {
        // SAFETY: By the contract, and by the invariant of the tree.
        unsafe {
            *self.place_of(old) = new;
            let Branches { up, low, high, .. } = (*old).branches;
            (*new).branches = Branches {
                up,
                low,
                high,
                ..Branches::new()
            };
            for child in [low, high] {
                if !child.is_null() {
                    (*child).branches.up = new;
                }
            }
        }
    }

    /// Returns the pointer that leads to `node`.
    ///
    /// # Safety
    ///
    /// `node` is in the tree; see also the [module](self).
    unsafe fn place_of(&mut self, node: *mut Node) -> *mut *mut Node {
        // SAFETY: By the contract, and by the invariant of the tree.
        unsafe {
            let up = (*node).branches.up;
            if up.is_null() {
                addr_of_mut!(self.root)
            } else if (*up).branches.low == node {
                addr_of_mut!((*up).branches.low)
            } else {
                addr_of_mut!((*up).branches.high)
            }
        }
    }

    /// Finds a claim that overlaps `range` and came before number `before`: a late one rather than
    /// an early one.
    ///
    /// # Safety
    ///
    /// See the [module](self).
    pub(super) unsafe fn find(&self, range: &Range<u64>, before: u64) -> Option<*mut Node> {
        // SAFETY: By the invariant of the tree, here and below.
        let wanted = |node: *mut Node| unsafe {
            !node.is_null() && (*node).branches.span.may_hold(range, before)
        };
        if !wanted(self.root) {
            return None;
        }
        let mut at = self.root;
        // Where the search came up from; null on the way down.
        let mut from: *mut Node = ptr::null_mut();
        // A node is looked at after its subtrees, and the one with the latest claim comes first.
        loop {
            step();
            // SAFETY: As above.
            let (up, [first, second]) = unsafe { ((*at).branches.up, children(at)) };
            let down = [first, second].into_iter();
            let skipped = if from.is_null() {
                0
            } else if from == first {
                1
            } else {
                2
            };
            if let Some(next) = down.skip(skipped).find(|child| wanted(*child)) {
                (at, from) = (next, ptr::null_mut());
                continue;
            }
            // SAFETY: As above.
            if unsafe { overlap(&(*at).range, range) && (*at).number < before } {
                return Some(at);
            }
            if up.is_null() {
                return None;
            }
            (from, at) = (at, up);
        }
    }
}

/// Returns true if a node of `range` goes to the high side at `depth`; starts have `bits` bits.
fn goes_high(range: &Range<u64>, bits: u32, depth: u32) -> bool {
    let bit = if depth < bits {
        range.start.checked_shr(bits - 1 - depth)
    } else {
        range.end.checked_shr(depth - bits)
    };
    // Different ranges below the limit part before the bits are used up.
    bit.unwrap_or(0) & 1 == 1
}

/// Returns what is below `node`, the subtree with the latest claim first.
///
/// # Safety
///
/// `node` is in the tree; see also the [module](self).
unsafe fn children(node: *mut Node) -> [*mut Node; 2] {
    // SAFETY: By the contract, and by the invariant of the tree.
    unsafe {
        let Branches { low, high, .. } = (*node).branches;
        let is_later = |one: *mut Node, other: *mut Node| {
            other.is_null()
                || !one.is_null() && (*one).branches.span.last > (*other).branches.span.last
        };
        if is_later(low, high) {
            [low, high]
        } else {
            [high, low]
        }
    }
}

/// Sets right the spans from `node` up to the root.
///
/// # Safety
///
/// `node` is null or in the tree; see also the [module](self).
unsafe fn refresh(mut node: *mut Node) {
    while !node.is_null() {
        step();
        // SAFETY: By the contract, and by the invariant of the tree.
        unsafe {
            let mut span = Span::of(&(*node).range, (*node).number);
            for child in children(node) {
                if !child.is_null() {
                    span.add(&(*child).branches.span);
                }
            }
            (*node).branches.span = span;
            node = (*node).branches.up;
        }
    }
}
