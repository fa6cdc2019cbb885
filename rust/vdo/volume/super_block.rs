// SPDX-License-Identifier: GPL-2.0

//! The super block of a volume that is in use.
//!
//! It is written with a flush before it and through to the medium: what it says is true of
//! everything that was written before. After a write has failed it is not written again, for
//! nobody knows what it says now.

use crate::error::Error;
use crate::error::Result;
use crate::format::super_block::SuperBlock;
use crate::format::Pbn;
use crate::storage::Purpose;
use crate::storage::Storage;
use kernel::prelude::*;
use runtime::disk::Buffer;
use runtime::disk::Disk;
use runtime::disk::Durability;
use runtime::pool::Pool;
use runtime::sync::Arc;
use runtime::sync::AtomicU32;
use runtime::sync::Lock;

/// The super block of a volume that is in use.
pub struct SuperBlockStore<D: Disk> {
    storage: Arc<Storage<D>>,
    pbn: Pbn,
    /// What was written last.
    content: Lock<SuperBlock>,
    /// Whoever has the buffer is the one who writes.
    buffer: Pool<D::Buffer>,
    failed: AtomicU32,
}

impl<D: Disk> SuperBlockStore<D> {
    /// Takes over the super block that was found at `pbn`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(storage: Arc<Storage<D>>, pbn: Pbn, found: SuperBlock) -> Result<Self> {
        let mut buffers = KVec::with_capacity(1, GFP_KERNEL)?;
        buffers.push(storage.buffer(1)?, GFP_KERNEL)?;
        Ok(Self {
            storage,
            pbn,
            content: Lock::new(found),
            buffer: Pool::new(buffers),
            failed: AtomicU32::new(0),
        })
    }

    /// Returns what was written last.
    pub fn get(&self) -> SuperBlock {
        self.content.with(|content| *content)
    }

    /// Changes the super block and writes it.
    ///
    /// # Errors
    ///
    /// That of the write; `EIO` if one failed before; or no start would accept what is to be
    /// written, as when the journal has come to the end of its sequences. The change is not made
    /// then.
    pub async fn write(&self, change: impl FnOnce(&mut SuperBlock) + Send) -> Result {
        let mut buffer = self.buffer.take().await;
        if self.failed.load_acquire() != 0 {
            self.buffer.give(buffer);
            return Err(Error::Errno(EIO));
        }
        let mut new = self.get();
        change(&mut new);
        if let Err(error) = new.check_numbers() {
            self.buffer.give(buffer);
            return Err(error);
        }
        if let Some(page) = buffer.page_mut(0) {
            new.encode(page);
        }
        let (buffer, result) = self
            .storage
            .write(
                Purpose::Metadata,
                self.pbn,
                1,
                buffer,
                0,
                Durability::Ordered,
            )
            .await;
        match result {
            Ok(()) => self.content.with(|content| *content = new),
            Err(_) => self.failed.store_release(1),
        }
        self.buffer.give(buffer);
        result
    }
}
