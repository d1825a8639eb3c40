//! Caches the claims of tokens whose signature was verified.
//!
//! A device sends the same token with every request for about an hour, and verifying a signature takes longer
//! than many requests do.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use domain::limits::TOKEN_CACHE_ENTRIES_MAX;
use lru::LruCache;
use service::Clock;
use sha2::{Digest, Sha256};

use super::{Claims, expires_at_ms};

/// With what kind of key the signature of a token was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    /// A shared secret (HS256). The secrets do not change while the process runs.
    Secret,
    /// A public key of this version of the key set (JWKS).
    KeySet { version: u64 },
}

/// The SHA-256 of a token. The cache is keyed by it and holds no tokens, because a token is a secret.
pub(super) type TokenHash = [u8; 32];

pub(super) fn hash_token(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

/// The claims of verified tokens, and what each token was verified with.
#[derive(Debug)]
pub(super) struct TokenCache(Mutex<LruCache<TokenHash, (Claims, Signer)>>);

impl Default for TokenCache {
    fn default() -> Self {
        let entries = NonZeroUsize::new(TOKEN_CACHE_ENTRIES_MAX).unwrap_or(NonZeroUsize::MIN);
        // A sparse cache allocates as entries arrive, not for all of them at once.
        Self(Mutex::new(LruCache::sparse(entries)))
    }
}

impl TokenCache {
    /// Returns the claims of a cached token that is still valid. A token that has expired, or whose key is
    /// not of the current `key_set_version`, is removed from the cache.
    pub(super) fn find_valid_or_evict_claims(
        &self,
        hash: &TokenHash,
        key_set_version: Option<u64>,
    ) -> Option<Claims> {
        let mut tokens = self.0.lock().ok()?;
        let (claims, signer) = tokens.get(hash)?;
        let has_current_key = match signer {
            Signer::Secret => true,
            Signer::KeySet { version } => key_set_version == Some(*version),
        };
        if has_current_key && !has_expired(claims.exp) {
            return Some(claims.clone());
        }
        tokens.pop(hash);
        None
    }

    /// Caches the claims of a token that was just verified. A full cache drops the least recently used token.
    pub(super) fn insert_claims(&self, hash: TokenHash, claims: Claims, signer: Signer) {
        if let Ok(mut tokens) = self.0.lock() {
            tokens.put(hash, (claims, signer));
        }
    }
}

/// Whether a token with this `exp` claim has expired, with the leeway for clocks included. Compares with the
/// system clock, because the JWT library does so too when it verifies a token.
fn has_expired(exp: f64) -> bool {
    expires_at_ms(exp) < Clock::System.now_ms()
}
