// SPDX-License-Identifier: GPL-2.0

//! The module `dm-clone`: the clone target for the device-mapper.

use kernel::prelude::*;

module! {
    type: DmClone,
    name: "dm_clone",
    authors: ["The dmox developers"],
    description: "Device-mapper clone target",
    license: "GPL",
}

struct DmClone;

impl kernel::Module for DmClone {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        pr_info!("loaded\n");
        Ok(Self)
    }
}

impl Drop for DmClone {
    fn drop(&mut self) {
        pr_info!("unloaded\n");
    }
}
