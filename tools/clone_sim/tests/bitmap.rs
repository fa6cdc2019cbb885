// SPDX-License-Identifier: GPL-2.0

//! Large bitmaps on metadata devices that are just large enough.

use clone_sim::bitmap;
use sim::harness;

#[test]
fn what_was_committed_is_there_and_what_was_not_set_is_not() {
    harness::run_seeds(
        harness::seeds(640),
        "cargo test -p clone_sim --test bitmap",
        bitmap::run,
    );
}
