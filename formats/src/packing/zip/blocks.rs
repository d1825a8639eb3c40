//! A payload that is read here and there: forward through one stream, in blocks of which the last is kept.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use rawzip::ReaderAt;

use crate::Input;
use crate::source::CountingReader;

/// Bytes that are read at once.
pub(super) const BLOCK_BYTES: usize = 128 * 1024;

pub(super) struct Blocks {
    input: Input,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stream: Option<CountingReader>,
    /// Where the stream goes on.
    position: u64,
    block: Vec<u8>,
    block_at: u64,
}

impl Blocks {
    pub(super) fn new(input: Input) -> Self {
        Self { input, state: Mutex::default() }
    }
}

impl ReaderAt for Blocks {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.input.size() {
            return Ok(0);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.after(offset).is_empty() {
            let block_at = offset - offset % BLOCK_BYTES as u64;
            let _partly = state.load(&self.input, block_at);
            if state.after(offset).is_empty() {
                // Where only a part of the payload was sent, the block may begin before it.
                state.load(&self.input, offset)?;
            }
        }
        let available = state.after(offset);
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        Ok(length)
    }
}

impl State {
    /// What is there of the block from an offset on.
    fn after(&self, offset: u64) -> &[u8] {
        let skip = offset.checked_sub(self.block_at).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.block.get(skip..)).unwrap_or_default()
    }

    /// Reads a block. What comes before an error is kept.
    fn load(&mut self, input: &Input, at: u64) -> io::Result<()> {
        self.block.clear();
        self.block_at = at;
        let mut stream = match self.stream.take() {
            Some(stream) if self.position == at => stream,
            _ => input.open(at)?,
        };
        let read = stream.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut self.block);
        self.position = at + self.block.len() as u64;
        read?;
        self.stream = Some(stream);
        Ok(())
    }
}
