use std::fs;

use super::*;

fn told(name: &str, bytes: &[u8], columns_are_named: bool) -> Result<ImportFormat, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(name);
    fs::write(&path, bytes).expect("it is written");
    format(&path, columns_are_named).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_file_is_told_by_its_content_or_refused_in_words_that_help() {
    assert_eq!(told("a", b"{}", false), Ok(ImportFormat::Ndjson));
    assert_eq!(told("a.json", b"\n", false), Ok(ImportFormat::Json));
    assert_eq!(told("a", b"a,b\n", true), Ok(ImportFormat::Csv));
    for (name, bytes, expected) in
        [("a.csv", &b"a,b\n"[..], "--timestamp"), ("a", b"a,b\n", "--format"), ("a", b"", "empty")]
    {
        assert!(told(name, bytes, false).is_err_and(|told| told.contains(expected)), "{name}");
    }
    assert!(format(Path::new("/nowhere"), false).is_err());
    assert!(
        format(&std::env::temp_dir(), false).is_err_and(|error| error.to_string().contains("regular file"))
    );
}
