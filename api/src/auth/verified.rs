//! Tokens whose signature was verified already: a device sends the same one with each request of an hour, and
//! to verify it takes longer than much of what is asked.

use std::num::NonZeroUsize;
use std::sync::Mutex;

use domain::limits::TOKEN_CACHE_ENTRIES_MAX;
use lru::LruCache;
use service::Clock;
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

/// The name of a token here: its SHA-256, for it is a secret itself.
pub(super) type Name = [u8; 32];

pub(super) fn name(token: &str) -> Name {
    Sha256::digest(token).into()
}

/// What the tokens say, and what verified them.
#[derive(Debug)]
pub(super) struct Verified(Mutex<LruCache<Name, (Claims, Signer)>>);

impl Default for Verified {
    fn default() -> Self {
        let entries = NonZeroUsize::new(TOKEN_CACHE_ENTRIES_MAX).unwrap_or(NonZeroUsize::MIN);
        // Room is made for those that come.
        Self(Mutex::new(LruCache::sparse(entries)))
    }
}

impl Verified {
    /// What a token says that has not ended. `newest`: the fetch that brought the keys of now.
    pub(super) fn find(&self, name: &Name, newest: Option<u64>) -> Option<Claims> {
        let mut tokens = self.0.lock().ok()?;
        let (claims, signer) = tokens.get(name)?;
        let is_signed = *signer == Signer::Secret || newest.map(Signer::Set) == Some(*signer);
        if is_signed && !has_ended(claims.exp) {
            return Some(claims.clone());
        }
        tokens.pop(name);
        None
    }

    /// Keeps what one says.
    pub(super) fn add(&self, name: Name, claims: Claims, signer: Signer) {
        if let Ok(mut tokens) = self.0.lock() {
            tokens.put(name, (claims, signer));
        }
    }
}

/// By the time of day, as it is asked when the signature is verified.
fn has_ended(exp: f64) -> bool {
    ends_at_ms(exp) < Clock::System.now_ms()
}
