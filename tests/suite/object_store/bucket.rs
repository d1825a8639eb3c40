//! Runs an S3 server in this process, on a temporary folder. The library is s3s, which checks signatures.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::TryStreamExt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use object_store::ObjectStore;
use object_store::path::Path;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const BUCKET: &str = "idem-tests";
const KEY_ID: &str = "AKIDEMTESTS";
const KEY: &str = "a key of the tests";

/// A bucket. The server ends when this is dropped.
pub struct Bucket {
    address: SocketAddr,
    server: JoinHandle<()>,
    _dir: TempDir,
}

impl Bucket {
    pub async fn open() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(dir.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
                tokio::spawn(async move {
                    // The result does not matter, because the tests only look at the objects.
                    let _ended = connection.await;
                });
            }
        });
        Self { address, server, _dir: dir }
    }

    /// Returns the value of `IDEM_PAYLOAD_URL` for a prefix in the bucket.
    pub fn url(prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Returns the environment variables that a client of the bucket needs.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", KEY.to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// Returns a client of the bucket. `more` overrides variables.
    pub fn client(&self, more: &[(&'static str, String)]) -> Arc<dyn ObjectStore> {
        let variables = self.variables().into_iter().chain(more.iter().cloned());
        let (objects, _) = object_store::parse_url_opts(&Self::url("").parse().unwrap(), variables).unwrap();
        objects.into()
    }

    /// Returns the names and sizes of the objects with a prefix, sorted by name.
    pub async fn objects(&self, prefix: &str) -> Vec<(String, u64)> {
        let objects = self.client(&[]).list(Some(&Path::from(prefix)));
        let mut objects: Vec<_> =
            objects.map_ok(|object| (object.location.to_string(), object.size)).try_collect().await.unwrap();
        objects.sort();
        objects
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.abort();
    }
}
