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

/// What a token was verified with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    /// A secret. The secrets do not change while the process runs.
    Secret,
    /// A key of this version of the key set.
    KeySet { version: u64 },
}

/// The SHA-256 of a token. It is the key of the cache, because a token is itself a secret.
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
    /// Returns the claims of a cached token that is still valid. `key_set_version` is the current version.
    pub(super) fn find_claims(&self, hash: &TokenHash, key_set_version: Option<u64>) -> Option<Claims> {
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

    /// Stores the claims of a token that was just verified.
    pub(super) fn insert_claims(&self, hash: TokenHash, claims: Claims, signer: Signer) {
        if let Ok(mut tokens) = self.0.lock() {
            tokens.put(hash, (claims, signer));
        }
    }
}

/// Compares with the system clock, because the JWT library does so too when it verifies a token.
fn has_expired(exp: f64) -> bool {
    expires_at_ms(exp) < Clock::System.now_ms()
}
