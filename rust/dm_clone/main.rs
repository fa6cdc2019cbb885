// SPDX-License-Identifier: GPL-2.0

//! `dm-clone.ko`: the device-mapper target `clone`.

mod limits;
mod parameters;
mod registry;
mod target;
mod world;

use dm::Registration;
use dm::TargetType;
use kernel::prelude::*;
use target::CloneTarget;

module! {
    type: DmClone,
    name: "dm_clone",
    authors: ["The dmox developers"],
    description: "Device-mapper clone target",
    license: "GPL",
    alias: ["dm-clone"],
}

static TARGET: TargetType<CloneTarget> = TargetType::new();

struct DmClone {
    _registration: Registration,
}

impl kernel::Module for DmClone {
    fn init(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: Once, and before there can be a table.
        unsafe { registry::init() };
        Ok(Self {
            _registration: TARGET.register(module)?,
        })
    }
}
