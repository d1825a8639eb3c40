//! Reads gzip files of one or more members (RFC 1952, section 2.2), which zeros may follow.
//!
//! Tools that write blocks of a fixed size fill the last block with zeros, and gzip(1) ignores them.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use crate::error::TrailingBytes;

/// Unpacks the members of a gzip file one after the other, as one stream. Fails if anything but zeros follows
/// them.
pub(super) struct GzipReader<R> {
    /// The current member; `None` after the last one.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> GzipReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)) }
    }
}

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { break };
            match rest.fill_buf()?.first() {
                None => break,
                Some(0) => {
                    check_only_zeros_follow(&mut rest)?;
                    break;
                }
                Some(0x1f) => self.member = Some(GzDecoder::new(rest)),
                Some(_) => return Err(io::Error::other(TrailingBytes)),
            }
        }
        Ok(0)
    }
}

/// Reads to the end, and fails with [`TrailingBytes`] if there is anything but zeros.
fn check_only_zeros_follow(rest: &mut impl BufRead) -> io::Result<()> {
    loop {
        let block = rest.fill_buf()?;
        let length = block.len();
        if length == 0 {
            return Ok(());
        }
        if block.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other(TrailingBytes));
        }
        rest.consume(length);
    }
}
