//! Who is asking: bearer tokens (RFC 7519), verified here and nowhere else, without asking anybody.

mod verified;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use domain::clock::Clock;
use domain::commands::Actor;
use domain::error::Error;
use domain::limits::{IDENTIFY_MS_MAX, IDENTITY_BYTES_MAX, JWKS_BYTES_MAX};
use domain::store::{Store, account};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::error::ApiError;
use verified::{Signer, Verified};

const LEEWAY_SECONDS: u64 = 30;
const JWKS_EVERY_MS: u64 = 60_000;
const JWKS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the database may take to tell a user.
const IDENTIFY_MAX: Duration = Duration::from_millis(IDENTIFY_MS_MAX);

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file could not be read.
    #[error("the JWKS file cannot be read")]
    File(#[from] std::io::Error),
    /// The URL could not be fetched.
    #[error("the JWKS cannot be fetched")]
    Fetch(#[from] reqwest::Error),
    /// It is no key set.
    #[error("the JWKS is no key set")]
    Format(#[from] serde_json::Error),
    /// It is longer than any key set.
    #[error("the JWKS is longer than {JWKS_BYTES_MAX} bytes")]
    TooLong,
    /// It would let nobody in.
    #[error("the JWKS has no RS256, ES256 or EdDSA key with a kid")]
    Empty,
}

/// The keys that tokens are verified with, and what else a token must say.
#[derive(Debug, Clone)]
pub struct Keys {
    secrets: Vec<Arc<DecodingKey>>,
    jwks: Option<Arc<Jwks>>,
    issuers: Vec<String>,
    audience: Option<String>,
    verified: Arc<Verified>,
}

#[derive(Debug)]
struct Jwks {
    source: String,
    keys: RwLock<KeySet>,
    /// When they were last asked for again, in epoch milliseconds; held while they are on their way.
    refreshed_at_ms: Mutex<Option<i64>>,
}

#[derive(Debug)]
struct KeySet {
    /// Which one it is of those that were had.
    fetch: u64,
    by_kid: ByKid,
}

/// Keys by their `kid`, each with the one algorithm that it is for.
type ByKid = HashMap<String, (Algorithm, DecodingKey)>;

#[derive(Debug, Clone, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    iss: String,
    /// RFC 7519, section 2: seconds, and not always whole ones.
    exp: f64,
}

/// Somebody whose token is good, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Who it is.
    pub actor: Actor,
    /// When the token ends, leeway included, in epoch milliseconds.
    pub ends_at_ms: i64,
}

impl Keys {
    /// HS256 secrets, any of which verifies, and a key set by file or URL; `iss` and `aud` are asked
    /// where they are given.
    ///
    /// # Errors
    /// When the key set cannot be had.
    pub async fn load(
        secrets: &[String],
        jwks: Option<String>,
        issuers: Vec<String>,
        audience: Option<String>,
    ) -> Result<Self, KeysError> {
        let secrets =
            secrets.iter().map(|secret| Arc::new(DecodingKey::from_secret(secret.as_bytes()))).collect();
        let jwks = match jwks {
            Some(source) => {
                let keys = RwLock::new(KeySet { fetch: 0, by_kid: fetch(&source).await? });
                Some(Arc::new(Jwks { source, keys, refreshed_at_ms: Mutex::new(None) }))
            }
            None => None,
        };
        Ok(Self { secrets, jwks, issuers, audience, verified: Arc::default() })
    }

    /// The user that a request speaks for.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap, store: &Store) -> Result<Actor, ApiError> {
        let token = bearer(headers).ok_or(ApiError::Unauthenticated)?;
        Ok(self.recognize(token, store).await?.actor)
    }

    /// The user that a token speaks for, and until when.
    pub(crate) async fn recognize(&self, token: &str, store: &Store) -> Result<Caller, ApiError> {
        let claims = self.verify(token, &store.clock).await.ok_or(ApiError::Unauthenticated)?;
        let user_id = timeout(IDENTIFY_MAX, account::resolve(store, &claims.iss, &claims.sub)).await;
        let user_id = user_id.unwrap_or(Err(Error::Late))?;
        let ends_at_ms = ends_at_ms(claims.exp);
        Ok(Caller { actor: Actor { user_id, issuer: claims.iss, subject: claims.sub }, ends_at_ms })
    }

    /// What a good token says. Once verified it is known until it ends, or its key may be gone.
    async fn verify(&self, token: &str, clock: &Clock) -> Option<Claims> {
        let name = verified::name(token);
        let newest = self.jwks.as_ref().and_then(|jwks| jwks.newest());
        if let Some(claims) = self.verified.find(&name, newest) {
            return Some(claims);
        }
        let (claims, signer) = self.verify_anew(token, clock).await?;
        let fits = |text: &str| text.len() <= IDENTITY_BYTES_MAX && !text.contains('\0');
        if claims.sub.is_empty() || !fits(&claims.sub) || !fits(&claims.iss) {
            return None;
        }
        self.verified.add(name, claims.clone(), signer);
        Some(claims)
    }

    async fn verify_anew(&self, token: &str, clock: &Clock) -> Option<(Claims, Signer)> {
        let header = decode_header(token).ok()?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: extensions that must be understood, and none is.
            return None;
        }
        if header.alg == Algorithm::HS256 {
            let claims = self.secrets.iter().find_map(|key| self.check(token, key, Algorithm::HS256))?;
            return Some((claims, Signer::Secret));
        }
        let jwks = self.jwks.as_ref()?;
        let kid = header.kid?;
        let (fetch, algorithm, key) = jwks.find(&kid, clock).await?;
        Some((self.check(token, &key, algorithm)?, Signer::Set(fetch)))
    }

    fn check(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<Claims> {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if !self.issuers.is_empty() {
            validation.set_issuer(&self.issuers);
            required.push("iss");
        }
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        decode::<Claims>(token, key, &validation).ok().map(|token| token.claims)
    }
}

impl Jwks {
    async fn find(self: &Arc<Self>, kid: &str, clock: &Clock) -> Option<(u64, Algorithm, DecodingKey)> {
        let known = self.known(kid);
        if known.is_some() {
            return known;
        }
        let (jwks, clock, wanted) = (Arc::clone(self), clock.clone(), kid.to_owned());
        // Detached: a client that hangs up would take the only fetch of this minute with it.
        tokio::spawn(async move { jwks.refresh(&wanted, &clock).await }).await.ok()?;
        self.known(kid)
    }

    fn known(&self, kid: &str) -> Option<(u64, Algorithm, DecodingKey)> {
        let keys = self.keys.read().ok()?;
        let (algorithm, key) = keys.by_kid.get(kid)?;
        Some((keys.fetch, *algorithm, key.clone()))
    }

    /// Which fetch brought the keys of now.
    fn newest(&self) -> Option<u64> {
        Some(self.keys.read().ok()?.fetch)
    }

    /// Asks for the set again, unless that was done within a minute. Who comes while it is on its way
    /// waits, because the key may be in it.
    async fn refresh(&self, kid: &str, clock: &Clock) {
        let mut refreshed_at_ms = self.refreshed_at_ms.lock().await;
        let now_ms = clock.now_ms();
        let is_recent = refreshed_at_ms.is_some_and(|at_ms| now_ms.abs_diff(at_ms) < JWKS_EVERY_MS);
        if is_recent || self.known(kid).is_some() {
            return;
        }
        // Noted first: a set that cannot be fetched is not asked for by every request.
        *refreshed_at_ms = Some(now_ms);
        match fetch(&self.source).await {
            Ok(fetched) => {
                if let Ok(mut keys) = self.keys.write() {
                    *keys = KeySet { fetch: keys.fetch + 1, by_kid: fetched };
                }
            }
            Err(error) => tracing::warn!(%error, "the key set was not refreshed"),
        }
    }
}

async fn fetch(source: &str) -> Result<ByKid, KeysError> {
    let bytes = if source.starts_with("https://") || source.starts_with("http://") {
        download(source).await?
    } else {
        tokio::fs::read(source).await?
    };
    let set: JwkSet = serde_json::from_slice(&bytes)?;
    let usable: ByKid = set
        .keys
        .iter()
        .filter_map(|jwk| {
            let key = DecodingKey::from_jwk(jwk).ok()?;
            Some((jwk.common.key_id.clone()?, (algorithm(jwk)?, key)))
        })
        .collect();
    if usable.is_empty() { Err(KeysError::Empty) } else { Ok(usable) }
}

async fn download(url: &str) -> Result<Vec<u8>, KeysError> {
    let client = reqwest::Client::builder().timeout(JWKS_TIMEOUT).build()?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > JWKS_BYTES_MAX {
            return Err(KeysError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The one algorithm that a key is for: that of its kind. `alg` is optional (RFC 7517, section 4.4), but
/// what it says must fit.
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

fn ends_at_ms(exp: f64) -> i64 {
    let ms = (exp + LEEWAY_SECONDS as f64) * 1_000.0;
    // Saturates: a token may outlive the calendar.
    ms as i64
}

/// The token of the Authorization header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
