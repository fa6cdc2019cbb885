// SPDX-License-Identifier: GPL-2.0

//! Creation of work queues, and work items in memory that the user manages.
//!
//! The kernel crate can use queues but not create them, and its `Work` insists on an `Arc` or a
//! box; a work item in the memory of a bio is neither.

use core::ptr::NonNull;
use kernel::bindings;
use kernel::cpu::nr_cpu_ids;
use kernel::prelude::*;
use kernel::types::Opaque;

/// A work queue that exists for memory reclaim: it makes progress even when no worker can be
/// created.
///
/// Dropping it runs what is on it to the end.
pub struct ReclaimQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A work queue belongs to no thread.
unsafe impl Send for ReclaimQueue {}

// SAFETY: Work queues do their own locking.
unsafe impl Sync for ReclaimQueue {}

/// Where the work of a queue runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On the CPU that queued it: what an I/O's completion wakes runs where the completion ran.
    /// For work that is short.
    SameCpu,
    /// Where the scheduler finds a CPU for it. For work that takes long enough to keep its
    /// submitter from the CPU.
    AnyCpu,
}

impl ReclaimQueue {
    /// Creates a queue; `name` shows in the names of its threads.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(name: &CStr, placement: Placement) -> Result<Self> {
        // Where there is one CPU, a thread that takes one item after the other disturbs least.
        let placement = match nr_cpu_ids() {
            1 => Placement::SameCpu,
            _ => placement,
        };
        let placement = match placement {
            Placement::SameCpu => bindings::wq_flags_WQ_PERCPU,
            Placement::AnyCpu => bindings::wq_flags_WQ_UNBOUND,
        };
        let flags = bindings::wq_flags_WQ_MEM_RECLAIM | placement;
        // SAFETY: The format asks for one string, and `name` is one; the queue copies it. The flags
        // go together.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(c"%s".as_char_ptr(), flags, 0, name.as_char_ptr())
        };
        Ok(Self(NonNull::new(queue).ok_or(ENOMEM)?))
    }

    /// Returns what [`enqueue`] takes. It is valid until `self` is dropped, wherever `self` moves.
    pub fn as_raw(&self) -> RawQueue {
        self.0
    }
}

/// A queue, as C knows it.
pub type RawQueue = NonNull<bindings::workqueue_struct>;

/// Queues `work`; does nothing if it is queued already.
///
/// # Safety
///
/// The queue is alive. `work` was initialised, and stays alive until its function has been entered
/// for the last time.
pub unsafe fn enqueue(queue: RawQueue, work: NonNull<RawWork>) {
    let cpu = bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int;
    // On a queue of [`Placement::SameCpu`] "unbound" means this CPU.
    // SAFETY: By the contract the queue is alive, and the work item is initialised, and alive for
    // long enough.
    unsafe { bindings::queue_work_on(cpu, queue.as_ptr(), RawWork::raw(work)) };
}

impl Drop for ReclaimQueue {
    fn drop(&mut self) {
        // SAFETY: The queue is ours. Who queues something promises that it is alive, so that nobody
        // does any more.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// What a work item runs.
pub type WorkFunction = unsafe extern "C" fn(*mut bindings::work_struct);

/// A work item inside something larger.
#[repr(transparent)]
pub struct RawWork(Opaque<bindings::work_struct>);

impl RawWork {
    /// Returns a work item that must be initialised where it will stay.
    pub const fn uninit() -> Self {
        Self(Opaque::uninit())
    }

    /// Initialises the item at `this`.
    ///
    /// # Safety
    ///
    /// `this` is valid for writes, and not in use; it does not move while it is. `function` may be
    /// called with it.
    pub unsafe fn init(this: NonNull<Self>, function: WorkFunction) {
        // SAFETY: By the contract `this` is valid for writes, and stays where it is.
        unsafe { dm_bindings::dmox_work_init(Self::raw(this), Some(function)) };
    }

    fn raw(this: NonNull<Self>) -> *mut bindings::work_struct {
        this.as_ptr().cast()
    }
}
