use std::fs;
use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use uuid::Uuid;

use super::*;

/// A file of its own for each case, removed with it.
struct Case(PathBuf);

impl Case {
    fn new(name: &str, bytes: &[u8]) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("idem-sniff-{}", Uuid::now_v7()));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)?;
        Ok(Self(folder.join(name)))
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _gone = self.0.parent().map(fs::remove_dir_all);
    }
}

fn told(name: &str, bytes: &[u8], columns_are_named: bool) -> anyhow::Result<ImportFormat> {
    format(&Case::new(name, bytes)?.0, columns_are_named)
}

fn refusal(name: &str, bytes: &[u8]) -> String {
    told(name, bytes, false).err().map(|error| format!("{error:#}")).expect("it must be refused")
}

fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// A zip of deflated files, without sums, which nobody asks here.
fn zip(files: &[(&str, &[u8])]) -> anyhow::Result<Vec<u8>> {
    let (mut out, mut list) = (Vec::<u8>::new(), Vec::<u8>::new());
    for (name, bytes) in files {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes)?;
        let packed = encoder.finish()?;
        let offset = u32::try_from(out.len())?.to_le_bytes();
        let mut common = vec![20, 0, 0, 0, 8, 0];
        common.extend([0; 8]);
        common.extend(u32::try_from(packed.len())?.to_le_bytes());
        common.extend(u32::try_from(bytes.len())?.to_le_bytes());
        common.extend(u16::try_from(name.len())?.to_le_bytes());
        common.extend([0; 2]);
        out.extend(b"PK\x03\x04".iter().chain(&common).chain(name.as_bytes()).chain(&packed));
        list.extend(b"PK\x01\x02\x14\x00".iter().chain(&common).chain(&[0; 10]).chain(&offset));
        list.extend(name.as_bytes());
    }
    let (size, offset) = (u32::try_from(list.len())?.to_le_bytes(), u32::try_from(out.len())?.to_le_bytes());
    let count = u16::try_from(files.len())?.to_le_bytes();
    out.extend(list);
    out.extend(
        b"PK\x05\x06\0\0\0\0".iter().chain(&count).chain(&count).chain(&size).chain(&offset).chain(&[0; 2]),
    );
    Ok(out)
}

#[test]
fn the_first_bytes_tell_the_format_however_they_are_packed() -> anyhow::Result<()> {
    for (text, expected) in [
        ("{\"a\":1}\n", ImportFormat::Ndjson),
        ("\u{feff} \n[{}]", ImportFormat::Json),
        ("<?xml version=\"1.0\"?>", ImportFormat::AppleHealth),
        ("a,b\n1,2\n", ImportFormat::Csv),
    ] {
        let bytes = text.as_bytes();
        let columns_are_named = expected == ImportFormat::Csv;
        for packed in [bytes.to_vec(), gzip(bytes)?, zstd::encode_all(bytes, 1)?, zip(&[("a.txt", bytes)])?] {
            assert_eq!(told("file", &packed, columns_are_named)?, expected, "{text}");
        }
    }
    Ok(())
}

#[test]
fn a_name_helps_where_the_bytes_do_not() -> anyhow::Result<()> {
    assert_eq!(told("a.csv", b"{x},b\n", true)?, ImportFormat::Csv);
    assert_eq!(told("a.tsv.gz", &gzip(b"<x>\tb\n")?, true)?, ImportFormat::Csv);
    assert_eq!(told("a.ndjson", b"{}", true)?, ImportFormat::Ndjson);
    assert_eq!(told("a.json", b"\n", false)?, ImportFormat::Json);
    assert_eq!(told("a.jsonl", b"\n", false)?, ImportFormat::Ndjson);
    Ok(())
}

#[test]
fn an_apple_export_is_told_by_its_folder_in_the_zip() -> anyhow::Result<()> {
    let files: [(&str, &[u8]); 3] = [
        ("apple_health_export/export_cda.xml", b"<x/>"),
        ("apple_health_export/export.xml", b"<x/>"),
        ("apple_health_export/workout-routes/route.gpx", b"<x/>"),
    ];
    assert_eq!(told("export.zip", &zip(&files)?, false)?, ImportFormat::AppleHealth);
    let with_mac = [("a.json", b"[]".as_slice()), ("__MACOSX/._a.json", b"x")];
    assert_eq!(told("a.zip", &zip(&with_mac)?, false)?, ImportFormat::Json);
    Ok(())
}

#[test]
fn what_cannot_be_told_is_refused_in_words_that_help() -> anyhow::Result<()> {
    assert!(refusal("a.csv", b"a,b\n").contains("--timestamp"));
    assert!(refusal("a", b"a,b\n").contains("--format"));
    assert!(refusal("a", b"").contains("empty"));
    assert!(refusal("a", &gzip(&gzip(b"{}")?)?).contains("twice"));
    assert!(refusal("a", &gzip(b"{}")?[..6]).contains("gzip"));
    let two = zip(&[("a", b"{}"), ("b", b"{}")])?;
    assert!(refusal("a", &two).contains("2 files"));
    for cut in [4, 20, two.len() - 30, two.len() - 3] {
        assert!(refusal("a", &two[..cut]).contains("zip"), "{cut}");
    }
    Ok(())
}
