// SPDX-License-Identifier: GPL-2.0

//! The devices that a target stands on.

use core::ops::Deref;
use core::ptr;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::fs::File;
use kernel::prelude::*;
use kernel::sync::aref::ARef;
use kext::block::BlockDevice;
use kext::lease::Lease;

/// What a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reading only.
    Read,
    /// Reading and writing.
    ReadWrite,
}

impl Mode {
    pub(crate) fn as_raw(self) -> bindings::blk_mode_t {
        match self {
            Mode::Read => dm_bindings::DMOX_CONST_BLK_OPEN_READ,
            Mode::ReadWrite => {
                dm_bindings::DMOX_CONST_BLK_OPEN_READ | dm_bindings::DMOX_CONST_BLK_OPEN_WRITE
            }
        }
    }

    pub(crate) fn from_raw(raw: bindings::blk_mode_t) -> Self {
        if raw & dm_bindings::DMOX_CONST_BLK_OPEN_WRITE != 0 {
            Mode::ReadWrite
        } else {
            Mode::Read
        }
    }
}

/// A device that a target has opened and its table has claimed.
///
/// The destructor of the target waits until all clones of the handle are gone, then closes the
/// device.
///
/// # Invariants
///
/// `bdev` is open for as long as `_open` lives.
#[derive(Clone)]
pub struct Device {
    bdev: NonNull<bindings::block_device>,
    _open: Lease,
}

// SAFETY: A handle is no more than a reference to a `BlockDevice`, which is `Sync`.
unsafe impl Send for Device {}

// SAFETY: A handle is no more than a reference to a `BlockDevice`, which is `Sync`.
unsafe impl Sync for Device {}

impl Deref for Device {
    type Target = BlockDevice;

    #[inline]
    fn deref(&self) -> &BlockDevice {
        // SAFETY: By the type invariant the device stays open for as long as `self` lives.
        unsafe { BlockDevice::from_raw(self.bdev.as_ptr()) }
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.dev() == other.dev()
    }
}

/// What a target has to close again.
///
/// No `struct dm_dev` is kept: when any target of the table opens the device for more than it is
/// open for, device-mapper opens it anew and frees the structure that it gave to others before. So
/// the device is kept open by a reference to its file, and device-mapper is asked for the structure
/// of today where it wants to see one.
///
/// # Invariants
///
/// The table of the target has counted one `dm_get_device()` of the device `name` with `mode` for
/// this. `file` is an open file of the device `bdev`.
pub(crate) struct OpenDevice {
    bdev: NonNull<bindings::block_device>,
    file: ARef<File>,
    /// Major and minor number, as `dm_get_device()` takes them.
    name: [c_char; 16],
    mode: Mode,
}

impl OpenDevice {
    /// Opens the device at `path` for `ti`.
    ///
    /// # Errors
    ///
    /// That of `dm_get_device()`.
    ///
    /// # Safety
    ///
    /// `ti` is valid and under construction, and no other device is opened for its table meanwhile.
    pub(crate) unsafe fn open(
        ti: NonNull<dm_bindings::dm_target>,
        path: &CStr,
        mode: Mode,
    ) -> Result<Self> {
        // SAFETY: `path` is a string, the rest is in the contract.
        let raw = unsafe { get(ti, path.as_char_ptr(), mode) }?;
        // SAFETY: It points to a valid structure, as long as no device is opened or closed.
        let dm_dev = unsafe { &*raw };
        let bdev = NonNull::new(dm_dev.bdev).ok_or(ENODEV)?;
        // SAFETY: The file is open. It has no descriptor, so that there is no `fdget_pos`.
        let file = ARef::from(unsafe { File::from_raw_file(dm_dev.bdev_file) });
        // INVARIANT: Counted just now, and all of it describes this device.
        Ok(Self {
            bdev,
            file,
            name: dm_dev.name,
            mode,
        })
    }

    /// Makes a handle.
    ///
    /// # Safety
    ///
    /// `self` is not closed before the lender of `open` has waited.
    pub(crate) unsafe fn handle(&self, open: Lease) -> Device {
        // INVARIANT: `self` has a reference to a file of the device until it is closed.
        Device {
            bdev: self.bdev,
            _open: open,
        }
    }

    /// Returns true if `device` is a handle of this, or of the same device.
    pub(crate) fn is(&self, device: &Device) -> bool {
        self.bdev == device.bdev
    }

    /// Runs `f` with the structure that device-mapper has for the device now.
    ///
    /// # Safety
    ///
    /// `ti` is the target that the device was opened for, and valid. No device is opened or closed
    /// for its table meanwhile.
    pub(crate) unsafe fn with_raw<R>(
        &self,
        ti: NonNull<dm_bindings::dm_target>,
        f: impl FnOnce(*mut dm_bindings::dm_dev) -> R,
    ) -> Result<R> {
        // SAFETY: By the type invariant the table has the device open with this mode or more, so
        // that it is only counted once more. `name` is a string, the rest is in the contract.
        let raw = unsafe { get(ti, self.name.as_ptr(), self.mode) }?;
        let result = f(raw);
        // SAFETY: `get` gave this out for `ti`, and no device was opened since.
        unsafe { dm_bindings::dm_put_device(ti.as_ptr(), raw) };
        Ok(result)
    }

    /// Closes the device.
    ///
    /// # Safety
    ///
    /// As [`OpenDevice::with_raw`].
    pub(crate) unsafe fn close(self, ti: NonNull<dm_bindings::dm_target>) {
        // SAFETY: As in `with_raw`.
        let Ok(raw) = (unsafe { get(ti, self.name.as_ptr(), self.mode) }) else {
            pr_err!("a device stays open: its table does not have it\n");
            return;
        };
        // First, so that device-mapper has the last reference, for whose end it waits.
        drop(self.file);
        for _ in 0..2 {
            // SAFETY: The device was counted twice for `ti`, by `open`, as the type invariant says,
            // and just now. `raw` is the structure of today, and lives until the second call.
            unsafe { dm_bindings::dm_put_device(ti.as_ptr(), raw) };
        }
    }
}

/// Has device-mapper open the device `name` for `ti`, or count it once more.
///
/// # Errors
///
/// That of `dm_get_device()`.
///
/// # Safety
///
/// `ti` is valid, and `name` a string. If the table does not have the device open with this mode or
/// more, then `ti` is under construction. No device is opened or closed for its table meanwhile.
unsafe fn get(
    ti: NonNull<dm_bindings::dm_target>,
    name: *const c_char,
    mode: Mode,
) -> Result<*mut dm_bindings::dm_dev> {
    let mut raw = ptr::null_mut();
    // SAFETY: By the contract; `raw` is a place for the result.
    to_result(unsafe { dm_bindings::dm_get_device(ti.as_ptr(), name, mode.as_raw(), &mut raw) })?;
    Ok(raw)
}
