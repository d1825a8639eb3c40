//! Tests groups with creates that are decided before anything is read.

use super::contention::occupy_writers;
use super::*;

/// New events of several users are stored by one statement. The other users of the group get the outcomes that
/// they would get alone.
#[tokio::test(flavor = "multi_thread")]
async fn new_events_of_a_group_are_stored_together_and_known_ones_are_recognized() {
    let server = TestServer::open(DatabaseKind::Postgres).await;
    let writer = writer(&server);
    let mut actors = Vec::new();
    for name in
        ["ann", "bob", "new", "also-new", "same", "other-content", "renamed", "taken", "untyped", "mixed"]
    {
        actors.push(user(&server, name).await);
    }
    let type_id = Sent::Value(new_id());
    let event = || EventDraft {
        id: Sent::Value(new_id()),
        event_type_id: type_id.clone(),
        timestamp: Sent::Value("2026-01-01T00:00:00Z".to_owned()),
        ..EventDraft::default()
    };
    let known = |actor: &Actor| EventDraft { external_id: Sent::Value(actor.subject.clone()), ..event() };
    let mut stored = Vec::new();
    for actor in &actors {
        let name = Sent::Value("run".to_owned());
        let kind = EventTypeDraft { id: type_id.clone(), name, ..EventTypeDraft::default() };
        begin_any(&server, &writer, actor, Mutation::CreateEventType(kind), true).await.await.unwrap();
        stored.push(known(actor));
        let create = Mutation::CreateEvent(stored[stored.len() - 1].clone());
        begin_any(&server, &writer, actor, create, true).await.await.unwrap();
    }
    let changed = EventDraft { notes: Sent::Value("other".to_owned()), ..stored[5].clone() };
    let renamed = EventDraft { id: Sent::Value(new_id()), ..stored[6].clone() };
    let taken = EventDraft { id: type_id.clone(), ..event() };
    let untyped = EventDraft { event_type_id: Sent::Value(new_id()), ..event() };
    let sends = [
        (2, event(), Outcome::Created),
        (2, event(), Outcome::Created),
        (3, event(), Outcome::Created),
        (4, stored[4].clone(), Outcome::Duplicate),
        (5, changed, Outcome::Duplicate),
        (6, renamed, Outcome::Duplicate),
        (7, taken, Outcome::Rejected),
        (8, untyped, Outcome::Rejected),
        (9, event(), Outcome::Created),
        (9, stored[9].clone(), Outcome::Duplicate),
    ];
    let lock = lock_accounts(&server.sql).await;
    let occupying = occupy_writers(&server, &writer, [&actors[0], &actors[1]], "hike").await;
    let mut waiting = Vec::new();
    for (user, draft, expected) in sends {
        let create = Mutation::CreateEvent(draft);
        waiting.push((user, begin_any(&server, &writer, &actors[user], create, true).await, expected));
    }
    lock.rollback().await.unwrap();
    for write in occupying {
        assert_eq!(outcome(write.await), Outcome::Created);
    }
    for (user, write, expected) in waiting {
        let MutationAnswer::Event(answer) = write.await.unwrap() else { panic!("an answer for an event") };
        assert_eq!(answer.answer.outcome, expected, "{}", actors[user].subject);
        assert_eq!(answer.answer.differs, user == 5);
        if user == 5 {
            let content = answer.answer.row.as_ref().and_then(|row| row.content.as_ref()).unwrap();
            assert_eq!(content.body.notes, None, "the stored event is shown, not the one that was sent");
            assert_ne!(content.body.timestamp, 0);
        }
        let name = answer.event_type.and_then(|row| row.content.as_ref().map(|content| content.name.clone()));
        assert_eq!(name.as_deref(), (expected != Outcome::Rejected).then_some("run"), "the type is complete");
    }
    let transactions = "SELECT count(DISTINCT e.xmin::text) FROM event e JOIN account a USING (user_id) \
        WHERE a.subject IN ('new', 'also-new') AND e.external_id IS NULL";
    assert_eq!(server.number(transactions).await, 1);
    // The new event of a user who also sent a known one is stored by a later statement.
    let all = transactions.replace("'also-new'", "'also-new', 'mixed'");
    assert_eq!(server.number(&all).await, 2);
    for (subject, head) in
        [("new", 4), ("also-new", 3), ("same", 2), ("renamed", 2), ("taken", 2), ("mixed", 3)]
    {
        let wrong = format!(
            "SELECT count(*) FROM account a WHERE a.subject = '{subject}' AND (a.feed_head <> {head} OR {head} <> \
             (SELECT max(e.change_seq) FROM event e WHERE e.user_id = a.user_id))"
        );
        assert_eq!(server.number(&wrong).await, 0, "{subject}");
    }
    assert_eq!(server.number("SELECT count(*) FROM id_alias").await, 1);
    server.end().await;
}

/// Replaces the table of types by a view whose read of the type `kind` waits for an advisory lock, and takes that
/// lock. So a statement that reads the type stops after it has taken its snapshot.
async fn stop_reads_of_type(server: &TestServer, kind: &str) -> DatabaseTransaction {
    let view = format!(
        "ALTER TABLE event_type RENAME TO event_type_stored; \
         CREATE FUNCTION pause() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN \
           PERFORM pg_advisory_xact_lock_shared(42); RETURN true; END $$; \
         CREATE VIEW event_type AS SELECT * FROM event_type_stored \
           WHERE CASE WHEN id = '{kind}' THEN pause() ELSE true END"
    );
    server.sql.execute_unprepared(&view).await.unwrap();
    let held = server.sql.begin().await.unwrap();
    held.execute_unprepared("SELECT pg_advisory_xact_lock(42)").await.unwrap();
    held
}

/// The type is deleted after the statement has read it, and before the statement locks the account.
#[tokio::test(flavor = "multi_thread")]
async fn new_events_are_not_stored_if_the_account_changes_while_they_are_looked_up() {
    for batch in [1, 3] {
        let server = TestServer::open(DatabaseKind::Postgres).await;
        let client = server.client("ann");
        let kind = client.event_type("run").await;
        let held = stop_reads_of_type(&server, &kind).await;
        let events: Vec<_> = (0..batch).map(|_| crate::harness::event(&kind)).collect();
        let creating = tokio::spawn(async move { client.create(&events).await });
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        let deadline = Instant::now() + Duration::from_secs(20);
        while server.number(waiting).await == 0 {
            assert!(Instant::now() < deadline, "no statement reads the type");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let delete = "UPDATE event_type_stored SET name = NULL, content_hash = NULL, deleted_at = 1, \
            deleted_by = 'user', change_seq = 2; \
            UPDATE account SET feed_head = 2, revision = revision + 1";
        server.sql.execute_unprepared(delete).await.unwrap();
        held.rollback().await.unwrap();
        let results = creating.await.unwrap()["results"].take();
        for result in results.as_array().unwrap() {
            assert_eq!(result["problem"]["errors"][0]["code"], "EVENT_TYPE_NOT_FOUND", "{result}");
        }
        assert_eq!(server.number("SELECT count(*) FROM event").await, 0);
        server.end().await;
    }
}
