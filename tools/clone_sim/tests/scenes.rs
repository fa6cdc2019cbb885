// SPDX-License-Identifier: GPL-2.0

//! What has to happen in a given situation: who waits for whom, in which order things are written,
//! how many I/Os there are.

#[path = "scenes/commits.rs"]
mod commits;
#[path = "scenes/copies.rs"]
mod copies;
#[path = "scenes/errors.rs"]
mod errors;
#[path = "scenes/requests.rs"]
mod requests;
#[path = "scenes/tables.rs"]
mod tables;
