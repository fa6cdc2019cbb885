// SPDX-License-Identifier: GPL-2.0

//! The device or file that a command works on.

use crate::failure::Failure;
use crate::failure::Result;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use vdo::format::Page;
use vdo::format::BLOCK_SIZE;

/// Blocks that are zeroed at once.
const ZERO_BLOCKS: usize = 256;

/// An open device or file.
pub(crate) struct Device {
    path: PathBuf,
    file: File,
}

impl Device {
    /// Opens a device that nobody else has in use; a file if it exists.
    pub(crate) fn open(path: &Path, write: bool) -> Result<Self> {
        let failure = |error| Failure::at(path, describe(error));
        let metadata = std::fs::metadata(path).map_err(failure)?;
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        // Of a block device, the flag means that nobody has it mounted or mapped.
        if metadata.file_type().is_block_device() {
            options.custom_flags(libc::O_EXCL);
        }
        let file = options.open(path).map_err(failure)?;
        Ok(Self {
            path: path.into(),
            file,
        })
    }

    /// Opens a device for reading, in use or not.
    pub(crate) fn open_shared(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Failure::at(path, error))?;
        Ok(Self {
            path: path.into(),
            file,
        })
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Returns the size in blocks.
    pub(crate) fn blocks(&mut self) -> Result<u64> {
        let size = self.file.seek(SeekFrom::End(0));
        let size = size.map_err(|error| self.failure(error))?;
        Ok(size / BLOCK_SIZE as u64)
    }

    pub(crate) fn read(&self, block: u64) -> Result<Box<Page>> {
        let mut page = Box::new([0; BLOCK_SIZE]);
        self.file
            .read_exact_at(&mut *page, block * BLOCK_SIZE as u64)
            .map_err(|error| self.failure(error))?;
        Ok(page)
    }

    pub(crate) fn write(&self, block: u64, page: &Page) -> Result<()> {
        self.file
            .write_all_at(page, block * BLOCK_SIZE as u64)
            .map_err(|error| self.failure(error))
    }

    /// Writes zeroes.
    pub(crate) fn zero(&self, start: u64, blocks: u64) -> Result<()> {
        let zeroes = vec![0; ZERO_BLOCKS * BLOCK_SIZE];
        let end = (start + blocks) * BLOCK_SIZE as u64;
        let mut at = start * BLOCK_SIZE as u64;
        while at < end {
            let size = zeroes.len().min((end - at) as usize);
            self.file
                .write_all_at(&zeroes[..size], at)
                .map_err(|error| self.failure(error))?;
            at += size as u64;
        }
        Ok(())
    }

    /// Puts all that was written on stable storage.
    pub(crate) fn flush(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.failure(error))
    }

    pub(crate) fn failure(&self, what: impl std::fmt::Display) -> Failure {
        Failure::at(&self.path, what)
    }
}

fn describe(error: io::Error) -> String {
    if error.raw_os_error() == Some(libc::EBUSY) {
        return "is in use".into();
    }
    error.to_string()
}
