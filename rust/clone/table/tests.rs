// SPDX-License-Identifier: GPL-2.0

use super::*;

fn options(line: &str) -> Result<Options, &'static str> {
    let words: std::vec::Vec<&str> = line.split_whitespace().collect();
    parse_options(words.into_iter()).map_err(|refusal| refusal.text.to_str().expect("ASCII"))
}

fn region_size(word: &str) -> Result<Sectors, &'static str> {
    parse_geometry(word, 131_072, [1, 1])
        .map(|geometry| geometry.region_size())
        .map_err(|refusal| refusal.text.to_str().expect("ASCII"))
}

#[test]
fn region_size_is_a_power_of_two_in_range() {
    assert_eq!(region_size("8"), Ok(8));
    assert_eq!(region_size("08"), Ok(8));
    assert_eq!(region_size("2097152"), Ok(2_097_152));
    for word in [
        "0", "4", "7", "2097153", "4194304", "abc", "8x", "-8", "+8", "0x8", "",
    ] {
        assert_eq!(region_size(word), Err("Invalid region size"), "{word}");
    }
    // Not modulo 2^32.
    assert_eq!(region_size("4294967304"), Err("Invalid region size"));
    assert_eq!(
        region_size("99999999999999999999"),
        Err("Invalid region size")
    );
    assert_eq!(region_size("12"), Err("Region size is not a power of 2"));
}

#[test]
fn region_size_holds_whole_blocks() {
    let text = c"Region size is not a multiple of device logical block size";
    assert_eq!(parse_geometry("8", 131_072, [1, 16]), Err(invalid(text)));
    assert_eq!(parse_geometry("8", 131_072, [16, 1]), Err(invalid(text)));
    assert!(parse_geometry("16", 131_072, [16, 16]).is_ok());
}

#[test]
fn regions_are_counted() {
    let text = c"Too many regions. Consider increasing the region size";
    assert_eq!(
        parse_geometry("8", 17_179_869_192, [1, 1]),
        Err(invalid(text))
    );
    assert_eq!(
        parse_geometry("8", 17_179_869_184, [1, 1]).map(|g| g.regions()),
        Ok(1 << 31)
    );
    assert_eq!(
        parse_geometry("4096", 1000, [1, 1]).map(|g| g.regions()),
        Ok(1)
    );
}

#[test]
fn features() {
    let none = Options::default();
    assert_eq!(options(""), Ok(none));
    assert_eq!(options("0"), Ok(none));
    assert_eq!(
        options("1 NO_HYDRATION"),
        Ok(Options {
            no_hydration: true,
            ..none
        })
    );
    let both = Options {
        no_hydration: true,
        no_discard_passdown: true,
        ..none
    };
    assert_eq!(options("2 no_hydration no_discard_passdown"), Ok(both));
    let repeated = Options {
        no_hydration: true,
        ..none
    };
    assert_eq!(options("2 no_hydration no_hydration"), Ok(repeated));
    for line in ["x", "-1", "3", "3 a b c", "1", "2 no_hydration"] {
        assert_eq!(
            options(line),
            Err("Invalid number of feature arguments"),
            "{line}"
        );
    }
    assert_eq!(options("1 bogus"), Err("Invalid feature argument"));
}

#[test]
fn core_arguments() {
    let tuning = |line| options(line).map(|options| options.tuning);
    let threshold = |value| {
        Ok(Tuning {
            threshold: Some(value),
            batch_size: None,
        })
    };
    assert_eq!(tuning("0 0"), Ok(Tuning::default()));
    assert_eq!(
        tuning("0 2 hydration_threshold 4294967295"),
        threshold(u32::MAX)
    );
    assert_eq!(tuning("0 2 hydration_threshold +7"), threshold(7));
    assert_eq!(tuning("0 2 HYDRATION_threshold 010"), threshold(10));
    assert_eq!(
        tuning("0 4 hydration_threshold 1 hydration_threshold 2"),
        threshold(2)
    );
    assert_eq!(
        tuning("0 2 hydration_threshold 5 trailing junk"),
        threshold(5)
    );
    for line in [
        "1 no_hydration extra",
        "0 1",
        "0 x",
        "0 2 hydration_threshold",
        "0 6 a b c d e f",
    ] {
        assert_eq!(
            tuning(line),
            Err("Invalid number of core arguments"),
            "{line}"
        );
    }
    for line in [
        "0 1 hydration_threshold",
        "0 3 hydration_threshold 4 hydration_batch_size",
    ] {
        assert_eq!(
            tuning(line),
            Err("Number of core arguments must be even"),
            "{line}"
        );
    }
    assert_eq!(tuning("0 2 bogus 4"), Err("Invalid core argument"));
    for value in ["x", "-1", "4294967296", "0x10", "++1", ""] {
        let words = ["0", "2", "hydration_batch_size", value];
        assert_eq!(
            parse_options(words.into_iter())
                .map_err(|refusal| refusal.text.to_str().expect("ASCII")),
            Err("Invalid value for argument `hydration_batch_size'"),
            "{value}"
        );
    }
}
