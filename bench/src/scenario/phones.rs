//! Measures what phones send: events of a thousand random users, each with an external id, over a million
//! existing events. The server also runs the worker.

use anyhow::ensure;
use serde_json::json;

use super::create::{BATCH, CREATE, CREATED};
use super::read::FIELDS;
use super::{Case, PeerWork, Sources, compare, compare_all};
use crate::content::{Content, EXTERNAL_ID_PREFIX, Random, TYPE_ID, Template};
use crate::http::{Connection, get, graphql, position};
use crate::load::{Expected, Source};
use crate::peer::{self, Peer};
use crate::report::Row;
use crate::stage::Stage;
use crate::{Bench, TOKENS as USERS};

const FIND: &str = include_str!("../../sql/find.sql");
const ROWS: u64 = 1_000_000;
const BATCH_EVENTS: usize = 100;
/// Connections of all cases but single creates.
const CONNECTIONS: usize = 16;
/// Events of all users that are created beforehand and then sent again.
const RESENT_EVENTS: usize = 20_000;

/// `phones`: creates, batches, events that are sent again, and pages.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let external_id = format!("'{EXTERNAL_ID_PREFIX}' || lpad((1 + m / {USERS})::text, 12, '0')");
    let stage = Stage::with_external_ids(bench, "phones", USERS, ROWS, &external_id).await?;
    let peer = match peer::build(bench.folder.path())? {
        Some(program) => Some(Peer::start(&program, &stage.url_of_copy())?),
        None => None,
    };
    let peer = peer.as_ref();
    let mut rows = Vec::new();
    for connections in [1, 16, 64] {
        rows.push(compare(bench, create(bench, &stage, peer, connections)).await?);
    }
    rows.push(compare(bench, batch(bench, &stage, peer)).await?);
    let resent = create_resent(bench, &stage, peer).await?;
    let contents = [("equal", Content::WithExternalId), ("other content", Content::Changed)];
    let cases = contents.map(|(what, content)| resend(&stage, peer, what, &resent, content));
    rows.extend(compare_all(bench, &cases).await?);
    drop(cases);
    let by_type = (json!({ "eventTypeIds": [TYPE_ID] }), format!("/events?eventTypeId={TYPE_ID}"));
    let by_time = (json!(null), "/events".to_owned());
    let cases = [("of a type", by_type), ("by time", by_time)]
        .map(|(what, (filter, path))| page(&stage, peer, what, &filter, &path));
    rows.extend(compare_all(bench, &cases).await?);
    drop(cases);
    stage.end()?;
    Ok(rows)
}

/// Each transaction of pgbench is for a random user.
fn random_user() -> (&'static str, String) {
    ("user", format!("random(1, {USERS})"))
}

fn external_id(number: &str) -> (&'static str, String) {
    ("external_id", format!("'{EXTERNAL_ID_PREFIX}' || lpad({number}::text, 12, '0')"))
}

fn create<'a>(
    bench: &'a Bench,
    stage: &'a Stage<'a>,
    peer: Option<&'a Peer>,
    connections: usize,
) -> Case<'a> {
    type New = fn(&str, Content) -> Template;
    let spread = move |new: New, seed: usize| {
        let templates = (0..USERS).map(|user| new(stage.token(user), Content::WithExternalId));
        Source::Spread(templates.collect(), bench.numbers.clone(), Random::new(seed as u64 + 1))
    };
    let sources = move |new: New| -> Sources<'a> {
        Box::new(move || (0..connections).map(|seed| spread(new, seed)).collect())
    };
    Case {
        stage,
        scenario: "phones",
        variant: format!("create, {connections} connection{}", if connections == 1 { "" } else { "s" }),
        item: "event",
        sources: sources(Template::single),
        expected: CREATED,
        script: Some((CREATE, vec![random_user(), external_id(":feed_head")])),
        peer: peer.map(|peer| PeerWork { peer, sources: sources(Template::peer_single), expected: CREATED }),
    }
}

/// Batches. Each connection has its own users, because the requests are large and so the templates take
/// memory.
fn batch<'a>(bench: &'a Bench, stage: &'a Stage<'a>, peer: Option<&'a Peer>) -> Case<'a> {
    type New = fn(&str, usize, Content) -> Template;
    let spread = move |new: New, connection: usize| {
        let users = (connection..USERS).step_by(CONNECTIONS);
        let templates = users.map(|user| new(stage.token(user), BATCH_EVENTS, Content::WithExternalId));
        Source::Spread(templates.collect(), bench.numbers.clone(), Random::new(connection as u64 + 1))
    };
    let sources = move |new: New| -> Sources<'a> {
        Box::new(move || (0..CONNECTIONS).map(|connection| spread(new, connection)).collect())
    };
    let expected = Expected { text: "\"created\":100,", items: BATCH_EVENTS };
    Case {
        stage,
        scenario: "phones",
        variant: format!("batch of {BATCH_EVENTS}, {CONNECTIONS} connections"),
        item: "event",
        sources: sources(Template::batch),
        expected,
        script: Some((BATCH, vec![random_user(), external_id("(:head::bigint + n)")])),
        peer: peer.map(|peer| PeerWork { peer, sources: sources(Template::peer_batch), expected }),
    }
}

/// Creates the events that are sent again, in both databases, and returns their users and numbers. Rows that
/// SQL inserts would not do, because their content hash differs.
async fn create_resent(
    bench: &Bench,
    stage: &Stage<'_>,
    peer: Option<&Peer>,
) -> anyhow::Result<Vec<(usize, u64)>> {
    let mut to_idem = Connection::open(stage.server.address).await?;
    let mut to_peer = match peer {
        Some(peer) => Some(Connection::open(peer.target().address).await?),
        None => None,
    };
    let mut events = Vec::with_capacity(RESENT_EVENTS);
    for index in 0..RESENT_EVENTS {
        let (user, number) = (index % USERS, bench.numbers.take());
        let (token, content) = (stage.token(user), Content::WithExternalId);
        let templates = [
            (Some(&mut to_idem), Template::single(token, content)),
            (to_peer.as_mut(), Template::peer_single(token, content)),
        ];
        for (connection, mut template) in templates {
            let Some(connection) = connection else { continue };
            let response = connection.exchange(template.render(|| number)).await?;
            ensure!(position(response.body, CREATED.text.as_bytes()).is_some(), "an event was not created");
        }
        events.push((user, number));
    }
    Ok(events)
}

/// Sends existing events again, with equal or other content.
fn resend<'a>(
    stage: &'a Stage<'a>,
    peer: Option<&'a Peer>,
    what: &str,
    events: &[(usize, u64)],
    content: Content,
) -> Case<'a> {
    let sources = |new: fn(&str, Content) -> Template| -> Sources<'a> {
        let requests = |connection: usize| -> Vec<Vec<u8>> {
            let own = events.iter().skip(connection).step_by(CONNECTIONS);
            own.map(|(user, number)| new(stage.token(*user), content).render(|| *number).to_vec()).collect()
        };
        let requests: Vec<_> = (0..CONNECTIONS).map(requests).collect();
        Box::new(move || {
            let seeded = requests.iter().zip(1..);
            seeded.map(|(requests, seed)| Source::Among(requests.clone(), Random::new(seed))).collect()
        })
    };
    let expected = Expected { text: "\"outcome\":\"DUPLICATE\"", items: 1 };
    Case {
        stage,
        scenario: "phones",
        variant: format!("sent again, {what}, {CONNECTIONS} connections"),
        item: "event",
        sources: sources(Template::single),
        expected,
        script: Some((FIND, vec![random_user(), ("events_per_user", (ROWS / USERS as u64).to_string())])),
        peer: peer.map(|peer| PeerWork { peer, sources: sources(Template::peer_single), expected }),
    }
}

fn page<'a>(
    stage: &'a Stage<'a>,
    peer: Option<&'a Peer>,
    what: &str,
    filter: &serde_json::Value,
    path: &str,
) -> Case<'a> {
    let query = format!(
        "query Newest($first: Int, $filter: EventFilter) {{ events(first: $first, filter: $filter) {{ \
         nodes {{ {FIELDS} }} pageInfo {{ hasNextPage endCursor }} }} }}"
    );
    let body = json!({ "query": query, "variables": { "first": 50, "filter": filter } }).to_string();
    let sources = |requests: Vec<Vec<u8>>| -> Sources<'a> {
        Box::new(move || {
            (1..=CONNECTIONS as u64).map(|seed| Source::Among(requests.clone(), Random::new(seed))).collect()
        })
    };
    let to_idem = (0..USERS).map(|user| graphql(stage.token(user), &body)).collect();
    let to_peer = (0..USERS).map(|user| get(path, stage.token(user))).collect();
    let expected = Expected { text: "\"nodes\":[{", items: 1 };
    Case {
        stage,
        scenario: "phones",
        variant: format!("page of 50 {what}, {CONNECTIONS} connections"),
        item: "page",
        sources: sources(to_idem),
        expected,
        script: None,
        peer: peer.map(|peer| PeerWork { peer, sources: sources(to_peer), expected }),
    }
}
