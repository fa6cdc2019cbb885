// SPDX-License-Identifier: GPL-2.0

//! The devices that a target stands on.

use core::ops::Deref;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
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

/// A device that a table has opened and claimed.
///
/// The destructor of the target waits until all clones of the handle are gone, then closes the
/// device.
#[derive(Clone)]
pub struct Device {
    raw: NonNull<dm_bindings::dm_dev>,
    _open: Lease,
}

// SAFETY: The C structure is constant while the device is open, which the lease ensures.
unsafe impl Send for Device {}

// SAFETY: As above.
unsafe impl Sync for Device {}

impl Device {
    /// Makes a handle.
    ///
    /// # Safety
    ///
    /// The device stays open as long as the lender of `open` waits.
    pub(crate) unsafe fn from_raw(raw: NonNull<dm_bindings::dm_dev>, open: Lease) -> Self {
        Self { raw, _open: open }
    }

    pub(crate) fn as_raw(&self) -> *mut dm_bindings::dm_dev {
        self.raw.as_ptr()
    }

    /// Returns major and minor number as device-mapper writes them into a table: `254:3`.
    pub fn table_name(&self) -> &CStr {
        // SAFETY: The device is open; its name is a string that does not change.
        unsafe { CStr::from_char_ptr((*self.raw.as_ptr()).name.as_ptr()) }
    }
}

impl Deref for Device {
    type Target = BlockDevice;

    #[inline]
    fn deref(&self) -> &BlockDevice {
        // SAFETY: The device is open for as long as `self` lives.
        unsafe { BlockDevice::from_raw((*self.raw.as_ptr()).bdev) }
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.dev() == other.dev()
    }
}
