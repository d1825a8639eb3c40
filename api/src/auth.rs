//! Authenticates requests by their bearer tokens (RFC 7519).
//!
//! Tokens are verified here and nowhere else. The issuer is asked for its public keys, but never about a
//! token.

mod jwks;
mod token_cache;

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
use token_cache::{Signer, TokenCache};

/// How much the clocks of the issuer and of this server may differ: a token counts as valid this long before
/// its `nbf` and after its `exp`.
const LEEWAY_SECONDS: u64 = 30;

/// How long the database may take to find or create the user of a token.
const IDENTIFY_TIMEOUT: Duration = Duration::from_millis(IDENTIFY_MS_MAX);

/// Why the verification keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file with the key set could not be read.
    #[error("the JWKS file cannot be read")]
    File(#[from] std::io::Error),
    /// The request for the URL of the key set failed, or its response has an error status.
    #[error("the JWKS cannot be fetched")]
    Fetch(#[from] reqwest::Error),
    /// The content of the file or URL is not a JSON Web Key Set (RFC 7517).
    #[error("the JWKS is not a JSON Web Key Set (RFC 7517)")]
    Format(#[from] serde_json::Error),
    /// The URL returned more than [`JWKS_BYTES_MAX`] bytes.
    #[error("the JWKS is longer than {JWKS_BYTES_MAX} bytes")]
    TooLong,
    /// The set has no usable key, so that every token would be refused.
    #[error("the JWKS has no RS256, ES256 or EdDSA key with a kid")]
    Empty,
}

/// What tokens are verified with: the keys of their signatures, the issuers and the audience that they must
/// name, and a cache of verified tokens. Clones share the cache.
#[derive(Debug, Clone)]
pub struct Keys {
    secrets: Vec<Arc<DecodingKey>>,
    jwks: Option<Arc<Jwks>>,
    issuers: Vec<String>,
    audience: Option<String>,
    token_cache: Arc<TokenCache>,
}

#[derive(Debug, Clone, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    iss: String,
    /// When the token expires, in seconds since the epoch. RFC 7519, section 2 (NumericDate) permits
    /// fractions.
    exp: f64,
}

/// An authenticated user, and when the token expires.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The user that the token names.
    pub actor: Actor,
    /// When the token stops being accepted, in epoch milliseconds: its `exp` plus the leeway for clocks.
    pub expires_at_ms: i64,
}

impl Keys {
    /// Loads the keys. A token may be signed with any of the HS256 `secrets` or with a key of `jwks`.
    ///
    /// `jwks` is a file or a URL, which a background task reads again about once a minute. If `issuers` is
    /// not empty, `iss` of a token must be one of them. If `audience` is given, `aud` must contain it.
    ///
    /// # Errors
    /// - [`KeysError::File`] if the file cannot be read.
    /// - [`KeysError::Fetch`] if the URL cannot be fetched.
    /// - [`KeysError::TooLong`] if the URL returns more than [`JWKS_BYTES_MAX`] bytes.
    /// - [`KeysError::Format`] if the content is not a key set.
    /// - [`KeysError::Empty`] if the set has no usable key.
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
        Ok(Self { secrets, jwks, issuers, audience, token_cache: Arc::default() })
    }

    /// Returns the user whose token is in the Authorization header. Creates the user if the token is their
    /// first.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`] if there is no valid token; [`ApiError::Unavailable`] or
    /// [`ApiError::Internal`] if the database cannot find or create the user.
    pub(crate) async fn authenticate_request(
        &self,
        headers: &HeaderMap,
        store: &Store,
    ) -> Result<Actor, ApiError> {
        let token = bearer_token(headers).ok_or(ApiError::Unauthenticated)?;
        Ok(self.authenticate_token(token, store).await?.actor)
    }

    /// Verifies a token. Returns its user, who is created if unknown, and the time at which it expires.
    ///
    /// # Errors
    /// [`ApiError::Unauthenticated`] if the token is not valid; [`ApiError::Unavailable`] or
    /// [`ApiError::Internal`] if the database cannot find or create the user.
    pub(crate) async fn authenticate_token(&self, token: &str, store: &Store) -> Result<Caller, ApiError> {
        let claims = self.verify_token(token, &store.clock).await.ok_or(ApiError::Unauthenticated)?;
        let user_id =
            timeout(IDENTIFY_TIMEOUT, account::find_or_create_user_id(store, &claims.iss, &claims.sub)).await;
        let user_id = user_id.unwrap_or(Err(Error::Late))?;
        let expires_at_ms = expires_at_ms(claims.exp);
        Ok(Caller { actor: Actor { user_id, issuer: claims.iss, subject: claims.sub }, expires_at_ms })
    }

    /// Returns the claims of a valid token, and `None` for any other. The claims are cached until the token
    /// expires, or until a new version of the key set that verified it, which may lack its key.
    async fn verify_token(&self, token: &str, clock: &Clock) -> Option<Claims> {
        let hash = token_cache::hash_token(token);
        let key_set_version = self.jwks.as_ref().and_then(|jwks| jwks.key_set_version());
        if let Some(claims) = self.token_cache.find_valid_or_evict_claims(&hash, key_set_version) {
            return Some(claims);
        }
        let (claims, signer) = self.verify_signature_and_claims(token, clock).await?;
        let fits = |text: &str| text.len() <= IDENTITY_BYTES_MAX && !text.contains('\0');
        if claims.sub.is_empty() || !fits(&claims.sub) || !fits(&claims.iss) {
            return None;
        }
        self.token_cache.insert_claims(hash, claims.clone(), signer);
        Some(claims)
    }

    async fn verify_signature_and_claims(&self, token: &str, clock: &Clock) -> Option<(Claims, Signer)> {
        let header = decode_header(token).ok()?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: a token with critical extensions that are not understood must be
            // rejected. This server understands none.
            return None;
        }
        if header.alg == Algorithm::HS256 {
            let claims = self
                .secrets
                .iter()
                .find_map(|key| self.verify_token_with_key(token, key, Algorithm::HS256))?;
            return Some((claims, Signer::Secret));
        }
        let jwks = self.jwks.as_ref()?;
        let kid = header.kid?;
        let found = jwks.find_or_fetch_key(&kid, clock).await?;
        let claims = self.verify_token_with_key(token, &found.key, found.algorithm)?;
        Some((claims, Signer::KeySet { version: found.key_set_version }))
    }

    fn verify_token_with_key(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<Claims> {
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

fn expires_at_ms(exp: f64) -> i64 {
    let ms = (exp + LEEWAY_SECONDS as f64) * 1_000.0;
    // The cast saturates, because `exp` may be larger than any time in milliseconds.
    ms as i64
}

/// Returns the token of the Authorization header, unverified. `None` if the header is missing or does not
/// have the scheme Bearer.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
