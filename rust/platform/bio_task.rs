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
use crate::executor::Worked;
use crate::task::Header;
use crate::task::Home;
use crate::task::Progress;
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
use kext::bio::Saved;
use kext::bio::Status;
use runtime::sync::AtomicU32;

/// The bio is not below.
const FORWARD_IDLE: u32 = u32::MAX;
/// The bio is below. Any other value is the status it came back with.
const FORWARD_FLYING: u32 = u32::MAX - 1;

/// The part of a task that does not depend on its future.
#[repr(C)]
struct Core {
    work: Worked,
    bio: NonNull<bindings::bio>,
    /// What is to become of the bio; set when the future has returned.
    verdict: UnsafeCell<Verdict>,
    /// Where a forwarded bio is.
    forward: AtomicU32,
    /// What a forwarded bio looked like.
    saved: UnsafeCell<Option<Saved>>,
    /// Parts of the bio that are below.
    parts: parts::Flight,
    /// Where the task is polled; only who polls may look.
    place: UnsafeCell<Place>,
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
        // SAFETY: Nobody else knows the task.
        if let Some(saved) = unsafe { (*self.saved.get()).take() } {
            // SAFETY: It was hooked for this bio, which was completed and is ours again.
            unsafe { saved.restore(self.bio) };
        }
    }
}

/// Where a task is polled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In `map`, the first time.
    Map,
    /// Where its bio has come back.
    Completion,
    /// On the executor's queue.
    Queue,
}

#[derive(Clone, Copy)]
enum Verdict {
    Submit,
    End(Status),
}

/// Returns how much memory must be reserved with each bio for the futures that `serve` returns:
/// an argument for [`dm::CtrTarget::set_per_io_data_size`].
pub fn size_of_task<'a, T: ?Sized + 'a, F>(_serve: impl FnOnce(&'a T, BioIo<'a>) -> F) -> usize
where
    F: Future<Output = Served<'a>> + Send + 'a,
{
    const {
        assert!(
            align_of::<BioTask<F>>() <= PER_BIO_ALIGN,
            "device-mapper aligns to less"
        );
    }
    size_of::<BioTask<F>>()
}

/// Has a future serve `bio`, which `make` makes; polls it once before it returns.
///
/// If device-mapper has not reserved enough memory for the task, the bio fails with `EIO`.
pub fn serve<'a, F>(
    executor: &'a Executor,
    bio: MapBio<'a>,
    make: impl FnOnce(BioIo<'a>) -> F,
) -> MapResult<'a>
where
    F: Future<Output = Served<'a>> + Send + 'a,
{
    let info = bio.info();
    let (raw, memory) = bio.into_raw();
    let Some(task) = memory.place::<BioTask<F>>() else {
        kernel::pr_err_once!("a task does not fit into the memory reserved with its bio\n");
        // SAFETY: The bio was taken just now, and is completed nowhere else.
        unsafe {
            bio::end(raw, Status::from_result(Err(EIO)));
            return MapResult::submitted();
        }
    };
    let core = Core {
        work: Worked::new(&BioTask::<F>::HOME, executor.queue()),
        bio: raw,
        verdict: UnsafeCell::new(Verdict::End(Status::from_result(Err(EIO)))),
        forward: AtomicU32::new(FORWARD_IDLE),
        saved: UnsafeCell::new(None),
        parts: parts::Flight::new(),
        place: UnsafeCell::new(Place::Map),
        poll_here: BioTask::<F>::poll_here,
    };
    let io = BioIo {
        task: task.cast(),
        info,
        _life: PhantomData,
    };
    // SAFETY: The memory is large enough, aligned, and ours until the bio is completed. The queue
    // is the executor's, which lives for `'a`, that is at least as long as the bio.
    unsafe {
        task.write(BioTask {
            core,
            future: UnsafeCell::new(ManuallyDrop::new(make(io))),
        });
        Worked::init(task.cast(), BioTask::<F>::run);
    }
    // SAFETY: The first poll is due.
    if unsafe { BioTask::step(task) } {
        // SAFETY: The task is finished, so this is ours: nobody else knows it any more.
        let verdict = unsafe {
            let core = &task.as_ref().core;
            core.take_back();
            *core.verdict.get()
        };
        match verdict {
            // SAFETY: The bio was taken, points at where it is to go, and is ours.
            Verdict::Submit => return unsafe { MapResult::remapped() },
            // SAFETY: The bio is ours, and with this call gone.
            Verdict::End(status) => unsafe { bio::end(raw, status) },
        }
    }
    // SAFETY: The bio was taken. It was completed just now, or the task will see to it.
    unsafe { MapResult::submitted() }
}

impl<F: Future> BioTask<F> {
    // A task that a waker was the last to know is finished on the queue: a waker may be dropped
    // in an interrupt or under a lock, where no bio can be submitted.
    const HOME: Home = Home {
        schedule: Worked::enqueue,
        last: Worked::enqueue,
    };
}

impl<'a, F: Future<Output = Served<'a>>> BioTask<F> {
    /// Polls or finishes the task.
    ///
    /// # Safety
    ///
    /// Called for the work item of a task of this type, when one of the two is due.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: The work item of a `BioTask`, whose first field begins with a `Worked`.
        let this: NonNull<Self> = unsafe { Worked::of(work) }.cast();
        // SAFETY: The task is alive: a poll is due, or it is to be finished; and this is who polls.
        let header = unsafe {
            *this.as_ref().core.place.get() = Place::Queue;
            Worked::header(this.cast())
        };
        // SAFETY: If there are references, then the task's own is among them, and a poll is due.
        if header.is_unreferenced() || unsafe { Self::step(this) } {
            // SAFETY: The future was dropped, and nobody knows the task any more.
            unsafe { Self::finish(this) };
        }
    }

    /// Polls the task. Returns true if it is to be finished by the caller.
    ///
    /// # Safety
    ///
    /// A poll is due.
    unsafe fn step(this: NonNull<Self>) -> bool {
        // SAFETY: The future has not returned, and only who polls touches it.
        let future = unsafe { &mut *(*this.as_ptr()).future.get() };
        // SAFETY: The task does not move.
        let pinned = unsafe { Pin::new_unchecked(&mut **future) };
        // SAFETY: A poll is due.
        let Progress::Ready(served) = (unsafe { Header::poll(this.cast(), pinned) }) else {
            return false;
        };
        // SAFETY: The future has returned and is not used again.
        unsafe { ManuallyDrop::drop(future) };
        // SAFETY: The task's own reference keeps it alive, and only who polls gets here.
        unsafe { *(*this.as_ptr()).core.verdict.get() = served.verdict };
        // SAFETY: As above.
        unsafe { Worked::header(this.cast()) }.complete()
    }

    /// Polls the task, in any context, and finishes it if that is all.
    ///
    /// # Safety
    ///
    /// It is the core of a task of this type, and a poll is due.
    unsafe fn poll_here(core: NonNull<Core>) {
        let this: NonNull<Self> = core.cast();
        // SAFETY: By the contract, and this is who polls.
        let done = unsafe {
            *core.as_ref().place.get() = Place::Completion;
            Self::step(this)
        };
        if done {
            // SAFETY: The task is finished, so this is ours: nobody else knows it any more.
            unsafe {
                match *this.as_ref().core.verdict.get() {
                    // A bio is submitted from the queue only.
                    Verdict::Submit => Worked::enqueue(this.cast()),
                    Verdict::End(_) => Self::finish(this),
                }
            }
        }
    }

    /// Completes the bio or sends it on; its memory is gone after that.
    ///
    /// # Safety
    ///
    /// The future was dropped and the last reference is gone.
    unsafe fn finish(this: NonNull<Self>) {
        // SAFETY: Nobody else knows the task.
        let (raw, verdict) = unsafe {
            let core = &this.as_ref().core;
            core.take_back();
            (core.bio, *core.verdict.get())
        };
        // SAFETY: The bio is ours, and we do not touch it or the task again.
        unsafe {
            match verdict {
                Verdict::Submit => {
                    Bio::from_raw_mut(raw).clear_polled();
                    bio::submit_noacct(raw);
                }
                Verdict::End(status) => bio::end(raw, status),
            }
        }
    }
}

/// A bio while a future serves it; the future gives it back as [`Served`].
///
/// # Invariants
///
/// The task is that of the bio. The bio is ours unless it is below, see [`BioIo::forward`].
pub struct BioIo<'a> {
    task: NonNull<Core>,
    info: BioInfo,
    _life: PhantomData<fn(&'a ()) -> &'a ()>,
}

// SAFETY: The future that owns this is polled by one thread at a time, and the bio belongs to no
// thread.
unsafe impl Send for BioIo<'_> {}

/// A bio that was served: what is to become of it.
pub struct Served<'a> {
    verdict: Verdict,
    _life: PhantomData<fn(&'a ()) -> &'a ()>,
}

impl<'a> BioIo<'a> {
    /// Returns what the bio asks for; of a bio that was narrowed by [`BioIo::trim`], what is left.
    pub fn info(&self) -> &BioInfo {
        &self.info
    }

    fn core(&self) -> &Core {
        // SAFETY: The task lives as long as its future, which owns `self`.
        unsafe { self.task.as_ref() }
    }

    fn place(&self) -> Place {
        // SAFETY: Only the task's future gets here, one thread at a time.
        unsafe { *self.core().place.get() }
    }

    fn bio(&self) -> &Bio {
        // SAFETY: The bio is ours: whoever calls this has made sure that it is not below.
        unsafe { Bio::from_raw(self.core().bio) }
    }

    fn bio_mut(&mut self) -> Pin<&mut Bio> {
        // SAFETY: As in `bio`, and there is no other reference: it would borrow `self`.
        unsafe { Bio::from_raw_mut(self.core().bio) }
    }

    /// Completes the bio; if it is below, when it is back.
    pub fn end(mut self, result: Result) -> Served<'a> {
        self.abandon_parts();
        Served {
            verdict: Verdict::End(Status::from_result(result)),
            _life: PhantomData,
        }
    }

    /// Sends the bio on, to `sector` of `device`; nobody sees it come back. It fails with `EIO` if
    /// it, or a part of it, is below.
    pub fn remap(mut self, device: &'a Device, sector: u64) -> Served<'a> {
        if !self.is_back() || !self.land_parts() {
            return self.end(Err(EIO));
        }
        self.bio_mut().set_target(device, sector);
        Served {
            verdict: Verdict::Submit,
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
        core.forward.store_relaxed(FORWARD_FLYING);
        // SAFETY: The bio is ours; both completion functions are made for a task of ours.
        let saved = unsafe { Saved::hook(core.bio, back, self.task.as_ptr().cast()) };
        // SAFETY: Only the task's future gets here, one thread at a time.
        unsafe { *core.saved.get() = Some(saved) };
        self.bio_mut().set_target(device, sector);
        if self.place() != Place::Map {
            self.bio_mut().clear_polled();
        }
        // The completion function has a reference, so that it may wake a task that saw the status
        // before it was woken.
        // SAFETY: The task is alive.
        unsafe { Worked::header(self.task.cast()) }.acquire();
        // SAFETY: The bio is ours, and nobody touches it until `forward` says that it is back.
        unsafe { bio::submit_noacct(self.core().bio) };
    }

    /// Takes the bio back if it has returned, and tells how it was completed.
    fn land(&mut self) -> Option<Result> {
        let core = self.core();
        let status = u8::try_from(core.forward.load_acquire()).ok()?;
        // SAFETY: Only the task's future gets here, one thread at a time.
        if let Some(saved) = unsafe { (*core.saved.get()).take() } {
            // SAFETY: The bio was completed, and is ours again.
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
        if self.0.place() != Place::Queue {
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
    // SAFETY: By the contract; the reference is used up.
    unsafe { Header::wake(leave_status(raw).cast()) };
}

/// As [`forward_done`], but polls the task at once, unless it is being polled.
///
/// # Safety
///
/// As [`forward_done`].
unsafe extern "C" fn forward_done_poll(raw: *mut bindings::bio) {
    // SAFETY: By the contract; the reference is used up. A task whose poll is due is alive.
    unsafe {
        let task = leave_status(raw);
        let poll_here = task.as_ref().poll_here;
        if Header::wake_to_poll(task.cast()) {
            poll_here(task);
        }
    }
}

/// Tells the task that its bio is back. Returns the task, with the reference that `send` took.
///
/// # Safety
///
/// As [`forward_done`].
unsafe fn leave_status(raw: *mut bindings::bio) -> NonNull<Core> {
    // SAFETY: The bio is the block layer's gift to its completion function.
    let (task, status) = unsafe { bio::completion(raw) };
    // SAFETY: `send` put a pointer to the task there, and a reference with it.
    let task: NonNull<Core> = unsafe { NonNull::new_unchecked(task) }.cast();
    // SAFETY: As above.
    unsafe { task.as_ref() }
        .forward
        .store_release(status.as_raw().into());
    task
}
