//! Stores the payload of an import while it streams in, and queues the import after the last byte.
//!
//! The payload is stored in objects of 8 MiB. The row of the import names the objects that are its payload,
//! so an object that no row names does not count.

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use uuid::Uuid;

use crate::Actor;
use crate::notifier::{Notification, Notifier};
use domain::import::{ImportRow, State};
use domain::limits::PAYLOAD_OBJECT_BYTES;
use domain::payload_objects::PayloadObjects;
use domain::problem::{Code, Problem};
use store::detached::detach_on_drop;
use store::error::Error;
use store::import_job::Arrival;
use store::payload::Payloads;
use store::{Store, import_job};

/// The answer to an upload, or to the question how much of a payload has been received.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The number of bytes of the payload that are stored. `None` if the import is unknown.
    pub offset: Option<i64>,
    /// Why the request was refused. `None` if it was not.
    pub problem: Option<Problem>,
}

impl Receipt {
    fn new_accepted_receipt(offset: i64) -> Self {
        Self { offset: Some(offset), problem: None }
    }

    fn refusal(offset: Option<i64>, code: Code, detail: &str) -> Self {
        Self { offset, problem: Some(Problem::new(code, detail)) }
    }
}

/// Returns how many bytes of the payload of an import are stored. An unknown import is a problem in the
/// receipt.
///
/// # Errors
/// [`Error::Database`] if the database fails.
pub async fn load_payload_offset(store: &Store, actor: &Actor, id: Uuid) -> Result<Receipt, Error> {
    let row = import_job::find(store, actor.user_id, id).await?;
    Ok(row.map_or_else(unknown_import_receipt, |row| Receipt::new_accepted_receipt(row.bytes_received)))
}

fn unknown_import_receipt() -> Receipt {
    Receipt::refusal(None, Code::NotFound, "no import is known by this id")
}

/// Receives the body of an upload, and stores it as payload of an import. After the last byte the import is
/// queued, and workers are notified. A refusal is a problem in the receipt and no error.
///
/// Without `offset` the body is the whole payload, and the bytes that are already stored are skipped. With
/// `offset` it is the rest of the payload from there. If the body breaks off, all complete objects that
/// arrived stay stored.
///
/// # Errors
/// [`Error::Payload`] if the object store fails, [`Error::Database`] if the database fails. [`Error::Locked`]
/// if another transaction holds the row of the import for too long, [`Error::Busy`] if too many requests wait
/// for it or no connection is free in time.
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
        return Ok(unknown_import_receipt());
    };
    if let Some(receipt) = receipt_before_reading_body(&row, offset) {
        return Ok(receipt);
    }
    if import_job::is_upload_expired(store, actor.user_id, id).await? {
        let detail = "the payload did not arrive in time: create a new import";
        return Ok(Receipt::refusal(Some(row.bytes_received), Code::UploadExpired, detail));
    }
    let (stored, objects) = (row.bytes_received, row.payload_objects.clone());
    let mut upload = Upload { store, payloads, row: &row, stored, objects, buffer: BytesMut::new() };
    let mut skip = if offset.is_some() { 0 } else { row.bytes_received };
    while let Some(Ok(mut bytes)) = body.next().await {
        let skipped = skip.min(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        skip -= skipped;
        let _skipped = bytes.split_to(usize::try_from(skipped).unwrap_or_default());
        upload.buffer.extend_from_slice(&bytes);
        if upload.is_payload_too_long() {
            let detail = "the payload is larger than announced: send exactly sizeBytes bytes";
            return Ok(Receipt::refusal(Some(upload.stored), Code::PayloadLimit, detail));
        }
        while upload.has_complete_object_before_last() {
            if !upload.store_next_object().await? {
                return refuse_after_state_change(store, actor, id).await;
            }
        }
    }
    if upload.is_payload_complete() {
        if !upload.store_next_object().await? {
            return refuse_after_state_change(store, actor, id).await;
        }
        notifier.notify(Notification::Import(id));
    }
    Ok(Receipt::new_accepted_receipt(upload.stored))
}

/// Refuses the rest of an upload because its import was changed in the meantime: by another upload, or
/// because it was canceled or has expired. Reads from the database how many bytes are stored now.
async fn refuse_after_state_change(store: &Store, actor: &Actor, id: Uuid) -> Result<Receipt, Error> {
    let row = import_job::find(store, actor.user_id, id).await?;
    let detail = "the import was changed in the meantime: ask for its offset and go on from there";
    Ok(Receipt::refusal(row.map(|row| row.bytes_received), Code::ImportState, detail))
}

/// Decides whether the body of an upload must be read. Returns the receipt if it must not: a refusal, or a
/// success if the payload is complete already. `None` means that it must be read.
fn receipt_before_reading_body(row: &ImportRow, offset: Option<i64>) -> Option<Receipt> {
    let stored = row.bytes_received;
    match row.state {
        State::Canceled | State::Failed | State::RollingBack | State::RolledBack => {
            let detail = format!("an import that is {} accepts no payload", row.state.name());
            Some(Receipt::refusal(Some(stored), Code::ImportState, &detail))
        }
        State::Queued | State::Running | State::Paused | State::Completed => {
            Some(Receipt::new_accepted_receipt(stored))
        }
        State::AwaitingUpload if offset.is_some_and(|offset| offset != stored) => {
            let detail = format!("the payload continues at byte {stored}: send it from there");
            Some(Receipt::refusal(Some(stored), Code::ImportState, &detail))
        }
        State::AwaitingUpload => None,
    }
}

/// The state of an upload while its body is received.
struct Upload<'a> {
    store: &'a Store,
    payloads: &'a Payloads,
    row: &'a ImportRow,
    /// The number of bytes of the payload that are stored.
    stored: i64,
    /// The objects of the payload that are stored.
    objects: PayloadObjects,
    /// Bytes that have arrived and are not stored yet.
    buffer: BytesMut,
}

impl Upload<'_> {
    fn arrived_bytes(&self) -> i64 {
        self.stored + i64::try_from(self.buffer.len()).unwrap_or(i64::MAX)
    }

    fn is_payload_too_long(&self) -> bool {
        self.arrived_bytes() > self.row.bytes_total
    }

    fn is_payload_complete(&self) -> bool {
        self.arrived_bytes() == self.row.bytes_total && !self.buffer.is_empty()
    }

    /// Whether the buffer has a complete object that is not the last one of the payload. The last one is
    /// stored only at the end of the body, because one more byte would make the payload too long.
    fn has_complete_object_before_last(&self) -> bool {
        self.buffer.len() >= PAYLOAD_OBJECT_BYTES
            && self.stored + (PAYLOAD_OBJECT_BYTES as i64) < self.row.bytes_total
    }

    /// Takes the next object out of the buffer, stores it, and records it in the row of the import. The last
    /// object makes the import `QUEUED`. Returns `false` if the row does not accept the object, because it
    /// was changed in the meantime.
    async fn store_next_object(&mut self) -> Result<bool, Error> {
        let object = self.buffer.split_to(self.buffer.len().min(PAYLOAD_OBJECT_BYTES)).freeze();
        let up_to = self.stored + i64::try_from(object.len()).unwrap_or(i64::MAX);
        let complete = up_to == self.row.bytes_total;
        let (user_id, id) = (self.row.user_id, self.row.id);
        let number = u64::try_from(self.stored).unwrap_or_default() / PAYLOAD_OBJECT_BYTES as u64;
        let (objects, name) = self.objects.with_object_added(number, &object);
        let arrival = Arrival {
            from: self.stored,
            names_before: self.objects.clone(),
            up_to,
            names: objects.clone(),
            complete,
        };
        let (store, payloads) = (self.store.clone(), self.payloads.clone());
        // This runs to its end even if the client disconnects. Otherwise an object could remain that no row
        // names.
        let stored = detach_on_drop(async move {
            payloads.put_object(user_id, id, &name, object).await?;
            let is_accepted = import_job::record_object_arrival(&store, user_id, id, arrival).await?;
            if !is_accepted {
                remove_object_if_unused(&store, &payloads, (user_id, id), number, &name).await?;
            }
            Ok(is_accepted)
        });
        if !stored.await.unwrap_or(Err(Error::Bug("storing an object panicked")))? {
            return Ok(false);
        }
        (self.stored, self.objects) = (up_to, objects);
        Ok(true)
    }
}

/// Removes an object from the object store that the row of its import did not accept, because another upload
/// was faster or the import has ended.
///
/// If the other upload sent the same bytes, the object has the same name and is part of the payload: then it
/// stays.
async fn remove_object_if_unused(
    store: &Store,
    payloads: &Payloads,
    (user_id, id): (Uuid, Uuid),
    number: u64,
    name: &str,
) -> Result<(), Error> {
    let row = import_job::find(store, user_id, id).await?;
    let is_used = row.is_some_and(|row| {
        row.payload_removed_at.is_none() && row.payload_objects.object_name(number) == name
    });
    if is_used { Ok(()) } else { payloads.remove_unused_object(user_id, id, name).await }
}
