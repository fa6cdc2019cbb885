// SPDX-License-Identifier: GPL-2.0

//! What has to happen in a given situation: who waits for whom, and what is on the disk before
//! what.

#[path = "scenes/at_once.rs"]
mod at_once;
#[path = "scenes/compressed.rs"]
mod compressed;
#[path = "scenes/duplicates.rs"]
mod duplicates;
#[path = "scenes/order.rs"]
mod order;
#[path = "scenes/requests.rs"]
mod requests;
#[path = "scenes/stops.rs"]
mod stops;
#[path = "scenes/twins.rs"]
mod twins;
