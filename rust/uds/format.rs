// SPDX-License-Identifier: GPL-2.0

//! What is on disk: one file per structure, each a codec that believes nothing it reads.

#[cfg(test)]
mod tests {
    use crate::vectors;

    #[test]
    fn vectors_are_there() {
        assert_eq!(vectors::file("a-super-block.bin").len(), 4096);
        assert_eq!(vectors::file("b-chapter0.bin.xz").len(), 2_293_760);
        assert!(!vectors::text("a-volume-index.txt").is_empty());
    }
}
