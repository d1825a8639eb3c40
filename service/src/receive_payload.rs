//! Takes the bytes of an import as they stream in, and queues it with the last one.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use uuid::Uuid;

use crate::Actor;
use crate::notifier::{Notification, Notifier};
use domain::import::{ImportRow, State};
use domain::limits::PAYLOAD_OBJECT_BYTES;
use domain::payload_objects::PayloadObjects;
use domain::problem::{Code, Problem};
use store::detached::detached;
use store::error::Error;
use store::import_job::Arrival;
use store::payload::Payloads;
use store::{Store, import_job};

/// How far a payload has come.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// What is stored; none when the import is unknown.
    pub offset: Option<i64>,
    /// Why no more was taken.
    pub problem: Option<Problem>,
}

impl Receipt {
    fn at(offset: i64) -> Self {
        Self { offset: Some(offset), problem: None }
    }

    fn refused(offset: Option<i64>, code: Code, detail: &str) -> Self {
        Self { offset, problem: Some(Problem::new(code, detail)) }
    }
}

/// Tells how much of a payload has arrived.
///
/// # Errors
/// When the database fails.
pub async fn payload_offset(store: &Store, actor: &Actor, id: Uuid) -> Result<Receipt, Error> {
    let row = import_job::find(store, actor.user_id, id).await?;
    Ok(row.map_or_else(unknown, |row| Receipt::at(row.bytes_received)))
}

fn unknown() -> Receipt {
    Receipt::refused(None, Code::NotFound, "no import is known by this id")
}

/// Takes a body: all of the payload, or with `offset` what goes on there. A body that breaks off
/// leaves what has arrived in whole objects.
///
/// # Errors
/// When the database or the object store fails.
pub async fn receive_payload<E: Send>(
    store: &Store,
    payloads: &Payloads,
    notifier: &dyn Notifier,
    actor: &Actor,
    id: Uuid,
    offset: Option<i64>,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin + Send,
) -> Result<Receipt, Error> {
    let Some(row) = import_job::find(store, actor.user_id, id).await? else {
        return Ok(unknown());
    };
    if let Some(receipt) = refuse(&row, offset) {
        return Ok(receipt);
    }
    if import_job::is_upload_over(store, actor.user_id, id).await? {
        let detail = "the payload did not arrive in time";
        return Ok(Receipt::refused(Some(row.bytes_received), Code::UploadExpired, detail));
    }
    let (stored, names) = (row.bytes_received, row.payload_objects.clone());
    let mut upload = Upload { store, payloads, row: &row, stored, names, waiting: BytesMut::new() };
    let mut skip = if offset.is_some() { 0 } else { row.bytes_received };
    while let Some(Ok(mut bytes)) = body.next().await {
        let skipped = skip.min(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        skip -= skipped;
        let _passed = bytes.split_to(usize::try_from(skipped).unwrap_or_default());
        upload.waiting.extend_from_slice(&bytes);
        if upload.is_too_long() {
            let detail = "the payload is larger than announced";
            return Ok(Receipt::refused(Some(upload.stored), Code::PayloadLimit, detail));
        }
        while upload.has_whole_object() {
            if !upload.store_object().await? {
                return moved(store, actor, id).await;
            }
        }
    }
    if upload.is_complete() {
        if !upload.store_object().await? {
            return moved(store, actor, id).await;
        }
        notifier.notify(Notification::Import(id));
    }
    Ok(Receipt::at(upload.stored))
}

/// Another sender, or a cancel, was faster.
async fn moved(store: &Store, actor: &Actor, id: Uuid) -> Result<Receipt, Error> {
    let row = import_job::find(store, actor.user_id, id).await?;
    let detail = "the import has moved on meanwhile";
    Ok(Receipt::refused(row.map(|row| row.bytes_received), Code::ImportState, detail))
}

/// What can be said before a byte of the body is read.
fn refuse(row: &ImportRow, offset: Option<i64>) -> Option<Receipt> {
    let stored = row.bytes_received;
    match row.state {
        State::Canceled | State::Failed | State::RollingBack | State::RolledBack => {
            let detail = format!("an import that is {} takes no payload", row.state.name());
            Some(Receipt::refused(Some(stored), Code::ImportState, &detail))
        }
        State::Queued | State::Running | State::Paused | State::Completed => Some(Receipt::at(stored)),
        State::AwaitingUpload if offset.is_some_and(|offset| offset != stored) => {
            let detail = format!("the payload goes on at {stored}");
            Some(Receipt::refused(Some(stored), Code::ImportState, &detail))
        }
        State::AwaitingUpload => None,
    }
}

struct Upload<'a> {
    store: &'a Store,
    payloads: &'a Payloads,
    row: &'a ImportRow,
    stored: i64,
    /// Of what is stored.
    names: PayloadObjects,
    waiting: BytesMut,
}

impl Upload<'_> {
    fn arrived(&self) -> i64 {
        self.stored + i64::try_from(self.waiting.len()).unwrap_or(i64::MAX)
    }

    fn is_too_long(&self) -> bool {
        self.arrived() > self.row.bytes_total
    }

    fn is_complete(&self) -> bool {
        self.arrived() == self.row.bytes_total && !self.waiting.is_empty()
    }

    /// The last object waits for the end of the body: a byte more would make it wrong.
    fn has_whole_object(&self) -> bool {
        self.waiting.len() >= PAYLOAD_OBJECT_BYTES
            && self.stored + (PAYLOAD_OBJECT_BYTES as i64) < self.row.bytes_total
    }

    async fn store_object(&mut self) -> Result<bool, Error> {
        let object = self.waiting.split_to(self.waiting.len().min(PAYLOAD_OBJECT_BYTES)).freeze();
        let up_to = self.stored + i64::try_from(object.len()).unwrap_or(i64::MAX);
        let complete = up_to == self.row.bytes_total;
        let (user_id, id) = (self.row.user_id, self.row.id);
        let number = u64::try_from(self.stored).unwrap_or_default() / PAYLOAD_OBJECT_BYTES as u64;
        let (names, name) = self.names.with(number, &object);
        let arrival = Arrival {
            from: self.stored,
            names_before: self.names.clone(),
            up_to,
            names: names.clone(),
            complete,
        };
        let (store, payloads) = (self.store.clone(), self.payloads.clone());
        // It runs to its end even if the client hangs up: else an object could stay that no row names.
        let stored = detached(async move {
            payloads.put(user_id, id, &name, object).await?;
            let counts = import_job::receive(&store, user_id, id, arrival).await?;
            if !counts {
                take_back(&store, &payloads, (user_id, id), number, &name).await?;
            }
            Ok(counts)
        });
        if !stored.await.unwrap_or(Err(Error::Bug("to store an object does not panic")))? {
            return Ok(false);
        }
        (self.stored, self.names) = (up_to, names);
        Ok(true)
    }
}

/// Removes an object that does not count: another sender was faster, or the import has ended. If that one has
/// sent the same bytes, the object is part of its payload.
async fn take_back(
    store: &Store,
    payloads: &Payloads,
    (user_id, id): (Uuid, Uuid),
    number: u64,
    name: &str,
) -> Result<(), Error> {
    let row = import_job::find(store, user_id, id).await?;
    let counts =
        row.is_some_and(|row| row.payload_removed_at.is_none() && row.payload_objects.name(number) == name);
    if counts { Ok(()) } else { payloads.remove_object(user_id, id, name).await }
}
