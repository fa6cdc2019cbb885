// SPDX-License-Identifier: GPL-2.0

//! Several parts of a buffer on their way at once.

use crate::buffer::KernelBuffer;
use crate::task::may_begin;
use core::future::Future;
use core::mem;
use core::pin::Pin;
use core::task::Context;
use core::task::Poll;
use dm::Device;
use kext::bio::Operation;
use runtime::disk::Part;

/// I/Os with parts of one buffer: as many at once as it has bios for, and the next when these are
/// done. Dropped in flight it leaks its buffer, which the device may still write to, and a handle of
/// the device, which then is never closed.
pub(super) struct Parts<'d> {
    device: &'d Device,
    operation: Operation,
    parts: &'d mut [Part],
    /// How many parts are done.
    done: usize,
    stage: Stage,
}

enum Stage {
    Ready(KernelBuffer),
    /// So many parts are in flight; with a handle of the device, for a future that is forgotten.
    Flying(KernelBuffer, Device, usize),
    Done,
}

impl<'d> Parts<'d> {
    pub(super) fn new(
        device: &'d Device,
        operation: Operation,
        buffer: KernelBuffer,
        parts: &'d mut [Part],
    ) -> Self {
        Self {
            device,
            operation,
            parts,
            done: 0,
            stage: Stage::Ready(buffer),
        }
    }
}

impl Future for Parts<'_> {
    type Output = KernelBuffer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<KernelBuffer> {
        let this = &mut *self;
        loop {
            let left = this.parts.get_mut(this.done..).unwrap_or_default();
            match mem::replace(&mut this.stage, Stage::Done) {
                Stage::Ready(buffer) if left.is_empty() => return Poll::Ready(buffer),
                Stage::Ready(mut buffer) => {
                    let sectors = left.iter().map(|part| part.sectors);
                    if !may_begin(context.waker(), sectors.fold(0, u32::saturating_add)) {
                        this.stage = Stage::Ready(buffer);
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    let open = this.device.clone();
                    // SAFETY: Buffer and handle stay in this future, unused, until the parts have
                    // landed, or are leaked. The handle keeps the device open.
                    let count = unsafe { buffer.launch_parts(&open, this.operation, left) };
                    this.stage = Stage::Flying(buffer, open, count);
                }
                Stage::Flying(mut buffer, open, count) => {
                    let flying = left.get_mut(..count).unwrap_or_default();
                    if !buffer.land_parts(flying, context.waker()) {
                        this.stage = Stage::Flying(buffer, open, count);
                        return Poll::Pending;
                    }
                    this.done = this.done.saturating_add(count.max(1));
                    this.stage = Stage::Ready(buffer);
                }
                Stage::Done => return Poll::Pending,
            }
        }
    }
}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        if let Stage::Flying(buffer, open, _) = mem::replace(&mut self.stage, Stage::Done) {
            kernel::pr_err_once!("I/Os were given up while in flight, their buffer is lost\n");
            mem::forget((buffer, open));
        }
    }
}
