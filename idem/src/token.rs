//! Signs the HS256 tokens that `idem token` and `idem serve --dev` print.

use std::time::Duration;

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// Returns an API token (a JWT) for the user `subject`, signed with HS256. It is valid for `ttl` from
/// `now_ms`, in milliseconds since the Unix epoch. Without `issuer` or `audience`, the token lacks that
/// claim.
///
/// # Errors
/// If the subject is empty, or the time of expiry in seconds does not fit into an `i64`.
pub fn sign_token(
    secret: &str,
    subject: &str,
    issuer: Option<&str>,
    audience: Option<&str>,
    ttl: Duration,
    now_ms: i64,
) -> anyhow::Result<String> {
    anyhow::ensure!(!subject.is_empty(), "the subject of a token must not be empty");
    let iat = now_ms.div_euclid(1_000);
    let ttl_s = i64::try_from(ttl.as_secs()).ok();
    let exp =
        ttl_s.and_then(|ttl_s| iat.checked_add(ttl_s)).context("the lifetime of the token is too long")?;
    let claims = Claims { sub: subject, iat, exp, iss: issuer, aud: audience };
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key).context("cannot sign the token")
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_signed_token_holds_the_requested_claims() -> anyhow::Result<()> {
        let token = sign_token(SECRET, "ada", Some("me"), None, Duration::from_secs(60), 1_700_000_000_999)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        let claims: serde_json::Value =
            decode(&token, &DecodingKey::from_secret(SECRET.as_bytes()), &validation)?.claims;
        let expected = serde_json::json!({
            "sub": "ada", "iat": 1_700_000_000, "exp": 1_700_000_060, "iss": "me",
        });
        assert_eq!(claims, expected);
        Ok(())
    }

    #[test]
    fn an_endless_token_is_refused() {
        assert!(sign_token(SECRET, "ada", None, None, Duration::MAX, 0).is_err());
    }
}
