// SPDX-License-Identifier: GPL-2.0

//! Module parameters.

kext::uint_param! {
    /// The percentage of time that copying may be active; from 100 on there is no limit. It
    /// applies to each clone device.
    pub(crate) static HYDRATION_THROTTLE: clone_hydration_throttle = 100,
        "A percentage of time allocated for hydrating regions";
}
