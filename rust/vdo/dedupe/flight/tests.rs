// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::fixture::now;
use crate::fixture::Hand;
use std::vec::Vec;

type Table = Flights<&'static str>;

fn name(first: u8, last: u8) -> Name {
    let mut name = [0; 16];
    (name[0], name[15]) = (first, last);
    name
}

fn passengers(names: &[Name]) -> Vec<Passenger> {
    let all = names.iter().enumerate();
    all.map(|(at, name)| Passenger::new(*name, at, at))
        .collect()
}

fn table() -> Table {
    Flights::new(3, 24).unwrap()
}

fn board(table: &Table, worker: usize, names: &[Name]) -> (Ticket, Vec<Passenger>) {
    let ticket = table.open(worker, "data");
    let mut own = passengers(names);
    table.board(ticket, &mut own);
    (ticket, own)
}

/// Ends a flight whose names are all at block 7, with so many claims for those who follow.
fn land(table: &Table, ticket: Ticket, own: &mut [Passenger], claims: u8) -> u8 {
    table.land(ticket, own, |_| Some(Mapping::plain(7)));
    let followed = own.iter().filter(|own| own.followers > 0);
    let left = followed
        .map(|own| table.grant(ticket, &own.name, claims))
        .sum();
    table.close(ticket);
    left
}

#[test]
fn who_comes_first_leads_and_others_follow() {
    let table = table();
    let names = [name(0, 1), name(0, 2), name(200, 1)];
    let (first, mut own) = board(&table, 0, &names);
    assert!(own.iter().all(|own| own.seat == Seat::Leads));
    let (second, mut other) = board(&table, 1, &names[1..]);
    assert_eq!(other[0].seat, Seat::Follows(first, 1));
    assert_eq!(other[1].seat, Seat::Follows(first, 2));
    assert_eq!(table.view(first), Some("data"));
    let mut waits = Hand::waiting(table.closed(first));
    land(&table, first, &mut own, 1);
    assert!(waits.poll().is_some());
    assert_eq!(table.view(first), None);
    assert!(!table.is_empty());
    for name in &names[1..] {
        assert_eq!(table.collect(first, name), Some(Mapping::plain(7)));
    }
    land(&table, second, &mut other, 0);
    assert!(table.is_empty());
}

#[test]
fn a_name_that_has_landed_is_followed_by_nobody() {
    let table = table();
    let names = [name(9, 1)];
    let (first, mut own) = board(&table, 0, &names);
    let (second, mut other) = board(&table, 1, &names);
    land(&table, first, &mut own, 1);
    // It is still to be collected.
    let (third, mut last) = board(&table, 2, &names);
    assert_eq!(last[0].seat, Seat::Leads);
    assert_eq!(table.collect(first, &names[0]), Some(Mapping::plain(7)));
    land(&table, second, &mut other, 0);
    land(&table, third, &mut last, 0);
    assert!(table.is_empty());
}

#[test]
fn who_gets_no_claim_learns_nothing() {
    let table = table();
    let names = [name(9, 1)];
    let (first, mut own) = board(&table, 0, &names);
    let others = [board(&table, 1, &names), board(&table, 2, &names)];
    assert_eq!(land(&table, first, &mut own, 1), 0);
    assert_eq!(table.collect(first, &names[0]), Some(Mapping::plain(7)));
    assert_eq!(table.collect(first, &names[0]), None);
    for (ticket, mut own) in others {
        land(&table, ticket, &mut own, 0);
    }
    assert!(table.is_empty());
}

#[test]
fn who_follows_no_longer_leaves_its_claim() {
    let table = table();
    let names = [name(9, 1)];
    let (first, mut own) = board(&table, 0, &names);
    let (second, mut other) = board(&table, 1, &names);
    table.land(first, &mut own, |_| Some(Mapping::plain(7)));
    assert_eq!(own[0].followers, 1);
    // It finds that its data is not the same.
    assert_eq!(table.collect(first, &names[0]), None);
    assert_eq!(table.grant(first, &names[0], 1), 1);
    table.close(first);
    land(&table, second, &mut other, 0);
    assert!(table.is_empty());
}

#[test]
fn what_was_lost_is_not_found() {
    let table = table();
    let names = [name(9, 1)];
    let (first, mut own) = board(&table, 0, &names);
    let (second, mut other) = board(&table, 1, &names);
    table.land(first, &mut own, |_| None);
    table.close(first);
    assert_eq!(table.collect(first, &names[0]), None);
    land(&table, second, &mut other, 0);
    assert!(table.is_empty());
}

#[test]
fn a_shard_that_is_full_lets_others_go_alone() {
    let table = table();
    let many: Vec<_> = (0..20).map(|last| name(0, last)).collect();
    let (first, mut own) = board(&table, 0, &many);
    let leads = own.iter().filter(|own| own.seat == Seat::Leads).count();
    assert!((SPARE..20).contains(&leads));
    // Elsewhere there is room.
    let (second, mut other) = board(&table, 1, &[name(0, 0), name(128, 0)]);
    assert_eq!(other[0].seat, Seat::Follows(first, 0));
    assert_eq!(other[1].seat, Seat::Leads);
    land(&table, first, &mut own, 1);
    assert!(table.collect(first, &name(0, 0)).is_some());
    land(&table, second, &mut other, 0);
    assert!(table.is_empty());
}

#[test]
fn a_flight_that_has_another_behind_it_is_closed() {
    let table = table();
    let (first, mut own) = board(&table, 0, &[name(1, 1)]);
    land(&table, first, &mut own, 0);
    let (second, mut own) = board(&table, 0, &[name(1, 2)]);
    now(table.closed(first));
    assert_eq!(table.view(first), None);
    land(&table, second, &mut own, 0);
}

#[test]
fn without_workers_nothing_is_in_flight() {
    let table = Table::new(0, 0).unwrap();
    let (_, own) = board(&table, 0, &[name(1, 1)]);
    assert_eq!(own[0].seat, Seat::Alone);
    assert!(table.is_empty());
}
