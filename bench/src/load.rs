//! Puts load on an idem server or on the peer. Each connection sends its next request when the last one was answered.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use crate::content::{Numbers, Random, Template};
use crate::http::{Connection, position};
use crate::measure::{Sample, Spent};
use crate::process;
use crate::stage::Stage;

/// Load before the measurement.
const WARM_UP: Duration = Duration::from_secs(1);
/// After a refusal, a connection waits for a random time up to this, so that not all of them retry at once.
const RETRY_MS_MAX: u64 = 1_000;

/// What one connection sends.
pub enum Source {
    /// New events of one user.
    Fresh(Template, Numbers),
    /// New events, each for a random user: one template per user.
    Spread(Vec<Template>, Numbers, Random),
    /// A random one of these requests.
    Among(Vec<Vec<u8>>, Random),
}

impl Source {
    fn next(&mut self) -> &[u8] {
        match self {
            Self::Fresh(template, numbers) => template.render(|| numbers.take()),
            Self::Spread(templates, numbers, random) => {
                let at = usize::try_from(random.below(templates.len() as u64)).unwrap_or_default();
                templates.get_mut(at).map_or(&[], |template| template.render(|| numbers.take()))
            }
            Self::Among(requests, random) => {
                let at = random.below(requests.len() as u64);
                requests.get(usize::try_from(at).unwrap_or_default()).map_or(&[], Vec::as_slice)
            }
        }
    }
}

/// What every response must contain, and how many items it counts as.
#[derive(Clone, Copy)]
pub struct Expected {
    /// A text in the body.
    pub text: &'static str,
    /// How many items one request creates or reads.
    pub items: usize,
}

/// A running program that answers requests.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// The id of its process.
    pub process: u32,
}

/// Puts load on a target, which uses the PostgreSQL of the stage, for `seconds`, after a second of warm-up.
pub async fn run(
    stage: &Stage<'_>,
    target: Target,
    sources: Vec<Source>,
    expected: Expected,
    seconds: u64,
) -> anyhow::Result<Sample> {
    Ok(run_with_background(stage, target, sources, Vec::new(), expected, seconds).await?.0)
}

/// The results of the background connections, whose requests may be refused.
pub struct Background {
    /// The requests that were answered with 200.
    pub served: Sample,
    /// The requests that were refused with 503.
    pub refused: Sample,
}

/// As [`run`], with more connections in the background.
pub async fn run_with_background(
    stage: &Stage<'_>,
    target: Target,
    sources: Vec<Source>,
    background: Vec<Source>,
    expected: Expected,
    seconds: u64,
) -> anyhow::Result<(Sample, Background)> {
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(seconds);
    let over = Rc::new(Cell::new(false));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut connections = JoinSet::new();
            for source in sources {
                let over = Rc::clone(&over);
                connections.spawn_local(drive(target.address, source, expected, (from, until), over));
            }
            let mut background_tasks = JoinSet::new();
            for (number, source) in background.into_iter().enumerate() {
                let (random, over) = (Random::new(number as u64 + 1), Rc::clone(&over));
                background_tasks.spawn_local(drive_background(
                    target.address,
                    source,
                    random,
                    (from, until),
                    over,
                ));
            }
            tokio::time::sleep_until(from.into()).await;
            let (started, before) = (Instant::now(), spent(stage, target)?);
            tokio::time::sleep_until(until.into()).await;
            let (elapsed, after) = (started.elapsed(), spent(stage, target)?);
            over.set(true);
            let mut latencies_us = Vec::new();
            while let Some(result) = connections.join_next().await {
                latencies_us.extend(result.context("a connection panicked")??);
            }
            let (mut served_us, mut refused_us) = (Vec::new(), Vec::new());
            while let Some(result) = background_tasks.join_next().await {
                let (served, refused) = result.context("a connection panicked")??;
                served_us.extend(served);
                refused_us.extend(refused);
            }
            let spent = after.since(before);
            let sample = |latencies_us: Vec<u64>| {
                Sample::new(latencies_us.len() * expected.items, elapsed, latencies_us, spent)
            };
            Ok((sample(latencies_us), Background { served: sample(served_us), refused: sample(refused_us) }))
        })
        .await
}

/// Runs one background connection, which waits for a while after a refusal. Returns the latencies of the
/// requests that were answered and of those that were refused within the window, in microseconds.
async fn drive_background(
    address: SocketAddr,
    mut source: Source,
    mut random: Random,
    (from, until): (Instant, Instant),
    over: Rc<Cell<bool>>,
) -> anyhow::Result<(Vec<u64>, Vec<u64>)> {
    let mut connection = Connection::open(address).await?;
    let (mut served_us, mut refused_us) = (Vec::new(), Vec::new());
    while !over.get() {
        let request = source.next();
        let sent = Instant::now();
        let status = connection.exchange(request).await?.status;
        let answered = Instant::now();
        ensure!(status == 200 || status == 503, "{status} instead of 200 or 503");
        if answered >= from && answered <= until {
            let latencies_us = if status == 200 { &mut served_us } else { &mut refused_us };
            latencies_us.push(u64::try_from((answered - sent).as_micros())?);
        }
        if status == 503 {
            tokio::time::sleep(Duration::from_millis(random.below(RETRY_MS_MAX))).await;
        }
    }
    Ok((served_us, refused_us))
}

/// The CPU time that the target, PostgreSQL and clients have used so far.
fn spent(stage: &Stage<'_>, target: Target) -> anyhow::Result<Spent> {
    Ok(Spent {
        server: Some(process::cpu(target.process)?),
        postgres: stage.postgres_cpu()?,
        client: process::cpu_of_clients()?,
    })
}

/// Runs one connection. Returns the latencies of the responses within the window, in microseconds.
async fn drive(
    address: SocketAddr,
    mut source: Source,
    expected: Expected,
    (from, until): (Instant, Instant),
    over: Rc<Cell<bool>>,
) -> anyhow::Result<Vec<u64>> {
    let mut connection = Connection::open(address).await?;
    let mut latencies_us = Vec::new();
    while !over.get() {
        let request = source.next();
        let sent = Instant::now();
        let response = connection.exchange(request).await?;
        let answered = Instant::now();
        ensure!(
            response.status == 200 && position(response.body, expected.text.as_bytes()).is_some(),
            "{} instead of {}: {}",
            response.status,
            expected.text,
            String::from_utf8_lossy(&response.body[..response.body.len().min(600)])
        );
        if answered >= from && answered <= until {
            latencies_us.push(u64::try_from((answered - sent).as_micros())?);
        }
    }
    Ok(latencies_us)
}
