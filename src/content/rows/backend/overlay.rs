//! [`Overlay`]: writes to a read-only file, kept in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The size of a block that is kept in memory.
const BLOCK_BYTES: usize = 4096;
/// Opening a database writes its header. If redb writes more blocks than this, it repairs the database, which would
/// need too much memory.
const BLOCKS_MAX: usize = 4096;

/// The changed blocks and the apparent length of the file.
#[derive(Debug)]
pub(super) struct Overlay {
    length: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>,
}

impl Overlay {
    pub(super) fn new(length: u64) -> Self {
        Self { length, blocks: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> u64 {
        self.length
    }

    pub(super) fn set_len(&mut self, length: u64) -> io::Result<()> {
        if length < self.length {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.length = length;
        Ok(())
    }

    pub(super) fn read(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read_or_zeros(file, offset, out)?;
        each_block(offset, out.len(), |block, within, part| {
            if let Some(kept) = self.blocks.get(&block) {
                out[part.clone()].copy_from_slice(&kept[within..within + part.len()]);
            }
            Ok(())
        })
    }

    pub(super) fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        each_block(offset, data.len(), |block, within, part| {
            if !self.blocks.contains_key(&block) {
                if self.blocks.len() == BLOCKS_MAX {
                    return Err(io::ErrorKind::ReadOnlyFilesystem.into());
                }
                let mut kept = Box::new([0; BLOCK_BYTES]);
                read_or_zeros(file, block * BLOCK_BYTES as u64, &mut kept[..])?;
                self.blocks.insert(block, kept);
            }
            if let Some(kept) = self.blocks.get_mut(&block) {
                kept[within..within + part.len()].copy_from_slice(&data[part]);
            }
            Ok(())
        })
    }
}

/// Visits the blocks of a range: the number of the block, the offset in it, and the part of the range.
fn each_block(
    offset: u64,
    length: usize,
    mut visit: impl FnMut(u64, usize, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let within = usize::try_from(at % BLOCK_BYTES as u64).unwrap_or_default();
        let part = (BLOCK_BYTES - within).min(length - done);
        visit(at / BLOCK_BYTES as u64, within, done..done + part)?;
        done += part;
    }
    Ok(())
}

/// Reads, with zeros after the end of the file.
fn read_or_zeros(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out[done..].fill(0);
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_back_and_the_file_stays() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 10_000], 0).unwrap();
        let mut overlay = Overlay::new(10_000);
        overlay.set_len(20_000).unwrap();
        overlay.write(&file, 4_000, &[2; 5_000]).unwrap();
        overlay.write(&file, 19_999, &[3]).unwrap();
        let mut seen = vec![9; 20_000];
        overlay.read(&file, 0, &mut seen).unwrap();
        let mut expected = vec![0; 20_000];
        expected[..10_000].fill(1);
        expected[4_000..9_000].fill(2);
        expected[19_999] = 3;
        assert_eq!(seen, expected);
        assert!(overlay.read(&file, 19_999, &mut [0; 2]).is_err(), "after the end");
        let mut kept = vec![0; 10_000];
        file.read_exact_at(&mut kept, 0).unwrap();
        assert_eq!(kept, [1; 10_000]);
        assert_eq!(file.metadata().unwrap().len(), 10_000);
    }
}
