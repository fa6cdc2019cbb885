// SPDX-License-Identifier: GPL-2.0

//! What a volume is read from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vdo::format::Page;
use vdo::format::BLOCK_SIZE;

/// A device, a file, or memory.
pub trait Image {
    /// Returns the number of blocks.
    fn blocks(&self) -> u64;

    /// Reads a block, by its place on the device.
    fn read_block(&self, block: u64, page: &mut Page) -> io::Result<()>;
}

/// A file or a block device.
pub struct FileImage {
    file: File,
    blocks: u64,
}

impl FileImage {
    /// Opens a file for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// Reads an open file.
    pub fn new(mut file: File) -> io::Result<Self> {
        let blocks = file.seek(SeekFrom::End(0))? / BLOCK_SIZE as u64;
        Ok(Self { file, blocks })
    }
}

impl Image for FileImage {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read_block(&self, block: u64, page: &mut Page) -> io::Result<()> {
        let offset = block.checked_mul(BLOCK_SIZE as u64);
        let offset = offset.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.read_exact_at(page, offset)
    }
}

/// Blocks in memory; those that are not there are zero.
#[derive(Clone, Default)]
pub struct MemoryImage {
    blocks: u64,
    pages: BTreeMap<u64, Box<Page>>,
}

impl MemoryImage {
    /// A device of zeroes.
    pub fn new(blocks: u64) -> Self {
        Self {
            blocks,
            pages: BTreeMap::new(),
        }
    }

    /// Returns a block for writing.
    pub fn page_mut(&mut self, block: u64) -> &mut Page {
        self.pages
            .entry(block)
            .or_insert_with(|| Box::new([0; BLOCK_SIZE]))
    }

    /// Returns the blocks that were written.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &Page)> {
        self.pages.iter().map(|(&block, page)| (block, &**page))
    }

    /// Writes a block.
    pub fn write(&mut self, block: u64, page: &Page) {
        *self.page_mut(block) = *page;
    }
}

impl Image for MemoryImage {
    fn blocks(&self) -> u64 {
        self.blocks
    }

    fn read_block(&self, block: u64, page: &mut Page) -> io::Result<()> {
        if block >= self.blocks {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match self.pages.get(&block) {
            Some(found) => *page = **found,
            None => page.fill(0),
        }
        Ok(())
    }
}
