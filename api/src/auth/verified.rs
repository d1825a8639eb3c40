//! Tokens whose signature was verified already: a device sends the same one with each request of an hour, and
//! to verify it takes longer than much of what is asked.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use domain::clock::Clock;
use domain::limits::TOKEN_CACHE_ENTRIES_MAX;
use lru::LruCache;
use sha2::{Digest, Sha256};

use super::{Claims, ends_at_ms};

/// What verified a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    /// A secret, which stays as long as the process.
    Secret,
    /// A key of a set, as that fetch brought it.
    Set(u64),
}

/// By their SHA-256, for they are secrets themselves.
#[derive(Debug)]
pub(super) struct Verified(Mutex<LruCache<[u8; 32], (Claims, Signer)>>);

impl Default for Verified {
    fn default() -> Self {
        let entries = NonZeroUsize::new(TOKEN_CACHE_ENTRIES_MAX).unwrap_or(NonZeroUsize::MIN);
        // Room is made for those that come.
        Self(Mutex::new(LruCache::sparse(entries)))
    }
}

impl Verified {
    /// What a token says that has not ended. `newest`: the fetch that brought the keys of now.
    pub(super) fn find(&self, token: &str, newest: Option<u64>) -> Option<Claims> {
        let mut tokens = self.0.lock().ok()?;
        let digest = digest(token);
        let (claims, signer) = tokens.get(&digest)?;
        let is_signed = *signer == Signer::Secret || newest.map(Signer::Set) == Some(*signer);
        if is_signed && !has_ended(claims.exp) {
            return Some(claims.clone());
        }
        tokens.pop(&digest);
        None
    }

    /// Keeps what one says.
    pub(super) fn add(&self, token: &str, claims: Claims, signer: Signer) {
        if let Ok(mut tokens) = self.0.lock() {
            tokens.put(digest(token), (claims, signer));
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// By the time of day, as it is asked when the signature is verified.
fn has_ended(exp: f64) -> bool {
    ends_at_ms(exp) < Clock::System.now_ms()
}
