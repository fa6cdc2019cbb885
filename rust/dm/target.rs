// SPDX-License-Identifier: GPL-2.0

//! Target types and their registration.

use crate::args::Args;
use crate::callbacks;
use crate::ctr::CtrError;
use crate::ctr::CtrTarget;
use crate::device::Device;
use crate::map::MapBio;
use crate::map::MapResult;
use crate::status::StatusType;
use crate::status::StatusWriter;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::ControlFlow;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::error::VTABLE_DEFAULT_ERROR;
use kernel::prelude::*;
use kext::atomic::AtomicU32;
use kext::block::QueueLimits;

/// The features of a target type.
#[derive(Clone, Copy)]
pub struct Features(u32);

impl Features {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// A table with this target has no other.
    pub const SINGLETON: Self = Self(dm_bindings::DM_TARGET_SINGLETON);

    pub(crate) const fn as_raw(self) -> u64 {
        self.0 as u64
    }
}

/// A target: one value for each line of a table.
///
/// Device-mapper calls the methods in this order: [`ctr`], then [`io_hints`] and
/// [`iterate_devices`]; on activation [`preresume`] and [`resume`]; then [`map`] on all CPUs; to
/// stop, [`presuspend`], no more `map`, [`postsuspend`]. `status` and `message` may come at any
/// time. When it is suspended and no bio is left, the value is dropped.
///
/// Device-mapper sees the callbacks that an implementation has, and no others: to have none is an
/// answer, too.
///
/// [`ctr`]: Target::ctr
/// [`io_hints`]: Target::io_hints
/// [`iterate_devices`]: Target::iterate_devices
/// [`preresume`]: Target::preresume
/// [`resume`]: Target::resume
/// [`map`]: Target::map
/// [`presuspend`]: Target::presuspend
/// [`postsuspend`]: Target::postsuspend
#[vtable]
pub trait Target: Send + Sync + Sized + 'static {
    /// The name in the table.
    const NAME: &'static CStr;

    /// Major, minor, patch level of the interface.
    const VERSION: [u32; 3];

    /// The features of the target type.
    const FEATURES: Features = Features::NONE;

    /// Constructs a target for a line of a table, inactive. May sleep.
    ///
    /// # Errors
    ///
    /// The reason why the table cannot be loaded.
    fn ctr(ti: &mut CtrTarget<'_>, args: Args<'_>) -> Result<Self, CtrError>;

    /// Maps a bio. Must not wait: bios submitted here start only after the return.
    fn map<'a>(&'a self, bio: MapBio<'a>) -> MapResult<'a>;

    /// A suspend begins; bios are still mapped and completed.
    fn presuspend(&self) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The suspend that had begun was cancelled.
    fn presuspend_undo(&self) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The device is suspended, and no bio is in flight.
    fn postsuspend(&self) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The table is about to become active; the previous one, if any, is suspended.
    ///
    /// # Errors
    ///
    /// Any error keeps the device suspended.
    fn preresume(&self) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The table is active.
    fn resume(&self) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes the status; `noflush` asks for no I/O.
    fn status(&self, _kind: StatusType, _noflush: bool, _out: &mut StatusWriter<'_>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles a message. A reply that is not empty goes to the sender.
    ///
    /// # Errors
    ///
    /// The reason why the message was refused.
    fn message(&self, _args: Args<'_>, _reply: &mut StatusWriter<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Calls `callout` for each device whose limits apply to the target, until it breaks.
    fn iterate_devices(&self, _callout: &mut DeviceCallout<'_>) -> ControlFlow<()> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Adjusts the queue limits, which were stacked from the devices.
    fn io_hints(&self, _limits: &mut QueueLimits) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A function that device-mapper wants to be called for each device of a target.
pub struct DeviceCallout<'v> {
    call: &'v mut dyn FnMut(&Device, u64, u64) -> c_int,
    answer: c_int,
}

impl<'v> DeviceCallout<'v> {
    pub(crate) fn new(call: &'v mut dyn FnMut(&Device, u64, u64) -> c_int) -> Self {
        Self { call, answer: 0 }
    }

    pub(crate) fn answer(&self) -> c_int {
        self.answer
    }

    /// Calls the function for `sectors` sectors from `start` of `device`, if the target has opened
    /// it.
    pub fn call(&mut self, device: &Device, start: u64, sectors: u64) -> ControlFlow<()> {
        if self.answer == 0 {
            self.answer = (self.call)(device, start, sectors);
        }
        if self.answer == 0 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

/// The memory for the C structure of a kind of target: a static of the module.
///
/// ```ignore
/// static TARGET: TargetType<MyTarget> = TargetType::new();
/// ```
///
/// Tables refer to it as long as they live, and they may outlive a [`Registration`]: device-mapper
/// does not wait for them, but each holds the module.
///
/// # Invariants
///
/// Once `used` is not 0, device-mapper may have the C structure, which then is changed by nobody
/// else.
pub struct TargetType<T> {
    raw: UnsafeCell<dm_bindings::target_type>,
    used: AtomicU32,
    _target: PhantomData<fn() -> T>,
}

// SAFETY: The C structure is changed by who has set `used`, and from then on by device-mapper, with
// its own locking.
unsafe impl<T> Sync for TargetType<T> {}

impl<T: Target> TargetType<T> {
    /// Creates the structure for `T`.
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        // INVARIANT: Not used yet.
        Self {
            raw: UnsafeCell::new(callbacks::target_type::<T>()),
            used: AtomicU32::new(0),
            _target: PhantomData,
        }
    }

    /// Registers `T` with device-mapper, until the registration is dropped; once only.
    ///
    /// Nothing that can fail should follow in the module's initialisation: a table may be loaded at
    /// once.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is a target of this name; `EBUSY` if this was called before.
    pub fn register(&'static self, module: &'static ThisModule) -> Result<Registration> {
        if self.used.swap(1) != 0 {
            return Err(EBUSY);
        }
        let raw = self.raw.get();
        // SAFETY: The structure is a static. Nobody else has it: this is done once.
        unsafe { (*raw).module = module.as_ptr() };
        // SAFETY: All fields are set as the functions of `T` want it, and the structure stays where
        // it is as long as the module, which tables hold.
        to_result(unsafe { dm_bindings::dm_register_target(raw) })?;
        // INVARIANT: Registered just now.
        Ok(Registration {
            // SAFETY: A reference is never null.
            raw: unsafe { NonNull::new_unchecked(raw) },
        })
    }
}

/// The registration of a target type, which ends when this is dropped.
///
/// # Invariants
///
/// The C structure is registered, and a static.
pub struct Registration {
    raw: NonNull<dm_bindings::target_type>,
}

// SAFETY: Device-mapper does its own locking.
unsafe impl Send for Registration {}

// SAFETY: Nothing can be done through a shared reference.
unsafe impl Sync for Registration {}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is registered. What tables there are go on with it.
        unsafe { dm_bindings::dm_unregister_target(self.raw.as_ptr()) };
    }
}
