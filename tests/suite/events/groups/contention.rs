//! Tests write groups under contention: account rows that another session has locked, or has changed since
//! they were read.

use tokio::time::timeout;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_delays_no_other_user() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let writer = writer(&server);
    let (ann, bob) = (user(&server, "ann").await, user(&server, "bob").await);
    let held = server.sql.begin().await.unwrap();
    held.execute_unprepared("SELECT 1 FROM account WHERE subject = 'ann' FOR NO KEY UPDATE").await.unwrap();
    let mut writes_of_ann = Vec::new();
    for number in 0..20 {
        writes_of_ann.push(begin(&server, &writer, &ann, &format!("t{number}"), true).await);
        let write_of_bob = begin(&server, &writer, &bob, &format!("t{number}"), true).await;
        assert_eq!(outcome(write_of_bob.await), Outcome::Created);
    }
    for waiting in &mut writes_of_ann {
        assert!(futures::poll!(waiting).is_pending());
    }
    held.rollback().await.unwrap();
    for waiting in writes_of_ann {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    let wrong = "SELECT count(*) FROM event_type WHERE name <> 't' || CAST(change_seq - 1 AS text)";
    assert_eq!((server.number("SELECT count(*) FROM event_type").await, server.number(wrong).await), (40, 0));
    server.end().await;
}

/// Waits until this many transactions wait for the table of accounts or for a row of it.
async fn wait_until_blocked(server: &TestServer, transactions: i64) {
    let blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'account'::regclass";
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.number(blocked).await < transactions {
        assert!(Instant::now() < deadline, "fewer than {transactions} transactions wait");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts a write of each actor. Both wait for the accounts, so that both writers of the group are busy.
pub(super) async fn occupy_writers(
    server: &TestServer,
    writer: &Writer,
    actors: [&Actor; 2],
    name: &str,
) -> [Waiting; 2] {
    let first = begin(server, writer, actors[0], name, true).await;
    wait_until_blocked(server, 1).await;
    let second = begin(server, writer, actors[1], name, true).await;
    wait_until_blocked(server, 2).await;
    [first, second]
}

/// The change here takes no position in the feed: another session adds an alias for the id that is being
/// created.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_load_and_store_is_seen_by_one_by_a_group_and_by_a_batch() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let writer = writer(&server);
    let mut actors = Vec::new();
    for name in ["ann", "bob", "eve", "joe", "kim"] {
        actors.push(user(&server, name).await);
        let known = begin(&server, &writer, &actors[actors.len() - 1], "run", true).await;
        assert_eq!(outcome(known.await), Outcome::Created);
    }
    let [ann, bob, eve, joe, kim] = &actors[..] else { unreachable!() };
    let drafts = ["walk", "swim", "ride", "row"].map(|name| EventTypeDraft {
        id: Sent::Value(new_id()),
        name: Sent::Value(name.to_owned()),
        ..EventTypeDraft::default()
    });
    let [walk, swim, ride, row] = drafts.clone().map(Mutation::CreateEventType);
    // Both writers run once, so that both connections have prepared the statement.
    let lock = lock_accounts(&server.sql).await;
    let prepared = occupy_writers(&server, &writer, [ann, bob], "hike").await;
    lock.rollback().await.unwrap();
    for waiting in prepared {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    let first = lock_accounts(&server.sql).await;
    let occupying = occupy_writers(&server, &writer, [ann, bob], "climb").await;
    let sql = server.sql.clone();
    let second = tokio::spawn(async move { lock_accounts(&sql).await });
    wait_until_blocked(&server, 3).await;
    let in_group = [
        begin_any(&server, &writer, eve, walk, true).await,
        begin_any(&server, &writer, joe, swim, true).await,
    ];
    first.rollback().await.unwrap();
    for waiting in occupying {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    let second = second.await.unwrap();
    // The group has loaded its rows and waits to store.
    wait_until_blocked(&server, 1).await;
    let alone = begin_any(&server, &writer, ann, ride, true).await;
    let (store, notifier, actor) = (server.store.clone(), Arc::clone(&server.notifier), kim.clone());
    let batch = tokio::spawn(async move {
        apply_mutations(&store, notifier.as_ref(), &actor, None, vec![row], &|_| true).await
    });
    wait_until_blocked(&server, 3).await;
    for draft in drafts {
        let Sent::Value(id) = draft.id else { continue };
        let alias = format!(
            "INSERT INTO id_alias (user_id, entity, alias_id, id) \
             SELECT user_id, 2, '{id}', id FROM event_type WHERE name = 'run'"
        );
        second.execute_unprepared(&alias).await.unwrap();
    }
    second.execute_unprepared("UPDATE account SET feed_head = feed_head").await.unwrap();
    second.commit().await.unwrap();
    for waiting in in_group.into_iter().chain([alone]) {
        assert_eq!(outcome(waiting.await), Outcome::Duplicate);
    }
    for answer in batch.await.unwrap().unwrap() {
        assert_eq!(outcome(Ok(answer)), Outcome::Duplicate);
    }
    assert_eq!(
        server.number("SELECT count(*) FROM event_type WHERE name NOT IN ('run', 'hike', 'climb')").await,
        0
    );
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_group_still_stores_the_writes_of_a_user_whose_account_is_locked() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let writer = writer(&server);
    let (ann, bob) = (user(&server, "ann").await, user(&server, "bob").await);
    let mut others = Vec::new();
    for number in 0..=GROUP_WRITERS {
        others.push(user(&server, &format!("user {number}")).await);
    }
    let held = server.sql.begin().await.unwrap();
    held.execute_unprepared("SELECT 1 FROM account WHERE subject = 'ann' FOR NO KEY UPDATE").await.unwrap();
    let block = held.begin().await.unwrap();
    block.execute_unprepared("LOCK TABLE account IN EXCLUSIVE MODE").await.unwrap();
    let mut all = Vec::new();
    for other in &others {
        // Each writer takes some of them, and the writes after them form one group.
        all.push(begin(&server, &writer, other, "run", true).await);
        tokio::task::yield_now().await;
    }
    all.push(begin(&server, &writer, &ann, "run", true).await);
    all.push(begin(&server, &writer, &bob, "run", true).await);
    let poison = begin(&server, &writer, &bob, "walk", false).await;
    block.rollback().await.unwrap();
    assert!(matches!(poison.await, Err(Error::ResponseTooLarge)));
    held.rollback().await.unwrap();
    all.push(begin(&server, &writer, &ann, "swim", true).await);
    for waiting in all {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    server.end().await;
}

/// A write that changes nothing needs no lock, even if rows must be loaded for its response.
#[tokio::test(flavor = "multi_thread")]
async fn a_resent_write_is_answered_while_the_account_is_locked() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let writer = writer(&server);
    let ann = user(&server, "ann").await;
    let type_id = new_id();
    let run = EventTypeDraft {
        id: Sent::Value(type_id.clone()),
        name: Sent::Value("run".to_owned()),
        ..EventTypeDraft::default()
    };
    let event = EventDraft {
        id: Sent::Value(new_id()),
        event_type_id: Sent::Value(type_id),
        timestamp: Sent::Value("2026-01-01T00:00:00Z".to_owned()),
        ..EventDraft::default()
    };
    let other = EventDraft { id: Sent::Value(new_id()), ..event.clone() };
    let edited = EventDraft { notes: Sent::Value("slow".to_owned()), ..event.clone() };
    let removal = RemovalDraft { id: other.id.clone(), ..RemovalDraft::default() };
    for mutation in [
        Mutation::CreateEventType(run),
        Mutation::CreateEvent(event.clone()),
        Mutation::CreateEvent(other),
        Mutation::DeleteEvent(removal.clone()),
    ] {
        begin_any(&server, &writer, &ann, mutation, true).await.await.unwrap();
    }
    let held = server.sql.begin().await.unwrap();
    held.execute_unprepared("SELECT 1 FROM account WHERE subject = 'ann' FOR NO KEY UPDATE").await.unwrap();
    for (mutation, expected) in [
        (Mutation::CreateEvent(event), Outcome::Duplicate),
        (Mutation::CreateEvent(edited), Outcome::Duplicate),
        (Mutation::DeleteEvent(removal), Outcome::Unchanged),
    ] {
        let waiting = begin_any(&server, &writer, &ann, mutation, true).await;
        let answer = timeout(Duration::from_secs(60), waiting).await.expect("it does not wait for the lock");
        assert_eq!(answer.unwrap().into_event_answer().unwrap().answer.outcome, expected);
    }
    held.rollback().await.unwrap();
    server.end().await;
}

/// One statement updates rows of some users and inserts rows of others into the same table. A user who does
/// both in one group is written by another statement.
#[tokio::test(flavor = "multi_thread")]
async fn updates_of_one_user_and_inserts_of_another_are_stored_in_one_transaction() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let writer = writer(&server);
    let mut actors = Vec::new();
    for name in ["ann", "bob", "eve", "joe", "kim", "lee"] {
        actors.push(user(&server, name).await);
    }
    let [ann, bob, eve, joe, kim, lee] = &actors[..] else { unreachable!() };
    let type_id = Sent::Value(new_id());
    let run = |id| EventTypeDraft { id, name: Sent::Value("run".to_owned()), ..EventTypeDraft::default() };
    let event = || EventDraft {
        id: Sent::Value(new_id()),
        event_type_id: type_id.clone(),
        timestamp: Sent::Value("2026-01-01T00:00:00Z".to_owned()),
        ..EventDraft::default()
    };
    let removal = |event: &EventDraft| {
        Mutation::DeleteEvent(RemovalDraft { id: event.id.clone(), ..RemovalDraft::default() })
    };
    for actor in [eve, joe, kim, lee] {
        let kind = Mutation::CreateEventType(run(type_id.clone()));
        begin_any(&server, &writer, actor, kind, true).await.await.unwrap();
    }
    let (event_of_eve, event_of_kim) = (event(), event());
    for (actor, draft) in [(eve, &event_of_eve), (kim, &event_of_kim)] {
        begin_any(&server, &writer, actor, Mutation::CreateEvent(draft.clone()), true).await.await.unwrap();
    }
    let lock = lock_accounts(&server.sql).await;
    let occupying = occupy_writers(&server, &writer, [ann, bob], "hike").await;
    let mut all = Vec::new();
    // An event whose type is given by name is not stored by the statement that looks it up.
    let by_name =
        EventDraft { event_type_id: Sent::Absent, event_type: Sent::Value("run".to_owned()), ..event() };
    for (actor, mutation) in [
        (eve, removal(&event_of_eve)),
        (joe, Mutation::CreateEvent(by_name)),
        (kim, removal(&event_of_kim)),
        (kim, Mutation::CreateEvent(event())),
        // The type is a duplicate by name. Only an alias is stored, and the feed head does not change.
        (lee, Mutation::CreateEventType(run(Sent::Value(new_id())))),
    ] {
        all.push(begin_any(&server, &writer, actor, mutation, true).await);
    }
    lock.rollback().await.unwrap();
    for waiting in occupying {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    let mut outcomes = Vec::new();
    for waiting in all {
        outcomes.push(match waiting.await.unwrap() {
            MutationAnswer::Event(answer) => answer.answer.outcome,
            MutationAnswer::EventType(answer) => answer.outcome,
        });
    }
    let expected =
        [Outcome::Deleted, Outcome::Created, Outcome::Deleted, Outcome::Created, Outcome::Duplicate];
    assert_eq!(outcomes, expected);
    let transactions = |name: &str, table: &str| {
        format!(
            "SELECT x.xmin::text FROM {table} x JOIN account a USING (user_id) WHERE a.subject = '{name}'"
        )
    };
    let together = format!(
        "SELECT count(DISTINCT t) FROM (({}) UNION ALL ({}) UNION ALL ({})) AS x(t)",
        transactions("eve", "event"),
        transactions("joe", "event"),
        transactions("lee", "id_alias"),
    );
    assert_eq!(server.number(&together).await, 1);
    let shared = format!(
        "SELECT count(*) FROM ({}) AS k(t) WHERE t IN ({})",
        transactions("kim", "event"),
        transactions("eve", "event")
    );
    assert_eq!(server.number(&shared).await, 0);
    let head = "SELECT feed_head FROM account WHERE subject =";
    assert_eq!(server.number(&format!("{head} 'lee'")).await, 1);
    assert_eq!(server.number(&format!("{head} 'kim'")).await, 4);
    server.end().await;
}
