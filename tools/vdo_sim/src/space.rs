// SPDX-License-Identifier: GPL-2.0

//! The few blocks of a volume that a run uses: clusters far apart, next to each other in the model.

use crate::toy::BLOCK_SECTORS;
use std::ops::Range;
use vdo::format::Lbn;

/// Clusters of logical blocks, ascending.
#[derive(Clone, Debug)]
pub struct Space(Vec<Range<Lbn>>);

impl Space {
    /// Makes a space of these clusters, which ascend.
    pub fn new(clusters: &[Range<Lbn>]) -> Self {
        assert!(
            clusters.windows(2).all(|pair| pair[0].end <= pair[1].start),
            "clusters ascend"
        );
        Self(clusters.to_vec())
    }

    /// Returns the clusters.
    pub fn clusters(&self) -> &[Range<Lbn>] {
        &self.0
    }

    /// Returns the number of blocks of the model.
    pub fn blocks(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Returns the number of sectors of the model.
    pub fn sectors(&self) -> u64 {
        self.blocks() * BLOCK_SECTORS
    }

    /// Returns the model's blocks of a cluster.
    pub fn cluster(&self, number: usize) -> Range<u64> {
        let start = self.0[..number]
            .iter()
            .map(|range| range.end - range.start)
            .sum();
        let range = &self.0[number];
        start..start + (range.end - range.start)
    }

    /// Returns the LBN of a block of the model.
    pub fn lbn(&self, mut block: u64) -> Lbn {
        for range in &self.0 {
            let blocks = range.end - range.start;
            if block < blocks {
                return range.start + block;
            }
            block -= blocks;
        }
        panic!("a block outside of the model")
    }

    /// Cuts sectors of the model into those of one cluster each, and returns with each where they
    /// are on the volume.
    pub fn cut(&self, sectors: Range<u64>) -> Vec<(Range<u64>, u64)> {
        let mut parts = Vec::new();
        for number in 0..self.0.len() {
            let cluster = self.cluster(number);
            let own = cluster.start * BLOCK_SECTORS..cluster.end * BLOCK_SECTORS;
            let start = sectors.start.max(own.start);
            let end = sectors.end.min(own.end);
            if start < end {
                let place = self.0[number].start * BLOCK_SECTORS + (start - own.start);
                parts.push((start..end, place));
            }
        }
        parts
    }

    /// Returns the model's sectors that lie in a range of sectors of the volume.
    pub fn inside(&self, sectors: Range<u64>) -> Range<u64> {
        let before = |sector: u64| -> u64 {
            let inside = |range: &Range<Lbn>| {
                let own = range.start * BLOCK_SECTORS..range.end * BLOCK_SECTORS;
                sector.clamp(own.start, own.end) - own.start
            };
            self.0.iter().map(inside).sum()
        };
        before(sectors.start)..before(sectors.end)
    }

    /// Returns where a sector of the model is on the volume.
    pub fn place(&self, sector: u64) -> u64 {
        self.lbn(sector / BLOCK_SECTORS) * BLOCK_SECTORS + sector % BLOCK_SECTORS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_the_model_lie_where_their_cluster_is() {
        let space = Space::new(&[0..4, 10..12, 12..20]);
        assert_eq!(space.blocks(), 14);
        assert_eq!(space.cluster(2), 6..14);
        assert_eq!((space.lbn(3), space.lbn(4), space.lbn(13)), (3, 10, 19));
        assert_eq!(
            space.cut(3 * 8 + 4..7 * 8),
            [(28..32, 28), (32..48, 80), (48..56, 96)]
        );
        assert_eq!(space.inside(19..11 * 8), 19..5 * 8);
        assert_eq!(space.inside(5 * 8..75), 4 * 8..4 * 8);
        assert_eq!(space.inside(0..800), 0..14 * 8);
        assert_eq!((space.place(31), space.place(33)), (31, 81));
    }
}
