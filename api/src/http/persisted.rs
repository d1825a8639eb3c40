//! Automatic persisted queries: a client sends the SHA-256 of a document, and the document itself only
//! when it is not known yet. What is kept was executed once for somebody with a valid token.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use domain::limits::DOCUMENT_CACHE_ENTRIES_MAX;
use lru::LruCache;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// The SHA-256 of a document.
pub(crate) type Hash = [u8; 32];

/// What a request may say beside its document.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Extensions {
    #[serde(rename = "persistedQuery")]
    persisted_query: Option<PersistedQuery>,
}

#[derive(Debug, Deserialize)]
struct PersistedQuery {
    version: u32,
    #[serde(rename = "sha256Hash")]
    sha256_hash: String,
}

impl Extensions {
    /// The hash that the client sent.
    ///
    /// # Errors
    /// When it is none, or of a version that is not known.
    pub(crate) fn hash(self) -> Result<Option<Hash>, ApiError> {
        let Some(PersistedQuery { version, sha256_hash }) = self.persisted_query else {
            return Ok(None);
        };
        let hash = hex::decode(sha256_hash).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        match hash {
            Some(hash) if version == 1 => Ok(Some(hash)),
            _ => Err(bad("persistedQuery takes version 1 and a sha256Hash of 64 hexadecimal digits")),
        }
    }
}

/// The documents of this process by their hash.
#[derive(Debug, Clone)]
pub(crate) struct Persisted(Arc<Mutex<LruCache<Hash, Arc<str>>>>);

impl Persisted {
    pub(crate) fn new() -> Self {
        let entries = NonZeroUsize::new(DOCUMENT_CACHE_ENTRIES_MAX).expect("not zero");
        Self(Arc::new(Mutex::new(LruCache::new(entries))))
    }

    /// The document that is meant.
    ///
    /// # Errors
    /// When a hash comes alone and is not known, or is not that of the document.
    pub(crate) fn resolve(&self, query: Option<String>, hash: Option<Hash>) -> Result<String, ApiError> {
        match (query, hash) {
            (Some(query), Some(hash)) if Hash::from(Sha256::digest(&query)) != hash => {
                Err(bad("sha256Hash is not the hash of the query"))
            }
            (Some(query), _) => Ok(query),
            (None, hash) => {
                let find = |hash| self.0.lock().ok()?.get(&hash).map(|query| query.as_ref().to_owned());
                hash.and_then(find).ok_or(ApiError::PersistedQueryNotFound)
            }
        }
    }

    /// Keeps a document that was executed.
    pub(crate) fn keep(&self, hash: Hash, query: &str) {
        if let Ok(mut known) = self.0.lock()
            && !known.contains(&hash)
        {
            known.put(hash, Arc::from(query));
        }
    }
}

fn bad(detail: &str) -> ApiError {
    ApiError::BadUserInput(detail.to_owned())
}
