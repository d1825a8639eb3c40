//! Writes the seeds of all fuzz targets into a folder, with a subfolder for each target.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder =
        PathBuf::from(env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: fuzzing FOLDER"))?);
    for target in fuzzing::TARGETS {
        let corpus = folder.join(target.name);
        fs::create_dir_all(&corpus)?;
        for seed in fuzzing::seeds::of(target.name) {
            fs::write(corpus.join(seed.name), seed.bytes)?;
        }
    }
    Ok(())
}
