//! Writes a zip archive as Apple does: in one pass, with the sizes of each file after it in a data
//! descriptor.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// A zip archive that is being written.
pub struct Zip {
    out: Counting,
    /// The central directory.
    directory: Vec<u8>,
    members: u16,
}

impl Zip {
    /// Begins an archive in this file.
    pub fn new(file: BufWriter<File>) -> Self {
        Self { out: Counting { file, bytes: 0 }, directory: Vec::new(), members: 0 }
    }

    /// Adds a file with the bytes that `fill` writes, up to 4 GiB.
    pub fn member<T>(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> io::Result<T> {
        let begin = self.out.bytes;
        // Bit 3: the sizes follow the data. Method 8: deflate.
        let mut header = b"PK\x03\x04\x14\0\x08\0\x08\0\0\0\x21\x58".to_vec();
        header.extend([0; 12]);
        header.extend(to_u32(name.len() as u64)?.to_le_bytes());
        header.extend(name.as_bytes());
        // The length of the name is written with 4 bytes. The last 2 are the length of the extra field, which
        // is 0.
        self.out.write_all(&header)?;
        let data = self.out.bytes;
        let (filled, crc, plain) = {
            let encoder = DeflateEncoder::new(&mut self.out, Compression::fast());
            let mut summed = Summed { encoder, crc: Crc::new(), bytes: 0 };
            let filled = fill(&mut summed)?;
            let sums = (filled, summed.crc.sum(), to_u32(summed.bytes)?);
            summed.encoder.finish()?;
            sums
        };
        let sums = [crc, to_u32(self.out.bytes - data)?, plain].map(u32::to_le_bytes).concat();
        self.out.write_all(b"PK\x07\x08")?;
        self.out.write_all(&sums)?;
        self.directory.extend(b"PK\x01\x02\x14\0");
        self.directory.extend(&header[4..14]);
        self.directory.extend(&sums);
        self.directory.extend(to_u32(name.len() as u64)?.to_le_bytes());
        self.directory.extend([0; 10]);
        self.directory.extend(to_u32(begin)?.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.members += 1;
        Ok(filled)
    }

    /// Writes the central directory.
    pub fn finish(mut self) -> io::Result<()> {
        let begin = to_u32(self.out.bytes)?;
        self.out.write_all(&self.directory)?;
        self.out.write_all(b"PK\x05\x06\0\0\0\0")?;
        self.out.write_all(&[self.members.to_le_bytes(), self.members.to_le_bytes()].concat())?;
        self.out.write_all(&[to_u32(self.directory.len() as u64)?, begin].map(u32::to_le_bytes).concat())?;
        self.out.write_all(&[0; 2])?;
        self.out.flush()
    }
}

fn to_u32(number: u64) -> io::Result<u32> {
    u32::try_from(number).map_err(|_| io::Error::other("more than 4 GiB: write it without --zip"))
}

struct Counting {
    file: BufWriter<File>,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Summed<W: Write> {
    encoder: DeflateEncoder<W>,
    crc: Crc,
    bytes: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.encoder.write_all(bytes)?;
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}
