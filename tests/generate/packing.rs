//! A zip as Apple writes it: in one pass, each file's sizes behind it in a data descriptor.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// A zip that is being written.
pub struct Zip {
    out: Counting,
    list: Vec<u8>,
    members: u16,
}

impl Zip {
    /// Begins one in this file.
    pub fn new(file: BufWriter<File>) -> Self {
        Self { out: Counting { file, bytes: 0 }, list: Vec::new(), members: 0 }
    }

    /// Adds a file with what `fill` writes, up to 4 GiB.
    pub fn member<T>(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<T>,
    ) -> io::Result<T> {
        let begin = self.out.bytes;
        // Bit 3: the sizes come later. Method 8: deflated.
        let mut header = b"PK\x03\x04\x14\0\x08\0\x08\0\0\0\x21\x58".to_vec();
        header.extend([0; 12]);
        header.extend(narrow(name.len() as u64)?.to_le_bytes());
        header.extend(name.as_bytes());
        // The length of the name has 4 bytes here: the last 2 are the length of an extra field, none.
        self.out.write_all(&header)?;
        let data = self.out.bytes;
        let (filled, crc, plain) = {
            let encoder = DeflateEncoder::new(&mut self.out, Compression::fast());
            let mut summed = Summed { encoder, crc: Crc::new(), bytes: 0 };
            let filled = fill(&mut summed)?;
            let sums = (filled, summed.crc.sum(), narrow(summed.bytes)?);
            summed.encoder.finish()?;
            sums
        };
        let sums = [crc, narrow(self.out.bytes - data)?, plain].map(u32::to_le_bytes).concat();
        self.out.write_all(b"PK\x07\x08")?;
        self.out.write_all(&sums)?;
        self.list.extend(b"PK\x01\x02\x14\0");
        self.list.extend(&header[4..14]);
        self.list.extend(&sums);
        self.list.extend(narrow(name.len() as u64)?.to_le_bytes());
        self.list.extend([0; 10]);
        self.list.extend(narrow(begin)?.to_le_bytes());
        self.list.extend(name.as_bytes());
        self.members += 1;
        Ok(filled)
    }

    /// Writes the list of files.
    pub fn finish(mut self) -> io::Result<()> {
        let begin = narrow(self.out.bytes)?;
        self.out.write_all(&self.list)?;
        self.out.write_all(b"PK\x05\x06\0\0\0\0")?;
        self.out.write_all(&[self.members.to_le_bytes(), self.members.to_le_bytes()].concat())?;
        self.out.write_all(&[narrow(self.list.len() as u64)?, begin].map(u32::to_le_bytes).concat())?;
        self.out.write_all(&[0; 2])?;
        self.out.flush()
    }
}

fn narrow(number: u64) -> io::Result<u32> {
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
