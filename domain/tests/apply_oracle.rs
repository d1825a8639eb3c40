//! Holds `rules::apply` against a naive reading of the contract's "Writes" over generated calls.
//! `IDEM_CASES` sets how many, `IDEM_SEED` where to begin; a case that fails prints its seed.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::rules::apply::{Answer, MatchKey, Outcome, Terms, World, create_event, create_event_type};
use domain::rules::draft::IdOrigin;
use domain::rules::problem::Code;
use domain::rules::row::{EventRow, TypeRow};
use support::oracle::{Oracle, Said};
use support::universe::{Call, Item, call};
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
        // What this call wrote has no position before the net.
        assert!(*seq <= head, "a position before the net");
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

/// As an answer shows them: what was written in this call is not numbered yet.
fn unnumbered<Row>(mut said: Said<Row>, seq_of: impl Fn(&mut Row) -> &mut i64, head: i64) -> Said<Row> {
    if let Some(row) = &mut said.row {
        let seq = seq_of(row);
        *seq = if *seq > head { 0 } else { *seq };
    }
    said
}

fn event_seq(row: &mut EventRow) -> &mut i64 {
    &mut row.frame.change_seq
}

fn type_seq(row: &mut TypeRow) -> &mut i64 {
    &mut row.frame.change_seq
}

fn load(stored: &Oracle) -> World {
    let mut world = World::default();
    stored.events.iter().cloned().for_each(|row| world.load_event(row));
    stored.types.iter().cloned().for_each(|row| world.load_type(row));
    stored.aliases.iter().for_each(|(entity, alias, id)| world.load_alias(*entity, *alias, *id));
    stored.imports.iter().for_each(|id| world.load_import_id(*id));
    world
}

fn hold(call: &Call, ways: &mut BTreeSet<String>) {
    let terms = Terms {
        now_ms: support::universe::NOW_MS,
        client_id: call.client_id,
        import_job_id: call.import_job_id,
    };
    let head = call.stored.head;
    let mut oracle = call.stored.clone();
    let mut world = load(&call.stored);
    for (index, item) in call.items.iter().enumerate() {
        let way: Way = match item {
            Item::Event(new) => {
                let got = said(create_event(&mut world, &terms, new), event_seq, head);
                let wanted = unnumbered(oracle.create_event(&terms, new), event_seq, head);
                assert_eq!(got, wanted, "item {index}: {new:?}");
                ("event", got.outcome, got.matched_by, got.code)
            }
            Item::Type(new) => {
                let got = said(create_event_type(&mut world, &terms, new), type_seq, head);
                let wanted = unnumbered(oracle.create_type(&terms, new), type_seq, head);
                assert_eq!(got, wanted, "item {index}: {new:?}");
                ("type", got.outcome, got.matched_by, got.code)
            }
        };
        ways.insert(format!("{way:?}"));
    }
    hold_net(call, &oracle, world);
}

fn hold_net(call: &Call, oracle: &Oracle, world: World) {
    let head = call.stored.head;
    let net = world.net(head);
    assert_eq!(net.head, oracle.head, "head");
    assert_eq!(net.aliases, oracle.aliases[call.stored.aliases.len()..], "aliases");
    assert_eq!(net.changed_rows() as i64, net.head - head, "a position for each changed row");
    assert_eq!(net.is_empty(), net.head == head && net.aliases.is_empty());
    let stored = |id| call.stored.events.iter().any(|row| row.frame.id == id);
    let written = |row: &&EventRow| row.frame.change_seq > head;
    let in_order = |mut rows: Vec<EventRow>| {
        rows.sort_by_key(|row| row.frame.change_seq);
        rows
    };
    let (changed, new) = oracle.events.iter().filter(written).cloned().partition(|row| stored(row.frame.id));
    assert_eq!(net.changed_events, in_order(changed), "changed events");
    assert_eq!(net.new_events, in_order(new), "new events");
    let types: Vec<_> = oracle.types.iter().filter(|row| row.frame.change_seq > head).cloned().collect();
    assert_eq!(net.new_types, types, "new types");
    oracle.check();
}

/// What was accepted is found again, whatever else the call did.
fn hold_resent(call: &Call) {
    let terms = Terms {
        now_ms: support::universe::NOW_MS,
        client_id: call.client_id,
        import_job_id: call.import_job_id,
    };
    let mut world = load(&call.stored);
    let mut round = || -> Vec<_> {
        let answers = call.items.iter().map(|item| match item {
            Item::Event(new) => {
                let answer = create_event(&mut world, &terms, new);
                (answer.outcome, answer.row.map(|row| (row.frame.id, row.frame.version)))
            }
            Item::Type(new) => {
                let answer = create_event_type(&mut world, &terms, new);
                (answer.outcome, answer.row.map(|row| (row.frame.id, row.frame.version)))
            }
        });
        answers.collect()
    };
    let (first, second) = (round(), round());
    for (item, ((before, row), (after, again))) in call.items.iter().zip(first.into_iter().zip(second)) {
        let (id, origin) = id_of(item);
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

fn id_of(item: &Item) -> (Uuid, IdOrigin) {
    match item {
        Item::Event(new) => (new.id, new.origin),
        Item::Type(new) => (new.id, new.origin),
    }
}

fn each_case(mut check: impl FnMut(&Call)) -> u64 {
    let (cases, first) = (setting("IDEM_CASES", 20_000), setting("IDEM_SEED", 1));
    for seed in first..first + cases {
        let call = call(seed);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&call)));
        if let Err(panic) = checked {
            eprintln!("IDEM_SEED={seed} IDEM_CASES=1\n{call:#?}");
            std::panic::resume_unwind(panic);
        }
    }
    cases
}

#[test]
fn every_call_ends_as_the_contract_says() {
    let mut ways = BTreeSet::new();
    let cases = each_case(|call| hold(call, &mut ways));
    // An event: CREATED by nothing, id or key; DUPLICATE and DELETED by id or key; five codes. A type:
    // CREATED, DUPLICATE by id or name, DELETED by id; three codes.
    assert!(cases < 20_000 || ways.len() == 19, "{} ways: {ways:#?}", ways.len());
}

#[test]
fn sending_a_call_again_finds_all_that_was_accepted() {
    each_case(hold_resent);
}
