//! Heads that somebody else holds, or has moved since they were read.

use tokio::time::timeout;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_head_of_somebody_else() {
    let server = TestServer::open(Column::Postgres).await;
    let writer = writer(&server);
    let (ann, bob) = (user(&server, "ann").await, user(&server, "bob").await);
    let held = server.sql.begin().await.unwrap();
    held.execute_unprepared("SELECT 1 FROM account WHERE subject = 'ann' FOR NO KEY UPDATE").await.unwrap();
    let mut of_ann = Vec::new();
    for number in 0..20 {
        of_ann.push(begin(&server, &writer, &ann, &format!("t{number}"), true).await);
        let of_bob = begin(&server, &writer, &bob, &format!("t{number}"), true).await;
        assert_eq!(outcome(of_bob.await), Outcome::Created);
    }
    for waiting in &mut of_ann {
        assert!(futures::poll!(waiting).is_pending());
    }
    held.rollback().await.unwrap();
    for waiting in of_ann {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    let wrong = "SELECT count(*) FROM event_type WHERE name <> 't' || CAST(change_seq - 1 AS text)";
    assert_eq!((server.number("SELECT count(*) FROM event_type").await, server.number(wrong).await), (40, 0));
    server.end().await;
}

/// Waits until this many transactions wait for a table or a row of accounts.
async fn until_blocked(server: &TestServer, transactions: i64) {
    let blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'account'::regclass";
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.number(blocked).await < transactions {
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A write of each, which stand before the accounts.
async fn take_writers(server: &TestServer, writer: &Writer, of: [&Actor; 2], name: &str) -> [Waiting; 2] {
    let first = begin(server, writer, of[0], name, true).await;
    until_blocked(server, 1).await;
    let second = begin(server, writer, of[1], name, true).await;
    until_blocked(server, 2).await;
    [first, second]
}

/// What takes no position is seen as well: another's alias for the id that is about to be taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_load_and_store_is_seen_by_one_by_a_group_and_by_a_batch() {
    let server = TestServer::open(Column::Postgres).await;
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
    // Two take the writers: once for both connections to know the statement, which are let in twice for that.
    let keeper = keep_accounts(&server.sql).await;
    let known = take_writers(&server, &writer, [ann, bob], "hike").await;
    keeper.rollback().await.unwrap();
    for waiting in known {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    let first = keep_accounts(&server.sql).await;
    let ahead = take_writers(&server, &writer, [ann, bob], "climb").await;
    let sql = server.sql.clone();
    let second = tokio::spawn(async move { keep_accounts(&sql).await });
    until_blocked(&server, 3).await;
    let in_group = [
        begin_any(&server, &writer, eve, walk, true).await,
        begin_any(&server, &writer, joe, swim, true).await,
    ];
    first.rollback().await.unwrap();
    for waiting in ahead {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    let second = second.await.unwrap();
    // The group has read.
    until_blocked(&server, 1).await;
    let alone = begin_any(&server, &writer, ann, ride, true).await;
    let (store, notifier, actor) = (server.store.clone(), Arc::clone(&server.notifier), kim.clone());
    let batch = tokio::spawn(async move {
        apply_mutations(&store, notifier.as_ref(), &actor, None, vec![row], &|_| true).await
    });
    until_blocked(&server, 3).await;
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
async fn a_group_that_fails_forgets_nobody_whose_head_is_held() {
    let server = TestServer::open(Column::Postgres).await;
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
        // Each writer takes some of them, and what comes behind is one group.
        all.push(begin(&server, &writer, other, "run", true).await);
        tokio::task::yield_now().await;
    }
    all.push(begin(&server, &writer, &ann, "run", true).await);
    all.push(begin(&server, &writer, &bob, "run", true).await);
    let poison = begin(&server, &writer, &bob, "walk", false).await;
    block.rollback().await.unwrap();
    assert!(matches!(poison.await, Err(Error::AnswerTooLarge)));
    held.rollback().await.unwrap();
    all.push(begin(&server, &writer, &ann, "swim", true).await);
    for waiting in all {
        assert_eq!(outcome(waiting.await), Outcome::Created);
    }
    server.end().await;
}

/// What changes nothing needs no head, whatever had to be read for the answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_is_answered_though_the_head_is_held() {
    let server = TestServer::open(Column::Postgres).await;
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
        let answer = timeout(Duration::from_secs(60), waiting).await.expect("it waits for nobody");
        assert_eq!(answer.unwrap().into_event().unwrap().answer.outcome, expected);
    }
    held.rollback().await.unwrap();
    server.end().await;
}

/// In one statement, where what one user changes and what another brings goes into the same table; who brings and
/// changes something at once takes another way.
#[tokio::test(flavor = "multi_thread")]
async fn users_who_change_and_users_who_bring_are_one_group() {
    let server = TestServer::open(Column::Postgres).await;
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
    let removal = |of: &EventDraft| {
        Mutation::DeleteEvent(RemovalDraft { id: of.id.clone(), ..RemovalDraft::default() })
    };
    for actor in [eve, joe, kim, lee] {
        let kind = Mutation::CreateEventType(run(type_id.clone()));
        begin_any(&server, &writer, actor, kind, true).await.await.unwrap();
    }
    let (of_eve, of_kim) = (event(), event());
    for (actor, draft) in [(eve, &of_eve), (kim, &of_kim)] {
        begin_any(&server, &writer, actor, Mutation::CreateEvent(draft.clone()), true).await.await.unwrap();
    }
    let keeper = keep_accounts(&server.sql).await;
    let ahead = take_writers(&server, &writer, [ann, bob], "hike").await;
    let mut all = Vec::new();
    for (actor, mutation) in [
        (eve, removal(&of_eve)),
        (joe, Mutation::CreateEvent(event())),
        (kim, removal(&of_kim)),
        (kim, Mutation::CreateEvent(event())),
        // Known by its name: an alias and nothing else, and the feed does not move.
        (lee, Mutation::CreateEventType(run(Sent::Value(new_id())))),
    ] {
        all.push(begin_any(&server, &writer, actor, mutation, true).await);
    }
    keeper.rollback().await.unwrap();
    for waiting in ahead {
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
    let of = |name: &str, table: &str| {
        format!(
            "SELECT x.xmin::text FROM {table} x JOIN account a USING (user_id) WHERE a.subject = '{name}'"
        )
    };
    let together = format!(
        "SELECT count(DISTINCT t) FROM (({}) UNION ALL ({}) UNION ALL ({})) AS x(t)",
        of("eve", "event"),
        of("joe", "event"),
        of("lee", "id_alias"),
    );
    assert_eq!(server.number(&together).await, 1);
    let apart =
        format!("SELECT count(*) FROM ({}) AS k(t) WHERE t IN ({})", of("kim", "event"), of("eve", "event"));
    assert_eq!(server.number(&apart).await, 0);
    let head = "SELECT feed_head FROM account WHERE subject =";
    assert_eq!(server.number(&format!("{head} 'lee'")).await, 1);
    assert_eq!(server.number(&format!("{head} 'kim'")).await, 4);
    server.end().await;
}
