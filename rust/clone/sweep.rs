// SPDX-License-Identifier: GPL-2.0

//! Background hydration: the sweep over the regions, and what becomes of a run that it finds.

use crate::copier::Tools;
use crate::engine::Engine;
use crate::engine::World;
use crate::geometry::RegionRange;
use crate::geometry::Regions;
use crate::geometry::Sectors;
use crate::hydration::Hydration;
use crate::hydration::Permit;
use crate::region_map::RegionMap;
use core::pin::pin;
use kernel::prelude::*;
use runtime::clock::Clock;
use runtime::range_lock::try_acquire;

/// Most regions that one look for work passes over. The look holds a lock.
const LOOK_REGIONS: Regions = 1 << 18;

/// How many sectors could be copied in the time of a look that finds nothing, about.
const LOOK_COST: Sectors = 64;

/// The sweep over the regions, in ascending order.
pub(crate) struct Sweep {
    next: u64,
}

/// What a look for work found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Regions to hydrate.
    Run(RegionRange),
    /// Nothing yet: look again.
    Nothing,
    /// The last region has been passed.
    End,
}

impl Sweep {
    pub(crate) fn new() -> Self {
        Self { next: 0 }
    }

    /// Finds the next run of at most `regions_max` regions that are not hydrated.
    pub(crate) fn next(&mut self, map: &RegionMap, regions_max: Regions) -> Found {
        if self.next >= map.regions() {
            self.next = 0;
            return Found::End;
        }
        let look = self.next..self.next.saturating_add(LOOK_REGIONS).min(map.regions());
        let Some(start) = map.first_unhydrated(&look) else {
            self.next = look.end;
            return Found::Nothing;
        };
        let run = map.run(&(start..start.saturating_add(regions_max).min(map.regions())));
        self.next = run.end;
        if run.hydrated {
            return Found::Nothing;
        }
        Found::Run(start..run.end)
    }
}

/// How a run went.
#[derive(Default)]
struct Outcome {
    hydrated: Regions,
    failed: bool,
}

impl<W: World> Engine<W> {
    /// Hydrates the next run, if there is one.
    pub(crate) async fn hydrate(&self, permit: Permit, tools: &mut Tools<W>) {
        let found = self
            .sweep
            .with(|sweep| sweep.next(&self.volume.map, permit.regions));
        let run = match found {
            Found::Run(run) => run,
            Found::Nothing => {
                self.copier.end_permit(permit.regions, |_| ());
                return tools.spend(LOOK_COST).await;
            }
            Found::End => return self.copier.end_permit(permit.regions, Hydration::rest),
        };
        let regions = run.end - run.start;
        self.copier.end_permit(permit.regions - regions, |_| ());
        let outcome = self.hydrate_run(&run, tools).await;
        if outcome.failed {
            self.world.hydration_failed();
        }
        let now = self.world.clock().now_ms();
        let users = self.copier.take_users();
        self.copier.end_permit(0, |hydration| {
            if outcome.failed || outcome.hydrated > 0 {
                hydration.completed(regions, outcome.hydrated, users, now);
            } else {
                // Somebody else is at it.
                hydration.give_back(regions);
            }
        });
    }

    async fn hydrate_run(&self, run: &RegionRange, tools: &mut Tools<W>) -> Outcome {
        let mut outcome = Outcome::default();
        // A part that fails is halved, down to the region that is bad; behind it parts grow again.
        let mut at = run.start;
        let mut size = run.end - run.start;
        while at < run.end {
            let part = at..at.saturating_add(size).min(run.end);
            let regions = part.end - part.start;
            match self.hydrate_part(&part, tools).await {
                Ok(hydrated) => {
                    outcome.hydrated += hydrated;
                    at = part.end;
                    size = size.saturating_mul(2);
                }
                Err(_) if !self.copier.is_running() => {
                    // Suspended or read-only: there is no point in trying harder.
                    outcome.failed = true;
                    break;
                }
                Err(_) if regions > 1 => size = regions / 2,
                Err(_) => {
                    outcome.failed = true;
                    at = part.end;
                }
            }
        }
        outcome
    }

    /// Hydrates a part of a run, and returns how many regions. Leaves it to others if they are at
    /// it, or wait: so a user's request waits for the copy that it met, not for all that is tried
    /// after it.
    async fn hydrate_part(&self, part: &RegionRange, tools: &mut Tools<W>) -> Result<Regions> {
        let claim = pin!(self.claims.claim(part.clone()));
        if !try_acquire(claim.as_ref()) {
            return Ok(0);
        }
        // The part was looked up without a claim: some of it may be hydrated by now.
        let Some(start) = self.volume.map.first_unhydrated(part) else {
            return Ok(0);
        };
        let part = start..self.volume.map.run(&(start..part.end)).end;
        let _busy = self.count_hydrating(&part);
        self.copy_as_worker(&part, tools).await?;
        Ok(part.end - part.start)
    }
}

#[cfg(test)]
mod tests;
