// SPDX-License-Identifier: GPL-2.0

//! CRC-32C by tables, without instructions that only some CPUs have.

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Bytes handled in one step.
const STRIDE: usize = 8;

/// `TABLES[n][byte]` is what `byte` contributes when `n` more bytes follow it in the same step.
static TABLES: [[u32; 256]; STRIDE] = tables();

const fn tables() -> [[u32; 256]; STRIDE] {
    let mut tables = [[0; 256]; STRIDE];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ POLYNOMIAL
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut follow = 1;
    while follow < STRIDE {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[follow - 1][byte];
            tables[follow][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        follow += 1;
    }
    tables
}

/// Continues the checksum `crc` over `bytes`, eight of them a step.
pub(super) fn update(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = crc;
    let mut steps = bytes.chunks_exact(STRIDE);
    for step in &mut steps {
        if let Ok(step) = <[u8; STRIDE]>::try_from(step) {
            crc = eight_bytes(crc, step);
        }
    }
    for &byte in steps.remainder() {
        crc = (crc >> 8) ^ TABLES[0][((crc ^ u32::from(byte)) & 0xff) as usize];
    }
    crc
}

fn eight_bytes(crc: u32, step: [u8; STRIDE]) -> u32 {
    let [a, b, c, d, e, f, g, h] = step;
    let [a, b, c, d] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
    TABLES[7][usize::from(a)]
        ^ TABLES[6][usize::from(b)]
        ^ TABLES[5][usize::from(c)]
        ^ TABLES[4][usize::from(d)]
        ^ TABLES[3][usize::from(e)]
        ^ TABLES[2][usize::from(f)]
        ^ TABLES[1][usize::from(g)]
        ^ TABLES[0][usize::from(h)]
}
