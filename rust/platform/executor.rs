// SPDX-License-Identifier: GPL-2.0

//! Runs futures on a work queue.
//!
//! Polls may sleep where a block driver makes them, so the queue has a rescuer and no limit of its
//! own on how many run at once.

use crate::task::Header;
use crate::task::TaskOps;
use core::cell::UnsafeCell;
use core::future::Future;
use core::mem::ManuallyDrop;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::Poll;
use kernel::bindings;
use kernel::prelude::*;
use kext::lease::Lease;
use kext::lease::Lender;
use kext::workqueue;
pub use kext::workqueue::Placement;
use kext::workqueue::RawQueue;
use kext::workqueue::RawWork;
use kext::workqueue::ReclaimQueue;

/// Runs futures on a work queue.
///
/// Its drop waits until every spawned future has returned, so none of them may own it.
pub struct Executor {
    // Dropped first: waits for the tasks.
    lender: Lender,
    queue: ReclaimQueue,
}

impl Executor {
    /// Creates an executor; `name` shows in the names of its threads, `placement` says where
    /// polls run.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(name: &CStr, placement: Placement) -> Result<Self> {
        Ok(Self {
            lender: Lender::new()?,
            queue: ReclaimQueue::new(name, placement)?,
        })
    }

    /// Runs `future` to its end, beginning soon on the work queue.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    // Futures are large, and on their way to the heap they are in the caller's frame and in this.
    #[inline(never)]
    pub fn spawn<F>(&self, future: F) -> Result
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // The room first: if there is none, the future is dropped as it is, not in a task, which
        // would not drop it.
        let room = KBox::new_uninit(GFP_KERNEL)?;
        let task = KBox::write(
            room,
            BoxTask {
                work: WorkHeader::new(&BoxTask::<F>::OPS, self.queue()),
                _queue_lives: self.lender.lease(),
                future: UnsafeCell::new(ManuallyDrop::new(future)),
            },
        );
        // SAFETY: `into_raw` never returns null.
        let task = unsafe { NonNull::new_unchecked(KBox::into_raw(task)) };
        // SAFETY: The task is valid, and does not move any more: it is in a box that is not opened
        // before it ends. Its queue lives as long, by the lease.
        unsafe { WorkHeader::start(task.cast(), BoxTask::<F>::run) };
        Ok(())
    }

    /// Returns the queue that tasks are put on. It lives as long as `self` or a lease.
    pub(crate) fn queue(&self) -> RawQueue {
        self.queue.as_raw()
    }
}

/// The start of a task that is polled, and finished, by a work item.
#[repr(C)]
pub(crate) struct WorkHeader {
    header: Header,
    work: RawWork,
    queue: RawQueue,
}

impl WorkHeader {
    /// Returns the start of a task whose first poll is due; to be initialised in place.
    ///
    /// The task must not outlive `queue`.
    pub(crate) fn new(ops: &'static TaskOps, queue: RawQueue) -> Self {
        Self {
            header: Header::new(ops),
            work: RawWork::uninit(),
            queue,
        }
    }

    /// Initialises the work item; it will run `function`.
    ///
    /// # Safety
    ///
    /// `this` is valid and does not move any more.
    pub(crate) unsafe fn init(
        this: NonNull<Self>,
        function: unsafe extern "C" fn(*mut bindings::work_struct),
    ) {
        // SAFETY: By the contract the work item is valid, and does not move any more.
        unsafe { RawWork::init(Self::work(this), function) };
    }

    /// Initialises the work item and queues it, for the first poll.
    ///
    /// # Safety
    ///
    /// As [`WorkHeader::init`]; and the queue is alive.
    unsafe fn start(
        this: NonNull<Self>,
        function: unsafe extern "C" fn(*mut bindings::work_struct),
    ) {
        // SAFETY: By the same contract.
        unsafe { Self::init(this, function) };
        // SAFETY: The task holds its own reference until its future has returned, which takes a
        // poll. The header is the first field.
        unsafe { Self::enqueue(this.cast()) };
    }

    /// Queues the work item of the task whose header this is.
    ///
    /// # Safety
    ///
    /// The header is that of a `WorkHeader` whose work item is initialised. The task is alive until
    /// the work item's function has been entered, and so is its queue.
    pub(crate) unsafe fn enqueue(header: NonNull<Header>) {
        let this: NonNull<Self> = header.cast();
        // SAFETY: By the contract the task is alive.
        let queue = unsafe { (*this.as_ptr()).queue };
        // SAFETY: By the contract the queue is alive, and the work item is initialised, and alive
        // for long enough.
        unsafe { workqueue::enqueue(queue, Self::work(this)) };
    }

    fn work(this: NonNull<Self>) -> NonNull<RawWork> {
        // SAFETY: All callers have a pointer to a `WorkHeader`, whose field has an address that is
        // not null; no reference is made.
        unsafe { NonNull::new_unchecked(core::ptr::addr_of_mut!((*this.as_ptr()).work)) }
    }

    /// Returns the task that `work` is the work item of.
    ///
    /// # Safety
    ///
    /// It is the work item of a `WorkHeader`.
    pub(crate) unsafe fn of(work: *mut bindings::work_struct) -> NonNull<Self> {
        let offset = core::mem::offset_of!(Self, work);
        // SAFETY: By the contract this is the start of a `WorkHeader`, which is not null.
        unsafe { NonNull::new_unchecked(work.byte_sub(offset).cast()) }
    }

    /// Returns the header.
    ///
    /// # Safety
    ///
    /// The task is alive for `'a`.
    pub(crate) unsafe fn header<'a>(this: NonNull<Self>) -> &'a Header {
        // SAFETY: By the contract the task is alive for `'a`. Of the header only shared references
        // are made.
        unsafe { &(*this.as_ptr()).header }
    }
}

/// A task on the heap.
#[repr(C)]
struct BoxTask<F> {
    work: WorkHeader,
    _queue_lives: Lease,
    /// Dropped in place when it has returned, so its drop runs in the work item.
    future: UnsafeCell<ManuallyDrop<F>>,
}

impl<F: Future<Output = ()> + Send + 'static> BoxTask<F> {
    const OPS: TaskOps = TaskOps {
        schedule: WorkHeader::enqueue,
        last: Self::free,
    };

    /// Polls the task.
    ///
    /// # Safety
    ///
    /// Called for the work item of a task of this type, when a poll is due.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: By the contract it is the work item of a `BoxTask`, whose first field is a
        // `WorkHeader`.
        let this: NonNull<Self> = unsafe { WorkHeader::of(work) }.cast();
        // SAFETY: A poll is due, so that the task is alive and its future has not returned. Only
        // this function touches the future, and a work item is not run twice at once.
        let future = unsafe { &mut *(*this.as_ptr()).future.get() };
        // SAFETY: The future does not move before it is dropped: the task does not.
        let pinned = unsafe { Pin::new_unchecked(&mut **future) };
        // SAFETY: A poll is due, so that the future has not returned; and it is that of the task.
        if let Poll::Ready(()) = unsafe { Header::poll(this.cast(), pinned) } {
            // SAFETY: The future has returned and is not used again.
            unsafe { ManuallyDrop::drop(future) };
            // SAFETY: The task still holds its own reference, so that it is alive.
            if unsafe { WorkHeader::header(this.cast()) }.complete() {
                // SAFETY: It is of this type, and that was the last reference.
                unsafe { Self::free(this.cast()) };
            }
        }
    }

    /// Frees the task; in any context, since the future was dropped before.
    ///
    /// # Safety
    ///
    /// It is the header of a task of this type, and the last reference is gone.
    unsafe fn free(header: NonNull<Header>) {
        // SAFETY: `spawn` got the pointer from `KBox::into_raw`. The last reference is gone, so
        // that this is done once, and nobody looks at the task any more.
        drop(unsafe { KBox::from_raw(header.cast::<Self>().as_ptr()) });
    }
}
