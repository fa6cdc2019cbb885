// SPDX-License-Identifier: GPL-2.0

//! Clones whose metadata has any field changed, under a right checksum, and what a machine does with
//! them.
//!
//! A metadata device that somebody hands over may say anything. Whatever it says, nothing panics (a
//! stock kernel checks arithmetic, and a panic is a BUG), nothing hangs, and nothing is written to
//! metadata that is not free by its own counts, or to the destination in the place of what the bits
//! say is there already.

mod damage;
mod places;

use crate::machine::Line;
use crate::machine::Machine;
use crate::machine::Plan;
use crate::random;
use crate::scene;
use crate::scene::DESTINATION;
use crate::scene::METADATA;
use crate::scene::SOURCE;
use crate::used;
use crate::used::Left;
use crate::used::Used;
use crate::user::User;
use clone::geometry::Geometry;
use clone::message::Message;
use clone::volume::Mode;
use places::Places;
use sim::choices::Choices;
use sim::clock::sleep;
use sim::pattern;
use sim::Executor;
use sim::Model;
use sim::Outcome;
use sim::Rng;
use sim::World;
use std::sync::OnceLock;

/// Clones of each kind that are taken.
const OF_EACH_KIND: u64 = 8;

fn clones() -> &'static [Used] {
    static CLONES: OnceLock<Vec<Used>> = OnceLock::new();
    CLONES.get_or_init(|| {
        let kinds = used::ALL.into_iter().filter(|left| *left != Left::Blank);
        let of_kind = |left| (0..OF_EACH_KIND).map(move |seed| Used::new(seed, left));
        let mut clones: Vec<Used> = kinds.flat_map(of_kind).collect();
        clones.push(Used::of(deep(), 0, Left::Large));
        for used in &mut clones {
            // Copies of the source show as such.
            let sectors = used.plan.geometry.length();
            used.images[DESTINATION] = pattern::run(pattern::JUNK, 0, sectors);
        }
        clones
    })
}

/// Returns the plan of a clone whose tree of bitmap blocks has two levels.
fn deep() -> Plan {
    Plan {
        geometry: Geometry::new(260 * 8, 3).expect("a small device"),
        island: Some(1),
        metadata_blocks: 290,
        workers: (1, 1),
        ..scene::plan()
    }
}

/// Does what `input` says: which clone, what is changed in its metadata, and what is done with it.
///
/// # Errors
///
/// What was wrong first.
pub fn run(input: &[u8]) -> core::result::Result<(), String> {
    let mut choices = Choices::new(input);
    let used = choices.pick(clones());
    let mut images = used.images.clone();
    for _ in 0..=choices.below(3) {
        let what = damage::make(&mut images[METADATA], &mut choices);
        if std::env::var_os("DMOX_SIM_TRACE").is_some() {
            eprintln!("{:?}: {what}", used.left);
        }
    }
    let plan = plan_for(&used.plan, &images[METADATA], &mut choices);
    for life in 0..=choices.below(2) {
        images =
            live(&plan, images, &mut choices).map_err(|text| format!("life {life}: {text}"))?;
    }
    Ok(())
}

/// Returns the plan of a machine whose table says what the superblock says, if the disks are large
/// enough for that.
fn plan_for(plan: &Plan, metadata: &[u8], choices: &mut Choices) -> Plan {
    let mut plan = plan.clone();
    plan.hostile = true;
    let field = |at: usize| {
        metadata[at..]
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let (region_size, length) = (field(172), field(180));
    let fits = (8..=1 << 21).contains(&region_size) && region_size.is_power_of_two();
    let fits = fits && (1..=plan.geometry.length()).contains(&length);
    if plan.island.is_none() && fits {
        let geometry = Geometry::new(length, region_size.trailing_zeros());
        plan.geometry = geometry.unwrap_or(plan.geometry);
    }
    plan.settings.discard_passdown = choices.chance(3, 4);
    plan
}

/// One life of a machine; returns what it leaves.
fn live(
    plan: &Plan,
    images: Vec<Vec<u8>>,
    choices: &mut Choices,
) -> core::result::Result<Vec<Vec<u8>>, String> {
    let world = World::new(choices.number());
    let mut executor = Executor::new(&world);
    executor.set_limits(400_000, 600_000_000);
    let places = Places::of(&images[METADATA]);
    let machine = Machine::new(&world, executor.spawner(), plan, images.clone());
    let user = User::new(&machine, Model::new(plan.geometry.length()));
    let life = use_it(user.clone(), images, choices.fork());
    executor.spawn("life", life);
    let crashes = choices.chance(1, 4);
    let last = choices.below(3000);
    let outcome = executor.run_until(|executor| {
        !executor.is_busy() || user.violation().is_some() || (crashes && executor.steps() > last)
    });
    if let Some(text) = user.violation() {
        return Err(text);
    }
    if let Outcome::Stuck(tasks) = outcome {
        return Err(format!("stuck: {tasks:?}"));
    }
    let is_cut_off = executor.is_busy();
    executor.power_off();
    let left = match is_cut_off {
        true => world.survivors(&[], &mut Rng::new(choices.number())),
        false => world.images(),
    };
    places.check(plan, &world.log(), &left[METADATA], is_cut_off)?;
    Ok(left)
}

/// Does what users and administrators do. Anything about the metadata may fail; what the device
/// shows follows from the bits that were found.
async fn use_it(user: User, images: Vec<Vec<u8>>, mut choices: Choices) {
    let machine = user.machine.clone();
    let Ok(table) = machine.load().await else {
        return;
    };
    if machine.world.changes() > 0 {
        return user.complain("a load has written something".to_owned());
    }
    if machine.switch(table).await.is_err() {
        // A resume that failed leaves a table that has never been active.
        if choices.chance(1, 2) || !again(&machine).await {
            return;
        }
    }
    *user.model.borrow_mut() = Model::holding(shown(&user, &images), 1);
    if let (true, Some(table)) = (choices.chance(1, 3), machine.active()) {
        table.engine.message(Message::EnableHydration);
    }
    user.settle("at the start").await;
    for _ in 0..=choices.below(3) {
        let rng = Rng::new(choices.number());
        let other = random::make_requests(user.clone(), rng);
        let other = machine.spawner().spawn("user", other);
        random::make_requests(user.clone(), Rng::new(choices.number())).await;
        let Some(table) = machine.active() else {
            return;
        };
        match choices.below(8) {
            0..=1 => drop(machine.status(&table, false).await),
            2 => table.engine.message(Message::EnableHydration),
            3 => machine.pause().await,
            4..=5 => {
                let line = Line {
                    read_only: choices.chance(1, 4),
                    moves: false,
                };
                if let Ok(table) = machine.load_line(line).await {
                    let _ = machine.switch(table).await;
                }
            }
            6 => {
                sleep(&machine.world, 2_000_000).await;
                machine.tick();
            }
            _ => {}
        }
        if machine.suspended.get() && !again(&machine).await {
            // Nobody may wait for it.
            machine.world.crash();
            return;
        }
        other.await;
    }
    finish(&user, &mut choices).await;
}

/// What an administrator tries when the device is suspended. Returns false if it stays so.
async fn again(machine: &Machine) -> bool {
    if let Some(table) = machine.active() {
        if machine.switch(table).await.is_ok() {
            return true;
        }
    }
    match machine.load().await {
        Ok(table) => machine.switch(table).await.is_ok(),
        Err(_) => false,
    }
}

/// Hydrates, stops, and looks at the data itself.
async fn finish(user: &User, choices: &mut Choices) {
    let machine = &user.machine;
    let Some(table) = machine.active() else {
        return;
    };
    if choices.chance(1, 2) {
        table.engine.message(Message::EnableHydration);
        let volume = table.engine.volume();
        let idle = || volume.map().is_complete() || volume.mode() == Mode::ReadOnly;
        for _ in 0..1000 {
            if idle() || table.read_only {
                break;
            }
            sleep(&machine.world, 10_000).await;
            machine.tick();
        }
        if !idle() && !table.read_only {
            return user.complain("hydration does not end".to_owned());
        }
    }
    user.settle("at the end").await;
    machine.pause().await;
    let images = machine.world.images();
    let data = shown(user, &images);
    if let Err(violation) = user.model.borrow_mut().settle(0, &data, "on the disks") {
        user.complain(violation.to_string());
    }
    machine.remove().await;
}

/// Returns what the device is to show: by the bits in memory, the destination's data or the
/// source's.
fn shown(user: &User, images: &[Vec<u8>]) -> Vec<u8> {
    let machine = &user.machine;
    let geometry = &machine.plan.geometry;
    let Some(table) = machine.active() else {
        return Vec::new();
    };
    let map = table.engine.volume().map();
    let islands = machine.plan.islands();
    let mut data = Vec::new();
    for region in 0..geometry.regions() {
        let sectors = geometry.sectors(&(region..region + 1));
        let place = islands.map_or(sectors.start, |islands| islands.place(sectors.start));
        let disk = match map.is_hydrated(place / geometry.region_size()) {
            true => machine.destination_now().number(),
            false => SOURCE,
        };
        let bytes = sectors.start as usize * 512..sectors.end as usize * 512;
        data.extend_from_slice(&images[disk][bytes]);
    }
    data
}
