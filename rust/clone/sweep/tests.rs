// SPDX-License-Identifier: GPL-2.0

use super::*;

#[test]
fn the_sweep_finds_each_run_once_and_ends() {
    let map = RegionMap::new(1000).expect("memory");
    map.set_hydrated(&(0..10));
    map.set_hydrated(&(300..1000));
    let mut sweep = Sweep::new();
    let mut found = std::vec::Vec::new();
    loop {
        match sweep.next(&map, 128) {
            Found::Run(run) => found.push(run),
            Found::Nothing => (),
            Found::End => break,
        }
    }
    assert_eq!(found, [10..138, 138..266, 266..300]);
    assert_eq!(sweep.next(&map, 128), Found::Run(10..138));
}
