//! Compares `domain::apply` with an oracle, a naive implementation of the same rules, on generated calls.
//!
//! `TESTS_CASES` is the number of cases and `TESTS_SEED` the first seed. A case that fails prints its seed.

mod support;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use domain::apply::{
    Answer, Entity, MatchKey, Outcome, RecordedEdit, UnitOfWork, Write, WriteAnswer, WriteContext,
    decide_write_in_memory,
};
use domain::draft::IdOrigin;
use domain::problem::{Code, FieldProblem, Problem};
use domain::row::{DeletedBy, EventBody, EventRow, TypeRow, Writer};
use support::generator::{Call, Item, creates, outbox, with_edit_ids};
use support::oracle::{FlatAnswer, Oracle};
use uuid::Uuid;

/// The branch of the decision that an item took. The tests count them, so that none goes untested unnoticed.
type Branch = (&'static str, Outcome, Option<MatchKey>, Option<Code>);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn flatten<Row: Clone>(
    answer: Answer<Row>,
    seq_of: impl Fn(&mut Row) -> &mut i64,
    head: i64,
) -> FlatAnswer<Row> {
    let problem = answer.problem.as_ref();
    let row = answer.row.map(|row| {
        let mut row = Arc::unwrap_or_clone(row);
        let seq = seq_of(&mut row);
        assert!(*seq <= head, "the position of an answer is not new");
        *seq = 0;
        row
    });
    FlatAnswer {
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

/// Removes the position, which the unit of work assigns later. The changes are compared with positions.
fn without_position<Row>(
    mut answer: FlatAnswer<Row>,
    seq_of: impl Fn(&mut Row) -> &mut i64,
) -> FlatAnswer<Row> {
    if let Some(row) = &mut answer.row {
        *seq_of(row) = 0;
    }
    answer
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
    stored.events.iter().cloned().for_each(|row| unit.add_stored_event(row));
    stored.types.iter().cloned().for_each(|row| unit.add_stored_type(row));
    stored.aliases.iter().for_each(|alias| unit.add_stored_alias(alias.entity, alias.alias_id, alias.id));
    stored.imports.iter().for_each(|id| unit.add_stored_import_id(*id));
    for event in stored.events.iter().filter_map(|row| row.content.as_ref()) {
        let of_type = |row: &&EventRow| {
            row.content.as_ref().is_some_and(|other| other.event_type_id == event.event_type_id)
        };
        let count = stored.events.iter().filter(of_type).count();
        unit.set_event_count_of_type(event.event_type_id, i64::try_from(count).expect("small"));
    }
    unit
}

fn context(call: &Call) -> WriteContext<'_> {
    WriteContext {
        now_ms: support::generator::NOW_MS,
        client_id: call.client_id,
        import_job_id: call.import_job_id,
    }
}

/// The kind of a write, and its id if the client sent one.
fn target(write: &Write) -> (&'static str, Option<Uuid>) {
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

/// The answer of the oracle to a write.
enum Expected {
    Event(FlatAnswer<EventRow>),
    Type(FlatAnswer<TypeRow>),
}

fn expected_answer(oracle: &mut Oracle, context: &WriteContext<'_>, write: &Write) -> Expected {
    match write {
        Write::CreateEvent(new) => Expected::Event(oracle.create_event(context, new)),
        Write::UpdateEvent(edit) => Expected::Event(oracle.update_event(context, edit)),
        Write::DeleteEvent(removal) => Expected::Event(oracle.delete_event(context, removal)),
        Write::RestoreEvent(restore) => Expected::Event(oracle.restore_event(context, restore)),
        Write::CreateEventType(new) => Expected::Type(oracle.create_type(context, new)),
        Write::UpdateEventType(edit) => Expected::Type(oracle.update_type(context, edit)),
        Write::DeleteEventType(removal) => Expected::Type(oracle.delete_type(context, removal)),
    }
}

/// Decides a write and records its rejection under the id that was sent, as `apply_mutations` does.
fn decide(unit: &mut UnitOfWork, context: &WriteContext<'_>, write: &Write) -> WriteAnswer {
    let written = decide_write_in_memory(unit, context, write);
    if let (Some(id), Some(problem)) = (target(write).1, written.rejection_problem()) {
        unit.record_rejection(id, problem.clone());
    }
    written
}

fn check_call(call: &Call, branches: &mut BTreeSet<String>) {
    let context = context(call);
    let head = call.stored.head;
    let mut oracle = call.stored.clone();
    let mut unit = load(&call.stored);
    for (index, item) in call.items.iter().enumerate() {
        let write = match item {
            Item::Write(write) => write,
            Item::Invalid(id) => {
                let wrong = FieldProblem::new("/notes", Code::TooLong, "too long");
                unit.record_rejection(*id, Problem::from_field_problems(vec![wrong]));
                oracle.rejected.push((*id, false, None));
                continue;
            }
        };
        let (kind, sent_id) = target(write);
        let branch: Branch =
            match (decide(&mut unit, &context, write), expected_answer(&mut oracle, &context, write)) {
                (WriteAnswer::Event(answer), Expected::Event(expected)) => {
                    let actual = flatten(answer, event_seq, head);
                    note_rejection(&mut oracle, sent_id, &expected);
                    assert_eq!(actual, without_position(expected, event_seq), "item {index}: {write:?}");
                    (kind, actual.outcome, actual.matched_by, actual.code)
                }
                (WriteAnswer::EventType(answer), Expected::Type(expected)) => {
                    let actual = flatten(answer, type_seq, head);
                    note_rejection(&mut oracle, sent_id, &expected);
                    assert_eq!(actual, without_position(expected, type_seq), "item {index}: {write:?}");
                    (kind, actual.outcome, actual.matched_by, actual.code)
                }
                (actual, _) => panic!("item {index} has the answer of another kind: {actual:?}"),
            };
        branches.insert(format!("{branch:?}"));
    }
    branches.extend(oracle.covered.iter().map(|&covered| covered.to_owned()));
    check_changes(call, &oracle, unit);
}

fn note_rejection<Row>(oracle: &mut Oracle, sent_id: Option<Uuid>, answer: &FlatAnswer<Row>) {
    if let (Some(id), Outcome::Rejected) = (sent_id, answer.outcome) {
        oracle.rejected.push((id, answer.retryable, answer.retry_after_ms));
    }
}

fn check_changes(call: &Call, oracle: &Oracle, unit: UnitOfWork) {
    let head = call.stored.head;
    let changes = unit.into_changes(head);
    assert_eq!(changes.head, oracle.head, "head");
    assert_eq!(changes.aliases, oracle.aliases[call.stored.aliases.len()..], "aliases");
    assert_eq!(changes.count_changed_rows() as i64, changes.head - head, "a position for each changed row");
    let recorded_edit_ids = recorded_edit_ids(oracle, head);
    assert_eq!(changes.recorded_edit_ids, recorded_edit_ids, "recorded edit ids");
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

/// The edit ids to record with rows that do not change.
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

/// Applies a call. Returns the outcome and the row of each write, in order.
fn apply_call(unit: &mut UnitOfWork, call: &Call) -> Vec<(Outcome, Option<(Uuid, i32)>)> {
    unit.clear_rejections_and_applied_edits();
    let writes = call.items.iter().filter_map(|item| match item {
        Item::Write(write) => Some(write),
        Item::Invalid(_) => None,
    });
    let answers = writes.map(|write| match decide(unit, &context(call), write) {
        WriteAnswer::Event(answer) => (answer.outcome, answer.row.map(|row| (row.meta.id, row.meta.version))),
        WriteAnswer::EventType(answer) => {
            (answer.outcome, answer.row.map(|row| (row.meta.id, row.meta.version)))
        }
    });
    answers.collect()
}

/// A unit of work whose events were loaded without their bodies and writers, all but every third one.
fn load_without_bodies(whole: &Oracle) -> UnitOfWork {
    let mut stored = whole.clone();
    for row in &mut stored.events {
        row.meta.writer = no_writer();
        if let Some(content) = &mut row.content {
            content.body = EventBody::default();
            content.import_version = None;
        }
    }
    let mut unit = fill(UnitOfWork::new_without_event_bodies(), &stored);
    whole.events.iter().step_by(3).cloned().for_each(|row| unit.add_stored_event_with_body(row));
    unit
}

fn no_writer() -> Writer {
    Writer { client_id: None, run_start: 0, edit_id: None }
}

/// The part of an answer that a response contains: no writer, and no body that was not loaded.
fn response_of(mut written: WriteAnswer, lacks_body: bool) -> WriteAnswer {
    if let WriteAnswer::Event(answer) = &mut written {
        answer.lacks_body = false;
        if let Some(row) = &mut answer.row {
            let row = Arc::make_mut(row);
            row.meta.writer = no_writer();
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

/// Checks that creates are decided the same with and without the bodies of stored events. Returns whether an
/// answer lacks a body.
fn check_without_bodies(call: &Call) -> bool {
    let (mut without, mut whole) = (load_without_bodies(&call.stored), load(&call.stored));
    let context = context(call);
    let mut has_lacking = false;
    for item in &call.items {
        let Item::Write(write) = item else { continue };
        let (actual, expected) = (decide(&mut without, &context, write), decide(&mut whole, &context, write));
        let lacks_body = matches!(&actual, WriteAnswer::Event(answer) if answer.lacks_body);
        assert!(!lacks_body || matches!(&actual, WriteAnswer::Event(answer) if answer.differs), "{write:?}");
        assert_eq!(response_of(actual, lacks_body), response_of(expected, lacks_body), "{write:?}");
        has_lacking |= lacks_body;
    }
    assert_eq!(without.into_changes(call.stored.head), whole.into_changes(call.stored.head));
    has_lacking
}

/// Checks that a call that is sent again finds everything that was accepted the first time.
fn check_resent(call: &Call) {
    let mut unit = load(&call.stored);
    let (first, second) = (apply_call(&mut unit, call), apply_call(&mut unit, call));
    for (item, ((before, row), (after, again))) in call.items.iter().zip(first.into_iter().zip(second)) {
        let (id, origin) = match item {
            Item::Write(Write::CreateEvent(new)) => (new.id, new.origin),
            Item::Write(Write::CreateEventType(new)) => (new.id, new.origin),
            other => panic!("a call of creates has {other:?}"),
        };
        // A generated id that was not used is free for other rows. In production no client knows such an id.
        if origin == IdOrigin::Generated && row.is_none_or(|row| row.0 != id) {
            continue;
        }
        let expected = if before == Outcome::Created { Outcome::Duplicate } else { before };
        assert!(
            before == Outcome::Rejected || (after, again) == (expected, row),
            "{before:?} then {after:?}"
        );
    }
}

/// Checks that an outbox with edit ids changes nothing if it is sent again after its response was lost.
fn check_outbox_resent(mut call: Call) {
    let is_rolled_back =
        |row: &EventRow| row.meta.deletion.is_some_and(|deletion| deletion.by == DeletedBy::Rollback);
    if call.stored.events.iter().any(is_rolled_back) {
        // A create makes such a row again. An edit before it in the call finds the row living the next time.
        return;
    }
    let is_sent = |item: &Item| matches!(item, Item::Write(write) if target(write).1.is_some());
    call.items.retain(is_sent);
    // A rejected item wrote nothing, and it may be accepted the next time.
    let mut accepted = apply_call(&mut load(&call.stored), &call)
        .into_iter()
        .map(|(outcome, _)| !matches!(outcome, Outcome::Rejected | Outcome::Conflict));
    call.items.retain(|_| accepted.next().expect("each item has an answer"));
    let mut unit = load(&call.stored);
    let after: HashMap<_, _> = apply_call(&mut unit, &call).into_iter().filter_map(|(_, row)| row).collect();
    for (outcome, row) in apply_call(&mut unit, &call) {
        let (id, version) = row.expect("an accepted item has a row");
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
fn creates_are_decided_the_same_with_and_without_the_bodies_of_stored_events() {
    let mut lacking = 0;
    let cases = each_case(creates, |call| lacking += u64::from(check_without_bodies(call)));
    assert!(cases < 20_000 || (cases / 10..cases * 3 / 4).contains(&lacking), "{lacking} of {cases}");
}

#[test]
fn every_call_of_creates_is_decided_as_the_oracle_does() {
    let mut branches = BTreeSet::new();
    let cases = each_case(creates, |call| check_call(call, &mut branches));
    // Events have 13 branches: CREATED without a match, by id or by external id, DUPLICATE and DELETED by id
    // or by external id, and six codes. Types have 7: CREATED, DUPLICATE by id or name, DELETED by id, three
    // codes.
    assert!(cases < 20_000 || branches.len() == 20, "{} branches: {branches:#?}", branches.len());
}

#[test]
fn every_outbox_is_decided_as_the_oracle_does() {
    let mut branches = BTreeSet::new();
    let cases = each_case(outbox, |call| check_call(call, &mut branches));
    // Creates have the 20 branches above. An update of an event has UPDATED, UNCHANGED, DELETED, CONFLICT and
    // six codes, and of a type the same outcomes and three codes. A deletion has DELETED, UNCHANGED, CONFLICT
    // and two codes, and of a type also EVENT_TYPE_IN_USE. A restore has UPDATED, UNCHANGED, CONFLICT and
    // three codes. The rest are the cases that the oracle counts in `covered`.
    assert!(cases < 20_000 || branches.len() == 60, "{} branches: {branches:#?}", branches.len());
}

#[test]
fn a_call_that_is_sent_again_is_answered_with_all_that_was_accepted() {
    each_case(creates, check_resent);
}

#[test]
fn an_outbox_with_edit_ids_that_is_sent_again_changes_no_version() {
    each_case(outbox, |call| check_outbox_resent(with_edit_ids(call.clone())));
}
