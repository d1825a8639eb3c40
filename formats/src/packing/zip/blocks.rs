//! A payload that is read here and there: forward through one stream, in blocks of which the last is kept.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use rawzip::ReaderAt;

use crate::Input;
use crate::source::Counted;

/// Bytes that are read at once.
pub(super) const BLOCK_BYTES: usize = 128 * 1024;

pub(super) struct Blocks {
    input: Input,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stream: Option<Counted>,
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
        let block_at = offset - offset % BLOCK_BYTES as u64;
        if state.block.is_empty() || state.block_at != block_at {
            state.load(&self.input, block_at)?;
        }
        let skip = usize::try_from(offset - block_at).unwrap_or(usize::MAX);
        let available = state.block.get(skip..).unwrap_or_default();
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        Ok(length)
    }
}

impl State {
    fn load(&mut self, input: &Input, at: u64) -> io::Result<()> {
        if self.stream.is_none() || self.position != at {
            self.stream = Some(input.open(at)?);
            self.position = at;
        }
        self.block.clear();
        self.block_at = at;
        if let Some(stream) = &mut self.stream {
            stream.take(BLOCK_BYTES as u64).read_to_end(&mut self.block)?;
        }
        self.position += self.block.len() as u64;
        Ok(())
    }
}
