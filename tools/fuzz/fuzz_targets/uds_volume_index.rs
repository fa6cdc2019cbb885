// SPDX-License-Identifier: GPL-2.0

//! Feeds `fuzz_decoders::uds::volume_index`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = fuzz_decoders::uds::volume_index(data);
});
