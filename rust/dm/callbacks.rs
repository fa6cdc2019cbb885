// SPDX-License-Identifier: GPL-2.0

//! What device-mapper calls: from C pointers to a [`Target`]'s methods and back.
//!
//! All functions of C's kind here have one contract, which is how device-mapper calls the functions
//! of a `target_type`. `ti` is valid, and of the type whose functions these are, that is of `T`.
//! The constructor is called once, with nobody else looking at `ti`. If it succeeds, the others are
//! called, and after they have all returned and all bios were completed, the destructor, once. What
//! else is passed is valid for the call, and used by nobody else meanwhile.

#![expect(
    clippy::missing_safety_doc,
    reason = "one contract for all, stated above"
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

/// What a target's `private` points to, in a box, from a constructor that succeeds to the
/// destructor.
///
/// The fields are dropped in this order: the target with all that it owns, then the lender, which
/// waits for the handles that others still have; the devices are closed after that.
struct Instance<T> {
    target: T,
    lender: Lender,
    devices: KVec<OpenDevice>,
}

/// Returns the C description of `T`, of no module yet.
#[expect(
    clippy::disallowed_methods,
    reason = "`as_char_ptr` is no const function"
)]
pub(crate) const fn target_type<T: Target>() -> dm_bindings::target_type {
    // SAFETY: The structure consists of numbers, pointers that may be null, and functions that may
    // be missing: zeroes are a value of each.
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

/// Returns what the constructor of `ti` has made.
///
/// # Safety
///
/// The constructor of `ti`, that of `T`, succeeded, and the destructor is not called in `'a`.
unsafe fn instance<'a, T: Target>(ti: RawTarget) -> &'a Instance<T> {
    // SAFETY: `ti` is valid. `private` points to an `Instance<T>`: `construct` has set it, and
    // nobody changes it, or what it points to, before the destructor.
    unsafe { &*(*ti).private.cast::<Instance<T>>() }
}

/// Returns the target of `ti`.
///
/// # Safety
///
/// As [`instance`].
unsafe fn target<'a, T: Target>(ti: RawTarget) -> &'a T {
    // SAFETY: By the same contract.
    &unsafe { instance::<T>(ti) }.target
}

/// Closes devices.
///
/// # Safety
///
/// They were opened for `ti`, which is valid and under construction or destruction. There are no
/// handles of them any more.
unsafe fn close(ti: NonNull<dm_bindings::dm_target>, devices: KVec<OpenDevice>) {
    for device in devices {
        // SAFETY: It was opened for `ti`. A table is constructed and destroyed by one thread, and
        // looked at by nobody else then.
        unsafe { device.close(ti) };
    }
}

unsafe extern "C" fn ctr<T: Target>(ti: RawTarget, argc: c_uint, argv: *mut *mut c_char) -> c_int {
    // SAFETY: Device-mapper passes `argc` strings in `argv`, for the call.
    let args = unsafe { Args::from_raw(argc, argv) };
    // SAFETY: In its constructor nobody else looks at `ti`.
    match unsafe { construct::<T>(ti, args) } {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Makes a target for `ti`.
///
/// # Safety
///
/// `ti` is valid, and this is called by its constructor.
unsafe fn construct<T: Target>(ti: RawTarget, args: Args<'_>) -> Result {
    let raw = NonNull::new(ti).ok_or(EINVAL)?;
    let lender = Lender::new()?;
    let mut devices = KVec::new();
    // SAFETY: Device-mapper constructs a table in one thread, and nobody else has access to it. The
    // lender waits, below if this fails and in the destructor if not, before the devices are closed
    // and the table goes.
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
                // SAFETY: `ti` is valid, and in its constructor nobody else looks at it.
                unsafe { (*ti).private = KBox::into_raw(instance).cast() };
                return Ok(());
            }
            Err(error) => {
                drop(target);
                error.into()
            }
        },
        Err(failure) => {
            // SAFETY: `ti` is valid, and in its constructor nobody else looks at it. Device-mapper
            // only reads the text, which is static.
            unsafe { (*ti).error = failure.text.as_char_ptr().cast_mut() };
            failure.error
        }
    };
    drop(lender);
    // SAFETY: They were opened for this target, which is under construction. The lender has waited
    // for all handles.
    unsafe { close(raw, devices) };
    Err(error)
}

unsafe extern "C" fn dtr<T: Target>(ti: RawTarget) {
    let Some(raw) = NonNull::new(ti) else {
        return;
    };
    // SAFETY: The constructor succeeded, and got this pointer from `KBox::into_raw`. The destructor
    // is called once, when no other function runs or will run, so that nobody else has it.
    let instance = unsafe { KBox::from_raw((*ti).private.cast::<Instance<T>>()) };
    let Instance {
        target,
        lender,
        devices,
    } = KBox::into_inner(instance);
    drop(target);
    drop(lender);
    // SAFETY: They were opened for this target, which is under destruction. The lender has waited
    // for all handles.
    unsafe { close(raw, devices) };
}

unsafe extern "C" fn map<T: Target>(ti: RawTarget, bio: *mut bindings::bio) -> c_int {
    let (Some(raw_bio), Some(raw_ti)) = (NonNull::new(bio), NonNull::new(ti)) else {
        return dm_bindings::DM_MAPIO_KILL as c_int;
    };
    // SAFETY: The constructor succeeded, and the destructor is not called before all bios were
    // completed; so the reference may live as long as the bio.
    let this = unsafe { target::<T>(ti) };
    // SAFETY: Device-mapper asks once for each bio. The life of the bio is that of the reference.
    let mut bio = unsafe { MapBio::from_raw(raw_bio, raw_ti) };
    bio.clear_inherited_mark();
    this.map(bio).into_raw()
}

macro_rules! notice {
    ($($name:ident),*) => {
        $(
            unsafe extern "C" fn $name<T: Target>(ti: RawTarget) {
                // SAFETY: The constructor succeeded, and the destructor is not called before this
                // has returned.
                unsafe { target::<T>(ti) }.$name();
            }
        )*
    };
}

notice!(presuspend, presuspend_undo, postsuspend, resume);

unsafe extern "C" fn preresume<T: Target>(ti: RawTarget) -> c_int {
    // SAFETY: The constructor succeeded, and the destructor is not called before this has returned.
    match unsafe { target::<T>(ti) }.preresume() {
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
    // SAFETY: `result` has room for `size` bytes, and nobody else uses it during the call.
    let mut out = unsafe { StatusWriter::from_raw(result, size) };
    // SAFETY: The constructor succeeded, and the destructor is not called before this has returned.
    unsafe { target::<T>(ti) }.status(kind, noflush, &mut out);
}

unsafe extern "C" fn message<T: Target>(
    ti: RawTarget,
    argc: c_uint,
    argv: *mut *mut c_char,
    result: *mut c_char,
    size: c_uint,
) -> c_int {
    // The words lie in the memory of the ioctl, which is the buffer for the answer as well: they
    // are good until that is written to. So they are copied first.
    // SAFETY: Device-mapper passes `argc` strings in `argv`, and they are not used after this.
    let words = match Words::copy(unsafe { Args::from_raw(argc, argv) }) {
        Ok(words) => words,
        Err(error) => return error.to_errno(),
    };
    // SAFETY: `result` has room for `size` bytes, and nobody else uses it during the call: the
    // words are not used any more.
    let mut reply = unsafe { StatusWriter::from_raw(result, size) };
    // SAFETY: The constructor succeeded, and the destructor is not called before this has returned.
    match unsafe { target::<T>(ti) }.message(words.args(), &mut reply) {
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
    // SAFETY: The constructor succeeded, and the destructor is not called before this has returned.
    let Instance {
        target, devices, ..
    } = unsafe { instance::<T>(ti) };
    let mut call = |device: &Device, start, sectors| {
        let Some(open) = devices.iter().find(|open| open.is(device)) else {
            return 0; // Not a device of this target.
        };
        let call = |dm_dev| {
            // SAFETY: This is how device-mapper wants to be called: with the `ti` and the `data`
            // that it has passed, and a device that the target has open.
            unsafe { callout(ti, dm_dev, start, sectors, data) }
        };
        // SAFETY: The device was opened for `ti`. No device is opened or closed meanwhile: that is
        // done in construction and destruction, and device-mapper iterates in between.
        unsafe { open.with_raw(raw, call) }.unwrap_or(0)
    };
    let mut callout = DeviceCallout::new(&mut call);
    let _ = target.iterate_devices(&mut callout);
    callout.answer()
}

unsafe extern "C" fn io_hints<T: Target>(ti: RawTarget, limits: *mut bindings::queue_limits) {
    // SAFETY: The limits are valid, and nobody else uses them during the call.
    let limits = unsafe { QueueLimits::from_raw(limits) };
    // SAFETY: The constructor succeeded, and the destructor is not called before this has returned.
    unsafe { target::<T>(ti) }.io_hints(limits);
}
