// SPDX-License-Identifier: GPL-2.0

//! Block devices that somebody else has opened.

use core::mem::MaybeUninit;
use kernel::bindings;
use kernel::fmt;
use kernel::types::Opaque;

/// Major and minor number, as the kernel packs them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DevT(u32);

impl DevT {
    /// Makes one from the kernel's number.
    pub const fn from_raw(raw: bindings::dev_t) -> Self {
        Self(raw)
    }
}

/// Shows a type both in the kernel's `fmt!` and in `write!`, which ask for different traits.
macro_rules! display {
    ($type:ty, |$this:ident, $f:ident| $show:expr) => {
        impl core::fmt::Display for $type {
            fn fmt(&self, $f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $this = self;
                $show
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }
    };
}

display!(DevT, |this, f| {
    let minor = this.0 & ((1 << bindings::MINORBITS) - 1);
    core::write!(f, "{}:{}", this.0 >> bindings::MINORBITS, minor)
});

/// An open block device.
///
/// # Invariants
///
/// It stays open as long as there are references to it.
#[repr(transparent)]
pub struct BlockDevice(Opaque<bindings::block_device>);

// SAFETY: A block device belongs to no thread.
unsafe impl Send for BlockDevice {}

// SAFETY: What is done through a shared reference is done by functions that any thread may call at
// any time, or reads what does not change.
unsafe impl Sync for BlockDevice {}

impl BlockDevice {
    /// Makes a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// `raw` is a valid device that stays open for `'a`.
    #[inline]
    pub unsafe fn from_raw<'a>(raw: *mut bindings::block_device) -> &'a Self {
        // INVARIANT: By the contract.
        // SAFETY: By the contract it is valid for `'a`; the types have the same layout.
        unsafe { &*raw.cast() }
    }

    /// Returns the C pointer.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::block_device {
        self.0.get()
    }

    /// Returns major and minor number.
    pub fn dev(&self) -> DevT {
        // SAFETY: By the type invariant the device is open; its number does not change.
        DevT(unsafe { (*self.as_raw()).bd_dev })
    }

    /// Returns the size in sectors.
    pub fn sectors(&self) -> u64 {
        // SAFETY: By the type invariant the device is open.
        unsafe { dm_bindings::dmox_bdev_sectors(self.as_raw()) }
    }

    /// Returns true if the device refuses, or should refuse, writes.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariant the device is open.
        unsafe { dm_bindings::dmox_bdev_read_only(self.as_raw()) }
    }

    /// Returns the logical block size in bytes.
    pub fn logical_block_size(&self) -> u32 {
        // SAFETY: By the type invariant the device is open.
        unsafe { dm_bindings::dmox_bdev_logical_block_size(self.as_raw()) }
    }

    /// Returns a copy of the limits of the device's queue.
    pub fn limits(&self) -> QueueLimits {
        let mut limits = MaybeUninit::uninit();
        // SAFETY: By the type invariant the device is open; `limits` is valid for writes.
        unsafe { dm_bindings::dmox_bdev_limits(self.as_raw(), limits.as_mut_ptr()) };
        // SAFETY: The function has filled all of it.
        QueueLimits(unsafe { limits.assume_init() })
    }

    /// Returns the name that the log knows the device by, as `sda1` or `dm-0`.
    pub fn name(&self) -> DeviceName {
        let mut name = DeviceName {
            bytes: [0; NAME_SIZE],
            len: 0,
        };
        // SAFETY: By the type invariant the device is open; the function writes at most as many
        // bytes as it is told, which `name` has.
        let len = unsafe {
            dm_bindings::dmox_bdev_name(self.as_raw(), name.bytes.as_mut_ptr().cast(), NAME_SIZE)
        };
        name.len = usize::try_from(len).unwrap_or(0);
        name
    }
}

/// As long as the name of a disk and the number of a partition can get.
const NAME_SIZE: usize = 48;

/// The name of a block device in the log.
pub struct DeviceName {
    bytes: [u8; NAME_SIZE],
    len: usize,
}

display!(DeviceName, |this, f| {
    let bytes = this.bytes.get(..this.len).unwrap_or_default();
    f.write_str(core::str::from_utf8(bytes).unwrap_or("?"))
});

/// What a queue can do, and likes best.
#[repr(transparent)]
pub struct QueueLimits(bindings::queue_limits);

macro_rules! limits {
    ($($(#[$doc:meta])* $get:ident $set:ident $unit:literal;)*) => {
        impl QueueLimits {
            $(
                #[doc = concat!("Returns `", stringify!($get), "`, ", $unit, ".")]
                pub fn $get(&self) -> u32 {
                    self.0.$get
                }

                #[doc = concat!("Sets `", stringify!($get), "`, ", $unit, ".")]
                pub fn $set(&mut self, value: u32) {
                    self.0.$get = value;
                }
            )*
        }
    };
}

limits! {
    logical_block_size set_logical_block_size "in bytes";
    physical_block_size set_physical_block_size "in bytes";
    io_min set_io_min "in bytes";
    io_opt set_io_opt "in bytes";
    max_discard_sectors set_max_discard_sectors "in sectors";
    max_hw_discard_sectors set_max_hw_discard_sectors "in sectors";
    discard_granularity set_discard_granularity "in bytes";
    discard_alignment set_discard_alignment "in bytes";
    max_write_zeroes_sectors set_max_write_zeroes_sectors "in sectors";
    max_hw_wzeroes_unmap_sectors set_max_hw_wzeroes_unmap_sectors "in sectors";
}

impl QueueLimits {
    /// Makes a reference from a C pointer.
    ///
    /// # Safety
    ///
    /// The limits are valid and nobody else touches them for `'a`.
    pub unsafe fn from_raw<'a>(raw: *mut bindings::queue_limits) -> &'a mut Self {
        // SAFETY: By the contract it is valid, and nobody else uses it; the types have the same
        // layout.
        unsafe { &mut *raw.cast() }
    }
}
