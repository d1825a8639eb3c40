//! Tests which member of an archive is read, and which archives are refused.

use super::*;

const EVENTS: &[u8] = b"{\"eventType\":\"s\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n";
const EXPORT: &[u8] =
    b"<HealthData><Record type=\"a\" startDate=\"2026-01-01 10:00:00 +0100\"/></HealthData>";

fn read_zip(members: &[(&str, &[u8])], format: Format) -> ReadResult {
    read(format, &archive(members, CompressionMethod::DEFLATE))
}

#[test]
fn the_only_file_is_read_under_any_name() {
    for name in ["a.ndjson", "../../etc/passwd", "/root/a", "C:\\a", "d/e/f", "\u{0}"] {
        let result = read_zip(&[("d/", b""), (name, EVENTS), ("__MACOSX/._a", b"junk")], Format::Ndjson);
        assert_eq!(result.codes(), ["OK"], "{name}: {result:?}");
    }
}

#[test]
fn among_several_files_the_export_of_apple_health_is_read() {
    let cda: (&str, &[u8]) = ("apple_health_export/export_cda.xml", b"<ClinicalDocument/>");
    let route: (&str, &[u8]) = ("apple_health_export/workout-routes/route.xml", b"<gpx/>");
    for name in ["apple_health_export/export.xml", "Apple_Health_Export/Export.XML"] {
        let other: (&str, &[u8]) = ("apple_health_export/other.xml", b"<other/>");
        let result = read_zip(&[cda, (name, EXPORT), other, route], Format::AppleHealth);
        assert_eq!(result.codes(), ["OK"], "{name}: {result:?}");
    }
    let result =
        read_zip(&[cda, ("apple_health_export/Exportación.xml", EXPORT), route], Format::AppleHealth);
    assert_eq!(result.codes(), ["OK"], "{result:?}");
}

/// ZIP64 archives: as Python writes them into a file and into a pipe, and one in which every 32-bit field is
/// full.
#[test]
fn zip64_archives_are_read() {
    let archives: [&[u8]; 3] = [
        include_bytes!("zip64-seekable.zip"),
        include_bytes!("zip64-streamed.zip"),
        include_bytes!("zip64-whole.zip"),
    ];
    for archive in archives {
        let result = read(Format::Ndjson, archive);
        assert_eq!(result.codes(), ["OK"], "{result:?}");
    }
}

#[test]
fn names_may_use_an_old_code_page() {
    let name = "apple_health_export/Exportaci#n.xml";
    let mut zip = archive(&[(name, EXPORT), ("apple_health_export/b.gpx", b"")], CompressionMethod::DEFLATE);
    let places = zip.windows(name.len()).enumerate().filter(|(_, bytes)| *bytes == name.as_bytes());
    let places: Vec<usize> = places.map(|(at, _)| at + name.find('#').unwrap()).collect();
    assert_eq!(places.len(), 2);
    for place in places {
        // In code page 850 this byte is an o with an acute accent. It is not valid UTF-8.
        zip[place] = 0xa2;
    }
    let result = read(Format::AppleHealth, &zip);
    assert_eq!(result.codes(), ["OK"], "{result:?}");
}

#[test]
fn an_archive_of_several_files_is_refused_with_their_number() {
    let two = read_zip(&[("a", EVENTS), ("b", EVENTS), ("c/", b"")], Format::Ndjson);
    let expected =
        "PAYLOAD_FORMAT: the zip archive has 2 files (a, b): send one, or an export of Apple Health";
    assert_eq!(two.detail(), expected);
    let none = read_zip(&[("c/", b"")], Format::Ndjson);
    assert!(none.detail().contains("has 0 files"));
    let names: Vec<_> = (0..70_000).map(|n| n.to_string()).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let many = read(Format::Ndjson, &archive(&members, CompressionMethod::STORE));
    assert_eq!(many.detail(), "PAYLOAD_FORMAT: the zip archive has more than 65535 members");
    let fewer = read(Format::Ndjson, &archive(&members[..60_000], CompressionMethod::STORE));
    assert!(fewer.detail().contains("has 60000 files"));
}

#[test]
fn an_archive_that_cannot_be_read_is_refused_with_the_reason() {
    let zip = archive(&[("a", EVENTS)], CompressionMethod::DEFLATE);
    let at = zip.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    let with = |offset: usize, byte: u8| {
        let mut changed = zip.clone();
        changed[offset] = byte;
        changed
    };
    let table = [
        (with(at + 8, 1), "the member of the zip archive is encrypted"),
        (with(at + 10, 12), "the member of the zip archive is packed by"),
        (with(at + 16, zip[at + 16] ^ 1), "the compressed payload is cut or damaged"),
        (with(at + 24, zip[at + 24] ^ 1), "the compressed payload is cut or damaged"),
        (with(at, 0), "the zip archive is cut or damaged"),
        (zip[..zip.len() - 10].to_vec(), "the zip archive is cut or damaged"),
        (zip[..at].to_vec(), "the zip archive is cut or damaged"),
    ];
    for (payload, expected) in table {
        let result = read(Format::Ndjson, &payload);
        assert!(result.detail().contains(expected), "{}: {expected}", result.detail());
    }
    let large = archive(&[("a", &EVENTS.repeat(400_000))], CompressionMethod::STORE);
    let last = Checkpoint { records: 399_999, ..Checkpoint::default() };
    let result = read_from(Format::Ndjson, None, &large, last);
    assert_eq!(result.codes(), ["OK"], "an archive of several objects");
}

#[test]
fn an_export_is_recognized_by_its_content_in_any_folder() {
    let cda: &[u8] = b"<?xml version=\"1.0\"?><ClinicalDocument/>";
    let route: &[u8] = b"<gpx/>";
    let dtd = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE HealthData [ <!ELEMENT HealthData (Record*)>{} ]>",
        " ".repeat(9_000)
    );
    let export = [dtd.as_bytes(), EXPORT].concat();
    for folder in ["", "apple_health_export 2/", "Downloads/apple_health_export/", "Gesundheit\\"] {
        let names =
            ["export.xml", "export_cda.xml", "workout-routes/r.gpx"].map(|name| format!("{folder}{name}"));
        let members: [(&str, &[u8]); 3] = [(&names[1], cda), (&names[0], &export), (&names[2], route)];
        let result = read_zip(&members, Format::AppleHealth);
        assert_eq!(result.codes(), ["OK"], "{folder}: {result:?}");
    }
    let twice: [(&str, &[u8]); 2] = [("a/export.xml", &export), ("b/export.xml", &export)];
    let result = read_zip(&twice, Format::AppleHealth);
    assert_eq!(
        result.detail(),
        "PAYLOAD_FORMAT: the zip archive has several exports of Apple Health: send one"
    );
    let wide: Vec<u8> =
        "\u{feff}<HealthData></HealthData>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let result = read_zip(&[("export.xml", &wide), ("export_cda.xml", cda)], Format::AppleHealth);
    assert_eq!(result.detail(), "PAYLOAD_FORMAT: the text is UTF-16; send UTF-8");
}

#[test]
fn files_of_an_operating_system_are_ignored() {
    let members: [(&str, &[u8]); 7] = [
        ("__MACOSX/", b""),
        ("__MACOSX/._events.ndjson", b"junk"),
        (".DS_Store", b"junk"),
        ("data/._events.ndjson", b"junk"),
        ("data/Thumbs.db", b"junk"),
        ("data/DESKTOP.INI", b"junk"),
        ("data/events.ndjson", EVENTS),
    ];
    let result = read_zip(&members, Format::Ndjson);
    assert_eq!(result.codes(), ["OK"], "{result:?}");
}
