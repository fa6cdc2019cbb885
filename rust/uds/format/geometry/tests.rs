// SPDX-License-Identifier: GPL-2.0

use super::*;

fn geometry(memory: i32, sparse: bool) -> Geometry {
    Geometry::new(Memory(memory), sparse).unwrap()
}

fn toy(shape: Shape) -> Option<Geometry> {
    Geometry::of_shape(shape)
}

#[test]
fn chapters() {
    let expected = [
        (-256, 65_536, 64, 6, 10, 6),
        (-512, 131_072, 128, 13, 11, 7),
        (-768, 196_608, 192, 20, 12, 8),
        (1, 262_144, 256, 26, 12, 8),
        (1024, 262_144, 256, 26, 12, 8),
    ];
    for (memory, records, record_pages, index_pages, list_bits, payload_bits) in expected {
        let geometry = geometry(memory, false);
        assert_eq!(geometry.records, records);
        assert_eq!(geometry.shape.record_pages, record_pages);
        assert_eq!(geometry.index_pages, index_pages);
        assert_eq!(geometry.list_bits, list_bits);
        assert_eq!(geometry.address_bits, 22);
        assert_eq!(geometry.code.payload_bits(), payload_bits);
    }
}

#[test]
fn volume_indexes() {
    let check = |sub: SubIndex, lists, bits, memory, free| {
        assert_eq!(sub.lists, lists);
        assert_eq!(sub.code.payload_bits(), bits);
        assert_eq!(sub.memory, memory);
        assert_eq!(sub.target_free, free);
    };
    let dense = [
        (-256, 262_144, 10, 209_776_476, 9_895_116),
        (-512, 524_288, 10, 419_552_952, 19_790_233),
        (-768, 786_432, 10, 629_329_428, 29_685_350),
        (1, 1_048_576, 10, 839_105_904, 39_580_467),
        (2, 2_097_152, 11, 1_749_625_077, 82_529_484),
        (4, 4_194_304, 12, 3_642_076_692, 171_796_070),
        (1024, 1_073_741_824, 20, 1_224_880_380_968, 57_777_376_460),
    ];
    for (memory, lists, bits, bytes, free) in dense {
        let SubIndexes::Dense(all) = geometry(memory, false).volume_index else {
            panic!("not dense");
        };
        check(all, lists, bits, bytes, free);
    }
    let sparse = [
        (
            -256,
            (126_976, 9, 97_286_630, 4_588_992),
            (81_920, 14, 76_713_472, 3_618_560),
        ),
        (
            1,
            (507_904, 9, 389_146_521, 18_355_968),
            (327_680, 14, 306_853_888, 14_474_240),
        ),
        (
            2,
            (1_015_808, 10, 812_883_845, 38_343_577),
            (655_360, 15, 636_024_422, 30_001_152),
        ),
    ];
    for (memory, others, samples) in sparse {
        let SubIndexes::Sparse(d, s) = geometry(memory, true).volume_index else {
            panic!("not sparse");
        };
        check(d, others.0, others.1, others.2, others.3);
        check(s, samples.0, samples.1, samples.2, samples.3);
    }
}

#[test]
fn regions() {
    let expected = [
        (-256, false, [573_448, 52_321, 3, 513, 52_838, 679_127]),
        (
            -512,
            false,
            [1_155_080, 104_625, 7, 1025, 105_658, 1_366_399],
        ),
        (
            -768,
            false,
            [1_736_712, 156_929, 10, 1537, 158_477, 2_053_669],
        ),
        (1, false, [2_310_152, 209_233, 13, 2049, 211_296, 2_732_747]),
        (2, false, [4_620_296, 435_889, 26, 2049, 437_965, 5_496_229]),
        (
            4,
            false,
            [9_240_584, 906_609, 51, 2049, 908_710, 11_058_007],
        ),
        (-256, true, [5_734_408, 43_380, 26, 513, 43_920, 5_822_251]),
        (
            -512,
            true,
            [11_550_728, 86_727, 61, 1025, 87_814, 11_726_359],
        ),
        (
            -768,
            true,
            [17_367_048, 130_074, 96, 1537, 131_708, 17_630_467],
        ),
        (
            1,
            true,
            [23_101_448, 173_421, 126, 2049, 175_597, 23_452_645],
        ),
    ];
    for (memory, sparse, sizes) in expected {
        let geometry = geometry(memory, sparse);
        let found = [
            geometry.volume_blocks(),
            geometry.volume_index_blocks(),
            geometry.page_map_blocks(),
            geometry.open_chapter_blocks(),
            geometry.save_blocks(),
            geometry.total_blocks(),
        ];
        assert_eq!(found, sizes, "{memory} {sparse}");
    }
}

#[test]
fn every_memory() {
    for memory in (-2000..6000).map(Memory) {
        for sparse in [false, true] {
            let known = Shape::of(memory, sparse);
            assert_eq!(known.is_some(), Geometry::new(memory, sparse).is_some());
            assert_eq!(known.is_some(), memory.parts().is_some());
        }
    }
    assert!(Geometry::new(Memory(i32::MIN), true).is_none());
}

#[test]
fn reduced() {
    let mut geometry = geometry(-1280, false);
    assert!(geometry.is_reduced());
    assert_eq!(geometry.shape.chapters, 1023);
    // As in the converted image that mainline accepted: 503 to 1524 were there.
    geometry.moved = Moved {
        chapter: 1024,
        slot: 500,
    };
    assert_eq!(geometry.slot_of(1024), 500);
    assert_eq!(geometry.slot_of(1025), 0);
    assert_eq!(geometry.slot_of(1524), 499);
    assert_eq!(geometry.slot_of(1525), 501);
    assert_eq!(geometry.slot_of(503), 502);
    assert_eq!(geometry.slot_of(1023), 1022);
    let mut slots = std::vec![false; 1023];
    for chapter in 503..1525 {
        let slot = usize::try_from(geometry.slot_of(chapter)).unwrap();
        assert!(!std::mem::replace(&mut slots[slot], true), "{chapter}");
    }
    let mut oldest = 504;
    for newest in 1526..3000 {
        assert_eq!(geometry.oldest_of(newest), oldest);
        oldest += geometry.expired_by(newest + 1);
    }
    assert_eq!(geometry.expired_by(1022), 0);
    assert_eq!(geometry.expired_by(1023), 1);
    assert_eq!(geometry.expired_by(2047), 2);
    assert_eq!(geometry.expired_by(2547), 0);
    assert_eq!(geometry.expired_by(2548), 1);
}

#[test]
fn sparse_chapters() {
    let sparse = geometry(-256, true);
    assert_eq!(sparse.dense_chapters(), 512);
    assert!(!sparse.is_sparse(0, 0, 511));
    assert!(sparse.is_sparse(0, 0, 512));
    assert!(!sparse.is_sparse(1, 0, 512));
    assert!(!geometry(-256, false).is_sparse(0, 0, 5000));
    assert!(sparse.is_sample(32) && !sparse.is_sample(33));
    assert!(!geometry(-256, false).is_sample(0));
}

#[test]
fn toys() {
    let shape = Shape {
        page_size: 4096,
        page_records: 16,
        record_pages: 1,
        chapters: 4,
        sparse_chapters: 0,
        sample_rate: 0,
    };
    let small = toy(shape).unwrap();
    assert_eq!((small.records, small.index_pages), (16, 1));
    assert_eq!(small.chapter_lists(), 1);
    assert!(small.total_blocks() < 400, "{}", small.total_blocks());
    for bad in [
        Shape {
            page_size: 0,
            ..shape
        },
        Shape {
            page_size: 4097,
            ..shape
        },
        Shape {
            page_records: 129,
            ..shape
        },
        Shape {
            page_records: 0,
            ..shape
        },
        Shape {
            record_pages: 0,
            ..shape
        },
        Shape {
            chapters: 0,
            ..shape
        },
        Shape {
            sparse_chapters: 1,
            ..shape
        },
        Shape {
            sample_rate: 32,
            ..shape
        },
        Shape {
            sparse_chapters: 4,
            sample_rate: 2,
            ..shape
        },
    ] {
        assert_eq!(toy(bad), None, "{bad:?}");
    }
}
