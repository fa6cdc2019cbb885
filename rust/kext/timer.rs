// SPDX-License-Identifier: GPL-2.0

//! The kernel's classic timer: cheap, per jiffy, its function runs in a soft interrupt.

use kernel::bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

/// What a timer runs.
///
/// It borrows nothing: a timer that is forgotten instead of dropped goes on for ever.
pub trait TimerFunction: Send + Sync + 'static {
    /// If set, the timer is armed anew after each run, to expire so many milliseconds later.
    const PERIOD_MS: Option<u64> = None;

    /// Runs in a soft interrupt when the time has come.
    fn expired(&self);
}

/// A timer on the heap, with the data that its function sees.
///
/// Dropping it stops the timer and waits for its function.
pub struct Timer<T: TimerFunction>(Pin<KBox<Inner<T>>>);

#[pin_data]
#[repr(C)]
struct Inner<T> {
    #[pin]
    raw: Opaque<bindings::timer_list>,
    data: T,
}

impl<T> Inner<T> {
    fn arm(&self, ms: u64) {
        let ms = u32::try_from(ms).unwrap_or(u32::MAX);
        // One more, because the running jiffy is already partly over.
        let delay = kernel::time::msecs_to_jiffies(ms).saturating_add(1);
        // SAFETY: A plain read of a counter that C code changes; any value that it had will do.
        let now = unsafe { core::ptr::addr_of!(bindings::jiffies).read_volatile() };
        // SAFETY: The timer is initialised, which is done when an `Inner` is made.
        unsafe { bindings::mod_timer(self.raw.get(), now.wrapping_add(delay)) };
    }
}

// SAFETY: A timer belongs to no thread, and `T` is `Send`.
unsafe impl<T: TimerFunction> Send for Timer<T> {}

// SAFETY: Timers do their own locking, and `T` is `Sync`.
unsafe impl<T: TimerFunction> Sync for Timer<T> {}

impl<T: TimerFunction> Timer<T> {
    /// Creates a timer that is not armed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(data: T) -> Result<Self> {
        let init = pin_init!(Inner {
            // SAFETY: The slot is valid for writes, and the timer stays there: it is pinned. `run`
            // is for timers of an `Inner<T>`.
            raw <- Opaque::ffi_init(|slot| unsafe {
                dm_bindings::dmox_timer_init(slot, Some(Self::run))
            }),
            data,
        });
        Ok(Self(KBox::pin_init(init, GFP_KERNEL)?))
    }

    /// # Safety
    ///
    /// Called by the kernel for the timer of an `Inner<T>`, which has expired.
    unsafe extern "C" fn run(raw: *mut bindings::timer_list) {
        // SAFETY: By the contract the timer is the first field of an `Inner<T>`. That is alive: its
        // drop waits for this function.
        let inner = unsafe { &*raw.cast::<Inner<T>>() };
        inner.data.expired();
        if let Some(period_ms) = T::PERIOD_MS {
            inner.arm(period_ms);
        }
    }

    /// Returns the data.
    pub fn data(&self) -> &T {
        &self.0.data
    }

    /// Arms the timer anew, to expire after at least `ms` milliseconds.
    pub fn arm(&self, ms: u64) {
        self.0.arm(ms);
    }

    /// Stops the timer and waits for its function; may sleep.
    pub fn stop(&self) {
        // SAFETY: The timer is initialised. Its function takes no lock that a caller of this holds:
        // this may sleep.
        unsafe { bindings::timer_delete_sync(self.0.raw.get()) };
    }
}

impl<T: TimerFunction> Drop for Timer<T> {
    fn drop(&mut self) {
        // SAFETY: The timer is initialised. Nobody can arm it any more but its function, which this
        // waits for and forbids to.
        unsafe { bindings::timer_shutdown_sync(self.0.raw.get()) };
    }
}

/// Returns the nanoseconds since boot, without those in suspend.
pub fn monotonic_ns() -> u64 {
    // SAFETY: May be called in any context, once time is kept, which it is long before modules.
    unsafe { bindings::ktime_get() }.unsigned_abs()
}

/// Returns the time of day in microseconds, since 1970.
pub fn real_us() -> u64 {
    let mut time = bindings::timespec64::default();
    // SAFETY: `time` is valid for writes; may be called in any context.
    unsafe { bindings::ktime_get_real_ts64(&mut time) };
    let us = time.tv_nsec.unsigned_abs() as u64 / 1000;
    time.tv_sec
        .unsigned_abs()
        .saturating_mul(1_000_000)
        .saturating_add(us)
}
