// SPDX-License-Identifier: GPL-2.0

//! The storage of a volume as its index sees it: a device whose handle may be exchanged.

use crate::storage::Storage;
use kernel::prelude::*;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::disk::Part;
use runtime::sync::Arc;

/// The storage of a volume as its index sees it. Every I/O goes to the handle that is in use when it
/// begins. It is not counted: mainline counts none of it either.
pub struct IndexDisk<D>(pub(crate) Arc<Storage<D>>);

impl<D: Disk> Disk for IndexDisk<D> {
    type Buffer = D::Buffer;

    fn sectors(&self) -> u64 {
        self.0.disk().sectors()
    }

    fn block_sectors(&self) -> u32 {
        self.0.disk().block_sectors()
    }

    fn buffer(&self, pages: usize) -> Result<D::Buffer> {
        self.0.disk().buffer(pages)
    }

    fn buffer_of_parts(&self, pages: usize, parts: usize) -> Result<D::Buffer> {
        self.0.disk().buffer_of_parts(pages, parts)
    }

    fn buffer_now(&self, pages: usize, parts: usize) -> Result<D::Buffer> {
        self.0.disk().buffer_now(pages, parts)
    }

    async fn read_into(
        &self,
        sector: u64,
        sectors: u32,
        buffer: D::Buffer,
        page: usize,
    ) -> (D::Buffer, Result) {
        let disk = self.0.disk();
        disk.read_into(sector, sectors, buffer, page).await
    }

    async fn write_from(
        &self,
        sector: u64,
        sectors: u32,
        buffer: D::Buffer,
        page: usize,
        durability: Durability,
    ) -> (D::Buffer, Result) {
        let disk = self.0.disk();
        let write = disk.write_from(sector, sectors, buffer, page, durability);
        write.await
    }

    async fn read_parts(&self, buffer: D::Buffer, parts: &mut [Part]) -> D::Buffer {
        let disk = self.0.disk();
        disk.read_parts(buffer, parts).await
    }

    async fn write_parts(&self, buffer: D::Buffer, parts: &mut [Part]) -> D::Buffer {
        let disk = self.0.disk();
        disk.write_parts(buffer, parts).await
    }

    async fn flush(&self, buffer: D::Buffer) -> (D::Buffer, Result) {
        let disk = self.0.disk();
        disk.flush(buffer).await
    }
}
