// SPDX-License-Identifier: GPL-2.0

//! Names in flight: two batches with the same two names, each of which may follow the other.

#![cfg(loom)]

use interleavings::block_on;
use interleavings::explore;
use loom::thread;
use std::sync::Arc;
use vdo::dedupe::flight::Flights;
use vdo::dedupe::flight::Passenger;
use vdo::dedupe::flight::Seat;
use vdo::format::Mapping;

/// Where a worker stores its block number `tag`.
fn place(worker: usize, tag: usize) -> Mapping {
    Mapping::plain((10 * worker + tag + 1) as u64)
}

/// Serves the batch of a worker. Returns how many of its blocks others have stored.
fn serve(flights: &Flights<usize>, worker: usize) -> usize {
    let ticket = flights.open(worker, worker);
    // In shards of their own: another one may come in between.
    let mut own = [[0; 16], [255; 16]].map(|name| Passenger::new(name, 0, 0));
    own[1].tag = 1;
    flights.board(ticket, &mut own);
    for passenger in &mut own {
        let Seat::Follows(other, _) = passenger.seat else {
            continue;
        };
        match flights.view(other) {
            Some(shown) => assert_eq!(shown, 1 - worker),
            // It is too late to compare.
            None => {
                let _claim = flights.collect(other, &passenger.name);
                passenger.seat = Seat::Alone;
            }
        }
    }
    flights.land(ticket, &mut own, |own| Some(place(worker, own.tag)));
    for passenger in own.iter().filter(|own| own.followers > 0) {
        let _left = flights.grant(ticket, &passenger.name, passenger.followers);
    }
    flights.close(ticket);
    let mut followed = 0;
    for passenger in &own {
        if let Seat::Follows(other, _) = passenger.seat {
            block_on(flights.closed(other));
            let found = flights.collect(other, &passenger.name);
            assert_eq!(found, Some(place(1 - worker, passenger.tag)));
            followed += 1;
        }
    }
    followed
}

#[test]
fn two_batches_follow_each_other() {
    explore(3, || {
        let flights = Arc::new(Flights::new(2, 4).unwrap());
        let other = flights.clone();
        let other = thread::spawn(move || serve(&other, 1));
        let followed = serve(&flights, 0);
        assert!(followed + other.join().unwrap() <= 2);
        assert!(flights.is_empty());
    });
}
