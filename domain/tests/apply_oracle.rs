//! Holds `rules::apply` against a naive reading of the contract's "Writes" over generated calls.
//! `TESTS_CASES` sets how many, `TESTS_SEED` where to begin; a case that fails prints its seed.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use domain::apply::{
    Answer, Entity, MatchKey, Outcome, RecordedEdit, UnitOfWork, Write, WriteAnswer, WriteContext, apply,
};
use domain::draft::IdOrigin;
use domain::problem::{Code, FieldProblem, Problem};
use domain::row::{DeletedBy, EventBody, EventRow, TypeRow, Writer};
use support::oracle::{Oracle, Said};
use support::universe::{Call, Item, creates, outbox, with_edit_ids};
use uuid::Uuid;

/// Which way an item went, so that the generator cannot quietly stop reaching one.
type Way = (&'static str, Outcome, Option<MatchKey>, Option<Code>);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn said<Row: Clone>(answer: Answer<Row>, seq_of: impl Fn(&mut Row) -> &mut i64, head: i64) -> Said<Row> {
    let problem = answer.problem.as_ref();
    let row = answer.row.map(|row| {
        let mut row = Arc::unwrap_or_clone(row);
        let seq = seq_of(&mut row);
        assert!(*seq <= head, "a position before the changes");
        *seq = 0;
        row
    });
    Said {
        outcome: answer.outcome,
        matched_by: answer.matched_by,
        differs: answer.differs,
        row,
        code: problem.map(|problem| problem.code),
        errors: problem.map_or(Vec::new(), |problem| {
            problem.errors.iter().map(|error| (error.pointer.clone(), error.code)).collect()
        }),
        retry_after_ms: problem.and_then(|problem| problem.retry_after_ms),
        retryable: problem.is_some_and(|problem| problem.retryable),
    }
}

/// As an answer is held: positions are given by the changes, and compared there.
fn unnumbered<Row>(mut said: Said<Row>, seq_of: impl Fn(&mut Row) -> &mut i64) -> Said<Row> {
    if let Some(row) = &mut said.row {
        *seq_of(row) = 0;
    }
    said
}

fn event_seq(row: &mut EventRow) -> &mut i64 {
    &mut row.meta.change_seq
}

fn type_seq(row: &mut TypeRow) -> &mut i64 {
    &mut row.meta.change_seq
}

fn load(stored: &Oracle) -> UnitOfWork {
    fill(UnitOfWork::default(), stored)
}

fn fill(mut unit: UnitOfWork, stored: &Oracle) -> UnitOfWork {
    stored.events.iter().cloned().for_each(|row| unit.load_event(row));
    stored.types.iter().cloned().for_each(|row| unit.load_type(row));
    stored.aliases.iter().for_each(|alias| unit.load_alias(alias.entity, alias.alias_id, alias.id));
    stored.imports.iter().for_each(|id| unit.load_import_id(*id));
    for event in stored.events.iter().filter_map(|row| row.content.as_ref()) {
        let of_type = |row: &&EventRow| {
            row.content.as_ref().is_some_and(|other| other.event_type_id == event.event_type_id)
        };
        let count = stored.events.iter().filter(of_type).count();
        unit.load_usage(event.event_type_id, i64::try_from(count).expect("small"));
    }
    unit
}

fn context(call: &Call) -> WriteContext<'_> {
    WriteContext {
        now_ms: support::universe::NOW_MS,
        client_id: call.client_id,
        import_job_id: call.import_job_id,
    }
}

/// The kind of a write, and its id where one was sent.
fn about(write: &Write) -> (&'static str, Option<Uuid>) {
    let sent = |id: Uuid, origin: IdOrigin| (origin == IdOrigin::Sent).then_some(id);
    match write {
        Write::CreateEvent(new) => ("create event", sent(new.id, new.origin)),
        Write::UpdateEvent(edit) => ("update event", Some(edit.id)),
        Write::DeleteEvent(removal) => ("delete event", Some(removal.id)),
        Write::RestoreEvent(restore) => ("restore event", Some(restore.event.id)),
        Write::CreateEventType(new) => ("create type", sent(new.id, new.origin)),
        Write::UpdateEventType(edit) => ("update type", Some(edit.id)),
        Write::DeleteEventType(removal) => ("delete type", Some(removal.id)),
    }
}

/// What the oracle says to a write.
enum Wanted {
    Event(Said<EventRow>),
    Type(Said<TypeRow>),
}

fn ask(oracle: &mut Oracle, context: &WriteContext<'_>, write: &Write) -> Wanted {
    match write {
        Write::CreateEvent(new) => Wanted::Event(oracle.create_event(context, new)),
        Write::UpdateEvent(edit) => Wanted::Event(oracle.update_event(context, edit)),
        Write::DeleteEvent(removal) => Wanted::Event(oracle.delete_event(context, removal)),
        Write::RestoreEvent(restore) => Wanted::Event(oracle.restore_event(context, restore)),
        Write::CreateEventType(new) => Wanted::Type(oracle.create_type(context, new)),
        Write::UpdateEventType(edit) => Wanted::Type(oracle.update_type(context, edit)),
        Write::DeleteEventType(removal) => Wanted::Type(oracle.delete_type(context, removal)),
    }
}

/// As `apply_mutations` does it: what was rejected is kept in mind under the id that was sent.
fn decide(unit: &mut UnitOfWork, context: &WriteContext<'_>, write: &Write) -> WriteAnswer {
    let written = apply(unit, context, write);
    if let (Some(id), Some(problem)) = (about(write).1, written.rejection()) {
        unit.reject(id, problem.clone());
    }
    written
}

fn hold(call: &Call, ways: &mut BTreeSet<String>) {
    let context = context(call);
    let head = call.stored.head;
    let mut oracle = call.stored.clone();
    let mut unit = load(&call.stored);
    for (index, item) in call.items.iter().enumerate() {
        let write = match item {
            Item::Write(write) => write,
            Item::Unreadable(id) => {
                let wrong = FieldProblem::new("/notes", Code::TooLong, "too long");
                unit.reject(*id, Problem::of_fields(vec![wrong]));
                oracle.rejected.push((*id, false, None));
                continue;
            }
        };
        let (kind, sent_id) = about(write);
        let way: Way = match (decide(&mut unit, &context, write), ask(&mut oracle, &context, write)) {
            (WriteAnswer::Event(answer), Wanted::Event(wanted)) => {
                let got = said(answer, event_seq, head);
                note_rejection(&mut oracle, sent_id, &wanted);
                assert_eq!(got, unnumbered(wanted, event_seq), "item {index}: {write:?}");
                (kind, got.outcome, got.matched_by, got.code)
            }
            (WriteAnswer::EventType(answer), Wanted::Type(wanted)) => {
                let got = said(answer, type_seq, head);
                note_rejection(&mut oracle, sent_id, &wanted);
                assert_eq!(got, unnumbered(wanted, type_seq), "item {index}: {write:?}");
                (kind, got.outcome, got.matched_by, got.code)
            }
            (got, _) => panic!("item {index} is answered as another kind: {got:?}"),
        };
        ways.insert(format!("{way:?}"));
    }
    ways.extend(oracle.seen.iter().map(|&seen| seen.to_owned()));
    hold_net(call, &oracle, unit);
}

fn note_rejection<Row>(oracle: &mut Oracle, sent_id: Option<Uuid>, said: &Said<Row>) {
    if let (Some(id), Outcome::Rejected) = (sent_id, said.outcome) {
        oracle.rejected.push((id, said.retryable, said.retry_after_ms));
    }
}

fn hold_net(call: &Call, oracle: &Oracle, unit: UnitOfWork) {
    let head = call.stored.head;
    let changes = unit.into_changes(head);
    assert_eq!(changes.head, oracle.head, "head");
    assert_eq!(changes.aliases, oracle.aliases[call.stored.aliases.len()..], "aliases");
    assert_eq!(changes.changed_rows() as i64, changes.head - head, "a position for each changed row");
    let recorded_edit_ids = recorded_edit_ids(oracle, head);
    assert_eq!(changes.recorded_edit_ids, recorded_edit_ids, "recorded_edit_ids edits");
    let is_written =
        |id: &Uuid| oracle.events.iter().any(|row| row.meta.id == *id && row.meta.change_seq > head);
    let finalized_deletions: Vec<_> =
        oracle.finalized_deletions.iter().copied().filter(|id| !is_written(id)).collect();
    assert_eq!(changes.finalized_deletions, finalized_deletions, "deletions made final");
    let is_empty = changes.head == head
        && changes.aliases.is_empty()
        && recorded_edit_ids.is_empty()
        && finalized_deletions.is_empty();
    assert_eq!(changes.is_empty(), is_empty);
    let events = oracle.events.iter().filter(|row| row.meta.change_seq > head).cloned();
    let was_event = |id| call.stored.events.iter().any(|row| row.meta.id == id);
    let (mut changed, mut new): (Vec<_>, Vec<_>) = events.partition(|row| was_event(row.meta.id));
    changed.sort_by_key(|row| row.meta.change_seq);
    new.sort_by_key(|row| row.meta.change_seq);
    assert_eq!(changes.changed_events, changed, "changed events");
    assert_eq!(changes.new_events, new, "new events");
    let types = oracle.types.iter().filter(|row| row.meta.change_seq > head).cloned();
    let was_type = |id| call.stored.types.iter().any(|row| row.meta.id == id);
    let (mut changed, mut new): (Vec<_>, Vec<_>) = types.partition(|row| was_type(row.meta.id));
    changed.sort_by_key(|row| row.meta.change_seq);
    new.sort_by_key(|row| row.meta.change_seq);
    assert_eq!(changes.changed_types, changed, "changed types");
    assert_eq!(changes.new_types, new, "new types");
    oracle.check();
}

/// Edits to be kept of rows that are not written anyway.
fn recorded_edit_ids(oracle: &Oracle, head: i64) -> Vec<RecordedEdit> {
    let meta = |entity: Entity, id: Uuid| match entity {
        Entity::Event => &oracle.events.iter().find(|row| row.meta.id == id).expect("a row").meta,
        Entity::EventType => &oracle.types.iter().find(|row| row.meta.id == id).expect("a row").meta,
    };
    let kept = oracle.recorded_edit_ids.iter().filter(|(entity, id)| meta(*entity, *id).change_seq <= head);
    let edit_id = |entity, id| meta(entity, id).writer.edit_id.expect("an edit");
    kept.map(|(entity, id)| RecordedEdit { entity: *entity, id: *id, edit_id: edit_id(*entity, *id) })
        .collect()
}

/// Outcome and row of each write, in order.
fn round(unit: &mut UnitOfWork, call: &Call) -> Vec<(Outcome, Option<(Uuid, i32)>)> {
    unit.begin_call();
    let writes = call.items.iter().filter_map(|item| match item {
        Item::Write(write) => Some(write),
        Item::Unreadable(_) => None,
    });
    let answers = writes.map(|write| match decide(unit, &context(call), write) {
        WriteAnswer::Event(answer) => (answer.outcome, answer.row.map(|row| (row.meta.id, row.meta.version))),
        WriteAnswer::EventType(answer) => {
            (answer.outcome, answer.row.map(|row| (row.meta.id, row.meta.version)))
        }
    });
    answers.collect()
}

/// The same of heads: what events say, and who wrote it, was not read.
fn heads(stored: &Oracle) -> UnitOfWork {
    let mut stored = stored.clone();
    for row in &mut stored.events {
        row.meta.writer = nobody();
        if let Some(content) = &mut row.content {
            content.body = EventBody::default();
            content.import_version = None;
        }
    }
    fill(UnitOfWork::without_bodies(), &stored)
}

fn nobody() -> Writer {
    Writer { client_id: None, run_start: 0, edit_id: None }
}

/// What a response shows of it: not who wrote it, and no body that was not loaded.
fn shown(mut written: WriteAnswer, lacks_body: bool) -> WriteAnswer {
    if let WriteAnswer::Event(answer) = &mut written {
        answer.lacks_body = false;
        if let Some(row) = &mut answer.row {
            let row = Arc::make_mut(row);
            row.meta.writer = nobody();
            if let Some(content) = &mut row.content {
                content.import_version = None;
                if lacks_body {
                    content.body = EventBody::default();
                }
            }
        }
    }
    written
}

/// A call of creates is decided alike with and without the bodies of stored events. Whether an answer lacks one.
fn hold_without_bodies(call: &Call) -> bool {
    let (mut without, mut whole) = (heads(&call.stored), load(&call.stored));
    let context = context(call);
    let mut is_any_lacking = false;
    for item in &call.items {
        let Item::Write(write) = item else { continue };
        let (got, wanted) = (decide(&mut without, &context, write), decide(&mut whole, &context, write));
        let lacks_body = matches!(&got, WriteAnswer::Event(answer) if answer.lacks_body);
        assert!(!lacks_body || matches!(&got, WriteAnswer::Event(answer) if answer.differs), "{write:?}");
        assert_eq!(shown(got, lacks_body), shown(wanted, lacks_body), "{write:?}");
        is_any_lacking |= lacks_body;
    }
    assert_eq!(without.into_changes(call.stored.head), whole.into_changes(call.stored.head));
    is_any_lacking
}

/// What was accepted is found again, whatever else the call did.
fn hold_resent(call: &Call) {
    let mut unit = load(&call.stored);
    let (first, second) = (round(&mut unit, call), round(&mut unit, call));
    for (item, ((before, row), (after, again))) in call.items.iter().zip(first.into_iter().zip(second)) {
        let (id, origin) = match item {
            Item::Write(Write::CreateEvent(new)) => (new.id, new.origin),
            Item::Write(Write::CreateEventType(new)) => (new.id, new.origin),
            other => panic!("a call of creates has {other:?}"),
        };
        // An id that we made and that led elsewhere is free for others, which in truth never know it.
        if origin == IdOrigin::Made && row.is_none_or(|row| row.0 != id) {
            continue;
        }
        let expected = if before == Outcome::Created { Outcome::Duplicate } else { before };
        assert!(
            before == Outcome::Rejected || (after, again) == (expected, row),
            "{before:?} then {after:?}"
        );
    }
}

/// An outbox whose edits have ids, sent again whole after its answer was lost, changes nothing.
fn hold_outbox_resent(mut call: Call) {
    let is_rolled_back =
        |row: &EventRow| row.meta.deletion.is_some_and(|deletion| deletion.by == DeletedBy::Rollback);
    if call.stored.events.iter().any(is_rolled_back) {
        // An edit that came before the create that makes such a row anew finds it alive the next time.
        return;
    }
    let is_sent = |item: &Item| matches!(item, Item::Write(write) if about(write).1.is_some());
    call.items.retain(is_sent);
    // What was refused wrote nothing, and may well do so the next time.
    let mut accepted = round(&mut load(&call.stored), &call)
        .into_iter()
        .map(|(outcome, _)| !matches!(outcome, Outcome::Rejected | Outcome::Conflict));
    call.items.retain(|_| accepted.next().expect("an answer each"));
    let mut unit = load(&call.stored);
    let after: HashMap<_, _> = round(&mut unit, &call).into_iter().filter_map(|(_, row)| row).collect();
    for (outcome, row) in round(&mut unit, &call) {
        let (id, version) = row.expect("what was accepted is there");
        assert!(!matches!(outcome, Outcome::Created | Outcome::Updated), "{outcome:?} of {id}");
        assert_eq!(version, after[&id], "{outcome:?} of {id}");
    }
}

fn each_case(call: fn(u64) -> Call, mut check: impl FnMut(&Call)) -> u64 {
    let (cases, first) = (setting("TESTS_CASES", 20_000), setting("TESTS_SEED", 1));
    for seed in first..first + cases {
        let call = call(seed);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&call)));
        if let Err(panic) = checked {
            eprintln!("TESTS_SEED={seed} TESTS_CASES=1\n{call:#?}");
            std::panic::resume_unwind(panic);
        }
    }
    cases
}

#[test]
fn creates_are_decided_alike_with_and_without_the_bodies_of_stored_events() {
    let mut lacking = 0;
    let cases = each_case(creates, |call| lacking += u64::from(hold_without_bodies(call)));
    assert!(cases < 20_000 || (cases / 10..cases * 3 / 4).contains(&lacking), "{lacking} of {cases}");
}

#[test]
fn every_call_of_creates_ends_as_the_contract_says() {
    let mut ways = BTreeSet::new();
    let cases = each_case(creates, |call| hold(call, &mut ways));
    // An event: CREATED by nothing, id or key; DUPLICATE and DELETED by id or key; six codes. A type:
    // CREATED, DUPLICATE by id or name, DELETED by id; three codes.
    assert!(cases < 20_000 || ways.len() == 20, "{} ways: {ways:#?}", ways.len());
}

#[test]
fn every_outbox_ends_as_the_contract_says() {
    let mut ways = BTreeSet::new();
    let cases = each_case(outbox, |call| hold(call, &mut ways));
    // Creates of events 13 and of types 7, as above without an import's. An update of an event: UPDATED,
    // UNCHANGED, DELETED, CONFLICT, six codes; of a type: the same four and three codes. A deletion:
    // DELETED, UNCHANGED, CONFLICT, two codes, and of a type in use. A restore: UPDATED, UNCHANGED, CONFLICT,
    // three codes. And old edits, those applied in the call and those whose id is not asked, recorded_edit_ids ones, own
    // chains, deletions made final.
    assert!(cases < 20_000 || ways.len() == 60, "{} ways: {ways:#?}", ways.len());
}

#[test]
fn sending_a_call_again_finds_all_that_was_accepted() {
    each_case(creates, hold_resent);
}

#[test]
fn sending_an_outbox_with_edit_ids_again_changes_nothing() {
    each_case(outbox, |call| hold_outbox_resent(with_edit_ids(call.clone())));
}
