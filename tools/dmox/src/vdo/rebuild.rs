// SPDX-License-Identifier: GPL-2.0

//! `dmox vdo force-rebuild`.

use super::open_volume;
use super::super_block_at;
use crate::device::Device;
use crate::failure::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use vdo::format::State;
use vdo::format::SuperBlock;
use vdo::format::BLOCK_SIZE;

/// A volume that met an error it could not repair starts read-only. When it starts next after this
/// command, reference counts are made anew from the block map, what is damaged is given up, and the
/// volume can be written again.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The device or file
    device: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let device = Device::open(&self.device, true)?;
        let (geometry, super_block) = open_volume(&device)?;
        match super_block.state {
            State::ReadOnly => {}
            State::ForceRebuild => {
                println!("a rebuild is due already");
                return Ok(ExitCode::SUCCESS);
            }
            state => {
                let text = format!("is not read-only ({state:?}); there is nothing to rebuild");
                return Err(device.failure(text));
            }
        }
        let rebuilt = SuperBlock {
            state: State::ForceRebuild,
            ..super_block
        };
        let mut page = Box::new([0; BLOCK_SIZE]);
        rebuilt.encode(&mut page);
        device.write(super_block_at(&geometry), &page)?;
        device.flush()?;
        println!("the volume is rebuilt when it starts next");
        Ok(ExitCode::SUCCESS)
    }
}
