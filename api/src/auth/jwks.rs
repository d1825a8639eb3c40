//! Loads the public keys of the token issuer (RFC 7517) from a file or a URL.
//!
//! The set is fetched again about once a minute. A key that the issuer has removed is therefore trusted for
//! at most two minutes, as long as the issuer can be reached.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{ETAG, IF_NONE_MATCH};
use domain::limits::JWKS_BYTES_MAX;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use service::Clock;
use service::LogThrottle;
use tokio::sync::Mutex;

use super::KeysError;

/// Tokens whose `kid` is not in the key set cause at most one fetch of it in this time.
const UNKNOWN_KEY_FETCH_EVERY_MS: u64 = 60_000;
/// The background task fetches the key set again after this time and a random delay below [`JITTER_MS`].
const REFRESH_MS: u64 = 45_000;
const JITTER_MS: u64 = 10_000;
const TIMEOUT: Duration = Duration::from_secs(5);

static REFRESH_WARNINGS: LogThrottle = LogThrottle::new();

/// The key set (JWKS) of the token issuer, as the last successful fetch of its file or URL returned it.
#[derive(Debug)]
pub(super) struct Jwks {
    source: String,
    client: reqwest::Client,
    keys: RwLock<KeySet>,
    /// Locked during a fetch, so that at most one fetch runs.
    fetch_state: Mutex<FetchState>,
}

#[derive(Debug, Default)]
struct FetchState {
    /// When a token with an unknown `kid` last caused a fetch, in epoch milliseconds.
    unknown_key_fetch_at_ms: Option<i64>,
    /// The ETag of the response that last changed the keys. `None` for a file.
    etag: Option<String>,
    /// The content of the file or response that last changed the keys.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct KeySet {
    /// Incremented each time that the content changes.
    version: u64,
    by_kid: ByKid,
}

/// A key that was found by its `kid`.
pub(super) struct FoundKey {
    /// The version of the key set that contains the key.
    pub key_set_version: u64,
    /// The only algorithm that the key may be used for.
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

/// Keys by their `kid`, each with the only algorithm that it may be used for.
type ByKid = HashMap<String, (Algorithm, DecodingKey)>;

impl Jwks {
    /// Fetches the set from a file or a URL, and starts a background task that refreshes it until the last
    /// returned `Arc` is dropped.
    ///
    /// # Errors
    /// - [`KeysError::File`] or [`KeysError::Fetch`] if the source cannot be read.
    /// - [`KeysError::TooLong`] if the response has more than [`JWKS_BYTES_MAX`] bytes.
    /// - [`KeysError::Format`] if the content is not a key set.
    /// - [`KeysError::Empty`] if the set has no usable key.
    pub(super) async fn load(source: String) -> Result<Arc<Self>, KeysError> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let keys = RwLock::new(KeySet { version: 0, by_kid: HashMap::new() });
        let jwks = Arc::new(Self { source, client, keys, fetch_state: Mutex::default() });
        jwks.fetch_and_replace_keys(&mut *jwks.fetch_state.lock().await).await?;
        if jwks.keys.read().is_ok_and(|keys| keys.by_kid.is_empty()) {
            return Err(KeysError::Empty);
        }
        let watched = Arc::downgrade(&jwks);
        tokio::spawn(async move {
            loop {
                let jitter_ms = Clock::System.random_i64().unsigned_abs() % JITTER_MS;
                tokio::time::sleep(Duration::from_millis(REFRESH_MS + jitter_ms)).await;
                let Some(jwks) = watched.upgrade() else { return };
                let mut state = jwks.fetch_state.lock().await;
                jwks.refresh_key_set_or_warn(&mut state).await;
            }
        });
        Ok(jwks)
    }

    /// Returns the key with this `kid`, or `None` if it stays unknown. If it is unknown, fetches the set
    /// first, unless an unknown key has caused a fetch in the last minute.
    pub(super) async fn find_or_fetch_key(self: &Arc<Self>, kid: &str, clock: &Clock) -> Option<FoundKey> {
        let cached = self.cached_key(kid);
        if cached.is_some() {
            return cached;
        }
        let (jwks, clock, unknown) = (Arc::clone(self), clock.clone(), kid.to_owned());
        // The fetch runs in its own task. Otherwise a client that disconnects would cancel the only fetch of
        // this minute.
        tokio::spawn(async move { jwks.refresh_for_unknown_key(&unknown, &clock).await }).await.ok()?;
        self.cached_key(kid)
    }

    fn cached_key(&self, kid: &str) -> Option<FoundKey> {
        let keys = self.keys.read().ok()?;
        let (algorithm, key) = keys.by_kid.get(kid)?;
        Some(FoundKey { key_set_version: keys.version, algorithm: *algorithm, key: key.clone() })
    }

    /// The version of the current key set, which changes whenever its content does.
    pub(super) fn key_set_version(&self) -> Option<u64> {
        Some(self.keys.read().ok()?.version)
    }

    /// Fetches the set because a key is unknown, unless that was done within the last minute. Requests that
    /// arrive during the fetch wait for it, because the set may contain their key.
    async fn refresh_for_unknown_key(&self, kid: &str, clock: &Clock) {
        let mut state = self.fetch_state.lock().await;
        let now_ms = clock.now_ms();
        let is_recent = state
            .unknown_key_fetch_at_ms
            .is_some_and(|at_ms| now_ms.abs_diff(at_ms) < UNKNOWN_KEY_FETCH_EVERY_MS);
        if is_recent || self.cached_key(kid).is_some() {
            return;
        }
        // The time is recorded before the fetch. Otherwise every request would fetch a set that is
        // unavailable.
        state.unknown_key_fetch_at_ms = Some(now_ms);
        self.refresh_key_set_or_warn(&mut state).await;
    }

    /// Fetches the set. A failure is counted and logged, and the previous keys stay in use. A set without
    /// keys is accepted: the issuer has removed all of them.
    async fn refresh_key_set_or_warn(&self, state: &mut FetchState) {
        if let Err(error) = self.fetch_and_replace_keys(state).await {
            metrics::counter!("idem_jwks_failures_total").increment(1);
            if let Some(suppressed) = REFRESH_WARNINGS.allow_once_a_minute() {
                tracing::warn!(%error, suppressed, "the JWKS was not refreshed; its old keys stay in use");
            }
        }
    }

    /// Reads the file or URL. Replaces all keys and increments the version, if the content has changed.
    async fn fetch_and_replace_keys(&self, state: &mut FetchState) -> Result<(), KeysError> {
        let (bytes, etag) = if self.source.starts_with("https://") || self.source.starts_with("http://") {
            match self.download_if_changed(state.etag.as_deref()).await? {
                Some(downloaded) => downloaded,
                None => return Ok(()),
            }
        } else {
            (tokio::fs::read(&self.source).await?, None)
        };
        if bytes == state.bytes {
            state.etag = etag;
            return Ok(());
        }
        let by_kid = parse_key_set(&bytes)?;
        if let Ok(mut keys) = self.keys.write() {
            *keys = KeySet { version: keys.version + 1, by_kid };
        }
        (state.bytes, state.etag) = (bytes, etag);
        Ok(())
    }

    /// Downloads the URL. Returns the content and its ETag, or `None` if the content still has this `etag`
    /// (status 304).
    async fn download_if_changed(
        &self,
        etag: Option<&str>,
    ) -> Result<Option<(Vec<u8>, Option<String>)>, KeysError> {
        let request = self.client.get(&self.source);
        let request = match etag {
            Some(etag) => request.header(IF_NONE_MATCH, etag),
            None => request,
        };
        let mut response = request.send().await?.error_for_status()?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if bytes.len() + chunk.len() > JWKS_BYTES_MAX {
                return Err(KeysError::TooLong);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Some((bytes, etag)))
    }
}

/// Parses the JSON of a key set. Leaves out keys without a `kid` and keys that no supported algorithm can
/// use.
fn parse_key_set(bytes: &[u8]) -> Result<ByKid, KeysError> {
    let set: JwkSet = serde_json::from_slice(bytes)?;
    let usable = set
        .keys
        .iter()
        .filter_map(|jwk| {
            let key = DecodingKey::from_jwk(jwk).ok()?;
            Some((jwk.common.key_id.clone()?, (permitted_algorithm(jwk)?, key)))
        })
        .collect();
    Ok(usable)
}

/// Returns the only algorithm that a key may be used for, which follows from its type. `None` if that is not
/// supported, if the key is not for signatures, or if its optional `alg` (RFC 7517, section 4.4) is another.
fn permitted_algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let alg_matches = jwk.common.key_algorithm.is_none_or(|alg| alg == algorithm.into());
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    (alg_matches && signs).then_some(algorithm)
}
