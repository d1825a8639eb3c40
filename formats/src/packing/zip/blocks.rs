//! Reads a payload at any offset, in blocks. One stream reads blocks that follow each other; any other block
//! opens a new stream. The last block is kept in memory.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use rawzip::ReaderAt;

use crate::Input;
use crate::source::CountingReader;

/// Size of a block in bytes.
pub(super) const BLOCK_BYTES: usize = 128 * 1024;

pub(super) struct BlockReader {
    input: Input,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stream: Option<CountingReader>,
    /// The offset of the next byte of the stream.
    position: u64,
    block: Vec<u8>,
    block_at: u64,
}

impl BlockReader {
    pub(super) fn new(input: Input) -> Self {
        Self { input, state: Mutex::default() }
    }
}

impl ReaderAt for BlockReader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.input.size() {
            return Ok(0);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.loaded_bytes_from(offset).is_empty() {
            let block_at = offset - offset % BLOCK_BYTES as u64;
            let _partial = state.load_block(&self.input, block_at);
            if state.loaded_bytes_from(offset).is_empty() {
                // If only a part of the payload was sent, the block may begin before that part. Then the
                // block begins at the offset itself.
                state.load_block(&self.input, offset)?;
            }
        }
        let available = state.loaded_bytes_from(offset);
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        Ok(length)
    }
}

impl State {
    /// The loaded bytes of the block from an offset on.
    fn loaded_bytes_from(&self, offset: u64) -> &[u8] {
        let skip = offset.checked_sub(self.block_at).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.block.get(skip..)).unwrap_or_default()
    }

    /// Loads up to [`BLOCK_BYTES`] from an offset on in place of the loaded block. The bytes before an error
    /// are kept.
    fn load_block(&mut self, input: &Input, at: u64) -> io::Result<()> {
        self.block.clear();
        self.block_at = at;
        let mut stream = match self.stream.take() {
            Some(stream) if self.position == at => stream,
            _ => input.open_at_offset(at)?,
        };
        let read = stream.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut self.block);
        self.position = at + self.block.len() as u64;
        read?;
        self.stream = Some(stream);
        Ok(())
    }
}
