//! Load on our server: each connection sends its next request when the last one is answered.

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

const WARM_UP: Duration = Duration::from_secs(1);
/// Until whoever was refused comes again, at most: not all at once.
const REST_MS_MAX: u64 = 1_000;

/// What one connection sends.
pub enum Source {
    /// Events that are new.
    Fresh(Template, Numbers),
    /// Events that are new, each of one of these users at random.
    Spread(Vec<Template>, Numbers, Random),
    /// One of these at random.
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

/// What every answer must say, and for how many items it stands.
#[derive(Clone, Copy)]
pub struct Expected {
    /// A part of the body.
    pub text: &'static str,
    /// Created or read by one request.
    pub items: usize,
}

/// Puts load on the server of a stage for `seconds`, behind a second to warm up.
pub async fn run(
    stage: &Stage<'_>,
    sources: Vec<Source>,
    expected: Expected,
    seconds: u64,
) -> anyhow::Result<Sample> {
    Ok(run_beside(stage, sources, Vec::new(), expected, seconds).await?.0)
}

/// What a crowd got, which may be refused for now.
pub struct Crowd {
    /// Its requests that were answered.
    pub served: Sample,
    /// Those that were refused with 503.
    pub refused: Sample,
}

/// The same with a crowd beside.
pub async fn run_beside(
    stage: &Stage<'_>,
    sources: Vec<Source>,
    beside: Vec<Source>,
    expected: Expected,
    seconds: u64,
) -> anyhow::Result<(Sample, Crowd)> {
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(seconds);
    let over = Rc::new(Cell::new(false));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut connections = JoinSet::new();
            for source in sources {
                let over = Rc::clone(&over);
                connections.spawn_local(drive(stage.server.address, source, expected, (from, until), over));
            }
            let mut crowd = JoinSet::new();
            for (number, source) in beside.into_iter().enumerate() {
                let (rests, over) = (Random::new(number as u64 + 1), Rc::clone(&over));
                crowd.spawn_local(crowd_in(stage.server.address, source, rests, (from, until), over));
            }
            tokio::time::sleep_until(from.into()).await;
            let (begun, before) = (Instant::now(), spent(stage)?);
            tokio::time::sleep_until(until.into()).await;
            let (elapsed, after) = (begun.elapsed(), spent(stage)?);
            over.set(true);
            let mut latencies_us = Vec::new();
            while let Some(of_one) = connections.join_next().await {
                latencies_us.extend(of_one.context("a connection does not panic")??);
            }
            let (mut served_us, mut refused_us) = (Vec::new(), Vec::new());
            while let Some(of_one) = crowd.join_next().await {
                let (served, refused) = of_one.context("a connection does not panic")??;
                served_us.extend(served);
                refused_us.extend(refused);
            }
            let spent = after.since(before);
            let sample = |latencies_us: Vec<u64>| {
                Sample::new(latencies_us.len() * expected.items, elapsed, latencies_us, spent)
            };
            Ok((sample(latencies_us), Crowd { served: sample(served_us), refused: sample(refused_us) }))
        })
        .await
}

/// Runs one connection of a crowd, which rests for a while when it is refused; what answers and what refusals took
/// within the window, in microseconds.
async fn crowd_in(
    address: SocketAddr,
    mut source: Source,
    mut rests: Random,
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
            let all_us = if status == 200 { &mut served_us } else { &mut refused_us };
            all_us.push(u64::try_from((answered - sent).as_micros())?);
        }
        if status == 503 {
            tokio::time::sleep(Duration::from_millis(rests.below(REST_MS_MAX))).await;
        }
    }
    Ok((served_us, refused_us))
}

fn spent(stage: &Stage<'_>) -> anyhow::Result<Spent> {
    Ok(Spent {
        server: Some(stage.server.cpu()?),
        postgres: stage.postgres_cpu()?,
        client: process::cpu_of_clients()?,
    })
}

/// Runs one connection; the latencies of the answers within the window, in microseconds.
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
        let answer = connection.exchange(request).await?;
        let answered = Instant::now();
        ensure!(
            answer.status == 200 && position(answer.body, expected.text.as_bytes()).is_some(),
            "{} instead of {}: {}",
            answer.status,
            expected.text,
            String::from_utf8_lossy(&answer.body[..answer.body.len().min(600)])
        );
        if answered >= from && answered <= until {
            latencies_us.push(u64::try_from((answered - sent).as_micros())?);
        }
    }
    Ok(latencies_us)
}
