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
        let name = answer.event_type.and_then(|row| row.content.as_ref().map(|content| content.name.clone()));
        assert_eq!(name.as_deref(), (expected != Outcome::Rejected).then_some("run"), "the type is complete");
    }
    let transactions = "SELECT count(DISTINCT e.xmin::text) FROM event e JOIN account a USING (user_id) \
        WHERE a.subject IN ('new', 'also-new') AND e.external_id IS NULL";
    assert_eq!(server.number(transactions).await, 1);
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
