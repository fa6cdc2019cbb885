// SPDX-License-Identifier: GPL-2.0

//! Sizes as people write them: a number, and K, M, G, T or P.

const UNITS: [(char, u32); 6] = [
    ('B', 0),
    ('K', 10),
    ('M', 20),
    ('G', 30),
    ('T', 40),
    ('P', 50),
];

/// Parses a size in bytes; without a unit, it is MiB, as everywhere in LVM.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let unit = text
        .chars()
        .next_back()
        .map(|unit| unit.to_ascii_uppercase());
    let shift = UNITS.iter().find(|(name, _)| Some(*name) == unit);
    let (digits, shift) = match shift {
        Some((_, shift)) => (&text[..text.len() - 1], *shift),
        None => (text, 20),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("`{text}` is no size; write for example 500M or 2T"))?;
    number
        .checked_shl(shift)
        .filter(|size| size >> shift == number)
        .ok_or_else(|| format!("`{text}` is too much"))
}

/// Returns a size as people read it.
pub(crate) fn text(bytes: u64) -> String {
    for (unit, shift) in UNITS.iter().rev() {
        let whole = bytes >> shift;
        if whole > 0 && *shift > 0 {
            let tenths = ((bytes >> (shift - 10)) & 1023) * 10 / 1024;
            return format!("{whole}.{tenths} {unit}iB");
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::parse;
    use super::text;

    #[test]
    fn sizes() {
        assert_eq!(parse("512B"), Ok(512));
        assert_eq!(parse("5"), Ok(5 << 20));
        assert_eq!(parse("3g"), Ok(3 << 30));
        assert_eq!(parse("4P"), Ok(4 << 50));
        assert!(parse("99999999P").is_err());
        assert!(parse("").is_err() && parse("x").is_err() && parse("-1G").is_err());
        assert_eq!(text(3 << 29), "1.5 GiB");
        assert_eq!(text(4096), "4.0 KiB");
        assert_eq!(text(17), "17 B");
    }
}
