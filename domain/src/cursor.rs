//! Positions in the feed as opaque text: generation, epoch and position, bound to their user by a check.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A position in the feed of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Of which generation of all feeds; 0 for those that were given out before there were generations.
    pub generation: i64,
    /// Of which counting of this feed.
    pub epoch: i64,
    /// Everything up to here is known.
    pub seq: i64,
    /// In a bootstrap: the head when it began. Tombstones up to there are passed over.
    pub bootstrap_head: Option<i64>,
}

const PLAIN: u8 = 1;
const BOOTSTRAP: u8 = 2;
/// Added to the kind of a cursor whose generation is not 0, which follows the kind.
const WITH_GENERATION: u8 = 2;
const CHECK_BYTES: usize = 8;

impl Cursor {
    /// Equal positions of an epoch are equal texts; those of a bootstrap stand apart.
    #[must_use]
    pub fn encode(&self, user_id: Uuid) -> String {
        let mut bytes = vec![if self.bootstrap_head.is_some() { BOOTSTRAP } else { PLAIN }];
        if self.generation != 0 {
            bytes[0] += WITH_GENERATION;
            bytes.extend(self.generation.to_be_bytes());
        }
        bytes.extend(self.epoch.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.bootstrap_head.into_iter().flat_map(i64::to_be_bytes));
        bytes.extend(check(user_id, &bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` for garbage and for a cursor of another user.
    #[must_use]
    pub fn decode(user_id: Uuid, text: &str) -> Option<Self> {
        if text.len() > 64 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
        if check(user_id, body) != sum {
            return None;
        }
        let (kind, numbers) = body.split_first()?;
        let mut numbers = numbers.chunks(8).map(|chunk| chunk.try_into().map(i64::from_be_bytes));
        let mut next = || numbers.next()?.ok();
        let has_generation = *kind > WITH_GENERATION;
        let generation = if has_generation { next()? } else { 0 };
        let (epoch, seq) = (next()?, next()?);
        let is_bootstrap = *kind - if has_generation { WITH_GENERATION } else { 0 } == BOOTSTRAP;
        let bootstrap_head = if is_bootstrap { Some(next()?) } else { None };
        Some(Self { generation, epoch, seq, bootstrap_head })
    }
}

fn check(user_id: Uuid, body: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::new().chain_update(user_id.as_bytes()).chain_update(body).finalize();
    let mut sum = [0; CHECK_BYTES];
    sum.copy_from_slice(&digest[..CHECK_BYTES]);
    sum
}
