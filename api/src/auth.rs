//! Who is asking: bearer tokens (RFC 7519), verified here and nowhere else, without asking anybody.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use domain::commands::Actor;
use domain::store::{Store, account};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use crate::error::ApiError;

const LEEWAY_SECONDS: u64 = 30;
const JWKS_EVERY: Duration = Duration::from_secs(60);
const JWKS_TIMEOUT: Duration = Duration::from_secs(5);

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
}

/// The keys that tokens are verified with, and what else a token must say.
#[derive(Debug, Clone)]
pub struct Keys {
    secrets: Vec<Arc<DecodingKey>>,
    jwks: Option<Arc<Jwks>>,
    issuers: Vec<String>,
    audience: Option<String>,
}

#[derive(Debug)]
struct Jwks {
    source: String,
    /// And when they were last asked for.
    keys: RwLock<(KeySet, Instant)>,
}

/// Keys by their `kid`, each with the one algorithm that it is for.
type KeySet = HashMap<String, (Algorithm, DecodingKey)>;

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    iss: String,
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
                let keys = RwLock::new((fetch(&source).await?, Instant::now()));
                Some(Arc::new(Jwks { source, keys }))
            }
            None => None,
        };
        Ok(Self { secrets, jwks, issuers, audience })
    }

    /// The user that a request speaks for.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap, store: &Store) -> Result<Actor, ApiError> {
        let token = bearer(headers).ok_or(ApiError::Unauthenticated)?;
        let claims = self.verify(token).await.ok_or(ApiError::Unauthenticated)?;
        let user_id = account::resolve(store, &claims.iss, &claims.sub).await?;
        Ok(Actor { user_id, issuer: claims.iss, subject: claims.sub })
    }

    async fn verify(&self, token: &str) -> Option<Claims> {
        let header = decode_header(token).ok()?;
        let claims = if header.alg == Algorithm::HS256 {
            self.secrets.iter().find_map(|key| self.check(token, key, Algorithm::HS256))?
        } else {
            let jwks = self.jwks.as_ref()?;
            let kid = header.kid?;
            jwks.refresh_if_unknown(&kid).await;
            let keys = jwks.keys.read().ok()?;
            let (algorithm, key) = keys.0.get(&kid)?;
            self.check(token, key, *algorithm)?
        };
        let well_formed = !claims.sub.is_empty() && !claims.sub.contains('\0') && !claims.iss.contains('\0');
        well_formed.then_some(claims)
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
    async fn refresh_if_unknown(&self, kid: &str) {
        let due = match self.keys.read() {
            Ok(keys) => !keys.0.contains_key(kid) && keys.1.elapsed() >= JWKS_EVERY,
            Err(_) => false,
        };
        if !due {
            return;
        }
        // The time is noted first: a set that cannot be fetched is not asked for by every request.
        if let Ok(mut keys) = self.keys.write() {
            keys.1 = Instant::now();
        }
        match fetch(&self.source).await {
            Ok(fetched) => {
                if let Ok(mut keys) = self.keys.write() {
                    keys.0 = fetched;
                }
            }
            Err(error) => tracing::warn!(%error, "the key set was not refreshed"),
        }
    }
}

async fn fetch(source: &str) -> Result<KeySet, KeysError> {
    let text = if source.starts_with("https://") || source.starts_with("http://") {
        let client = reqwest::Client::builder().timeout(JWKS_TIMEOUT).build()?;
        client.get(source).send().await?.error_for_status()?.text().await?
    } else {
        tokio::fs::read_to_string(PathBuf::from(source)).await?
    };
    let set: JwkSet = serde_json::from_str(&text)?;
    let usable = set.keys.iter().filter_map(|jwk| {
        let algorithm = jwk.common.key_algorithm?.to_string().parse().ok()?;
        let allowed = matches!(algorithm, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA);
        let key = DecodingKey::from_jwk(jwk).ok().filter(|_| allowed)?;
        Some((jwk.common.key_id.clone()?, (algorithm, key)))
    });
    Ok(usable.collect())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
