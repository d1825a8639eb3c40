//! Announces an import, or says what became of it when it was announced before.

use uuid::Uuid;

use crate::commands::Actor;
use crate::error::Error;
use crate::limits;
use crate::rules::apply::{Entity, World};
use crate::rules::event_id;
use crate::rules::import::{Counts, Format, ImportRow, State};
use crate::rules::problem::{Code, FieldProblem, Problem};
use crate::store::load::{Wants, load};
use crate::store::{Store, Tx, account, import_job};

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
pub async fn create_import(store: &Store, actor: &Actor, draft: ImportDraft) -> Result<ImportAnswer, Error> {
    let (id, sha256) = match parse(&draft) {
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
        sha256,
        next_record: 0,
        next_byte: 0,
        bytes_processed: 0,
        records_total: None,
        counts: Counts::default(),
        attempts: 0,
        crash_count: 0,
        lease_epoch: 0,
        problem: None,
        upload_expires_at: now_ms + limits::UPLOAD_TTL_MS,
        created_at: now_ms,
        started_at: None,
        finished_at: None,
    };
    let tx = store.begin().await?;
    let answer = announce(&tx, new).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Looks under the head whether the id is known or free, and adds the import if it may be added.
async fn announce(tx: &Tx, new: ImportRow) -> Result<ImportAnswer, Error> {
    let (user_id, id) = (new.user_id, new.id);
    account::lock(tx, user_id).await?;
    if let Some(known) = import_job::find_within(tx, user_id, id).await? {
        let same =
            known.format == new.format && known.bytes_total == new.bytes_total && known.sha256 == new.sha256;
        let reused = Problem::new(Code::ImportIdReused, "this id was first sent with other options");
        return Ok(if same { known.into() } else { ImportAnswer::refused(reused) });
    }
    let mut wants = Wants::default();
    wants.id(id);
    let world = load(tx, user_id, &wants).await?;
    if let Some(problem) = refuse_new(&world, id, new.created_at) {
        return Ok(ImportAnswer::refused(problem));
    }
    if import_job::waiting(tx, user_id).await? >= limits::IMPORTS_WAITING_MAX {
        let detail = format!("at most {} imports may wait at once", limits::IMPORTS_WAITING_MAX);
        return Ok(ImportAnswer::refused(Problem::new(Code::TooManyImports, detail)));
    }
    import_job::insert(tx, &new).await?;
    Ok(new.into())
}

/// What speaks against a new import of this id.
fn refuse_new(world: &World, id: Uuid, now_ms: i64) -> Option<Problem> {
    let in_use =
        [Entity::Event, Entity::EventType].into_iter().any(|entity| world.is_used_beside(entity, id));
    let fault = if in_use {
        FieldProblem::new("/id", Code::IdInUse, "the id belongs to something else of yours")
    } else {
        event_id::check_new(id, now_ms, true).err()?
    };
    let mut problem = Problem::of_fields(vec![fault]);
    event_id::with_retry(&mut problem, id, now_ms);
    Some(problem)
}

fn parse(draft: &ImportDraft) -> Result<(Uuid, Option<Vec<u8>>), Vec<FieldProblem>> {
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
    let sha256 = draft.sha256.as_deref().map(|text| hex::decode(text).ok().filter(|bytes| bytes.len() == 32));
    if sha256 == Some(None) {
        add("/sha256", Code::InvalidValue, "must be 64 hexadecimal digits");
    }
    match (id, errors.is_empty()) {
        (Some(id), true) => Ok((id, sha256.flatten())),
        _ => Err(errors),
    }
}
