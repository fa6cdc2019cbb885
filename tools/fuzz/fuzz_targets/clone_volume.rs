// SPDX-License-Identifier: GPL-2.0

//! Feeds `clone_sim::hostile::run`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(text) = clone_sim::hostile::run(data) {
        panic!("{text}");
    }
});
