// SPDX-License-Identifier: GPL-2.0

//! The table line, behind the three devices.
//!
//! ```text
//! REGION_SIZE [#FEATURES FEATURE* [#CORE (KEY VALUE)*]]
//! ```
//!
//! The rules and texts are mainline's, but for numbers of 2^32 and more, which it takes modulo
//! 2^32 and which are refused here. Whatever follows the core arguments is ignored, as there.

use crate::geometry::Geometry;
use crate::geometry::Sectors;
use crate::hydration::Tuning;
use core::ffi::CStr;
use kernel::prelude::*;

/// Arguments that must be there: three devices and the region size.
pub const ARGUMENTS_MIN: usize = 4;

/// Smallest region, in sectors.
const REGION_SIZE_MIN: u32 = 1 << 3;
/// Largest region, in sectors.
const REGION_SIZE_MAX: u32 = 1 << 21;

const FEATURES_MAX: usize = 2;
const CORE_ARGUMENTS_MAX: usize = 4;

/// Why a table line was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The errno.
    pub error: Error,
    /// The text for the log.
    pub text: &'static CStr,
}

/// Returns the refusal of an invalid argument.
pub const fn invalid(text: &'static CStr) -> Refusal {
    Refusal {
        error: EINVAL,
        text,
    }
}

/// What the arguments behind the region size say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Background hydration starts disabled.
    pub no_hydration: bool,
    /// Discards are not passed down.
    pub no_discard_passdown: bool,
    /// What was stated of the tuning.
    pub tuning: Tuning,
}

/// Parses the region size and cuts a device of `length` sectors into regions.
///
/// `block_size` is the larger of the logical block sizes of source and destination, in sectors.
pub fn parse_geometry(
    word: &str,
    length: Sectors,
    block_sizes: [u32; 2],
) -> Result<Geometry, Refusal> {
    let region_size = parse_digits(word)
        .filter(|size| (REGION_SIZE_MIN..=REGION_SIZE_MAX).contains(size))
        .ok_or(invalid(c"Invalid region size"))?;
    if !region_size.is_power_of_two() {
        return Err(invalid(c"Region size is not a power of 2"));
    }
    // Both are powers of two, so one is a multiple of the other.
    if block_sizes
        .iter()
        .any(|block_size| region_size < *block_size)
    {
        return Err(invalid(
            c"Region size is not a multiple of device logical block size",
        ));
    }
    Geometry::new(length, region_size.trailing_zeros()).ok_or(invalid(
        c"Too many regions. Consider increasing the region size",
    ))
}

/// Parses the arguments behind the region size.
pub fn parse_options<'a>(
    mut words: impl ExactSizeIterator<Item = &'a str>,
) -> Result<Options, Refusal> {
    let mut options = Options::default();
    let count = parse_count(
        &mut words,
        FEATURES_MAX,
        c"Invalid number of feature arguments",
    )?;
    for word in words.by_ref().take(count) {
        if word.eq_ignore_ascii_case("no_hydration") {
            options.no_hydration = true;
        } else if word.eq_ignore_ascii_case("no_discard_passdown") {
            options.no_discard_passdown = true;
        } else {
            return Err(invalid(c"Invalid feature argument"));
        }
    }
    let count = parse_count(
        &mut words,
        CORE_ARGUMENTS_MAX,
        c"Invalid number of core arguments",
    )?;
    if count % 2 != 0 {
        return Err(invalid(c"Number of core arguments must be even"));
    }
    for _ in 0..count / 2 {
        let (Some(key), Some(value)) = (words.next(), words.next()) else {
            return Err(invalid(c"Invalid number of core arguments"));
        };
        let value = parse_u32(value);
        if key.eq_ignore_ascii_case("hydration_threshold") {
            let text = c"Invalid value for argument `hydration_threshold'";
            options.tuning.threshold = Some(value.ok_or(invalid(text))?);
        } else if key.eq_ignore_ascii_case("hydration_batch_size") {
            let text = c"Invalid value for argument `hydration_batch_size'";
            options.tuning.batch_size = Some(value.ok_or(invalid(text))?);
        } else {
            return Err(invalid(c"Invalid core argument"));
        }
    }
    Ok(options)
}

/// Parses the number of arguments of a group; a group that is not there has none.
fn parse_count<'a>(
    words: &mut impl ExactSizeIterator<Item = &'a str>,
    count_max: usize,
    text: &'static CStr,
) -> Result<usize, Refusal> {
    let Some(word) = words.next() else {
        return Ok(0);
    };
    parse_digits(word)
        .map(|count| count as usize)
        .filter(|count| *count <= count_max && *count <= words.len())
        .ok_or(invalid(text))
}

/// Parses a number as table lines have it: decimal digits only.
fn parse_digits(word: &str) -> Option<u32> {
    if !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    word.parse().ok()
}

/// Parses a value of core arguments and messages: decimal, with one `+` at most.
pub(crate) fn parse_u32(word: &str) -> Option<u32> {
    parse_digits(word.strip_prefix('+').unwrap_or(word))
}

#[cfg(test)]
mod tests;
