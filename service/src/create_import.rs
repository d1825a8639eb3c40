//! Announces an import, or says what became of it when it was announced before.

use tokio::time::Instant;
use uuid::Uuid;

use crate::Actor;
use domain::apply::{Entity, UnitOfWork};
use domain::csv_mapping::CsvMapping;
use domain::event_id;
use domain::import::{Counts, Format, ImportRow, Options, State};
use domain::limits::{self, ImportLimits};
use domain::payload_objects::PayloadObjects;
use domain::problem::{Code, FieldProblem, Problem};
use domain::trace_context::TraceContext;
use store::error::Error;
use store::load::{Loaded, ReadSet, begin_and_load};
use store::save::save_head;
use store::{Store, Tx, import_job};

/// An import as it was announced.
#[derive(Debug, Clone)]
pub struct ImportDraft {
    /// UUIDv7.
    pub id: String,
    /// What its payload holds.
    pub format: Format,
    /// What the user calls it.
    pub name: Option<String>,
    /// Size of the payload as it will be sent.
    pub size_bytes: i64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: Option<String>,
    /// How its columns become events, if it is a CSV, or what is wrong with that.
    pub csv: Option<Result<CsvMapping, Vec<FieldProblem>>>,
    /// It is to decide and report, and to store nothing.
    pub dry_run: bool,
    /// The request that announces it.
    pub trace_context: Option<TraceContext>,
}

/// What an import was refused for, and as what it stands.
#[derive(Debug, Clone, Default)]
pub struct ImportAnswer {
    /// The import as it is; none when it is unknown or was refused.
    pub job: Option<ImportRow>,
    /// Why not.
    pub problem: Option<Problem>,
}

impl ImportAnswer {
    /// Refused.
    #[must_use]
    pub fn refused(problem: Problem) -> Self {
        Self { job: None, problem: Some(problem) }
    }
}

impl From<ImportRow> for ImportAnswer {
    fn from(job: ImportRow) -> Self {
        Self { job: Some(job), problem: None }
    }
}

/// Announces an import.
///
/// # Errors
/// When the database fails; what is wrong with the import itself is in the answer.
pub async fn create_import(
    store: &Store,
    limits: &ImportLimits,
    actor: &Actor,
    draft: ImportDraft,
) -> Result<ImportAnswer, Error> {
    let Parsed { id, sha256, csv } = match parse(&draft) {
        Ok(parsed) => parsed,
        Err(errors) => return Ok(ImportAnswer::refused(Problem::of_fields(errors))),
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
        chunk_records: i32::try_from(limits::CHUNK_RECORDS_MAX).unwrap_or(i32::MAX),
        small_chunks_until: 0,
        lease_epoch: 0,
        problem: None,
        trace_context: draft.trace_context,
        upload_expires_at: now_ms + limits::UPLOAD_TTL_MS,
        created_at: now_ms,
        started_at: None,
        finished_at: None,
        payload_removed_at: None,
    };
    let mut read_set = ReadSet::default();
    read_set.id(new.id);
    let (tx, loaded) = begin_and_load(store, new.user_id, &read_set, Instant::now()).await?;
    let answer = announce(&tx, loaded, limits, new).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Looks under the head whether the id is known or free, and adds the import if it may be added.
async fn announce(
    tx: &Tx,
    loaded: Loaded,
    allowed: &ImportLimits,
    new: ImportRow,
) -> Result<ImportAnswer, Error> {
    let (user_id, id) = (new.user_id, new.id);
    let Loaded { read_version, unit, .. } = loaded;
    if let Some(known) = import_job::find_within(tx, user_id, id).await? {
        let same = known.format == new.format
            && known.bytes_total == new.bytes_total
            && known.sha256 == new.sha256
            && known.options == new.options;
        let reused = Problem::new(Code::ImportIdReused, "this id was first sent with other options");
        return Ok(if same { known.into() } else { ImportAnswer::refused(reused) });
    }
    if let Some(problem) = refuse_new(&unit, id, new.created_at) {
        return Ok(ImportAnswer::refused(problem));
    }
    if import_job::waiting(tx, user_id).await? >= allowed.waiting_max {
        let most = allowed.waiting_max;
        let detail = format!(
            "at most {most} imports may wait at once: send their payloads, or cancel those that are of no use"
        );
        return Ok(ImportAnswer::refused(Problem::later(
            Code::TooManyImports,
            detail,
            limits::WAITING_RETRY_MS,
        )));
    }
    if let Some(most) = allowed.bytes_a_day {
        let since = new.created_at - limits::IMPORT_DAY_MS;
        if import_job::bytes_since(tx, user_id, since).await?.saturating_add(new.bytes_total) > most {
            let detail = format!("at most {most} bytes may be sent in a day");
            return Ok(ImportAnswer::refused(Problem::later(
                Code::TooManyImports,
                detail,
                limits::DAY_RETRY_MS,
            )));
        }
    }
    // By the clock that it ends by.
    let upload_expires_at = import_job::now_ms(tx).await? + limits::UPLOAD_TTL_MS;
    let new = ImportRow { upload_expires_at, ..new };
    import_job::insert(tx, &new).await?;
    // For whoever waits for the head: an id that was free is not.
    save_head(tx, user_id, read_version.feed_head, read_version.feed_head).await?;
    Ok(new.into())
}

/// What speaks against a new import of this id.
fn refuse_new(unit: &UnitOfWork, id: Uuid, now_ms: i64) -> Option<Problem> {
    let in_use = [Entity::Event, Entity::EventType].into_iter().any(|entity| unit.is_used_beside(entity, id));
    let fault = if in_use {
        FieldProblem::new("/id", Code::IdInUse, "the id belongs to something else of yours")
    } else {
        event_id::check_new(id, now_ms, true).err()?
    };
    let mut problem = Problem::of_fields(vec![fault]);
    event_id::with_retry(&mut problem, id, now_ms);
    Some(problem)
}

/// What was sent as text, or may be wrong in itself.
struct Parsed {
    id: Uuid,
    sha256: Option<Vec<u8>>,
    csv: Option<CsvMapping>,
}

fn parse(draft: &ImportDraft) -> Result<Parsed, Vec<FieldProblem>> {
    let mut errors = Vec::new();
    let mut add = |pointer: &str, code, detail: &str| errors.push(FieldProblem::new(pointer, code, detail));
    let id = event_id::parse(&draft.id);
    if id.is_none() {
        add("/id", Code::InvalidUuid, "must be a UUID: 8-4-4-4-12 hexadecimal digits");
    }
    if let Some(name) = &draft.name {
        if name.contains('\0') {
            add("/name", Code::NulCharacter, "must not hold a NUL character");
        } else if name.chars().count() > limits::IMPORT_NAME_CHARS_MAX {
            add("/name", Code::TooLong, "at most 255 characters are allowed");
        }
    }
    if draft.size_bytes < 1 {
        add("/sizeBytes", Code::OutOfRange, "must be at least 1");
    } else if draft.size_bytes > limits::PAYLOAD_BYTES_MAX {
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
