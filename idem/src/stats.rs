//! `idem stats`: asks a server for numbers from events, and prints them as a table, as bars or as JSON.

mod args;
mod print;

pub use self::args::StatsArgs;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::import::remote::{Failure, Remote};
use crate::terminal::escape_control_characters;

const STATS: &str = "query($input: EventStatsInput!) { eventStats(input: $input) { asOf buckets { ...B } total { ...B } } } \
    fragment B on StatsBucket { start end localDate eventTypeId sourceType weekday hourOfDay count durationSeconds \
    measures { property unit count sum average minimum maximum } }";
const TYPES: &str = "query($after: String) { eventTypes(first: 1000, after: $after) \
    { nodes { id name } pageInfo { hasNextPage endCursor } } }";

/// An event type of the user.
#[derive(Debug, Deserialize)]
struct EventType {
    id: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Types {
    nodes: Vec<EventType>,
    page_info: PageInfo,
}

/// `idem stats`: asks the server once, and prints the answer on stdout.
///
/// # Errors
/// If an argument is wrong, no event type has a given name, or the server refuses the question or cannot be reached.
pub async fn run_stats(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let (zone, mut input) = args.to_input()?;
    let remote = Remote::new(&args.url, &args.token)?;
    let types = if args.needs_types() { load_types(&remote).await? } else { Vec::new() };
    if !args.event_types.is_empty() {
        let ids = args.event_types.iter().map(|name| {
            let found = types.iter().find(|event_type| event_type.name == *name);
            found.map(|event_type| event_type.id.as_str()).with_context(|| unknown_type(name, &types))
        });
        input["filter"]["eventTypeIds"] = json!(ids.collect::<anyhow::Result<Vec<_>>>()?);
    }
    let mut response: Value =
        remote.send_graphql(STATS, json!({ "input": input })).await.map_err(Failure::into_error)?;
    let stats = response["eventStats"].take();
    ensure!(stats.is_object(), "the response does not match the query: is --url the URL of an Idem server?");
    let text = if args.json { format!("{stats}\n") } else { print::to_text(args, zone, &stats, &types) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn load_types(remote: &Remote) -> anyhow::Result<Vec<EventType>> {
    let (mut types, mut after) = (Vec::new(), None);
    loop {
        let mut response: Value =
            remote.send_graphql(TYPES, json!({ "after": after })).await.map_err(Failure::into_error)?;
        let page: Types = serde_json::from_value(response["eventTypes"].take())
            .context("the response does not match the query: is --url the URL of an Idem server?")?;
        types.extend(page.nodes);
        if !page.page_info.has_next_page {
            return Ok(types);
        }
        after = page.page_info.end_cursor;
    }
}

fn unknown_type(name: &str, types: &[EventType]) -> String {
    let mut names: Vec<&str> = types.iter().take(20).map(|event_type| event_type.name.as_str()).collect();
    if types.len() > names.len() {
        names.push("…");
    }
    let names = escape_control_characters(&names.join(", "));
    format!("there is no event type {name:?}; there are: {names}")
}
