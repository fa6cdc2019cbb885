// SPDX-License-Identifier: GPL-2.0

//! What device-mapper calls: from C pointers to a [`Target`]'s methods and back.

#![expect(
    clippy::missing_safety_doc,
    reason = "called by device-mapper alone, with what its header says"
)]

use crate::args::Args;
use crate::args::Words;
use crate::ctr::CtrTarget;
use crate::device::Device;
use crate::device::OpenDevice;
use crate::map::MapBio;
use crate::status::StatusType;
use crate::status::StatusWriter;
use crate::target::DeviceCallout;
use crate::target::Target;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kext::block::QueueLimits;
use kext::lease::Lender;

/// Bit of the status flags: no I/O, please (`DM_STATUS_NOFLUSH_FLAG` of `drivers/md/dm.h`).
const STATUS_NOFLUSH: c_uint = 1;

type RawTarget = *mut dm_bindings::dm_target;

/// What a target's `private` points to.
///
/// The fields are dropped in this order: the target with all that it owns, then the lender, which
/// waits for the handles that others still have; the devices are closed after that.
struct Instance<T> {
    target: T,
    lender: Lender,
    devices: KVec<OpenDevice>,
}

/// Returns the C description of `T`, of no module yet.
pub(crate) const fn target_type<T: Target>() -> dm_bindings::target_type {
    // SAFETY: The structure consists of numbers, pointers that may be null, and functions that may
    // be missing.
    let none: dm_bindings::target_type = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut raw = dm_bindings::target_type {
        features: T::FEATURES.as_raw(),
        name: T::NAME.as_ptr().cast(),
        version: T::VERSION,
        ctr: Some(ctr::<T>),
        dtr: Some(dtr::<T>),
        map: Some(map::<T>),
        ..none
    };
    if T::HAS_PRESUSPEND {
        raw.presuspend = Some(presuspend::<T>);
    }
    if T::HAS_PRESUSPEND_UNDO {
        raw.presuspend_undo = Some(presuspend_undo::<T>);
    }
    if T::HAS_POSTSUSPEND {
        raw.postsuspend = Some(postsuspend::<T>);
    }
    if T::HAS_PRERESUME {
        raw.preresume = Some(preresume::<T>);
    }
    if T::HAS_RESUME {
        raw.resume = Some(resume::<T>);
    }
    if T::HAS_STATUS {
        raw.status = Some(status::<T>);
    }
    if T::HAS_MESSAGE {
        raw.message = Some(message::<T>);
    }
    if T::HAS_ITERATE_DEVICES {
        raw.iterate_devices = Some(iterate_devices::<T>);
    }
    if T::HAS_IO_HINTS {
        raw.io_hints = Some(io_hints::<T>);
    }
    raw
}

/// Returns the name of `T` as text.
const fn log_name<T: Target>() -> &'static str {
    match T::NAME.to_str() {
        Ok(name) => name,
        Err(_) => "?",
    }
}

/// Returns what `ti` has.
///
/// # Safety
///
/// The constructor of `ti` succeeded, as one of `T`, and the destructor was not called in `'a`.
unsafe fn whole_instance<'a, T: Target>(ti: RawTarget) -> &'a Instance<T> {
    // SAFETY: The constructor left a boxed instance in `private`.
    unsafe { &*(*ti).private.cast::<Instance<T>>() }
}

/// Returns the target of `ti`.
///
/// # Safety
///
/// The constructor of `ti` succeeded, as one of `T`, and the destructor was not called in `'a`.
unsafe fn instance<'a, T: Target>(ti: RawTarget) -> &'a T {
    // SAFETY: By the contract.
    unsafe { &whole_instance::<T>(ti).target }
}

/// Closes devices.
///
/// # Safety
///
/// They were opened for `ti`, whose table is under construction or destruction, and nobody uses
/// them any more.
unsafe fn close(ti: NonNull<dm_bindings::dm_target>, devices: KVec<OpenDevice>) {
    for device in devices {
        // SAFETY: By the contract.
        unsafe { device.close(ti) };
    }
}

unsafe extern "C" fn ctr<T: Target>(ti: RawTarget, argc: c_uint, argv: *mut *mut c_char) -> c_int {
    // SAFETY: Device-mapper calls a constructor with as many words as it says, which stay as they
    // are during the call.
    let args = unsafe { Args::from_raw(argc, argv) };
    // SAFETY: `ti` is valid, under construction, and ours for the call.
    match unsafe { construct::<T>(ti, args) } {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// # Safety
///
/// `ti` is valid, under construction, and ours.
unsafe fn construct<T: Target>(ti: RawTarget, args: Args<'_>) -> Result {
    let raw = NonNull::new(ti).ok_or(EINVAL)?;
    let lender = Lender::new()?;
    let mut devices = KVec::new();
    // SAFETY: Device-mapper constructs a table in one thread. The lender waits, below if this fails
    // and in the destructor if not, before the devices are closed.
    let mut under_construction =
        unsafe { CtrTarget::new(raw, log_name::<T>(), &lender, &mut devices) };
    let error = match T::ctr(&mut under_construction, args) {
        Ok(target) => match KBox::new_uninit(GFP_KERNEL) {
            Ok(room) => {
                let instance: KBox<Instance<T>> = KBox::write(
                    room,
                    Instance {
                        target,
                        lender,
                        devices,
                    },
                );
                // SAFETY: `ti` is ours.
                unsafe { (*ti).private = KBox::into_raw(instance).cast() };
                return Ok(());
            }
            Err(error) => {
                drop(target);
                error.into()
            }
        },
        Err(failure) => {
            // SAFETY: `ti` is ours; device-mapper only reads the text.
            unsafe { (*ti).error = failure.text.as_char_ptr().cast_mut() };
            failure.error
        }
    };
    drop(lender);
    // SAFETY: The target is gone, and the lender has waited for the handles.
    unsafe { close(raw, devices) };
    Err(error)
}

unsafe extern "C" fn dtr<T: Target>(ti: RawTarget) {
    let Some(raw) = NonNull::new(ti) else {
        return;
    };
    // SAFETY: The constructor left a boxed instance here, and device-mapper calls the destructor
    // once, when no other callback runs or will run.
    let instance = unsafe { KBox::from_raw((*ti).private.cast::<Instance<T>>()) };
    let Instance {
        target,
        lender,
        devices,
    } = KBox::into_inner(instance);
    drop(target);
    drop(lender);
    // SAFETY: The target is gone, and the lender has waited for the handles.
    unsafe { close(raw, devices) };
}

unsafe extern "C" fn map<T: Target>(ti: RawTarget, bio: *mut bindings::bio) -> c_int {
    let (Some(raw), Some(target)) = (NonNull::new(bio), NonNull::new(ti)) else {
        return dm_bindings::DM_MAPIO_KILL as c_int;
    };
    // SAFETY: Device-mapper maps bios between constructor and destructor only, and waits for each
    // of them before the destructor.
    let this = unsafe { instance::<T>(ti) };
    // SAFETY: Device-mapper gives us the bio; see above for how long the target lives.
    let mut bio = unsafe { MapBio::from_raw(raw, target) };
    bio.clear_inherited_mark();
    this.map(bio).into_raw()
}

macro_rules! notice {
    ($($name:ident),*) => {
        $(
            unsafe extern "C" fn $name<T: Target>(ti: RawTarget) {
                // SAFETY: Called between constructor and destructor only.
                unsafe { instance::<T>(ti) }.$name();
            }
        )*
    };
}

notice!(presuspend, presuspend_undo, postsuspend, resume);

unsafe extern "C" fn preresume<T: Target>(ti: RawTarget) -> c_int {
    // SAFETY: Called between constructor and destructor only.
    match unsafe { instance::<T>(ti) }.preresume() {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

unsafe extern "C" fn status<T: Target>(
    ti: RawTarget,
    kind: dm_bindings::status_type_t,
    flags: c_uint,
    result: *mut c_char,
    size: c_uint,
) {
    let kind = match kind {
        dm_bindings::status_type_t_STATUSTYPE_TABLE => StatusType::Table,
        dm_bindings::status_type_t_STATUSTYPE_IMA => StatusType::Ima,
        _ => StatusType::Info,
    };
    let noflush = flags & STATUS_NOFLUSH != 0;
    // SAFETY: The buffer is ours for the call.
    let mut out = unsafe { StatusWriter::from_raw(result, size) };
    // SAFETY: Called between constructor and destructor only.
    unsafe { instance::<T>(ti) }.status(kind, noflush, &mut out);
}

unsafe extern "C" fn message<T: Target>(
    ti: RawTarget,
    argc: c_uint,
    argv: *mut *mut c_char,
    result: *mut c_char,
    size: c_uint,
) -> c_int {
    // SAFETY: The words are valid until we write to the buffer for the answer: that is the memory
    // of the ioctl, in which they lie themselves. So they are copied first.
    let words = match Words::copy(unsafe { Args::from_raw(argc, argv) }) {
        Ok(words) => words,
        Err(error) => return error.to_errno(),
    };
    // SAFETY: The buffer is ours for the call.
    let mut reply = unsafe { StatusWriter::from_raw(result, size) };
    // SAFETY: Called between constructor and destructor only.
    match unsafe { instance::<T>(ti) }.message(words.args(), &mut reply) {
        // One more than success: there is an answer.
        Ok(()) => c_int::from(!reply.is_empty()),
        Err(error) => error.to_errno(),
    }
}

unsafe extern "C" fn iterate_devices<T: Target>(
    ti: RawTarget,
    callout: dm_bindings::iterate_devices_callout_fn,
    data: *mut c_void,
) -> c_int {
    let (Some(callout), Some(raw)) = (callout, NonNull::new(ti)) else {
        return 0;
    };
    // SAFETY: Called between constructor and destructor only.
    let Instance {
        target, devices, ..
    } = unsafe { whole_instance::<T>(ti) };
    let mut call = |device: &Device, start, sectors| {
        let Some(open) = devices.iter().find(|open| open.is(device)) else {
            return 0; // Not a device of this target.
        };
        let call = |dm_dev| {
            // SAFETY: Device-mapper wants to be called so, with devices that the target has open.
            unsafe { callout(ti, dm_dev, start, sectors, data) }
        };
        // SAFETY: The device was opened for `ti`. The devices of a table stay as they are between
        // its construction and its destruction, and device-mapper looks at them in between only.
        unsafe { open.with_raw(raw, call) }.unwrap_or(0)
    };
    let mut callout = DeviceCallout::new(&mut call);
    let _ = target.iterate_devices(&mut callout);
    callout.answer()
}

unsafe extern "C" fn io_hints<T: Target>(ti: RawTarget, limits: *mut bindings::queue_limits) {
    // SAFETY: The limits are ours for the call.
    let limits = unsafe { QueueLimits::from_raw(limits) };
    // SAFETY: Called between constructor and destructor only.
    unsafe { instance::<T>(ti) }.io_hints(limits);
}
