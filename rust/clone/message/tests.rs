// SPDX-License-Identifier: GPL-2.0

use super::*;

fn message(line: &str) -> Result<Message, Refused> {
    parse(line.split_whitespace())
}

#[test]
fn known_messages() {
    assert_eq!(message("enable_hydration"), Ok(Message::EnableHydration));
    assert_eq!(
        message("ENABLE_hydration extra words"),
        Ok(Message::EnableHydration)
    );
    assert_eq!(message("disable_hydration"), Ok(Message::DisableHydration));
    assert_eq!(message("hydration_threshold 0"), Ok(Message::Threshold(0)));
    assert_eq!(
        message("hydration_batch_size +12"),
        Ok(Message::BatchSize(12))
    );
}

#[test]
fn bad_values_are_refused_silently() {
    for line in [
        "hydration_threshold",
        "hydration_threshold x",
        "hydration_threshold -1",
        "hydration_threshold 0x10",
        "hydration_threshold 4294967296",
        "hydration_threshold 1 2",
    ] {
        assert_eq!(message(line), Err(Refused::Invalid), "{line}");
    }
}

#[test]
fn only_an_unknown_word_with_one_argument_is_named() {
    assert_eq!(message("bogus 1"), Err(Refused::Unsupported));
    assert_eq!(message("bogus"), Err(Refused::Invalid));
    assert_eq!(message("bogus 1 2"), Err(Refused::Invalid));
    assert_eq!(message(""), Err(Refused::Invalid));
}
