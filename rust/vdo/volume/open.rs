// SPDX-License-Identifier: GPL-2.0

//! From a table line to a volume: the device is looked at, formatted if it is blank, and what is
//! found there compared with what the line says. Says of each failure what mainline says.

use crate::admin::table::Settings;
use crate::error::Error;
use crate::error::Status;
use crate::format::component::Fault;
use crate::format::geometry::Geometry;
use crate::format::layout;
use crate::format::layout::Parameters;
use crate::format::super_block::SuperBlock;
use crate::storage::Storage;
use crate::volume::load;
use crate::volume::load::Found;
use crate::volume::load::GeometryFault;
use crate::world::Level;
use core::ffi::CStr;
use core::fmt::Arguments;
use core::num::NonZeroU64;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::stack::boxed;
use runtime::sync::Arc;

/// Blocks of the recovery journal of a new volume.
const JOURNAL_BLOCKS: u64 = 32768;

/// Blocks of each slab journal of a new volume.
const SLAB_JOURNAL_BLOCKS: u32 = 224;

/// Blocks of the journal that mainline keeps free, at most.
const JOURNAL_RESERVE: u64 = 11;

/// What makes a new volume different from all others.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The time, in microseconds.
    pub nonce: u64,
    /// Random.
    pub uuid: [u8; 16],
}

/// A volume that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The geometry block.
    pub geometry: Geometry,
    /// The super block.
    pub super_block: SuperBlock,
    /// After so many journal blocks a changed leaf page is to be written.
    pub maximum_age: u64,
}

/// Why there is no volume for a table line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong.
    pub error: Error,
    /// The text for device-mapper.
    pub text: &'static CStr,
    /// What could not be done: to create the device, or to start it.
    pub step: &'static str,
}

/// Where lines for the log go.
pub trait Log: Fn(Level, Arguments<'_>) + Copy {}

impl<L: Fn(Level, Arguments<'_>) + Copy> Log for L {}

fn not_created(text: &'static CStr) -> impl FnOnce(Error) -> Failure {
    move |error| Failure {
        error,
        text,
        step: "create",
    }
}

fn not_loaded(error: Error) -> Failure {
    Failure {
        error,
        text: c"Cannot load metadata from device",
        step: "start",
    }
}

/// Opens the volume on `disk`, or makes one, if there is an `identity` for it.
///
/// # Errors
///
/// Why there is none; told to the log, too.
pub async fn open<D: Disk>(
    disk: &Arc<D>,
    settings: &Settings,
    identity: Option<Identity>,
    log: impl Log,
) -> Result<Opened, Failure> {
    let result = try_open(disk, settings, identity, log).await;
    if let Err(failure) = &result {
        log(
            Level::Error,
            format_args!(
                "Could not {} VDO device. (VDO error {}, message {})",
                failure.step,
                failure.error.number(),
                failure.text.to_str().unwrap_or(""),
            ),
        );
    }
    result
}

async fn try_open<D: Disk>(
    disk: &Arc<D>,
    settings: &Settings,
    identity: Option<Identity>,
    log: impl Log,
) -> Result<Opened, Failure> {
    let found = boxed(|| load::find(&**disk))
        .await
        .map_err(|error| not_loaded(error.into()))?;
    let geometry = match found {
        Ok(Found::Volume(geometry)) => geometry,
        Ok(Found::Blank) => {
            let identity = identity.ok_or(not_loaded(EROFS.into()))?;
            boxed(|| format(disk, settings, identity, log))
                .await
                .map_err(|error| not_loaded(error.into()))??
        }
        Err(GeometryFault::Unreadable(error)) => {
            return Err(not_created(c"Could not load geometry block")(error));
        }
        Err(GeometryFault::Invalid(fault)) => {
            tell_fault(fault, log);
            return Err(not_created(c"Could not parse geometry block")(fault.into()));
        }
    };
    let storage = Storage::new(disk.clone(), geometry.bio_offset);
    let super_block = boxed(|| load::read_super_block(&storage, &geometry)).await;
    let super_block = super_block
        .map_err(Error::from)
        .and_then(|result| result)
        .map_err(not_loaded)?;
    let super_block = super_block.map_err(|fault| {
        tell_fault(fault, log);
        not_loaded(fault.into())
    })?;
    super_block.check(&geometry).map_err(not_loaded)?;
    let maximum_age = check(&super_block, settings, log).map_err(not_loaded)?;
    Ok(Opened {
        geometry,
        super_block,
        maximum_age,
    })
}

fn tell_fault(fault: Fault, log: impl Log) {
    log(
        Level::Error,
        format_args!("{fault}: {}", Error::from(fault)),
    );
}

async fn format<D: Disk>(
    disk: &Arc<D>,
    settings: &Settings,
    identity: Identity,
    log: impl Log,
) -> Result<Geometry, Failure> {
    let parameters = Parameters {
        nonce: identity.nonce,
        uuid: identity.uuid,
        physical_blocks: settings.physical_blocks,
        logical_blocks: Some(settings.logical_blocks),
        slab_blocks: settings.slab_blocks as u32,
        slab_journal_blocks: SLAB_JOURNAL_BLOCKS,
        recovery_journal_blocks: JOURNAL_BLOCKS,
        roots: layout::ROOTS,
        index_memory: settings.index_memory,
        sparse: settings.index_sparse,
        index_blocks: None,
    };
    plan(&parameters, log)?;
    load::format(disk.clone(), &parameters)
        .await
        .map_err(not_loaded)
}

/// Checks whether a volume can be made, and says what is in the way.
fn plan(parameters: &Parameters, log: impl Log) -> Result<(), Failure> {
    let minimum = parameters.minimum_blocks().map_err(|error| {
        log(Level::Error, format_args!("received invalid memory size"));
        log(
            Level::Error,
            format_args!("cannot compute index size: {error}"),
        );
        log(
            Level::Error,
            format_args!("error computing index size: {error}"),
        );
        not_created(c"Could not initialize volume geometry during format")(error)
    })?;
    if parameters.physical_blocks < minimum {
        let error = Error::from(Status::NoSpace);
        // Mainline counts the super block only the second time.
        if parameters.physical_blocks.saturating_add(1) < minimum {
            log(
                Level::Error,
                format_args!("Not enough space to make a VDO: {error}"),
            );
        }
        let bytes = minimum.saturating_mul(4096);
        log(
            Level::Error,
            format_args!("Minimum required size for VDO volume: {bytes} bytes"),
        );
        let text = c"Could not allocate enough space for VDO during format";
        return Err(not_created(text)(error));
    }
    let text = c"Could not initialize data layout during format";
    parameters.plan().map(|_| ()).map_err(not_created(text))
}

/// Compares a volume with a table line. Returns the greatest age of a changed leaf page.
fn check(super_block: &SuperBlock, settings: &Settings, log: impl Log) -> Result<u64, Error> {
    check_sizes(super_block, settings, log)?;
    let bad = Error::from(Status::BadConfiguration);
    let age = maximum_age(settings.maximum_age);
    let limit = journal_length(super_block.partitions.journal.blocks) / 2;
    if age == 0 {
        log(
            Level::Error,
            format_args!("maximum age must be greater than 0: {bad}"),
        );
        return Err(bad);
    }
    if age > limit {
        log(
            Level::Error,
            format_args!("maximum age: {age} exceeds limit {limit}: {bad}"),
        );
        return Err(bad);
    }
    if settings.cache_blocks == 0 {
        log(
            Level::Error,
            format_args!("block map cache size must be greater than 0: {bad}"),
        );
        return Err(bad);
    }
    let (zones, slabs) = (settings.threads.physical, super_block.depot.slab_count);
    if zones > slabs {
        log(
            Level::Error,
            format_args!("{zones} physical zones exceeds slab count {slabs}: {bad}"),
        );
        return Err(bad);
    }
    Ok(age)
}

fn check_sizes(super_block: &SuperBlock, settings: &Settings, log: impl Log) -> Result<(), Error> {
    let mismatch = Error::from(Status::ParameterMismatch);
    let (stated, stored) = (settings.logical_blocks, super_block.logical_blocks);
    if stated > stored {
        log(
            Level::Info,
            format_args!(
                "Growing logical size: a logical size of {stated} blocks was specified, but that \
                 differs from the {stored} blocks configured in the vdo super block"
            ),
        );
    }
    if stated < stored {
        log(
            Level::Error,
            format_args!(
                "A logical size of {stated} blocks was specified, but that differs from the \
                 {stored} blocks configured in the vdo super block"
            ),
        );
        return Err(mismatch);
    }
    let (stated, stored) = (settings.physical_blocks, super_block.physical_blocks);
    if stated != stored {
        log(
            Level::Error,
            format_args!(
                "A physical size of {stated} blocks was specified, not the {stored} blocks \
                 configured in the vdo super block"
            ),
        );
        return Err(mismatch);
    }
    Ok(())
}

/// Returns the age in journal blocks that a table line means: its unit is a block of 311 entries,
/// as it once was.
fn maximum_age(stated: u32) -> u64 {
    const OLD_ENTRIES: u64 = 311;
    const NEW_ENTRIES: NonZeroU64 = NonZeroU64::new(434).unwrap();
    let entries = u64::from(stated).saturating_mul(OLD_ENTRIES);
    entries.saturating_add(NEW_ENTRIES.get() - 1) / NEW_ENTRIES
}

/// Returns how many blocks of a journal mainline uses.
fn journal_length(blocks: u64) -> u64 {
    blocks.saturating_sub((blocks / 4).min(JOURNAL_RESERVE))
}

#[cfg(test)]
mod tests;
