//! Implements automatic persisted queries.
//!
//! A client sends the SHA-256 of a document, and the document itself only if the server does not know it yet.
//! Only documents that were executed for a user with a valid token are stored.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use domain::limits::DOCUMENT_CACHE_ENTRIES_MAX;
use lru::LruCache;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::ApiError;

/// The SHA-256 of the text of a GraphQL document.
pub(crate) type Hash = [u8; 32];

/// The member `extensions` of a GraphQL request. Only `persistedQuery` in it is read.
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
    /// Returns the hash of the document that the client sent in `persistedQuery`, if any.
    ///
    /// # Errors
    /// [`ApiError::BadUserInput`] if the hash is malformed or the version is not 1.
    pub(crate) fn into_document_hash(self) -> Result<Option<Hash>, ApiError> {
        let Some(PersistedQuery { version, sha256_hash }) = self.persisted_query else {
            return Ok(None);
        };
        let hash = hex::decode(sha256_hash).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        match hash {
            Some(hash) if version == 1 => Ok(Some(hash)),
            _ => Err(bad_user_input(
                "persistedQuery must have version 1 and a sha256Hash of 64 hexadecimal digits",
            )),
        }
    }
}

/// The GraphQL documents that this process knows by their hash. The least recently used ones are evicted.
#[derive(Debug, Clone)]
pub(crate) struct PersistedDocuments(Arc<Mutex<LruCache<Hash, Arc<str>>>>);

impl PersistedDocuments {
    pub(crate) fn new() -> Self {
        let entries = NonZeroUsize::new(DOCUMENT_CACHE_ENTRIES_MAX).expect("the constant is not zero");
        Self(Arc::new(Mutex::new(LruCache::new(entries))))
    }

    /// Returns the document of a request: the text that was sent, or the stored one with this hash. Stores
    /// nothing.
    ///
    /// # Errors
    /// - [`ApiError::PersistedQueryNotFound`] if there is only a hash and no document is stored under it.
    /// - [`ApiError::BadUserInput`] if both are given and the hash is not that of the document.
    pub(crate) fn resolve_document(
        &self,
        query: Option<String>,
        hash: Option<Hash>,
    ) -> Result<String, ApiError> {
        match (query, hash) {
            (Some(query), Some(hash)) if Hash::from(Sha256::digest(&query)) != hash => {
                Err(bad_user_input("sha256Hash is not the hash of the query"))
            }
            (Some(query), _) => Ok(query),
            (None, hash) => {
                let find = |hash| self.0.lock().ok()?.get(&hash).map(|query| query.as_ref().to_owned());
                hash.and_then(find).ok_or(ApiError::PersistedQueryNotFound)
            }
        }
    }

    /// Stores a document under its hash, unless it is stored already. To be called after the execution only.
    pub(crate) fn store_document(&self, hash: Hash, query: &str) {
        if let Ok(mut documents) = self.0.lock()
            && !documents.contains(&hash)
        {
            documents.put(hash, Arc::from(query));
        }
    }
}

fn bad_user_input(detail: &str) -> ApiError {
    ApiError::BadUserInput(detail.to_owned())
}
