// SPDX-License-Identifier: GPL-2.0

//! Module parameters that can be changed while the module runs.
//!
//! Those of the kernel crate are read when the module is loaded, and sysfs does not show them.
//!
//! C header: `include/linux/moduleparam.h`

use core::cell::UnsafeCell;
use kernel::bindings;

/// An unsigned integer that an administrator may change at any time.
#[repr(transparent)]
pub struct UintParam(UnsafeCell<core::ffi::c_uint>);

// SAFETY: The value is read and written as a whole word only, here and by the kernel's parameter
// code.
unsafe impl Sync for UintParam {}

impl UintParam {
    /// Creates the parameter; [`uint_param!`](crate::uint_param) does.
    pub const fn new(default: core::ffi::c_uint) -> Self {
        Self(UnsafeCell::new(default))
    }

    /// Returns the value now.
    pub fn get(&self) -> core::ffi::c_uint {
        // SAFETY: The pointer is valid and aligned. Others may write at the same time, a whole
        // word; a volatile read is what the kernel's `READ_ONCE` does about that.
        unsafe { self.0.get().read_volatile() }
    }

    /// Sets the value, which an administrator will see.
    pub fn set(&self, value: core::ffi::c_uint) {
        // SAFETY: The pointer is valid and aligned, and nobody has a reference. Others may read or
        // write at the same time, a whole word; a volatile write is what `WRITE_ONCE` does about
        // that.
        unsafe { self.0.get().write_volatile(value) };
    }

    /// Returns where the kernel's parameter code finds the value.
    #[doc(hidden)]
    pub const fn as_ptr(&self) -> *mut core::ffi::c_void {
        self.0.get().cast()
    }
}

/// The description of a parameter, for the section that the module loader reads.
#[doc(hidden)]
#[repr(transparent)]
pub struct Description(pub bindings::kernel_param);

// SAFETY: It is never changed; the module loader alone looks at it.
unsafe impl Sync for Description {}

/// Defines a [`UintParam`](crate::param::UintParam) of the module, mode 0644.
///
/// ```ignore
/// kext::uint_param! {
///     /// What it does.
///     pub(crate) static DEPTH: depth = 16, "What it does";
/// }
/// ```
#[macro_export]
macro_rules! uint_param {
    ($(#[$doc:meta])* $vis:vis static $static:ident: $name:ident = $default:literal, $about:literal;) => {
        $(#[$doc])*
        $vis static $static: $crate::param::UintParam = $crate::param::UintParam::new($default);

        const _: () = {
            const NAME: &core::ffi::CStr = match core::ffi::CStr::from_bytes_with_nul(
                concat!(stringify!($name), "\0").as_bytes(),
            ) {
                Ok(name) => name,
                Err(_) => panic!("a name without NUL"),
            };

            #[link_section = "__param"]
            #[used(compiler)]
            static DESCRIPTION: $crate::param::Description =
                $crate::param::Description(kernel::bindings::kernel_param {
                    name: NAME.to_bytes_with_nul().as_ptr().cast(),
                    mod_: $crate::param::this_module(),
                    ops: $crate::param::uint_ops(),
                    perm: 0o644,
                    level: -1,
                    flags: 0,
                    __bindgen_anon_1: kernel::bindings::kernel_param__bindgen_ty_1 {
                        arg: $static.as_ptr(),
                    },
                });

            $crate::modinfo!("parmtype=", stringify!($name), ":uint");
            $crate::modinfo!("parm=", stringify!($name), ":", $about);
        };
    };
}

/// Puts a string into the section that modinfo reads.
#[doc(hidden)]
#[macro_export]
macro_rules! modinfo {
    ($($part:expr),*) => {
        const _: () = {
            const TEXT: &str = concat!($($part,)* "\0");

            #[link_section = ".modinfo"]
            #[used(compiler)]
            static BYTES: [u8; TEXT.len()] = {
                let mut bytes = [0; TEXT.len()];
                let mut at = 0;
                while at < bytes.len() {
                    bytes[at] = TEXT.as_bytes()[at];
                    at += 1;
                }
                bytes
            };
        };
    };
}

/// Returns the module that this code is linked into.
#[doc(hidden)]
pub const fn this_module() -> *mut bindings::module {
    core::ptr::addr_of!(bindings::__this_module).cast_mut()
}

/// Returns how unsigned integers are read and written.
#[doc(hidden)]
pub const fn uint_ops() -> *const bindings::kernel_param_ops {
    core::ptr::addr_of!(bindings::param_ops_uint)
}
