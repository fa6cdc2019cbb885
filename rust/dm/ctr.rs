// SPDX-License-Identifier: GPL-2.0

//! Construction of a target: its devices, its limits, and its errors.

use crate::device::Device;
use crate::device::Mode;
use crate::device::OpenDevice;
use crate::map::PER_BIO_ALIGN;
use crate::target_ref::TargetRef;
use core::ptr::NonNull;
use kernel::error::to_result;
use kernel::prelude::*;
use kext::lease::Lender;

/// Why a table was not loaded: an errno for the caller and a text for the log.
pub struct CtrError {
    /// The errno.
    pub error: Error,
    /// The text.
    pub text: &'static CStr,
}

impl CtrError {
    /// Creates the error.
    pub const fn new(error: Error, text: &'static CStr) -> Self {
        Self { error, text }
    }
}

/// Attaches a text to an error.
pub trait CtrResultExt<T> {
    /// Turns an error into a [`CtrError`] with `text`.
    ///
    /// # Errors
    ///
    /// The error, if there was one.
    fn ctr_error(self, text: &'static CStr) -> Result<T, CtrError>;
}

impl<T, E: Into<Error>> CtrResultExt<T> for Result<T, E> {
    fn ctr_error(self, text: &'static CStr) -> Result<T, CtrError> {
        self.map_err(|error| CtrError::new(error.into(), text))
    }
}

/// The `struct dm_target` that a target is being constructed for.
///
/// # Invariants
///
/// `raw` is valid and under construction, with its table, to which nobody else has access.
/// `devices` are those that were opened for it. `lender` waits before they are closed and before
/// the table goes.
pub struct CtrTarget<'s> {
    raw: NonNull<dm_bindings::dm_target>,
    name: &'static str,
    lender: &'s Lender,
    devices: &'s mut KVec<OpenDevice>,
}

impl<'s> CtrTarget<'s> {
    /// Creates the wrapper.
    ///
    /// # Safety
    ///
    /// `raw` is valid and under construction, with its table, to which nobody else has access for
    /// `'s`. `devices` are those that were opened for it. `lender` waits before they are closed and
    /// before the table goes.
    pub(crate) unsafe fn new(
        raw: NonNull<dm_bindings::dm_target>,
        name: &'static str,
        lender: &'s Lender,
        devices: &'s mut KVec<OpenDevice>,
    ) -> Self {
        // INVARIANT: By the contract.
        Self {
            raw,
            name,
            lender,
            devices,
        }
    }

    fn target(&mut self) -> &mut dm_bindings::dm_target {
        // SAFETY: By the type invariant the structure is valid, and nobody else has access to it.
        unsafe { self.raw.as_mut() }
    }

    /// Returns the length of the target in sectors.
    pub fn len(&self) -> u64 {
        // SAFETY: By the type invariant the structure is valid, and nobody else has access to it.
        unsafe { (*self.raw.as_ptr()).len }
    }

    /// Returns false: device-mapper refuses targets without sectors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the mode of the table.
    pub fn table_mode(&self) -> Mode {
        // SAFETY: By the type invariant the structure is valid, and nobody else has access to it.
        let table = unsafe { (*self.raw.as_ptr()).table };
        // SAFETY: The table of a valid target is valid.
        Mode::from_raw(unsafe { dm_bindings::dm_table_get_mode(table) })
    }

    /// Returns a reference to the target, for use until the destructor.
    pub fn target_ref(&self) -> TargetRef {
        // SAFETY: By the type invariant the lender waits before the table goes. The name is that of
        // the target.
        unsafe { TargetRef::from_raw(self.raw, self.name, self.lender.lease()) }
    }

    /// Opens the device at `path`, which may also be `major:minor`.
    ///
    /// # Errors
    ///
    /// That of `dm_get_device()`: `ENOENT`, `EBUSY`, ...
    pub fn device(&mut self, path: &CStr, mode: Mode) -> Result<Device> {
        // The room first: what is open must be noted.
        self.devices.reserve(1, GFP_KERNEL)?;
        // SAFETY: By the type invariant the target is valid and under construction, and nobody else
        // opens a device for its table.
        let open = unsafe { OpenDevice::open(self.raw, path, mode) }?;
        // SAFETY: By the type invariant the lender waits before the device is closed.
        let device = unsafe { open.handle(self.lender.lease()) };
        self.devices.push(open, GFP_KERNEL)?;
        Ok(device)
    }

    /// Splits reads and writes at multiples of `sectors`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is too much for device-mapper.
    pub fn set_max_io_len(&mut self, sectors: u64) -> Result {
        // SAFETY: By the type invariant the structure is valid, and nobody else has access to it.
        to_result(unsafe { dm_bindings::dm_set_target_max_io_len(self.raw.as_ptr(), sectors) })
    }

    /// Reserves at least `size` bytes of per-bio data.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is too much for device-mapper.
    pub fn set_per_io_data_size(&mut self, size: usize) -> Result {
        // The memory ends where device-mapper's own begins, which is aligned: so must its size be.
        let size = size.checked_next_multiple_of(PER_BIO_ALIGN).ok_or(EINVAL)?;
        self.target().per_io_data_size = u32::try_from(size)?;
        Ok(())
    }

    /// Receives flushes, even if no underlying device has a volatile cache.
    pub fn set_flush_supported(&mut self) {
        self.target().num_flush_bios = 1;
        self.target().set_flush_supported(true);
    }

    /// Receives discards, even if no underlying device supports them.
    pub fn set_discards_supported(&mut self) {
        self.target().num_discard_bios = 1;
        self.target().set_discards_supported(true);
    }

    /// Receives write-zeroes requests, if the queue limits allow them.
    pub fn set_write_zeroes_supported(&mut self) {
        self.target().num_write_zeroes_bios = 1;
    }
}
