//! The subscriptions.
//!
//! A wake-up is only a hint; the cursor of a reader decides what it reads next. Each reader pulls its own
//! pages at its own speed. So a slow reader holds no memory, and a lost wake-up delays changes by seconds and
//! loses none.

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
use super::wake::WakeUps;
use super::{context_actor, context_response_size, context_store};
use crate::error::ApiError;

/// How often a subscription reads its feed if nothing wakes it, because a wake-up can be lost.
const POLL_EVERY: Duration = Duration::from_secs(5);
/// The longest time in which a subscription to `changes` sends no page. After it an empty page is sent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The pause between two reads of the import that a subscription to `importProgress` follows.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The subscriptions. They return data of the authenticated user only.
#[derive(Debug, Default)]
pub struct Subscription;

/// The subscriptions. They return data of the authenticated user only.
#[Root]
impl Subscription {
    /// Pages with the changes after the cursor `after`, and then with each new change when it is committed.
    /// Without `after` the stream starts at the newest position. After 30 s without changes an empty page is
    /// sent. A page with `reset` is the last one, and the stream completes: bootstrap with the query
    /// `changes` from the `cursor` of that page.
    async fn changes(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The cursor that the client has stored. Absent: the newest position.")]
        after: Option<Cursor>,
    ) -> Result<impl Stream<Item = ChangePage> + use<>, ApiError> {
        let (store, user_id) = (context_store(context).clone(), context_actor(context).user_id);
        let wake_ups = context.data_unchecked::<WakeUps>().subscribe_to_feed(user_id);
        let after = match after {
            Some(cursor) => cursor.0,
            None => feed::load_head_cursor(&store, user_id).await?.encode(user_id),
        };
        let (counts, response_size) =
            (SelectionCounts::count_selected_fields(context), context_response_size(context).clone());
        let reader = FeedReader {
            store,
            user_id,
            after: Some(after),
            wake_ups,
            last_sent_at: Instant::now(),
            counts,
            response_size,
        };
        Ok(futures::stream::unfold(reader, |mut reader| async move {
            Some((reader.wait_for_next_page().await?, reader))
        }))
    }

    /// The import as it is now, and then whenever it has changed, at most once a second. The stream completes
    /// after the import has ended. An unknown id is refused as BAD_USER_INPUT.
    #[graphql(name = "importProgress")]
    async fn import_progress(
        &self,
        context: &Context<'_>,
        id: Id,
    ) -> Result<impl Stream<Item = ImportJob> + use<>, ApiError> {
        let unknown = || ApiError::BadUserInput("no import is known by this id".to_owned());
        let (store, user_id) = (context_store(context).clone(), context_actor(context).user_id);
        let id = id.to_uuid().ok_or_else(unknown)?;
        let job = import_job::find(&store, user_id, id).await?.ok_or_else(unknown)?;
        let has_ended = job.state.has_ended();
        let current = futures::stream::once(std::future::ready(ImportJob(job.clone())));
        let watcher = ImportWatcher {
            store,
            last: job,
            has_ended,
            response_size: context_response_size(context).clone(),
        };
        let updates = futures::stream::unfold(watcher, |mut watcher| async move {
            Some((ImportJob(watcher.poll_until_import_changes().await?), watcher))
        });
        Ok(futures::StreamExt::chain(current, updates))
    }
}

/// The state of one subscription to `changes`: it reads the change feed of its user page by page.
struct FeedReader {
    store: Store,
    user_id: Uuid,
    /// The cursor after which the next page begins. `None` after a reset, which ends the stream.
    after: Option<String>,
    wake_ups: watch::Receiver<()>,
    /// When the last page was sent.
    last_sent_at: Instant,
    /// What the client selects, from which the size of its pages in bytes is estimated.
    counts: SelectionCounts,
    response_size: ResponseSize,
}

impl FeedReader {
    /// Waits until there are changes, and returns them as the next page to send; after [`SILENCE_MAX`] the
    /// page is empty. A read that fails is repeated without end. Returns `None` after a reset.
    async fn wait_for_next_page(&mut self) -> Option<ChangePage> {
        loop {
            let after = self.after.clone()?;
            // Marked before the read, so that a commit during the read ends the wait below.
            self.wake_ups.mark_unchanged();
            match self.read_page(&after).await {
                Ok(page) => {
                    let has_news = !page.changes.is_empty() || page.reset.is_some();
                    if has_news || self.last_sent_at.elapsed() >= SILENCE_MAX {
                        let is_last = page.reset.is_some();
                        let page = ChangePage::new(page, self.user_id, self.store.clock.now_ms());
                        self.after = (!is_last).then(|| page.next_cursor().to_owned());
                        self.last_sent_at = Instant::now();
                        self.response_size.reset();
                        return Some(page);
                    }
                }
                // The stream goes on: the reader tries again after the wait below.
                Err(error) => {
                    tracing::debug!(
                        error = error.to_string_with_cause(),
                        "a subscription could not read its change feed and will try again"
                    )
                }
            }
            let silence_ends = self.last_sent_at + SILENCE_MAX;
            tokio::select! {
                changed = self.wake_ups.changed() => {
                    if changed.is_err() {
                        tokio::time::sleep(POLL_EVERY).await;
                    }
                }
                () = tokio::time::sleep(POLL_EVERY) => {}
                () = tokio::time::sleep_until(silence_ends) => {}
            }
        }
    }
}

impl FeedReader {
    async fn read_page(&self, after: &str) -> Result<feed::ChangePage, Error> {
        let row_size = |change: &feed::Change| self.counts.estimate_change_bytes(change);
        let bounds = feed::PageBounds {
            first: limits::SUBSCRIPTION_PAGE_MAX,
            with_types: self.counts.has_event_types(),
            row_size: &row_size,
        };
        feed::load_page(&self.store, self.user_id, Some(after), bounds).await
    }
}

/// The state of one subscription to `importProgress`, which follows one import.
struct ImportWatcher {
    store: Store,
    last: domain::import::ImportRow,
    has_ended: bool,
    response_size: ResponseSize,
}

impl ImportWatcher {
    /// Reads the import once a second until it has changed, and returns it. A read that fails is repeated
    /// without end. Returns `None` after the final state was returned, or if the import no longer exists.
    async fn poll_until_import_changes(&mut self) -> Option<domain::import::ImportRow> {
        while !self.has_ended {
            tokio::time::sleep(PROGRESS_EVERY).await;
            match import_job::find(&self.store, self.last.user_id, self.last.id).await {
                Ok(Some(job)) if job != self.last => {
                    self.has_ended = job.state.has_ended();
                    self.last = job;
                    self.response_size.reset();
                    return Some(self.last.clone());
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    tracing::debug!(
                        error = error.to_string_with_cause(),
                        "a subscription could not read its import and will try again"
                    )
                }
            }
        }
        None
    }
}
