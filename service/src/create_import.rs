//! Creates an import, which then waits for its payload. If the import was created before, returns it as it
//! is.

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use crate::Actor;
use domain::apply::{Entity, UnitOfWork};
use domain::csv_mapping::CsvMapping;
use domain::event_id;
use domain::import::{Counts, Format, ImportRow, Options, State};
use domain::limits::{
    CHUNK_RECORDS_MAX, DAY_RETRY_MS, IMPORT_DAY_MS, IMPORT_NAME_CHARS_MAX, ImportLimits, PAYLOAD_BYTES_MAX,
    UPLOAD_TTL_MS, WAITING_RETRY_MS,
};
use domain::payload_objects::PayloadObjects;
use domain::problem::{Code, FieldProblem, Problem};
use domain::trace_context::TraceContext;
use store::error::Error;
use store::load::{Loaded, ReadSet, begin_lock_and_load};
use store::save::save_feed_head;
use store::{Store, Tx, import_job};

/// A new import as the client sent it. It is not checked yet.
#[derive(Debug, Clone)]
pub struct ImportDraft {
    /// The id of the import: a UUIDv7, made by the client.
    pub id: String,
    /// The file format of the payload.
    pub format: Format,
    /// The name that the user gave the import.
    pub name: Option<String>,
    /// The size of the payload as it will be sent, in bytes.
    pub size_bytes: i64,
    /// The SHA-256 of the payload, as hexadecimal digits. Without it the content is not checked.
    pub sha256: Option<String>,
    /// How the columns of a CSV become events, or what is wrong with this mapping. `None` for other formats.
    pub csv: Option<Result<CsvMapping, Vec<FieldProblem>>>,
    /// Whether the records are only decided and reported, and no event is stored.
    pub dry_run: bool,
    /// The trace context of the request, to link the spans of the import with it.
    pub trace_context: Option<TraceContext>,
}

/// The answer to a request that creates or controls an import.
#[derive(Debug, Clone, Default)]
pub struct ImportAnswer {
    /// The import as it is now. `None` if it is unknown or was not created.
    pub job: Option<ImportRow>,
    /// Why the request was refused. `None` if it was not.
    pub problem: Option<Problem>,
}

impl ImportAnswer {
    /// An answer that refuses the request and shows no import.
    #[must_use]
    pub fn refusal(problem: Problem) -> Self {
        Self { job: None, problem: Some(problem) }
    }
}

impl From<ImportRow> for ImportAnswer {
    fn from(job: ImportRow) -> Self {
        Self { job: Some(job), problem: None }
    }
}

/// Creates an import, which then waits for its payload. If the same import exists already, it is returned as
/// it is. What is wrong with the import itself is in the answer and is no error.
///
/// # Errors
/// [`Error::Locked`] if another transaction holds the account row for too long, [`Error::Busy`] if too many
/// writes wait for it or no connection is free in time, [`Error::Moved`] if the account row is gone and this
/// process does not know the user's identity, [`Error::Database`] if the database fails.
pub async fn create_import(
    store: &Store,
    limits: &ImportLimits,
    actor: &Actor,
    draft: ImportDraft,
) -> Result<ImportAnswer, Error> {
    let Parsed { id, sha256, csv } = match parse_import_draft(&draft) {
        Ok(parsed) => parsed,
        Err(errors) => return Ok(ImportAnswer::refusal(Problem::from_field_problems(errors))),
    };
    let now_ms = store.clock.now_ms();
    let new = ImportRow {
        user_id: actor.user_id,
        id,
        state: State::AwaitingUpload,
        format: draft.format,
        name: draft.name,
        bytes_total: draft.size_bytes,
        bytes_received: 0,
        payload_objects: PayloadObjects::default(),
        sha256,
        options: Options { csv, dry_run: draft.dry_run },
        dry_run: draft.dry_run,
        next_record: 0,
        next_byte: 0,
        next_line: 0,
        bytes_processed: 0,
        records_total: None,
        counts: Counts::default(),
        attempts: 0,
        crash_count: 0,
        chunk_records: i32::try_from(CHUNK_RECORDS_MAX).unwrap_or(i32::MAX),
        small_chunks_until: 0,
        lease_epoch: 0,
        problem: None,
        trace_context: draft.trace_context,
        upload_expires_at: now_ms + UPLOAD_TTL_MS,
        created_at: now_ms,
        started_at: None,
        finished_at: None,
        payload_removed_at: None,
    };
    let mut read_set = ReadSet::default();
    read_set.add_id_and_need_bodies(new.id);
    let (tx, loaded) = begin_lock_and_load(store, new.user_id, &Arc::new(read_set), Instant::now()).await?;
    let answer = insert_import_if_allowed(&tx, loaded, limits, new).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Inserts the import if its id is free and the limits of the user allow it. If the same import exists
/// already, it is the answer. The transaction, which the caller commits, must hold the lock of the account
/// row, so that no other write can take the id in the meantime.
async fn insert_import_if_allowed(
    tx: &Tx,
    loaded: Loaded,
    limits: &ImportLimits,
    new: ImportRow,
) -> Result<ImportAnswer, Error> {
    let (user_id, id) = (new.user_id, new.id);
    let Loaded { read_version, unit, .. } = loaded;
    if let Some(known) = import_job::find_in_transaction(tx, user_id, id).await? {
        let same = known.format == new.format
            && known.bytes_total == new.bytes_total
            && known.sha256 == new.sha256
            && known.options == new.options;
        let detail = "an import with this id exists and has other options: use a new id";
        let reused = Problem::new(Code::ImportIdReused, detail);
        return Ok(if same { known.into() } else { ImportAnswer::refusal(reused) });
    }
    if let Some(problem) = find_import_id_problem(&unit, id, new.created_at) {
        return Ok(ImportAnswer::refusal(problem));
    }
    if import_job::count_waiting(tx, user_id).await? >= limits.waiting_max {
        let most = limits.waiting_max;
        let detail = format!(
            "at most {most} imports may wait at the same time: send their payloads, or cancel some of them"
        );
        return Ok(ImportAnswer::refusal(Problem::new_retryable(
            Code::TooManyImports,
            detail,
            WAITING_RETRY_MS,
        )));
    }
    if let Some(most) = limits.bytes_a_day {
        let since = new.created_at - IMPORT_DAY_MS;
        if import_job::sum_payload_bytes_since(tx, user_id, since).await?.saturating_add(new.bytes_total)
            > most
        {
            let detail = format!("at most {most} bytes may be imported in 24 hours: try again later");
            return Ok(ImportAnswer::refusal(Problem::new_retryable(
                Code::TooManyImports,
                detail,
                DAY_RETRY_MS,
            )));
        }
    }
    // The sweeper compares this with the clock of the database, so it is set by that clock.
    let upload_expires_at = import_job::database_now_ms(tx).await? + UPLOAD_TTL_MS;
    let new = ImportRow { upload_expires_at, ..new };
    import_job::insert(tx, &new).await?;
    // The feed does not move, but the revision of the account must: other writes may have loaded this id as
    // free.
    save_feed_head(tx, user_id, read_version.feed_head, read_version.feed_head).await?;
    Ok(new.into())
}

/// Returns the problem if a new import may not have this id: it belongs to another row of the user, or is no
/// UUIDv7.
fn find_import_id_problem(unit: &UnitOfWork, id: Uuid, now_ms: i64) -> Option<Problem> {
    let in_use =
        [Entity::Event, Entity::EventType].into_iter().any(|entity| unit.is_id_of_other_kind(entity, id));
    let error = if in_use {
        FieldProblem::new("/id", Code::IdInUse, "the id belongs to something else of yours")
    } else {
        event_id::check_new_id(id, now_ms, true).err()?
    };
    let mut problem = Problem::from_field_problems(vec![error]);
    event_id::make_future_id_problem_retryable(&mut problem, id, now_ms);
    Some(problem)
}

/// The fields of a new import that were parsed, and are valid.
struct Parsed {
    id: Uuid,
    sha256: Option<Vec<u8>>,
    csv: Option<CsvMapping>,
}

fn parse_import_draft(draft: &ImportDraft) -> Result<Parsed, Vec<FieldProblem>> {
    let mut errors = Vec::new();
    let mut add = |pointer: &str, code, detail: &str| errors.push(FieldProblem::new(pointer, code, detail));
    let id = event_id::parse(&draft.id);
    if id.is_none() {
        add("/id", Code::InvalidUuid, "must be a UUID: 8-4-4-4-12 hexadecimal digits");
    }
    if let Some(name) = &draft.name {
        if name.contains('\0') {
            add("/name", Code::NulCharacter, "must not contain a NUL character");
        } else if name.chars().count() > IMPORT_NAME_CHARS_MAX {
            add("/name", Code::TooLong, "at most 255 characters are allowed");
        }
    }
    if draft.size_bytes < 1 {
        add("/sizeBytes", Code::OutOfRange, "must be at least 1");
    } else if draft.size_bytes > PAYLOAD_BYTES_MAX {
        add("/sizeBytes", Code::PayloadLimit, "at most 4 GiB are allowed");
    }
    match (&draft.csv, draft.format == Format::Csv) {
        (Some(mapping), true) => errors.extend(mapping.as_ref().err().into_iter().flatten().cloned()),
        (None, true) => errors.push(FieldProblem::new("/csv", Code::Required, "a CSV needs a mapping")),
        (Some(_), false) => {
            errors.push(FieldProblem::new("/csv", Code::InvalidValue, "is for the format CSV alone"));
        }
        (None, false) => {}
    }
    let sha256 = draft.sha256.as_deref().map(|text| hex::decode(text).ok().filter(|bytes| bytes.len() == 32));
    if sha256 == Some(None) {
        let detail = "must be 64 hexadecimal digits";
        errors.push(FieldProblem::new("/sha256", Code::InvalidValue, detail));
    }
    match (id, errors.is_empty()) {
        (Some(id), true) => {
            let csv = draft.csv.as_ref().and_then(|mapping| mapping.as_ref().ok().cloned());
            Ok(Parsed { id, sha256: sha256.flatten(), csv })
        }
        _ => Err(errors),
    }
}
