//! Encodes positions in the change feed as cursors, which are opaque text for clients.
//!
//! A cursor contains the generation, the feed epoch and the position. Its check bytes also depend on the user
//! id, so that a cursor is invalid for other users.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A position in the change feed of one user. As text, clients send it to continue from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The generation of the feeds of all users. A new generation makes all older cursors invalid. It is 0 in
    /// cursors from before generations existed.
    pub generation: i64,
    /// The feed epoch of the user. A new epoch makes the older cursors of the user invalid.
    pub epoch: i64,
    /// The position in the feed. The client knows all changes up to it.
    pub seq: i64,
    /// The feed head when the bootstrap began. Tombstones up to it are skipped. `None` if the cursor is not
    /// within a bootstrap.
    pub bootstrap_head: Option<i64>,
}

const POSITION: u8 = 1;
const BOOTSTRAP: u8 = 2;
/// Added to the tag if the generation is not 0. Then the generation follows the tag.
const WITH_GENERATION: u8 = 2;
const CHECK_BYTES: usize = 8;

impl Cursor {
    /// Encodes the cursor as text that only this user can use.
    ///
    /// Equal cursors of a user have equal texts. A cursor within a bootstrap differs from the one of the same
    /// position outside of it.
    #[must_use]
    pub fn encode(&self, user_id: Uuid) -> String {
        let mut bytes = vec![if self.bootstrap_head.is_some() { BOOTSTRAP } else { POSITION }];
        if self.generation != 0 {
            bytes[0] += WITH_GENERATION;
            bytes.extend(self.generation.to_be_bytes());
        }
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.bootstrap_head.into_iter().flat_map(i64::to_be_bytes));
        bytes.extend(compute_check_bytes(user_id, &bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Decodes a cursor. `None` if the text is not a cursor of this user. Whether its generation and epoch
    /// are the current ones is not checked.
    #[must_use]
    pub fn decode(user_id: Uuid, text: &str) -> Option<Self> {
        if text.len() > 64 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, check_bytes) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
        if compute_check_bytes(user_id, body) != check_bytes {
            return None;
        }
        let (tag, numbers) = body.split_first()?;
        let mut numbers = numbers.chunks(8).map(|chunk| chunk.try_into().map(i64::from_be_bytes));
        let mut next = || numbers.next()?.ok();
        let has_generation = *tag > WITH_GENERATION;
        let generation = if has_generation { next()? } else { 0 };
        let (epoch, seq) = (next()?, next()?);
        let is_bootstrap = *tag - if has_generation { WITH_GENERATION } else { 0 } == BOOTSTRAP;
        let bootstrap_head = if is_bootstrap { Some(next()?) } else { None };
        Some(Self { generation, epoch, seq, bootstrap_head })
    }
}

/// The first bytes of a SHA-256 over the user id and the other bytes of the cursor. They detect mistakes, not
/// forgery.
fn compute_check_bytes(user_id: Uuid, body: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::new().chain_update(user_id.as_bytes()).chain_update(body).finalize();
    let mut check_bytes = [0; CHECK_BYTES];
    check_bytes.copy_from_slice(&digest[..CHECK_BYTES]);
    check_bytes
}
