//! Tests payloads in an object store, with a server that implements the S3 protocol.

mod bucket;

use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use domain::payload_objects::PayloadObjects;
use futures::TryStreamExt;
use object_store::path::Path;
use serde_json::json;
use service::Clock;
use service::Error;
use service::Payloads;
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::{Client, SECRET, eventually, new_id};
use bucket::Bucket;

const OBJECT_BYTES: usize = 8 * 1024 * 1024;

/// Returns bytes that depend on their position, so that a wrong offset is noticed.
fn bytes(count: usize) -> Bytes {
    (0..count).map(|n| (n / 251 + n) as u8).collect()
}

/// Reads `size` bytes of a payload from `offset` on.
async fn read(
    payloads: &Payloads,
    user: Uuid,
    import: Uuid,
    offset: usize,
    size: usize,
) -> Result<Vec<u8>, Error> {
    let pieces =
        payloads.stream_payload(user, import, &PayloadObjects::default(), offset as u64, size as u64);
    pieces.try_fold(Vec::new(), |all, piece| async move { Ok([all, piece.to_vec()].concat()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_stored_read_from_any_offset_and_removed_alone() {
    let bucket = Bucket::open().await;
    let payloads = Payloads::new(bucket.client(&[]), Path::from("some/place"));
    let [user, import, other] = [Clock::System.new_id(), Clock::System.new_id(), Clock::System.new_id()];
    let whole = bytes(2 * OBJECT_BYTES + 12_345);
    let mut offset = 0;
    // The objects are stored out of order, and one of them twice, as after an interrupted upload.
    for range in [
        OBJECT_BYTES..2 * OBJECT_BYTES,
        0..OBJECT_BYTES,
        OBJECT_BYTES..2 * OBJECT_BYTES,
        2 * OBJECT_BYTES..whole.len(),
    ] {
        offset = range.start;
        payloads
            .put_object(user, import, &(offset / OBJECT_BYTES).to_string(), whole.slice(range))
            .await
            .unwrap();
    }
    assert_eq!(offset, 2 * OBJECT_BYTES);
    payloads.put_object(user, other, "0", Bytes::from_static(b"another")).await.unwrap();
    for offset in [0, 1, OBJECT_BYTES - 1, OBJECT_BYTES, OBJECT_BYTES + 77, whole.len() - 1, whole.len()] {
        let rest = read(&payloads, user, import, offset, whole.len()).await.unwrap();
        assert!(rest == whole[offset..], "from {offset}");
    }
    let folder = format!("some/place/payload/{user}/{import}");
    let sizes: Vec<_> = bucket.objects(&folder).await.into_iter().map(|(_, size)| size).collect();
    assert_eq!(sizes, [OBJECT_BYTES as u64, OBJECT_BYTES as u64, 12_345]);
    for _ in 0..2 {
        payloads.remove_payload(user, import).await.unwrap();
        assert_eq!(bucket.objects(&folder).await, []);
    }
    let gone = read(&payloads, user, import, 0, whole.len()).await;
    assert!(matches!(gone, Err(Error::Payload(object_store::Error::NotFound { .. }))), "{gone:?}");
    assert_eq!(read(&payloads, user, other, 0, 7).await.unwrap(), b"another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_key_is_refused() {
    let bucket = Bucket::open().await;
    let objects = bucket.client(&[("AWS_SECRET_ACCESS_KEY", "another key".to_owned())]);
    let payloads = Payloads::new(objects, Path::default());
    let refused = payloads
        .put_object(Clock::System.new_id(), Clock::System.new_id(), "0", Bytes::from_static(b"x"))
        .await;
    assert!(matches!(refused, Err(Error::Payload(_))), "{refused:?}");
    assert_eq!(bucket.objects("").await, []);
}

/// A server process on SQLite whose payloads are in a bucket.
struct Server {
    url: String,
    child: Child,
    _dir: TempDir,
}

impl Server {
    async fn start(bucket: &Bucket) -> Self {
        let dir = TempDir::new().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_idem-under-test"))
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--metrics-listen", "127.0.0.1:0"])
            .current_dir(dir.path())
            .env("IDEM_DATA_DIR", dir.path())
            .env("IDEM_PAYLOAD_URL", Bucket::url("a/prefix"))
            .env("IDEM_PAYLOAD_RETENTION", "1s")
            .env("IDEM_JWT_SECRET", SECRET)
            .envs(bucket.variables())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { url: format!("http://127.0.0.1:{port}"), child, _dir: dir };
        let ready = format!("{}/readyz", server.url);
        eventually("the server is ready", || async {
            reqwest::get(&ready).await.is_ok_and(|response| response.status() == 200)
        })
        .await;
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_into_a_bucket_is_resumed_imported_and_removed_after_its_retention() {
    let bucket = Bucket::open().await;
    let server = Server::start(&bucket).await;
    let client = Client::new(&server.url, "ann");
    let mut payload = Vec::new();
    for n in 0..1_000 {
        let line =
            json!({ "eventType": "run", "timestamp": "2026-01-01T00:00:00Z", "externalId": n.to_string() });
        payload.extend(format!("{line}{:17000}\n", "").into_bytes());
    }
    assert!(payload.len() > 2 * OBJECT_BYTES);
    let id = new_id();
    client.create_import(&id, payload.len(), None).await;
    let cut = client.put(&id, None, payload[..OBJECT_BYTES + 99].to_vec()).await;
    assert_eq!(cut.headers()["upload-offset"], OBJECT_BYTES.to_string());
    let [(name, size)] = &bucket.objects("a/prefix/payload").await[..] else { panic!("one object is there") };
    assert!(name.contains(&format!("/{id}/0-")) && *size == OBJECT_BYTES as u64, "{name}: {size}");
    let rest = client.put(&id, Some(OBJECT_BYTES), payload[OBJECT_BYTES..].to_vec()).await;
    assert_eq!(rest.status(), 200);
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["state"], &job["counts"]["inserted"]), (&json!("COMPLETED"), &json!(1_000)));
    eventually("the payload is removed after its retention", || async {
        bucket.objects("a/prefix").await.is_empty()
    })
    .await;
}
