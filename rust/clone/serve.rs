// SPDX-License-Identifier: GPL-2.0

//! Requests that have to wait for something: one async function per kind.
//!
//! # What holds
//!
//! 1. A region has one owner at a time: copies, overwrites and discards of a region that is not
//!    hydrated hold a claim on it. Writes to hydrated regions and reads need none.
//! 2. A region's bit is set after the destination holds its data, or has been told to discard it.
//! 3. Flush and FUA are acknowledged after the commit that covers what they promise.

use crate::commit::Covered;
use crate::engine::Engine;
use crate::engine::World;
use crate::geometry::RegionRange;
use crate::route::Job;
use crate::route::Request;
use crate::route::Verdict;
use core::pin::pin;
use kernel::prelude::*;
use runtime::range_lock::acquire;

impl<W: World> Engine<W> {
    /// Serves a request that [`route`](Self::route) has made a job of.
    pub async fn serve<R: Request>(&self, job: Job, request: &mut R) -> Verdict {
        let served = match job {
            Job::WritePart { region, fua } => self.write_part(region, fua).await,
            Job::WriteWhole { regions, fua } => self.write_whole(regions, fua, request).await,
            Job::WriteStable => self.write_stable().await,
            Job::Discard { regions } => self.discard(regions, request).await,
            Job::Flush => self.flush().await,
        };
        served.unwrap_or_else(|error| Verdict::End(Err(error)))
    }

    async fn write_part(&self, region: u64, fua: bool) -> Result<Verdict> {
        let regions = region..region + 1;
        if !self.volume.map.is_hydrated(region) {
            let claim = pin!(self.claims.claim(regions.clone()));
            acquire(claim.as_ref()).await;
            // Whoever held the claim before may have hydrated the region.
            if !self.volume.map.is_hydrated(region) {
                let _busy = self.count_hydrating(&regions);
                self.copy_regions(&regions).await?;
            }
        }
        if fua {
            self.write_stable().await
        } else {
            Ok(Verdict::Remap)
        }
    }

    async fn write_whole<R: Request>(
        &self,
        regions: RegionRange,
        fua: bool,
        request: &mut R,
    ) -> Result<Verdict> {
        {
            let claim = pin!(self.claims.claim(regions.clone()));
            acquire(claim.as_ref()).await;
            let _busy = self.count_hydrating(&regions);
            // A write is not so large that its bits would take long.
            request.forward_briefly().await?;
            self.mark_hydrated(&regions)?;
        }
        if fua {
            self.cover().await?;
        }
        Ok(Verdict::End(Ok(())))
    }

    /// Commits, so that the write may then go to the destination with its FUA flag.
    async fn write_stable(&self) -> Result<Verdict> {
        self.cover().await?;
        Ok(Verdict::Remap)
    }

    async fn discard<R: Request>(&self, regions: RegionRange, request: &mut R) -> Result<Verdict> {
        // Marked last, under the claim: a write to these regions waits until the destination has
        // discarded them, so it can neither be undone by the discard nor by a copy.
        let claim = pin!(self.claims.claim(regions.clone()));
        acquire(claim.as_ref()).await;
        if !self.may_write() {
            // A discard is a hint: without a way to record it, it is dropped.
            return Ok(Verdict::End(Ok(())));
        }
        let discarded = if self.passes_discards_down() {
            request.forward().await
        } else {
            Ok(())
        };
        // Also after a failure: the user gave the content up, and the destination may have begun.
        // If the volume became read-only meanwhile, the source's data stays: that is allowed, too.
        let _ = self.mark_hydrated(&regions);
        Ok(Verdict::End(discarded))
    }

    async fn flush(&self) -> Result<Verdict> {
        match self.cover().await? {
            // The commit flushed the destination after this flush had come.
            Covered::ByCommit => Ok(Verdict::End(Ok(()))),
            Covered::Already => Ok(Verdict::Remap),
        }
    }
}
