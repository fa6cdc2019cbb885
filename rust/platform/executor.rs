// SPDX-License-Identifier: GPL-2.0

//! Runs futures on a work queue.
//!
//! Polls may sleep where a block driver makes them, so the queue has a rescuer and no limit of its
//! own on how many run at once.

use crate::task::Header;
use crate::task::Home;
use crate::task::Progress;
use core::cell::UnsafeCell;
use core::future::Future;
use core::mem::ManuallyDrop;
use core::pin::Pin;
use core::ptr::NonNull;
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
                work: Worked::new(&BoxTask::<F>::HOME, self.queue()),
                _queue_lives: self.lender.lease(),
                future: UnsafeCell::new(ManuallyDrop::new(future)),
            },
        );
        // SAFETY: `into_raw` never returns null.
        let task = unsafe { NonNull::new_unchecked(KBox::into_raw(task)) };
        // SAFETY: The task does not move any more, and its first poll is due.
        unsafe { Worked::start(task.cast(), BoxTask::<F>::run) };
        Ok(())
    }

    /// Returns the queue that tasks are put on. It lives as long as `self` or a lease.
    pub(crate) fn queue(&self) -> RawQueue {
        self.queue.as_raw()
    }
}

/// The start of a task that is polled, and finished, by a work item.
#[repr(C)]
pub(crate) struct Worked {
    header: Header,
    work: RawWork,
    queue: RawQueue,
}

impl Worked {
    /// Returns the start of a task whose first poll is due; to be initialised in place.
    ///
    /// The task must not outlive `queue`.
    pub(crate) fn new(home: &'static Home, queue: RawQueue) -> Self {
        Self {
            header: Header::new(home),
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
        // SAFETY: By the contract.
        unsafe { RawWork::init(Self::work(this), function) };
    }

    /// Initialises the work item and queues it.
    ///
    /// # Safety
    ///
    /// As [`Worked::init`].
    unsafe fn start(
        this: NonNull<Self>,
        function: unsafe extern "C" fn(*mut bindings::work_struct),
    ) {
        // SAFETY: By the contract, and the first poll is due.
        unsafe {
            Self::init(this, function);
            Self::enqueue(this.cast());
        }
    }

    /// Queues the work item of the task whose header this is.
    ///
    /// # Safety
    ///
    /// The task is alive, at least until the work item has run.
    pub(crate) unsafe fn enqueue(header: NonNull<Header>) {
        let this: NonNull<Self> = header.cast();
        // SAFETY: The header is the first field. The queue lives as long as the task.
        unsafe { workqueue::enqueue((*this.as_ptr()).queue, Self::work(this)) };
    }

    fn work(this: NonNull<Self>) -> NonNull<RawWork> {
        // SAFETY: The pointer is to a `Worked`; no reference is made.
        unsafe { NonNull::new_unchecked(core::ptr::addr_of_mut!((*this.as_ptr()).work)) }
    }

    /// Returns the task that `work` is the work item of.
    ///
    /// # Safety
    ///
    /// It is the work item of a `Worked`.
    pub(crate) unsafe fn of(work: *mut bindings::work_struct) -> NonNull<Self> {
        let offset = core::mem::offset_of!(Self, work);
        // SAFETY: By the contract.
        unsafe { NonNull::new_unchecked(work.byte_sub(offset).cast()) }
    }

    /// Returns the header.
    ///
    /// # Safety
    ///
    /// The task is alive for `'a`.
    pub(crate) unsafe fn header<'a>(this: NonNull<Self>) -> &'a Header {
        // SAFETY: By the contract.
        unsafe { &(*this.as_ptr()).header }
    }
}

/// A task on the heap.
#[repr(C)]
struct BoxTask<F> {
    work: Worked,
    _queue_lives: Lease,
    /// Dropped in place when it has returned, so its drop runs in the work item.
    future: UnsafeCell<ManuallyDrop<F>>,
}

impl<F: Future<Output = ()> + Send + 'static> BoxTask<F> {
    const HOME: Home = Home {
        schedule: Worked::enqueue,
        last: Self::free,
    };

    /// Polls the task.
    ///
    /// # Safety
    ///
    /// Called for the work item of a task of this type, when a poll is due.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: The work item of a `BoxTask`, whose first field is a `Worked`. It runs because
        // a poll is due.
        let this: NonNull<Self> = unsafe { Worked::of(work) }.cast();
        // SAFETY: The future has not returned, and only the work item, which is not run twice at
        // once, touches it. It is pinned: the task does not move.
        let future = unsafe { &mut *(*this.as_ptr()).future.get() };
        // SAFETY: As above.
        let pinned = unsafe { Pin::new_unchecked(&mut **future) };
        // SAFETY: A poll is due.
        if let Progress::Ready(()) = unsafe { Header::poll(this.cast(), pinned) } {
            // SAFETY: The future has returned and is not used again.
            unsafe { ManuallyDrop::drop(future) };
            // SAFETY: The task still holds its own reference.
            if unsafe { Worked::header(this.cast()) }.complete() {
                // SAFETY: It was the last.
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
        // SAFETY: The last reference is gone, and `spawn` made the task from a box.
        drop(unsafe { KBox::from_raw(header.cast::<Self>().as_ptr()) });
    }
}
