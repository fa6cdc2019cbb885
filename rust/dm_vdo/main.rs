// SPDX-License-Identifier: GPL-2.0

//! `dm-vdo.ko`: the device-mapper target `vdo`.

mod bios;
mod engine;
mod limits;
mod log;
mod parameters;
mod registry;
mod target;
mod volume;
mod world;

use dm::Registration;
use dm::TargetType;
use kernel::prelude::*;
use target::VdoTarget;

module! {
    type: DmVdo,
    name: "dm_vdo",
    authors: ["The dmox developers"],
    description: "Device-mapper target for transparent deduplication",
    license: "GPL",
    alias: ["dm-vdo"],
}

static TARGET: TargetType<VdoTarget> = TargetType::new();

struct DmVdo {
    _registration: Registration,
}

impl kernel::Module for DmVdo {
    fn init(module: &'static ThisModule) -> Result<Self> {
        // SAFETY: Once, and before there can be a table.
        unsafe { registry::init() };
        Ok(Self {
            _registration: TARGET.register(module)?,
        })
    }
}
