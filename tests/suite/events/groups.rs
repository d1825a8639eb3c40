//! Tests write groups: single writes that share a transaction. A write that fails does not affect the others.

mod contention;
mod new_events;
mod two_processes;

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::apply::Outcome;
use domain::draft::{EventDraft, EventTypeDraft, RemovalDraft, Sent};
use domain::limits::{GROUP_ITEMS_MAX, GROUP_WRITERS, WRITES_WAITING_OF_USER_MAX};
use domain::problem::Code;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, TransactionTrait};
use service::Clock;
use service::Error;
use service::apply_mutations::{Mutation, MutationAnswer, apply_mutations};
use service::write::group::GroupWriter;
use service::{Actor, apply_mutation};
use store::account;
use store::load::ReadSet;
use tokio_util::task::AbortOnDropHandle;

use crate::harness::{DatabaseKind, TestServer, is_postgres, new_id, on_both};

on_both!(
    writes_that_wait_together_share_a_transaction_and_keep_their_order,
    a_write_whose_response_is_too_large_fails_alone,
    a_write_that_the_database_refuses_fails_alone,
    a_rejection_in_one_request_does_not_affect_the_next,
    a_decision_that_panics_blocks_no_other_write,
    a_user_whose_writes_pile_up_is_refused_at_once_and_others_are_not,
    a_caller_that_goes_away_does_not_cancel_the_writes_of_others,
);

type Writer = GroupWriter<MutationAnswer>;
type Waiting = Pin<Box<dyn Future<Output = Result<MutationAnswer, Error>> + Send>>;

fn writer(server: &TestServer) -> Writer {
    GroupWriter::new(server.store.clone(), Arc::clone(&server.notifier))
}

async fn user(server: &TestServer, name: &str) -> Actor {
    let user_id = account::find_or_create_user_id(&server.store, "", name).await.unwrap();
    Actor { user_id, issuer: String::new(), subject: name.to_owned() }
}

/// Queues a write. Returns a future of its result; dropping it is a caller that goes away. `fits` says
/// whether the response is small enough.
async fn begin_any(
    server: &TestServer,
    writer: &Writer,
    actor: &Actor,
    mutation: Mutation,
    fits: bool,
) -> Waiting {
    let (writer, store, actor) = (writer.clone(), server.store.clone(), actor.clone());
    let mut waiting: Waiting = Box::pin(async move {
        let fits = Arc::new(move |_: &[MutationAnswer]| fits);
        apply_mutation(&writer, &store, &actor, None, mutation, fits).await
    });
    match futures::poll!(&mut waiting) {
        std::task::Poll::Ready(done) => Box::pin(async { done }),
        std::task::Poll::Pending => {
            let waiting = AbortOnDropHandle::new(tokio::spawn(waiting));
            Box::pin(async { waiting.await.unwrap() })
        }
    }
}

/// Queues the creation of an event type.
async fn begin(server: &TestServer, writer: &Writer, actor: &Actor, name: &str, fits: bool) -> Waiting {
    let draft = EventTypeDraft {
        id: Sent::Value(new_id()),
        name: Sent::Value(name.to_owned()),
        ..EventTypeDraft::default()
    };
    begin_any(server, writer, actor, Mutation::CreateEventType(draft), fits).await
}

/// Returns the outcome of a write of an event type.
fn outcome(answer: Result<MutationAnswer, Error>) -> Outcome {
    answer.unwrap().into_event_type_answer().unwrap().outcome
}

/// Begins a transaction that locks the table of accounts. Transactions that wait for the lock get it one
/// after another.
async fn lock_accounts(sql: &DatabaseConnection) -> DatabaseTransaction {
    let lock = sql.begin().await.unwrap();
    lock.execute_unprepared("LOCK TABLE account IN EXCLUSIVE MODE").await.unwrap();
    lock
}

/// Prevents all transactions from locking an account row, until the result is dropped.
async fn block(server: &TestServer) -> Box<dyn Any> {
    if !is_postgres(&server.sql) {
        return Box::new(server.store.begin().await.unwrap());
    }
    Box::new(lock_accounts(&server.sql).await)
}

async fn writes_that_wait_together_share_a_transaction_and_keep_their_order(server: &TestServer) {
    let writer = writer(server);
    let mut actors = Vec::new();
    for name in ["ann", "bob", "eve", "joe"] {
        actors.push(user(server, name).await);
    }
    let block = block(server).await;
    let mut all = Vec::new();
    for number in 0..10 {
        for actor in &actors {
            all.push(begin(server, &writer, actor, &format!("t{number}"), true).await);
        }
    }
    drop(block);
    for waiting in all {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    // The positions follow the order in which the writes were sent.
    let wrong = "SELECT count(*) FROM event_type WHERE name <> 't' || CAST(change_seq - 1 AS text)";
    assert_eq!((server.number("SELECT count(*) FROM event_type").await, server.number(wrong).await), (40, 0));
    if is_postgres(&server.sql) {
        // Each writer takes what is queued at first, and then once more what was queued in the meantime.
        let transactions = server.number("SELECT count(DISTINCT xmin::text) FROM event_type").await;
        assert!(transactions <= 2 * i64::from(GROUP_WRITERS), "{transactions} transactions");
    }
}

async fn a_write_whose_response_is_too_large_fails_alone(server: &TestServer) {
    let writer = writer(server);
    let (ann, bob) = (user(server, "ann").await, user(server, "bob").await);
    let block = block(server).await;
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for number in 0..12 {
        for actor in [&ann, &bob] {
            good.push(begin(server, &writer, actor, &format!("good {number}"), true).await);
        }
        if number % 4 == 2 {
            bad.push(begin(server, &writer, &ann, &format!("bad {number}"), false).await);
        }
    }
    drop(block);
    for waiting in good {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    for waiting in bad {
        assert!(matches!(waiting.await, Err(Error::ResponseTooLarge)));
    }
    assert_eq!(server.number("SELECT count(*) FROM event_type WHERE name LIKE 'bad%'").await, 0);
    assert_eq!(server.number("SELECT count(*) FROM event_type").await, 24);
}

async fn a_write_that_the_database_refuses_fails_alone(server: &TestServer) {
    if is_postgres(&server.sql) {
        server.execute("ALTER TABLE event_type ADD CONSTRAINT no_poison CHECK (name <> 'poison')").await;
    } else {
        server
            .execute(
                "CREATE TRIGGER no_poison BEFORE INSERT ON event_type WHEN new.name = 'poison' \
             BEGIN SELECT RAISE(ABORT, 'no poison'); END",
            )
            .await;
    }
    let writer = writer(server);
    let (ann, bob) = (user(server, "ann").await, user(server, "bob").await);
    let block = block(server).await;
    let mut good = Vec::new();
    for number in 0..4 {
        for actor in [&ann, &bob] {
            good.push(begin(server, &writer, actor, &format!("good {number}"), true).await);
        }
    }
    let poison = begin(server, &writer, &ann, "poison", true).await;
    good.push(begin(server, &writer, &ann, "after it", true).await);
    drop(block);
    assert!(matches!(poison.await, Err(Error::Database(_))));
    for waiting in good {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    assert_eq!(server.number("SELECT count(*) FROM event_type").await, 9);
}

/// In one outbox, an edit of a rejected item is DEPENDENCY_REJECTED. In another request it is NOT_FOUND, even
/// if both requests are written in one group.
async fn a_rejection_in_one_request_does_not_affect_the_next(server: &TestServer) {
    let writer = writer(server);
    let ann = user(server, "ann").await;
    let id = new_id();
    let create = EventDraft {
        id: Sent::Value(id.clone()),
        event_type_id: Sent::Value(new_id()),
        timestamp: Sent::Value("2026-01-01T00:00:00Z".to_owned()),
        ..EventDraft::default()
    };
    let removal = RemovalDraft { id: Sent::Value(id), ..RemovalDraft::default() };
    let block = block(server).await;
    let mut all = Vec::new();
    // The writers take the first ones at once, and the others wait and form one group.
    for number in 0..=GROUP_WRITERS {
        all.push(begin(server, &writer, &ann, &format!("t{number}"), true).await);
    }
    let created = begin_any(server, &writer, &ann, Mutation::CreateEvent(create), true).await;
    let deleted = begin_any(server, &writer, &ann, Mutation::DeleteEvent(removal), true).await;
    drop(block);
    let code = |answer: Result<MutationAnswer, Error>| {
        answer.unwrap().into_event_answer().unwrap().answer.problem.unwrap().errors[0].code
    };
    assert_eq!((code(created.await), code(deleted.await)), (Code::EventTypeNotFound, Code::NotFound));
    for waiting in all {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
}

async fn a_decision_that_panics_blocks_no_other_write(server: &TestServer) {
    let writer = writer(server);
    let ann = user(server, "ann").await;
    for _ in 0..2 * GROUP_WRITERS {
        let mut read_set = ReadSet::default();
        read_set.add_id_and_need_bodies(Clock::System.new_id());
        let panicked = writer
            .write_in_group(ann.user_id, read_set, Arc::new(|_| panic!("this panic is intended")))
            .await;
        assert!(matches!(panicked, Err(Error::Bug(_))));
    }
    assert_eq!(outcome(begin(server, &writer, &ann, "run", true).await.await), Outcome::Created);
}

async fn a_user_whose_writes_pile_up_is_refused_at_once_and_others_are_not(server: &TestServer) {
    let writer = writer(server);
    let (ann, bob) = (user(server, "ann").await, user(server, "bob").await);
    let block = block(server).await;
    let mut all = Vec::new();
    for number in 0..GROUP_ITEMS_MAX + WRITES_WAITING_OF_USER_MAX {
        all.push(begin(server, &writer, &ann, &format!("t{number}"), true).await);
    }
    // It is not known how many of them the writers have taken from the queue, but so many more exceed the
    // limit anyway.
    let started_at = Instant::now();
    let mut refused = 0;
    for number in 0..GROUP_ITEMS_MAX {
        let mut one = begin(server, &writer, &ann, &format!("more {number}"), true).await;
        match futures::poll!(&mut one) {
            std::task::Poll::Ready(done) => {
                assert!(matches!(done, Err(Error::Busy)));
                refused += 1;
            }
            std::task::Poll::Pending => all.push(one),
        }
    }
    assert!(refused > 0 && started_at.elapsed() < Duration::from_secs(10));
    let other = begin(server, &writer, &bob, "run", true).await;
    drop(block);
    assert_eq!(outcome(other.await), Outcome::Created);
    let (mut created, mut busy) = (1, 0);
    for waiting in all {
        match waiting.await {
            Ok(answer) => created += i64::from(outcome(Ok(answer)) == Outcome::Created),
            Err(error) => busy += i64::from(matches!(error, Error::Busy)),
        }
    }
    assert!(created > WRITES_WAITING_OF_USER_MAX as i64, "{created} created, {busy} refused");
    assert_eq!(server.number("SELECT count(*) FROM event_type").await, created);
}

async fn a_caller_that_goes_away_does_not_cancel_the_writes_of_others(server: &TestServer) {
    let writer = writer(server);
    let ann = user(server, "ann").await;
    let block = block(server).await;
    let mut all = Vec::new();
    for number in 0..9 {
        all.push(begin(server, &writer, &ann, &format!("t{number}"), true).await);
    }
    // A writer has taken the first one, and the fifth one is queued.
    drop((all.remove(4), all.remove(0)));
    drop(block);
    for waiting in all {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    assert_eq!(server.number("SELECT count(*) FROM event_type").await, 9);
}
