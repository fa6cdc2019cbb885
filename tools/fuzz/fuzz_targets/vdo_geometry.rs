// SPDX-License-Identifier: GPL-2.0

//! Feeds `fuzz_decoders::vdo::geometry`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz_decoders::vdo::geometry(data);
});
