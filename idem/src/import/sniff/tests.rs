use std::fs;

use super::*;

fn detect(name: &str, bytes: &[u8], has_columns: bool) -> Result<ImportFormat, String> {
    let dir = tempfile::tempdir().expect("a directory can be created");
    let path = dir.path().join(name);
    fs::write(&path, bytes).expect("the file can be written");
    detect_format(&path, has_columns).map_err(|error| format!("{error:#}"))
}

#[test]
fn the_format_is_detected_or_the_error_says_what_to_do() {
    assert_eq!(detect("a", b"{}", false), Ok(ImportFormat::Ndjson));
    assert_eq!(detect("a.json", b"\n", false), Ok(ImportFormat::Json));
    assert_eq!(detect("a", b"a,b\n", true), Ok(ImportFormat::Csv));
    for (name, bytes, expected) in
        [("a.csv", &b"a,b\n"[..], "--timestamp"), ("a", b"a,b\n", "--format"), ("a", b"", "empty")]
    {
        assert!(detect(name, bytes, false).is_err_and(|error| error.contains(expected)), "{name}");
    }
    assert!(detect_format(Path::new("/nowhere"), false).is_err());
    assert!(
        detect_format(&std::env::temp_dir(), false)
            .is_err_and(|error| error.to_string().contains("regular file"))
    );
}
