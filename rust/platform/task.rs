// SPDX-License-Identifier: GPL-2.0

//! What all tasks have in common, whatever memory they live in: state, references, wakers.
//!
//! A task begins with a [`Header`]. The task itself holds one reference to it until its future
//! has returned and was dropped; each waker holds one. When the last one is dropped the task is
//! finished, and only then is its memory released: a waker that is kept too long never points to
//! freed memory.

use core::future::Future;
use core::mem::ManuallyDrop;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::Context;
use core::task::Poll;
use core::task::RawWaker;
use core::task::RawWakerVTable;
use core::task::Waker;
use kext::noio::noio;
use runtime::sync::AtomicU32;
use runtime::task::AfterPoll;
use runtime::task::TaskState;
use runtime::task::Turn;

/// What a kind of tasks does when they are woken and released; in any context.
pub(crate) struct TaskOps {
    /// Has the task polled soon.
    ///
    /// # Safety
    ///
    /// The header is alive, and its state says that the task is to be queued.
    pub(crate) schedule: unsafe fn(NonNull<Header>),

    /// A waker was the last reference; has the task finished soon.
    ///
    /// # Safety
    ///
    /// The header has no reference any more.
    pub(crate) last: unsafe fn(NonNull<Header>),
}

/// The start of every task.
pub(crate) struct Header {
    state: TaskState,
    references: AtomicU32,
    turn: Turn,
    ops: &'static TaskOps,
}

impl Header {
    /// Returns the header of a task whose first poll is due.
    pub(crate) fn new(ops: &'static TaskOps) -> Self {
        Self {
            state: TaskState::new_queued(),
            references: AtomicU32::new(1),
            turn: Turn::new(),
            ops,
        }
    }

    /// Returns true if the last reference is gone.
    pub(crate) fn is_unreferenced(&self) -> bool {
        self.references.load_acquire() == 0
    }

    /// Adds a reference.
    pub(crate) fn acquire(&self) {
        self.references.fetch_add(1);
    }

    /// Polls the task's future.
    ///
    /// After `Pending` the task may be polled elsewhere already, even be gone. After `Ready` the
    /// future must be dropped before [`Header::complete`] is called.
    ///
    /// # Safety
    ///
    /// The task is due to be polled, its future has not returned, and `future` is its.
    pub(crate) unsafe fn poll<F: Future>(
        this: NonNull<Self>,
        future: Pin<&mut F>,
    ) -> Poll<F::Output> {
        // SAFETY: The future has not returned, so that the task holds its own reference, and is
        // alive.
        let header = unsafe { this.as_ref() };
        header.state.start_poll();
        header.turn.begin();
        // The task's own reference stands for this waker, hence no drop.
        // SAFETY: The functions of the table do what `RawWaker` asks, for a pointer to a header
        // that is alive. They may be called from any thread.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(raw_waker(this)) });
        let mut context = Context::from_waker(&waker);
        match noio(|| future.poll(&mut context)) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => {
                let ops = header.ops;
                if header.state.end_poll() == AfterPoll::Requeue {
                    // SAFETY: The state says that it is to be queued. The task is alive: its future
                    // has not returned, and nobody polls it before that.
                    unsafe { (ops.schedule)(this) };
                }
                Poll::Pending
            }
        }
    }

    /// The future has returned and was dropped: gives up the task's own reference. Returns true
    /// if it was the last one, and the caller has to finish the task.
    pub(crate) fn complete(&self) -> bool {
        self.state.finish();
        self.references.fetch_sub(1) == 1
    }

    /// Wakes the task and gives up a reference.
    ///
    /// # Safety
    ///
    /// The caller has a reference.
    pub(crate) unsafe fn wake(this: NonNull<Self>) {
        // SAFETY: By the contract the caller has a reference.
        unsafe { Self::wake_by_ref(this) };
        // SAFETY: By the contract the caller has a reference, and gives it up.
        unsafe { Self::release(this) };
    }

    /// As [`Header::wake`], but the caller is to do what otherwise would be queued: returns true if
    /// it has to poll the task now.
    ///
    /// # Safety
    ///
    /// The caller has a reference.
    pub(crate) unsafe fn wake_to_poll(this: NonNull<Self>) -> bool {
        // SAFETY: By the contract the caller has a reference, which keeps the header alive.
        let header = unsafe { this.as_ref() };
        let due = header.state.wake();
        if due {
            // Not the last: a poll is due, so the task still holds its own.
            header.references.fetch_sub(1);
        } else {
            // SAFETY: By the contract the caller has a reference, and gives it up.
            unsafe { Self::release(this) };
        }
        due
    }

    /// # Safety
    ///
    /// The caller has a reference.
    unsafe fn wake_by_ref(this: NonNull<Self>) {
        // SAFETY: By the contract the caller has a reference, which keeps the header alive.
        let header = unsafe { this.as_ref() };
        if header.state.wake() {
            // SAFETY: The header is alive, and the state says that the task is to be queued.
            unsafe { (header.ops.schedule)(this) };
        }
    }

    /// # Safety
    ///
    /// The caller has a reference, and no more after this.
    pub(crate) unsafe fn release(this: NonNull<Self>) {
        // SAFETY: By the contract the caller has a reference, which keeps the header alive.
        let header = unsafe { this.as_ref() };
        let ops = header.ops;
        if header.references.fetch_sub(1) == 1 {
            // SAFETY: That was the last reference.
            unsafe { (ops.last)(this) };
        }
    }
}

static WAKER: RawWakerVTable =
    RawWakerVTable::new(clone_waker, wake_waker, wake_waker_by_ref, drop_waker);

/// Returns true if the task that is polled with `waker` may begin an I/O of `sectors`. If not, it has
/// done so much in this poll that others are to run first.
pub(crate) fn may_begin(waker: &Waker, sectors: u32) -> bool {
    if !core::ptr::eq(waker.vtable(), &WAKER) {
        return true;
    }
    // SAFETY: A waker with this table was made by `raw_waker`, for a pointer to a header.
    let header = unsafe { header_of(waker.data()) };
    // SAFETY: The waker has a reference, which keeps the header alive while it is borrowed.
    let header = unsafe { header.as_ref() };
    header.turn.spend(sectors)
}

fn raw_waker(header: NonNull<Header>) -> RawWaker {
    RawWaker::new(header.as_ptr().cast_const().cast(), &WAKER)
}

/// # Safety
///
/// `data` came from [`raw_waker`].
unsafe fn header_of(data: *const ()) -> NonNull<Header> {
    // SAFETY: By the contract it came from a `NonNull`, and is not null.
    unsafe { NonNull::new_unchecked(data.cast_mut().cast()) }
}

/// # Safety
///
/// `data` is that of a waker.
unsafe fn clone_waker(data: *const ()) -> RawWaker {
    // SAFETY: The data of a waker came from `raw_waker`.
    let header = unsafe { header_of(data) };
    // SAFETY: The waker that is cloned has a reference, which keeps the header alive.
    unsafe { header.as_ref() }.acquire();
    raw_waker(header)
}

/// # Safety
///
/// `data` is that of a waker, which is not used again.
unsafe fn wake_waker(data: *const ()) {
    // SAFETY: The data of a waker came from `raw_waker`.
    let header = unsafe { header_of(data) };
    // SAFETY: The waker has a reference, and is gone after this.
    unsafe { Header::wake(header) };
}

/// # Safety
///
/// `data` is that of a waker.
unsafe fn wake_waker_by_ref(data: *const ()) {
    // SAFETY: The data of a waker came from `raw_waker`.
    let header = unsafe { header_of(data) };
    // SAFETY: The waker has a reference.
    unsafe { Header::wake_by_ref(header) };
}

/// # Safety
///
/// `data` is that of a waker, which is not used again.
unsafe fn drop_waker(data: *const ()) {
    // SAFETY: The data of a waker came from `raw_waker`.
    let header = unsafe { header_of(data) };
    // SAFETY: The waker has a reference, and is gone after this.
    unsafe { Header::release(header) };
}
