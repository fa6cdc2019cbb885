// SPDX-License-Identifier: GPL-2.0

//! State under a lock, with the tasks that wait for it: the one intrusive primitive.
//!
//! A [`Monitor`] holds a state and a list of [`Entry`]s. An entry lives in a future, is linked
//! into the list in order of arrival, carries a key, and leaves the list when it is dropped. Its
//! task waits with [`Entry::wait`] until a closure, run under the lock, says that its turn has
//! come. Whoever changes the state wakes the entries that may now go on. Nothing is allocated.
//!
//! An entry stays linked after its turn has come, until it is dropped: others may read from the list
//! who is there.
//!
//! A monitor whose entries are of several kinds may have a list of each, so that nobody has to walk
//! past those of another kind. An entry is in one of them at a time; who does not ask for more has one
//! list, number 0.

#![expect(
    unsafe_code,
    reason = "the intrusive list that all other primitives stand on"
)]

use crate::steps::step;
use crate::sync::Lock;
use core::cell::UnsafeCell;
use core::future::Future;
use core::marker::PhantomData;
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr;
use core::task::Context;
use core::task::Poll;
use core::task::Waker;
use kernel::prelude::*;

/// A state that tasks wait for, and what its entries carry.
pub trait Rules: Sized {
    /// What an entry carries, for its own turn and for others to see.
    type Key;

    /// An entry with this key has left; `rest` is who remains. Called under the lock.
    fn left(&mut self, key: &Self::Key, rest: &mut Entries<'_, Self::Key>);
}

/// State under a lock, with the tasks that wait for it.
pub struct Monitor<S: Rules> {
    lock: Lock<Shared<S>>,
}

struct Shared<S: Rules> {
    state: S,
    lists: Lists<S::Key>,
}

/// The lists of a monitor.
struct Lists<K> {
    first: List<K>,
    more: KVec<List<K>>,
}

/// A doubly linked list of nodes.
///
/// # Invariants
///
/// `head` and `tail` are null together. Every node reachable from `head` is alive and pinned, has
/// `linked` set, and is touched only by who holds the lock around the list.
struct List<K> {
    head: *mut Node<K>,
    tail: *mut Node<K>,
}

struct Node<K> {
    prev: *mut Node<K>,
    next: *mut Node<K>,
    linked: bool,
    /// The number of the list that it is in, or is to be linked into.
    list: usize,
    waker: Option<Waker>,
    key: K,
}

// SAFETY: The list is only a set of pointers to nodes; a node's key and waker may be touched from
// any thread that holds the lock, which needs them to be `Send`.
unsafe impl<K: Send> Send for List<K> {}

impl<K> List<K> {
    const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
        }
    }

    /// Appends `node`.
    ///
    /// # Safety
    ///
    /// `node` is alive, pinned, not linked, and unlinked before it goes away; the lock is held.
    unsafe fn push_back(&mut self, node: *mut Node<K>) {
        // SAFETY: Alive, and ours by the lock. Of an entry whose turn it is the key is borrowed, and
        // nothing else: no reference to the whole is made.
        unsafe {
            (*node).prev = self.tail;
            (*node).next = ptr::null_mut();
            (*node).linked = true;
        }
        if self.tail.is_null() {
            self.head = node;
        } else {
            // SAFETY: By the invariant the tail is alive and ours by the lock. It is not `node`,
            // which was not linked.
            unsafe { (*self.tail).next = node };
        }
        self.tail = node;
    }

    /// Takes `node` out.
    ///
    /// # Safety
    ///
    /// `node` is linked into this list; the lock is held.
    unsafe fn unlink(&mut self, node: *mut Node<K>) {
        // SAFETY: Linked, therefore alive, and ours by the lock.
        let (prev, next) = unsafe { ((*node).prev, (*node).next) };
        if prev.is_null() {
            self.head = next;
        } else {
            // SAFETY: A neighbour in the list is alive and ours by the lock.
            unsafe { (*prev).next = next };
        }
        if next.is_null() {
            self.tail = prev;
        } else {
            // SAFETY: As above.
            unsafe { (*next).prev = prev };
        }
        // SAFETY: As above.
        unsafe { (*node).linked = false };
    }
}

impl<K> Lists<K> {
    const fn new() -> Self {
        Self {
            first: List::new(),
            more: KVec::new(),
        }
    }

    /// Returns list `number`; the first one if there are not so many.
    fn get(&mut self, number: usize) -> &mut List<K> {
        let more = number.checked_sub(1).and_then(|at| self.more.get_mut(at));
        more.unwrap_or(&mut self.first)
    }

    /// Moves `node` to the end of list `to`.
    ///
    /// # Safety
    ///
    /// `node` is alive, pinned, and unlinked before it goes away; if it is linked then into one of
    /// these lists; the lock is held.
    unsafe fn move_to(&mut self, node: *mut Node<K>, to: usize) {
        // SAFETY: By the contract; it is unlinked in between, and alive and pinned as before.
        unsafe {
            self.take_out(node);
            (*node).list = to;
            self.get(to).push_back(node);
        }
    }

    /// Takes `node` out of its list, if it is in one.
    ///
    /// # Safety
    ///
    /// As for [`move_to`](Self::move_to).
    unsafe fn take_out(&mut self, node: *mut Node<K>) {
        // SAFETY: By the contract.
        unsafe {
            if (*node).linked {
                self.get((*node).list).unlink(node);
            }
        }
    }
}

/// The entries of a monitor, under its lock, in order of arrival; without the one whose turn it
/// is, where it is somebody's turn. Functions that name no list mean the first.
pub struct Entries<'a, K> {
    lists: &'a mut Lists<K>,
    own: *mut Node<K>,
}

impl<K> Entries<'_, K> {
    /// Returns the keys of all entries, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &K> + '_ {
        self.keys(ptr::null_mut())
    }

    /// Returns the keys of the entries that arrived before this one.
    pub fn before(&self) -> impl Iterator<Item = &K> + '_ {
        self.keys(self.own)
    }

    fn keys(&self, stop: *mut Node<K>) -> Keys<'_, K> {
        Keys {
            next: self.lists.first.head,
            stop,
            skip: self.own,
            entries: PhantomData,
        }
    }

    /// Runs `change` on the key of every entry.
    pub fn for_each(&mut self, mut change: impl FnMut(&mut K)) {
        self.wake_where(|key| {
            change(key);
            false
        });
    }

    /// Returns the key of the first entry of list `list`.
    pub fn first_of(&mut self, list: usize) -> Option<&mut K> {
        step();
        let first = self.first_node(list)?;
        // SAFETY: By the list's invariant the node is alive, and ours by the lock, which outlives
        // the borrow of `self`; it is not the own entry's.
        Some(unsafe { &mut (*first).key })
    }

    fn first_node(&mut self, list: usize) -> Option<*mut Node<K>> {
        let mut first = self.lists.get(list).head;
        if !first.is_null() && first == self.own {
            // SAFETY: By the list's invariant the node is alive, and ours by the lock.
            first = unsafe { (*first).next };
        }
        (!first.is_null()).then_some(first)
    }

    /// Moves the first entry of list `from` to the end of list `to`.
    pub fn move_first_of(&mut self, from: usize, to: usize) {
        if let Some(first) = self.first_node(from) {
            // SAFETY: By the list's invariant the node is alive, and ours by the lock.
            unsafe { self.lists.move_to(first, to) };
        }
    }

    /// As [`move_first_of`](Self::move_first_of), and wakes the entry if it waits. Returns false if
    /// there is none.
    pub fn wake_first_of(&mut self, from: usize, to: usize) -> bool {
        step();
        let Some(first) = self.first_node(from) else {
            return false;
        };
        // SAFETY: By the list's invariant the node is alive, and ours by the lock.
        unsafe {
            self.lists.move_to(first, to);
            if let Some(waker) = (*first).waker.take() {
                waker.wake();
            }
        }
        true
    }

    /// Wakes every waiting entry whose key `chosen` accepts; `chosen` may change the key.
    pub fn wake_where(&mut self, chosen: impl FnMut(&mut K) -> bool) {
        self.wake_where_in(0, chosen);
    }

    /// As [`wake_where`](Self::wake_where), in list `list`.
    pub fn wake_where_in(&mut self, list: usize, mut chosen: impl FnMut(&mut K) -> bool) {
        let mut next = self.lists.get(list).head;
        while !next.is_null() {
            step();
            let node = next;
            // SAFETY: By the list's invariant the node is alive, and ours by the lock, which
            // outlives `self`; its own entry's key may be borrowed, so that one is left alone.
            next = unsafe { (*node).next };
            if node == self.own {
                continue;
            }
            // SAFETY: As above, and nobody else borrows this node.
            let node = unsafe { &mut *node };
            if chosen(&mut node.key) {
                if let Some(waker) = node.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Wakes the entry that arrived first, if it waits. Costs the same however many there are.
    pub fn wake_first(&mut self) {
        if let Some(first) = self.first_node(0) {
            // SAFETY: As above; only the waker is borrowed, and nobody else borrows that.
            if let Some(waker) = unsafe { &mut (*first).waker }.take() {
                waker.wake();
            }
        }
    }

    /// Wakes the first entry of list `list`, if it waits and `chosen` accepts its key. Returns
    /// whether there is an entry.
    pub fn wake_first_if(&mut self, list: usize, chosen: impl FnOnce(&mut K) -> bool) -> bool {
        step();
        let Some(first) = self.first_node(list) else {
            return false;
        };
        // SAFETY: By the list's invariant the node is alive, and ours by the lock; it is not the one
        // whose key may be borrowed.
        let node = unsafe { &mut *first };
        if chosen(&mut node.key) {
            if let Some(waker) = node.waker.take() {
                waker.wake();
            }
        }
        true
    }

    /// Wakes every waiting entry of every list.
    pub fn wake_all(&mut self) {
        for list in 0..=self.lists.more.len() {
            self.wake_where_in(list, |_| true);
        }
    }
}

/// An iterator over keys that borrows the [`Entries`] it comes from.
struct Keys<'a, K> {
    next: *mut Node<K>,
    stop: *mut Node<K>,
    skip: *mut Node<K>,
    entries: PhantomData<&'a K>,
}

impl<'a, K> Iterator for Keys<'a, K> {
    type Item = &'a K;

    fn next(&mut self) -> Option<&'a K> {
        loop {
            if self.next.is_null() || self.next == self.stop {
                return None;
            }
            step();
            let node = self.next;
            // SAFETY: By the list's invariant the node is alive, and ours by the lock; the shared
            // borrow of `Entries` keeps `wake_where` from borrowing it mutably.
            self.next = unsafe { (*node).next };
            if node != self.skip {
                // SAFETY: As above; the key of the entry whose turn it is is never handed out.
                return Some(unsafe { &(*node).key });
            }
        }
    }
}

/// What a task sees when it asks whether its turn has come. The lock is held.
pub struct Turn<'a, S: Rules> {
    /// The state.
    pub state: &'a mut S,
    /// The key of this entry.
    pub key: &'a mut S::Key,
    /// The other entries.
    pub others: Entries<'a, S::Key>,
}

impl<S: Rules> Turn<'_, S> {
    /// Moves this entry to the end of list `list`.
    pub fn move_to(&mut self, list: usize) {
        let own = self.others.own;
        // SAFETY: The node of a turn is alive and pinned, its drop unlinks it, and the lock is held.
        unsafe { self.others.lists.move_to(own, list) };
    }

    /// Takes this entry out of its list, without [`Rules::left`]. When it has another turn it is in
    /// the first list.
    pub fn leave(&mut self) {
        let own = self.others.own;
        // SAFETY: The node of a turn is alive and pinned, its drop unlinks it, and the lock is held.
        unsafe {
            self.others.lists.take_out(own);
            (*own).list = 0;
        }
    }
}

impl<S: Rules> Monitor<S> {
    /// Creates a monitor around `state`.
    pub fn new(state: S) -> Self {
        Self {
            lock: Lock::new(Shared {
                state,
                lists: Lists::new(),
            }),
        }
    }

    /// As [`new`](Self::new), with lists that are numbered from 0 to below `count`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn with_lists(state: S, count: usize) -> Result<Self> {
        let mut lists = Lists::new();
        for _ in 1..count {
            lists.more.push(List::new(), GFP_KERNEL)?;
        }
        Ok(Self {
            lock: Lock::new(Shared { state, lists }),
        })
    }

    /// Runs `f` with the state and all entries, under the lock. `f` must not wait.
    pub fn with<R>(&self, f: impl FnOnce(&mut S, &mut Entries<'_, S::Key>) -> R) -> R {
        self.lock.with(|shared| {
            let mut entries = Entries {
                lists: &mut shared.lists,
                own: ptr::null_mut(),
            };
            f(&mut shared.state, &mut entries)
        })
    }

    /// Returns an entry, not yet linked: pin it, then use it.
    pub fn entry(&self, key: S::Key) -> Entry<'_, S> {
        self.entry_in(0, key)
    }

    /// Returns an entry that is to be linked into list `list`.
    pub fn entry_in(&self, list: usize, key: S::Key) -> Entry<'_, S> {
        Entry {
            monitor: self,
            node: UnsafeCell::new(Node {
                prev: ptr::null_mut(),
                next: ptr::null_mut(),
                linked: false,
                list,
                waker: None,
                key,
            }),
            _pin: PhantomPinned,
        }
    }
}

/// A task's place in a monitor.
pub struct Entry<'m, S: Rules> {
    monitor: &'m Monitor<S>,
    node: UnsafeCell<Node<S::Key>>,
    _pin: PhantomPinned,
}

// SAFETY: The node is touched only under the monitor's lock; the key and the waker in it may move
// to another thread.
unsafe impl<S: Rules> Send for Entry<'_, S>
where
    S: Send,
    S::Key: Send,
{
}

// SAFETY: As above.
unsafe impl<S: Rules> Sync for Entry<'_, S>
where
    S: Send,
    S::Key: Send,
{
}

impl<S: Rules> Entry<'_, S> {
    /// Runs `f` with this entry's turn, under the lock; links the entry first if it is new.
    pub fn with<R>(self: Pin<&Self>, f: impl FnOnce(&mut Turn<'_, S>) -> R) -> R {
        let node = self.node.get();
        self.monitor.lock.with(|shared| {
            // SAFETY: The node is ours by the lock.
            if unsafe { !(*node).linked } {
                // SAFETY: The entry is pinned, and its drop unlinks the node.
                unsafe { shared.lists.get((*node).list).push_back(node) };
            }
            // SAFETY: The key is ours by the lock; `Entries` never lends the key of `own`.
            let key = unsafe { &mut (*node).key };
            let others = Entries {
                lists: &mut shared.lists,
                own: node,
            };
            f(&mut Turn {
                state: &mut shared.state,
                key,
                others,
            })
        })
    }

    /// Waits until `ready`, run under the lock, returns something. It runs at once, and again
    /// whenever somebody has woken the entry.
    pub fn wait<'e, R, F>(self: Pin<&'e Self>, ready: F) -> Wait<'e, 'e, S, F>
    where
        F: FnMut(&mut Turn<'_, S>) -> Option<R>,
    {
        Wait { entry: self, ready }
    }
}

impl<S: Rules> Drop for Entry<'_, S> {
    fn drop(&mut self) {
        let node = self.node.get();
        self.monitor.lock.with(|shared| {
            // SAFETY: The node is ours by the lock.
            if unsafe { !(*node).linked } {
                return;
            }
            // SAFETY: The node is linked into this monitor's list.
            unsafe { shared.lists.get((*node).list).unlink(node) };
            let mut rest = Entries {
                lists: &mut shared.lists,
                own: ptr::null_mut(),
            };
            // SAFETY: The node is unlinked, so nobody else reaches it.
            shared.state.left(unsafe { &(*node).key }, &mut rest);
        });
    }
}

/// A task that waits for its turn; see [`Entry::wait`].
pub struct Wait<'e, 'm, S: Rules, F> {
    entry: Pin<&'e Entry<'m, S>>,
    ready: F,
}

impl<S: Rules, F> Unpin for Wait<'_, '_, S, F> {}

impl<S: Rules, R, F> Future for Wait<'_, '_, S, F>
where
    F: FnMut(&mut Turn<'_, S>) -> Option<R>,
{
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let this = &mut *self;
        let node = this.entry.node.get();
        let ready = &mut this.ready;
        this.entry.with(|turn| {
            let result = ready(turn);
            // SAFETY: The lock is held, and only the key of the node is borrowed.
            let waker = unsafe { &mut (*node).waker };
            match (result, waker) {
                (Some(result), waker) => {
                    *waker = None;
                    Poll::Ready(result)
                }
                (None, Some(waker)) => {
                    waker.clone_from(cx.waker());
                    Poll::Pending
                }
                (None, waker) => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
