//! The public keys of the token issuer (RFC 7517), by file or URL. The set is asked for again every minute, so that a key
//! that the issuer has removed is trusted for no longer than two, as long as the issuer can be asked.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{ETAG, IF_NONE_MATCH};
use domain::limits::JWKS_BYTES_MAX;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use service::Clock;
use service::Rarely;
use tokio::sync::Mutex;

use super::KeysError;

/// A token with a key that is not known has the set asked for again, at most so often.
const EVERY_MS: u64 = 60_000;
/// The set is asked for again after so many milliseconds, and up to [`JITTER_MS`] more.
const REFRESH_MS: u64 = 45_000;
const JITTER_MS: u64 = 10_000;
const TIMEOUT: Duration = Duration::from_secs(5);

static NOT_REFRESHED: Rarely = Rarely::new();

/// A key set, as it was fetched last.
#[derive(Debug)]
pub(super) struct Jwks {
    source: String,
    client: reqwest::Client,
    keys: RwLock<KeySet>,
    /// Held while the set is on its way.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When it was last asked for because of a token, in epoch milliseconds.
    asked_at_ms: Option<i64>,
    /// What the issuer calls what it answered last.
    etag: Option<String>,
    /// What it was.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct KeySet {
    /// Which one it is of those that were had.
    fetch: u64,
    by_kid: ByKid,
}

/// Keys by their `kid`, each with the one algorithm that it is for.
type ByKid = HashMap<String, (Algorithm, DecodingKey)>;

impl Jwks {
    /// Fetches a set, and goes on to do so while it is used.
    pub(super) async fn load(source: String) -> Result<Arc<Self>, KeysError> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let keys = RwLock::new(KeySet { fetch: 0, by_kid: HashMap::new() });
        let jwks = Arc::new(Self { source, client, keys, state: Mutex::default() });
        jwks.fetch(&mut *jwks.state.lock().await).await?;
        if jwks.keys.read().is_ok_and(|keys| keys.by_kid.is_empty()) {
            return Err(KeysError::Empty);
        }
        let watched = Arc::downgrade(&jwks);
        tokio::spawn(async move {
            loop {
                let jitter_ms = Clock::System.random().unsigned_abs() % JITTER_MS;
                tokio::time::sleep(Duration::from_millis(REFRESH_MS + jitter_ms)).await;
                let Some(jwks) = watched.upgrade() else { return };
                let mut state = jwks.state.lock().await;
                jwks.refresh(&mut state).await;
            }
        });
        Ok(jwks)
    }

    pub(super) async fn find(
        self: &Arc<Self>,
        kid: &str,
        clock: &Clock,
    ) -> Option<(u64, Algorithm, DecodingKey)> {
        let known = self.known(kid);
        if known.is_some() {
            return known;
        }
        let (jwks, clock, wanted) = (Arc::clone(self), clock.clone(), kid.to_owned());
        // Detached: a client that hangs up would take the only fetch of this minute with it.
        tokio::spawn(async move { jwks.look_for(&wanted, &clock).await }).await.ok()?;
        self.known(kid)
    }

    fn known(&self, kid: &str) -> Option<(u64, Algorithm, DecodingKey)> {
        let keys = self.keys.read().ok()?;
        let (algorithm, key) = keys.by_kid.get(kid)?;
        Some((keys.fetch, *algorithm, key.clone()))
    }

    /// Which fetch brought the keys of now.
    pub(super) fn newest(&self) -> Option<u64> {
        Some(self.keys.read().ok()?.fetch)
    }

    /// Asks for the set because a key is not known, unless that was done within a minute. Who comes while it is on its
    /// way waits, because the key may be in it.
    async fn look_for(&self, kid: &str, clock: &Clock) {
        let mut state = self.state.lock().await;
        let now_ms = clock.now_ms();
        let is_recent = state.asked_at_ms.is_some_and(|at_ms| now_ms.abs_diff(at_ms) < EVERY_MS);
        if is_recent || self.known(kid).is_some() {
            return;
        }
        // Noted first: a set that cannot be fetched is not asked for by every request.
        state.asked_at_ms = Some(now_ms);
        self.refresh(&mut state).await;
    }

    /// Keeps the keys of before if the set cannot be had. One that has no keys is had: all were removed.
    async fn refresh(&self, state: &mut State) {
        if let Err(error) = self.fetch(state).await {
            metrics::counter!("idem_jwks_failures_total").increment(1);
            if let Some(held_back) = NOT_REFRESHED.pass() {
                tracing::warn!(%error, held_back, "the key set was not refreshed");
            }
        }
    }

    async fn fetch(&self, state: &mut State) -> Result<(), KeysError> {
        let (bytes, etag) = if self.source.starts_with("https://") || self.source.starts_with("http://") {
            match self.download(state.etag.as_deref()).await? {
                Some(downloaded) => downloaded,
                None => return Ok(()),
            }
        } else {
            (tokio::fs::read(&self.source).await?, None)
        };
        if bytes == state.bytes {
            return Ok(());
        }
        let by_kid = parse(&bytes)?;
        if let Ok(mut keys) = self.keys.write() {
            *keys = KeySet { fetch: keys.fetch + 1, by_kid };
        }
        (state.bytes, state.etag) = (bytes, etag);
        Ok(())
    }

    /// `None`: it is what it was.
    async fn download(&self, etag: Option<&str>) -> Result<Option<(Vec<u8>, Option<String>)>, KeysError> {
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

fn parse(bytes: &[u8]) -> Result<ByKid, KeysError> {
    let set: JwkSet = serde_json::from_slice(bytes)?;
    let usable = set
        .keys
        .iter()
        .filter_map(|jwk| {
            let key = DecodingKey::from_jwk(jwk).ok()?;
            Some((jwk.common.key_id.clone()?, (algorithm(jwk)?, key)))
        })
        .collect();
    Ok(usable)
}

/// The one algorithm that a key is for: that of its kind. `alg` is optional (RFC 7517, section 4.4), but what it says
/// must fit.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let is_said = jwk.common.key_algorithm.is_none_or(|said| said == algorithm.into());
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    (is_said && signs).then_some(algorithm)
}
