//! Which member of an archive is read, and which archives are none.

use super::*;

const EVENTS: &[u8] = b"{\"eventType\":\"s\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n";
const EXPORT: &[u8] =
    b"<HealthData><Record type=\"a\" startDate=\"2026-01-01 10:00:00 +0100\"/></HealthData>";

async fn of(members: &[(&str, &[u8])], format: Format) -> Found {
    read(format, &archive(members, CompressionMethod::DEFLATE)).await
}

#[tokio::test]
async fn the_only_file_is_read_whatever_it_is_called() {
    for name in ["a.ndjson", "../../etc/passwd", "/root/a", "C:\\a", "d/e/f", "\u{0}"] {
        let found = of(&[("d/", b""), (name, EVENTS), ("__MACOSX/._a", b"junk")], Format::Ndjson).await;
        assert_eq!(found.codes(), ["OK"], "{name}: {found:?}");
    }
}

#[tokio::test]
async fn among_several_files_the_export_of_apple_health_is_read() {
    let cda: (&str, &[u8]) = ("apple_health_export/export_cda.xml", b"<ClinicalDocument/>");
    let route: (&str, &[u8]) = ("apple_health_export/workout-routes/route.xml", b"<gpx/>");
    for name in ["apple_health_export/export.xml", "Apple_Health_Export/Export.XML"] {
        let other: (&str, &[u8]) = ("apple_health_export/other.xml", b"<other/>");
        let found = of(&[cda, (name, EXPORT), other, route], Format::AppleHealth).await;
        assert_eq!(found.codes(), ["OK"], "{name}: {found:?}");
    }
    let found = of(&[cda, ("apple_health_export/Exportación.xml", EXPORT), route], Format::AppleHealth).await;
    assert_eq!(found.codes(), ["OK"], "{found:?}");
}

/// Sizes of 64 bits: as Python writes them into a file and into a pipe, and with every field of 32 bits full.
#[tokio::test]
async fn large_archives_have_wider_fields() {
    let archives: [&[u8]; 3] = [
        include_bytes!("zip64-seekable.zip"),
        include_bytes!("zip64-streamed.zip"),
        include_bytes!("zip64-whole.zip"),
    ];
    for archive in archives {
        let found = read(Format::Ndjson, archive).await;
        assert_eq!(found.codes(), ["OK"], "{found:?}");
    }
}

#[tokio::test]
async fn names_may_be_of_an_old_code_page() {
    let name = "apple_health_export/Exportaci#n.xml";
    let mut zip = archive(&[(name, EXPORT), ("apple_health_export/b.gpx", b"")], CompressionMethod::DEFLATE);
    let places = zip.windows(name.len()).enumerate().filter(|(_, bytes)| *bytes == name.as_bytes());
    let places: Vec<usize> = places.map(|(at, _)| at + name.find('#').unwrap()).collect();
    assert_eq!(places.len(), 2);
    for place in places {
        // In code page 850 this is the o with an acute; it is no UTF-8.
        zip[place] = 0xa2;
    }
    let found = read(Format::AppleHealth, &zip).await;
    assert_eq!(found.codes(), ["OK"], "{found:?}");
}

#[tokio::test]
async fn an_archive_of_several_files_tells_how_many() {
    let two = of(&[("a", EVENTS), ("b", EVENTS), ("c/", b"")], Format::Ndjson).await;
    let expected = "PAYLOAD_FORMAT: the zip archive has 2 files: send one, or an export of Apple Health";
    assert_eq!(two.detail(), expected);
    let none = of(&[("c/", b"")], Format::Ndjson).await;
    assert!(none.detail().contains("has 0 files"));
    let names: Vec<_> = (0..70_000).map(|n| n.to_string()).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let many = read(Format::Ndjson, &archive(&members, CompressionMethod::STORE)).await;
    assert_eq!(many.detail(), "PAYLOAD_FORMAT: the zip archive has more than 65535 members");
    let fewer = read(Format::Ndjson, &archive(&members[..60_000], CompressionMethod::STORE)).await;
    assert!(fewer.detail().contains("has 60000 files"));
}

#[tokio::test]
async fn an_archive_that_cannot_be_read_is_told_why() {
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
        let found = read(Format::Ndjson, &payload).await;
        assert!(found.detail().contains(expected), "{}: {expected}", found.detail());
    }
    let large = archive(&[("a", &EVENTS.repeat(400_000))], CompressionMethod::STORE);
    let mut last = row(Format::Ndjson, None);
    (last.next_record, last.chunk_records) = (399_999, 500);
    let found = read_on(&last, &large).await;
    assert_eq!(found.codes(), ["OK"], "an archive of several objects");
}
