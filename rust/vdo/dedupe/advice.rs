// SPDX-License-Identifier: GPL-2.0

//! What the index keeps of a name: where a block of that name was once.
//!
//! | Bytes | Content |
//! |---|---|
//! | 0 | the version of this: 2 |
//! | 1 | the state of the mapping, as the block map has it |
//! | 2..10 | the physical block |
//! | 10..16 | not used |
//!
//! Advice is never believed: the block may have been freed, and written anew. The source of the format
//! is mainline.

use crate::format::Mapping;
use crate::format::MappingState;

/// The only version there is.
const VERSION: u8 = 2;

/// What the index keeps of a name.
pub type Advice = [u8; 16];

/// Returns the advice that says that a block is there.
pub fn encode(mapping: Mapping) -> Advice {
    let mut advice = [0; 16];
    let pbn = mapping.pbn.to_le_bytes();
    let head = [VERSION, mapping.state.bits()].into_iter();
    for (to, from) in advice.iter_mut().zip(head.chain(pbn)) {
        *to = from;
    }
    advice
}

/// Returns where a block may be; `None` if this says nothing that makes sense.
pub fn decode(advice: &Advice) -> Option<Mapping> {
    let [version, state, a, b, c, d, e, f, g, h, ..] = *advice;
    let state = MappingState::from_bits(state)?;
    let pbn = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let is_sound = version == VERSION && state != MappingState::UNMAPPED && pbn != 0;
    is_sound.then_some(Mapping { pbn, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_as_mainline_writes_it() {
        // Appendix A.2 of what is known of the index: a block, not compressed, at 679193.
        let known = [2, 1, 0x19, 0x5d, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mapping = Mapping::plain(679_193);
        assert_eq!(decode(&known), Some(mapping));
        assert_eq!(encode(mapping), known);
    }

    #[test]
    fn what_makes_no_sense_is_no_advice() {
        let good = encode(Mapping::plain(5));
        for (at, byte) in [(0, 1), (0, 3), (1, 0), (1, 16), (1, 255), (2, 0)] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(decode(&bad), None, "byte {at} is {byte}");
        }
    }
}
