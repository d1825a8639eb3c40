//! What can be followed. A wake-up is a hint and the cursor the truth: each reader pulls its own pages at
//! its own speed, so that a slow one holds no memory and a lost wake-up costs seconds, not changes.

use std::time::Duration;

use async_graphql::{Context, Subscription as Root};
use domain::limits;
use futures::Stream;
use service::Error;
use service::Store;
use service::queries::{feed, import_job};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::response_size::{ResponseSize, SelectionCounts};
use super::scalar::{Cursor, Id};
use super::types::import::ImportJob;
use super::types::sync::ChangePage;
use super::wake::Wakes;
use super::{actor, size_of_response, store};
use crate::error::ApiError;

/// How often a reader looks though nobody woke it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// An empty page is sent behind so long a silence.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks at an import.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The root of all following.
#[derive(Debug, Default)]
pub struct Subscription;

/// The root of all following.
#[Root]
impl Subscription {
    /// What comes after `after` (absent: from now), then each page as it commits; an empty page every 30 s. A
    /// `reset` page is the last: the stream completes.
    async fn changes(
        &self,
        context: &Context<'_>,
        after: Option<Cursor>,
    ) -> Result<impl Stream<Item = ChangePage> + use<>, ApiError> {
        let (store, user_id) = (store(context).clone(), actor(context).user_id);
        let moved = context.data_unchecked::<Wakes>().listen(user_id);
        let after = match after {
            Some(cursor) => cursor.0,
            None => feed::head_cursor(&store, user_id).await?.encode(user_id),
        };
        let (counts, response_size) = (SelectionCounts::of(context), size_of_response(context).clone());
        let reader =
            Reader { store, user_id, after: Some(after), moved, told: Instant::now(), counts, response_size };
        Ok(futures::stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) }))
    }

    /// The job now, then at most once a second, until it ends.
    #[graphql(name = "importProgress")]
    async fn import_progress(
        &self,
        context: &Context<'_>,
        id: Id,
    ) -> Result<impl Stream<Item = ImportJob> + use<>, ApiError> {
        let unknown = || ApiError::BadUserInput("no import is known by this id".to_owned());
        let (store, user_id) = (store(context).clone(), actor(context).user_id);
        let id = id.uuid().ok_or_else(unknown)?;
        let job = import_job::find(&store, user_id, id).await?.ok_or_else(unknown)?;
        let ended = job.state.is_final();
        let begin = futures::stream::once(std::future::ready(ImportJob(job.clone())));
        let watcher = Watcher { store, last: job, ended, response_size: size_of_response(context).clone() };
        let rest = futures::stream::unfold(watcher, |mut watcher| async move {
            Some((ImportJob(watcher.next().await?), watcher))
        });
        Ok(futures::StreamExt::chain(begin, rest))
    }
}

/// A reader of a feed and how far it is.
struct Reader {
    store: Store,
    user_id: Uuid,
    /// None behind a reset.
    after: Option<String>,
    moved: watch::Receiver<()>,
    /// When it was last sent something.
    told: Instant,
    /// What it is told of a change.
    counts: SelectionCounts,
    response_size: ResponseSize,
}

impl Reader {
    async fn next(&mut self) -> Option<ChangePage> {
        loop {
            let after = self.after.clone()?;
            // What commits behind this look wakes the wait below.
            self.moved.mark_unchanged();
            match self.read(&after).await {
                Ok(page) => {
                    let is_worth_telling = !page.changes.is_empty() || page.reset.is_some();
                    if is_worth_telling || self.told.elapsed() >= SILENCE_MAX {
                        let is_last = page.reset.is_some();
                        let page = ChangePage::new(page, self.user_id, self.store.clock.now_ms());
                        self.after = (!is_last).then(|| page.end().to_owned());
                        self.told = Instant::now();
                        self.response_size.begin();
                        return Some(page);
                    }
                }
                // It comes back by itself: the reader looks again.
                Err(error) => {
                    tracing::debug!(error = error.in_full(), "a feed could not be read for a moment")
                }
            }
            let silence_ends = self.told + SILENCE_MAX;
            tokio::select! {
                changed = self.moved.changed() => {
                    if changed.is_err() {
                        tokio::time::sleep(LOOK_EVERY).await;
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = tokio::time::sleep_until(silence_ends) => {}
            }
        }
    }
}

impl Reader {
    async fn read(&self, after: &str) -> Result<feed::ChangePage, Error> {
        let weigh = |change: &feed::Change| self.counts.change(change);
        let bounds = feed::PageBounds {
            first: limits::SUBSCRIPTION_PAGE_MAX,
            with_types: self.counts.has_types(),
            weigh: &weigh,
        };
        feed::page(&self.store, self.user_id, Some(after), bounds).await
    }
}

/// Somebody who watches an import.
struct Watcher {
    store: Store,
    last: domain::import::ImportRow,
    ended: bool,
    response_size: ResponseSize,
}

impl Watcher {
    /// The import as soon as it has changed; none once its end was told.
    async fn next(&mut self) -> Option<domain::import::ImportRow> {
        while !self.ended {
            tokio::time::sleep(PROGRESS_EVERY).await;
            match import_job::find(&self.store, self.last.user_id, self.last.id).await {
                Ok(Some(job)) if job != self.last => {
                    self.ended = job.state.is_final();
                    self.last = job;
                    self.response_size.begin();
                    return Some(self.last.clone());
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    tracing::debug!(error = error.in_full(), "an import could not be read for a moment")
                }
            }
        }
        None
    }
}
