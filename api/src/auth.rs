//! Who is asking: bearer tokens (RFC 7519), verified here and nowhere else, without asking anybody.

mod jwks;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use domain::limits::{IDENTIFY_MS_MAX, IDENTITY_BYTES_MAX, JWKS_BYTES_MAX};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use service::Actor;
use service::Clock;
use service::Error;
use service::{Store, queries::account};
use tokio::time::timeout;

use crate::error::ApiError;
use jwks::Jwks;
use verified::{Signer, Verified};

const LEEWAY_SECONDS: u64 = 30;

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
            Some(source) => Some(Jwks::load(source).await?),
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
