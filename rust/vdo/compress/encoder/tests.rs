// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::format::BLOCK_SIZE;

/// "Compresses" a block to the size that its first bytes say, and counts.
struct Told(u32);

impl Compressor for Told {
    fn compress(&mut self, block: &Page, into: &mut [u8], _: u32) -> Option<usize> {
        self.0 += 1;
        let size = usize::from(u16::from_le_bytes([block[0], block[1]]));
        (size <= into.len()).then_some(size)
    }
}

fn block(size: u16) -> Page {
    let mut page = [0; BLOCK_SIZE];
    page[..2].copy_from_slice(&size.to_le_bytes());
    page
}

fn encoder() -> Encoder<Told> {
    let mut encoder = Encoder::new(Told(0)).unwrap();
    encoder.begin();
    encoder
}

fn size(encoder: &mut Encoder<Told>, wanted: u16) -> Option<usize> {
    encoder.encode(&block(wanted), 1).map(<[u8]>::len)
}

#[test]
fn a_fragment_pays_that_finds_another() {
    let mut encoder = encoder();
    // Nothing is known yet: it may be the first of small ones.
    assert_eq!(size(&mut encoder, 4000), Some(4000));
    assert_eq!(size(&mut encoder, 500), Some(500));
    encoder.begin();
    assert_eq!(size(&mut encoder, 3560), Some(3560));
    assert_eq!(size(&mut encoder, 3561), None);
    assert_eq!(size(&mut encoder, 400), Some(400));
    assert_eq!(size(&mut encoder, 3660), Some(3660));
    // Two of the same kind always find each other.
    for _ in 0..2 {
        encoder.begin();
        assert_eq!(size(&mut encoder, 2030), Some(2030));
    }
    encoder.begin();
    assert_eq!(size(&mut encoder, 2031), None);
    assert_eq!(size(&mut encoder, 2030), Some(2030));
}

#[test]
fn what_does_not_compress_is_sampled() {
    let mut encoder = encoder();
    for _ in 0..1000 {
        assert_eq!(size(&mut encoder, 4096), None);
    }
    let tries = encoder.compressor.0;
    assert!((PATIENCE + 60..PATIENCE + 62).contains(&tries), "{tries}");
    // It is noticed when that changes, and then all are tried.
    let lost = (0..100).filter(|_| size(&mut encoder, 100).is_none());
    assert!(lost.count() < SAMPLE as usize);
    assert!((0..100).all(|_| size(&mut encoder, 100) == Some(100)));
}
