// SPDX-License-Identifier: GPL-2.0

//! Tasks that serve one bio each, in the memory that device-mapper reserves with it.
//!
//! The first poll runs at once, in `map`: a future that has nothing to wait for costs no hop to
//! another thread. Later polls run on the executor's queue, or where a bio that was sent below has
//! come back, if the future says that it may. The future gives the bio back as its
//! result, because it cannot complete it: the bio's memory, and with it the future, would be gone
//! before the future's last statement has left it. So the future is dropped first, then, when the
//! last waker is gone too, the bio is completed or sent on.

mod parts;

pub use parts::Part;

use crate::executor::Executor;
use crate::executor::WorkHeader;
use crate::task::Header;
use crate::task::TaskOps;
use core::cell::UnsafeCell;
use core::future::Future;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::Context;
use core::task::Poll;
use dm::map::PER_BIO_ALIGN;
use dm::BioInfo;
use dm::Device;
use dm::MapBio;
use dm::MapResult;
use kernel::bindings;
use kernel::prelude::*;
use kext::bio;
use kext::bio::Bio;
use kext::bio::BioRecord;
use kext::bio::Status;
use runtime::sync::AtomicU32;

/// The bio is not below.
const FORWARD_IDLE: u32 = u32::MAX;
/// The bio is below. Any other value is the status it came back with.
const FORWARD_IN_FLIGHT: u32 = u32::MAX - 1;

/// The part of a task that does not depend on its future.
#[repr(C)]
struct Core {
    work: WorkHeader,
    bio: NonNull<bindings::bio>,
    /// What is to become of the bio; set when the future has returned.
    disposition: UnsafeCell<Disposition>,
    /// Where a forwarded bio is.
    forward: AtomicU32,
    /// What a forwarded bio looked like.
    saved: UnsafeCell<Option<BioRecord>>,
    /// Parts of the bio that are below.
    parts: parts::Parts,
    /// Where the task is polled; accessed by the poller only.
    site: UnsafeCell<PollSite>,
    /// Polls the task where it is called, in any context.
    poll_here: unsafe fn(NonNull<Core>),
}

#[repr(C)]
struct BioTask<F> {
    core: Core,
    /// Dropped in place when it has returned.
    future: UnsafeCell<ManuallyDrop<F>>,
}

impl Core {
    /// Takes back a bio that was sent below and not waited for.
    ///
    /// # Safety
    ///
    /// Nobody else knows the task. So the bio is back: its completion function had a reference.
    unsafe fn take_back(&self) {
        // SAFETY: By the contract nobody else looks at it.
        if let Some(saved) = unsafe { (*self.saved.get()).take() } {
            // SAFETY: It is of this bio, which was completed, and is ours again.
            unsafe { saved.restore(self.bio) };
        }
    }
}

/// Where a task is polled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PollSite {
    /// In `map`, the first time.
    Map,
    /// In the completion function of its bio.
    Completion,
    /// On the executor's queue.
    Queue,
}

/// What is to become of a bio.
#[derive(Clone, Copy)]
enum Disposition {
    /// It goes to where it points.
    Submit,
    /// It is completed.
    End(Status),
}

/// Returns how much memory must be reserved with each bio for the futures that `serve` returns:
/// an argument for [`dm::CtrTarget::set_per_io_data_size`].
pub fn size_of_task<'a, T: ?Sized + 'a, F>(_serve: impl FnOnce(&'a T, BioIo<'a>) -> F) -> usize
where
    F: Future<Output = BioResult<'a>> + Send + 'a,
{
    const {
        assert!(
            align_of::<BioTask<F>>() <= PER_BIO_ALIGN,
            "device-mapper aligns to less"
        );
    }
    size_of::<BioTask<F>>()
}

/// Serves `bio` by the future that `make` returns; polls that once before it returns itself.
///
/// If device-mapper has not reserved enough memory for the task, the bio fails with `EIO`.
pub fn serve<'a, F>(
    executor: &'a Executor,
    bio: MapBio<'a>,
    make: impl FnOnce(BioIo<'a>) -> F,
) -> MapResult<'a>
where
    F: Future<Output = BioResult<'a>> + Send + 'a,
{
    let info = bio.info();
    let (raw, memory) = bio.into_raw();
    let Some(task) = memory.place::<BioTask<F>>() else {
        kernel::pr_err_once!("a task does not fit into the memory reserved with its bio\n");
        // SAFETY: The bio is valid and ours, from `into_raw`, and not used after this.
        unsafe { bio::end(raw, Status::from_result(Err(EIO))) };
        // SAFETY: It was completed, once, and `map` returns this.
        return unsafe { MapResult::submitted() };
    };
    let core = Core {
        work: WorkHeader::new(&BioTask::<F>::OPS, executor.queue()),
        bio: raw,
        disposition: UnsafeCell::new(Disposition::End(Status::from_result(Err(EIO)))),
        forward: AtomicU32::new(FORWARD_IDLE),
        saved: UnsafeCell::new(None),
        parts: parts::Parts::new(),
        site: UnsafeCell::new(PollSite::Map),
        poll_here: BioTask::<F>::poll_here,
    };
    let io = BioIo {
        task: task.cast(),
        info,
        _life: PhantomData,
    };
    let future = UnsafeCell::new(ManuallyDrop::new(make(io)));
    // SAFETY: This is a place for a task, which is ours until the bio is completed.
    unsafe { task.write(BioTask { core, future }) };
    // SAFETY: The task is valid, and stays there. Its queue is the executor's, which lives for
    // `'a`, that is at least as long as the bio.
    unsafe { WorkHeader::init(task.cast(), BioTask::<F>::run) };
    // SAFETY: The first poll is due.
    if unsafe { BioTask::step(task) } {
        // SAFETY: The task is finished: the bio was not completed yet, and nobody else knows it.
        let disposition = unsafe { BioTask::outcome(task) };
        match disposition {
            // SAFETY: The bio points at where it is to go, nobody else has it, and `map` returns
            // this.
            Disposition::Submit => return unsafe { MapResult::remapped() },
            // SAFETY: The bio is valid and ours, and not used after this, nor is the task.
            Disposition::End(status) => unsafe { bio::end(raw, status) },
        }
    }
    // SAFETY: The bio was completed just now, or the task completes or submits it, once; and `map`
    // returns this.
    unsafe { MapResult::submitted() }
}

impl<F: Future> BioTask<F> {
    // A task that a waker was the last to know is finished on the queue: a waker may be dropped
    // in an interrupt or under a lock, where no bio can be submitted.
    const OPS: TaskOps = TaskOps {
        schedule: WorkHeader::enqueue,
        last: WorkHeader::enqueue,
    };
}

impl<'a, F: Future<Output = BioResult<'a>>> BioTask<F> {
    /// Polls or finishes the task.
    ///
    /// # Safety
    ///
    /// Called for the work item of a task of this type, when a poll is due or the last reference is
    /// gone.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: By the contract it is the work item of a `BioTask`, whose first field begins with
        // a `WorkHeader`.
        let this: NonNull<Self> = unsafe { WorkHeader::of(work) }.cast();
        // SAFETY: The task is alive: its bio is not completed before it was finished. Only who
        // polls or finishes looks at the site, and that is this function.
        unsafe { *(*this.as_ptr()).core.site.get() = PollSite::Queue };
        // SAFETY: The task is alive, as above.
        let unreferenced = unsafe { WorkHeader::header(this.cast()) }.is_unreferenced();
        // SAFETY: If there are references, then the last is not gone, and a poll is due.
        if unreferenced || unsafe { Self::step(this) } {
            // SAFETY: The last reference is gone, the task's own with it: its future was dropped.
            unsafe { Self::finish(this) };
        }
    }

    /// Polls the task. Returns true if the last reference is gone, and the caller has to finish it.
    ///
    /// # Safety
    ///
    /// A poll is due.
    unsafe fn step(this: NonNull<Self>) -> bool {
        // SAFETY: A poll is due, so that the task is alive and its future has not returned. Only
        // who polls touches the future, and that is this function.
        let future = unsafe { &mut *(*this.as_ptr()).future.get() };
        // SAFETY: The future does not move before it is dropped: the task does not.
        let pinned = unsafe { Pin::new_unchecked(&mut **future) };
        // SAFETY: A poll is due, so that the future has not returned; and it is that of the task.
        let Poll::Ready(result) = (unsafe { Header::poll(this.cast(), pinned) }) else {
            return false;
        };
        // SAFETY: The future has returned and is not used again.
        unsafe { ManuallyDrop::drop(future) };
        // SAFETY: The task's own reference keeps it alive. Only who polls or finishes looks at the
        // disposition.
        unsafe { *(*this.as_ptr()).core.disposition.get() = result.disposition };
        // SAFETY: The task's own reference keeps it alive.
        unsafe { WorkHeader::header(this.cast()) }.complete()
    }

    /// Polls the task, in any context, and finishes it if that is all.
    ///
    /// # Safety
    ///
    /// It is the core of a task of this type, and a poll is due.
    unsafe fn poll_here(core: NonNull<Core>) {
        let this: NonNull<Self> = core.cast();
        // SAFETY: A poll is due, so that the task is alive. Only who polls or finishes looks at the
        // site, and that is this function.
        unsafe { *(*core.as_ptr()).site.get() = PollSite::Completion };
        // SAFETY: By the contract a poll is due.
        if !unsafe { Self::step(this) } {
            return;
        }
        // SAFETY: The last reference is gone, so that nobody else looks at it. The task is alive:
        // its bio was not completed yet.
        let disposition = unsafe { *(*core.as_ptr()).disposition.get() };
        match disposition {
            // A bio is submitted from the queue only.
            // SAFETY: The work item is initialised. The task and its queue are alive until the bio
            // is completed or sent on, which `run` does.
            Disposition::Submit => unsafe { WorkHeader::enqueue(this.cast()) },
            // SAFETY: The future has returned and was dropped, and the last reference is gone.
            Disposition::End(_) => unsafe { Self::finish(this) },
        }
    }

    /// Returns what is to become of the bio.
    ///
    /// # Safety
    ///
    /// The future was dropped and the last reference is gone; the bio was not completed yet.
    unsafe fn outcome(this: NonNull<Self>) -> Disposition {
        // SAFETY: The task is alive, since its bio was not completed.
        let core = unsafe { &(*this.as_ptr()).core };
        // SAFETY: By the contract nobody else knows the task.
        unsafe { core.take_back() };
        // SAFETY: By the contract nobody else looks at it.
        unsafe { *core.disposition.get() }
    }

    /// Completes the bio or sends it on; its memory is gone after that.
    ///
    /// # Safety
    ///
    /// The future was dropped and the last reference is gone.
    unsafe fn finish(this: NonNull<Self>) {
        // SAFETY: By the contract; a bio is completed here.
        let disposition = unsafe { Self::outcome(this) };
        // SAFETY: The task is alive, since its bio was not completed.
        let raw = unsafe { (*this.as_ptr()).core.bio };
        match disposition {
            Disposition::Submit => {
                // SAFETY: The bio is valid and ours: it is back, and nobody else knows the task.
                unsafe { Bio::from_raw_mut(raw) }.clear_polled();
                // SAFETY: As above; neither the bio nor the task is used after this.
                unsafe { bio::submit_noacct(raw) };
            }
            // SAFETY: As above; neither the bio nor the task is used after this.
            Disposition::End(status) => unsafe { bio::end(raw, status) },
        }
    }
}

/// A bio while a future serves it; the future gives it back as [`BioResult`].
///
/// # Invariants
///
/// The task is that of the bio, and its future, which has not returned, owns this. The bio is ours
/// unless it is below, see [`BioIo::forward`].
pub struct BioIo<'a> {
    task: NonNull<Core>,
    info: BioInfo,
    _life: PhantomData<fn(&'a ()) -> &'a ()>,
}

// SAFETY: The future that owns this is polled by one thread at a time, and the bio belongs to no
// thread.
unsafe impl Send for BioIo<'_> {}

/// A bio that was served: what is to become of it.
pub struct BioResult<'a> {
    disposition: Disposition,
    _life: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl<'a> BioIo<'a> {
    /// Returns what the bio asks for; of a bio that was narrowed by [`BioIo::trim`], what is left.
    pub fn info(&self) -> &BioInfo {
        &self.info
    }

    fn core(&self) -> &Core {
        // SAFETY: By the type invariant the task's future has not returned, so that the task is
        // alive.
        unsafe { self.task.as_ref() }
    }

    fn site(&self) -> PollSite {
        // SAFETY: By the type invariant this runs in a poll of the task, and who polls may look.
        unsafe { *self.core().site.get() }
    }

    fn bio(&self) -> &Bio {
        // SAFETY: The bio is valid and ours: whoever calls this has seen that it is not below. Who
        // changes it borrows `self`.
        unsafe { Bio::from_raw(self.core().bio) }
    }

    fn bio_mut(&mut self) -> Pin<&mut Bio> {
        // SAFETY: As in `bio`, and other references borrow `self`.
        unsafe { Bio::from_raw_mut(self.core().bio) }
    }

    /// Completes the bio; if it is below, when it is back.
    pub fn end(mut self, result: Result) -> BioResult<'a> {
        self.abandon_parts();
        BioResult {
            disposition: Disposition::End(Status::from_result(result)),
            _life: PhantomData,
        }
    }

    /// Sends the bio on, to `sector` of `device`; nobody sees it come back. It fails with `EIO` if
    /// it, or a part of it, is below.
    pub fn remap(mut self, device: &'a Device, sector: u64) -> BioResult<'a> {
        if !self.is_back() || !self.land_parts() {
            return self.end(Err(EIO));
        }
        self.bio_mut().set_target(device, sector);
        BioResult {
            disposition: Disposition::Submit,
            _life: PhantomData,
        }
    }

    /// Narrows a discard or the like to `sectors` sectors from `sector`, counted from the start of
    /// the target. What is cut off counts as done. Does nothing for a bio with data, or if the
    /// range is not inside the bio's, or the bio is below.
    pub fn trim(&mut self, sector: u64, sectors: u32) {
        if !self.is_back() {
            return;
        }
        let begin = self.bio().sector().wrapping_sub(self.info.sector);
        self.bio_mut().trim(sector.wrapping_add(begin), sectors);
        self.info.sector = self.bio().sector().wrapping_sub(begin);
        self.info.sectors = self.bio().sectors();
    }

    /// Sends the bio to `sector` of `device`, with its flags, and waits until it is back.
    ///
    /// To be awaited by the bio's own future, not inside a combinator with a waker of its own.
    ///
    /// # Errors
    ///
    /// The errno of the status it came back with; `EBUSY` if it is below already.
    pub fn forward<'f>(
        &'f mut self,
        device: &'a Device,
        sector: u64,
    ) -> impl Future<Output = Result> + Send + use<'f, 'a> {
        Forward {
            io: self,
            device,
            sector,
            back: forward_done,
            sent: false,
        }
    }

    /// As [`BioIo::forward`], but what follows, up to where the future waits or returns, runs where
    /// the bio has come back, as a rule in an interrupt: it must be short, and not sleep.
    pub fn forward_briefly<'f>(
        &'f mut self,
        device: &'a Device,
        sector: u64,
    ) -> impl Future<Output = Result> + Send + use<'f, 'a> {
        Forward {
            io: self,
            device,
            sector,
            back: forward_done_poll,
            sent: false,
        }
    }

    /// Sends the bio below, where it must not be already; `back` sees to the task when it is back.
    fn send(&mut self, device: &Device, sector: u64, back: Completion) {
        let core = self.core();
        core.forward.store_relaxed(FORWARD_IN_FLIGHT);
        // SAFETY: The bio is valid and ours. Both completion functions may be called with it once
        // it is submitted, and `bi_private` a task.
        let saved = unsafe { BioRecord::hook(core.bio, back, self.task.as_ptr().cast()) };
        // SAFETY: This runs in a poll of the task, and only who polls or finishes looks at it.
        unsafe { *core.saved.get() = Some(saved) };
        self.bio_mut().set_target(device, sector);
        if self.site() != PollSite::Map {
            self.bio_mut().clear_polled();
        }
        // The completion function has a reference, so that it may wake a task that saw the status
        // before it was woken.
        // SAFETY: The task's future has not returned, so that the task is alive.
        unsafe { WorkHeader::header(self.task.cast()) }.acquire();
        // SAFETY: The bio is valid and ours, and nobody touches it until `forward` says that it is
        // back, or the reference is gone.
        unsafe { bio::submit_noacct(self.core().bio) };
    }

    /// Takes the bio back if it has returned, and tells how it was completed.
    fn land(&mut self) -> Option<Result> {
        let core = self.core();
        let status = u8::try_from(core.forward.load_acquire()).ok()?;
        // SAFETY: This runs in a poll of the task, and only who polls or finishes looks at it.
        if let Some(saved) = unsafe { (*core.saved.get()).take() } {
            // SAFETY: It is of this bio, which was completed, and is ours again.
            unsafe { saved.restore(core.bio) };
        }
        core.forward.store_relaxed(FORWARD_IDLE);
        Some(Status::from_raw(status).to_result())
    }

    /// Returns true unless the bio is below: sent by a [`BioIo::forward`] that was forgotten.
    fn is_back(&mut self) -> bool {
        self.core().forward.load_relaxed() == FORWARD_IDLE || self.land().is_some()
    }

    /// Goes on where one may sleep, and where I/O that is started begins at once: if the task is
    /// polled elsewhere, it goes on on the executor's queue.
    pub async fn leave_map(&mut self) {
        LeaveMap(self).await;
    }
}

/// See [`BioIo::leave_map`].
struct LeaveMap<'f, 'a>(&'f mut BioIo<'a>);

impl Future for LeaveMap<'_, '_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.site() != PollSite::Queue {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

type Completion = unsafe extern "C" fn(*mut bindings::bio);

/// A bio that is sent below and waited for; see [`BioIo::forward`].
struct Forward<'f, 'a> {
    io: &'f mut BioIo<'a>,
    /// Of the target, not of the future, which may be forgotten while the bio is below.
    device: &'a Device,
    sector: u64,
    back: Completion,
    sent: bool,
}

impl Future for Forward<'_, '_> {
    type Output = Result;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result> {
        let this = &mut *self;
        if !this.sent {
            if !this.io.is_back() {
                return Poll::Ready(Err(EBUSY));
            }
            this.sent = true;
            this.io.send(this.device, this.sector, this.back);
        }
        match this.io.land() {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

/// Completion function of a forwarded bio: leaves the status, wakes the task.
///
/// # Safety
///
/// Called by the block layer, once, for a bio that [`BioIo::send`] sent.
unsafe extern "C" fn forward_done(raw: *mut bindings::bio) {
    // SAFETY: By the same contract.
    let task = unsafe { leave_status(raw) };
    // SAFETY: The reference is that of `send`, and given up with this.
    unsafe { Header::wake(task.cast()) };
}

/// As [`forward_done`], but polls the task at once, unless it is being polled.
///
/// # Safety
///
/// As [`forward_done`].
unsafe extern "C" fn forward_done_poll(raw: *mut bindings::bio) {
    // SAFETY: By the same contract.
    let task = unsafe { leave_status(raw) };
    // SAFETY: The reference of `send` keeps the task alive.
    let poll_here = unsafe { (*task.as_ptr()).poll_here };
    // SAFETY: The reference is that of `send`, and given up with this.
    if unsafe { Header::wake_to_poll(task.cast()) } {
        // SAFETY: The function is that of the task's own type, and a poll is due.
        unsafe { poll_here(task) };
    }
}

/// Tells the task that its bio is back. Returns the task, with the reference that [`BioIo::send`]
/// took.
///
/// # Safety
///
/// As [`forward_done`].
unsafe fn leave_status(raw: *mut bindings::bio) -> NonNull<Core> {
    // SAFETY: By the contract the bio is valid, and the completion function's.
    let (task, status) = unsafe { bio::completion(raw) };
    // SAFETY: `send` put a pointer to the task there, which is not null.
    let task: NonNull<Core> = unsafe { NonNull::new_unchecked(task) }.cast();
    // SAFETY: The reference of `send` keeps the task alive.
    unsafe { task.as_ref() }
        .forward
        .store_release(status.as_raw().into());
    task
}
