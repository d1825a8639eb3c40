//! Measures overload: how a user who floods the server slows down another one, how long a refusal takes, and
//! how much of the rate remains.

use super::create;
use crate::content::{Content, Template};
use crate::load::{self, Source};
use crate::measure::{Sample, median};
use crate::report::Fact;
use crate::stage::Stage;
use crate::{Bench, USERS};

const ROWS: u64 = 100_000;
/// Connections in the background of the user who is measured.
const BACKGROUND: usize = USERS - 1;
/// More concurrent writes of one user than may wait.
const TOO_MANY: usize = 1_000;

/// `flood`: the last user of the stage is the one who is measured, on one connection.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Fact>> {
    let stage = Stage::on_postgres(bench, "flood", BACKGROUND + 1, ROWS).await?;
    let target = stage.server.target();
    let source = |user: usize| {
        let template = Template::single(stage.token(user), Content::Plain);
        Source::Fresh(template, bench.numbers.clone())
    };
    let users_of = |connections: usize, users: usize| (0..connections).map(move |n| n % users);
    let (mut spread, mut flooded, mut full, mut refused_ms) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        for (connections, users, samples) in
            [(BACKGROUND, BACKGROUND, &mut spread), (BACKGROUND, 1, &mut flooded), (TOO_MANY, 1, &mut full)]
        {
            stage.settle()?;
            let background = users_of(connections, users).map(source).collect();
            let measured = vec![source(BACKGROUND)];
            let seconds = bench.options.seconds;
            let (sample, background) =
                load::run_with_background(&stage, target, measured, background, create::CREATED, seconds)
                    .await?;
            samples.push(sample);
            refused_ms.extend(background.refused.p50_ms.zip(background.refused.p99_ms));
        }
    }
    let (mut once, mut five_times) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        for (connections, rates) in [(USERS, &mut once), (5 * USERS, &mut five_times)] {
            stage.settle()?;
            let background = users_of(connections, USERS).map(source).collect();
            let seconds = bench.options.seconds;
            let (_, background) =
                load::run_with_background(&stage, target, Vec::new(), background, create::CREATED, seconds)
                    .await?;
            rates.push(background.served.rate);
        }
    }
    stage.end()?;
    let (once, five_times) = (median(once), median(five_times));
    let fact = |name: String, value: f64, unit: &'static str| Fact { scenario: "flood", name, value, unit };
    let p50 = |samples: &[Sample]| median(samples.iter().filter_map(|sample| sample.p50_ms).collect());
    let (refused_p50, refused_p99) = refused_ms.into_iter().unzip();
    let (spread, flooded, full) = (p50(&spread), p50(&flooded), p50(&full));
    Ok(vec![
        fact(
            format!("p50 of a create with {BACKGROUND} other connections, each of its own user"),
            spread,
            "ms",
        ),
        fact(format!("p50 of a create with {BACKGROUND} other connections of one user"), flooded, "ms"),
        fact("the second divided by the first".to_owned(), flooded / spread, ""),
        fact(format!("p50 of a create with {TOO_MANY} other connections of one user"), full, "ms"),
        fact(format!("p50 of a refusal (503) among those {TOO_MANY}"), median(refused_p50), "ms"),
        fact(format!("p99 of a refusal (503) among those {TOO_MANY}"), median(refused_p99), "ms"),
        fact(format!("creates by {USERS} connections of {USERS} users"), once, "/s"),
        fact(format!("creates by {} connections of {USERS} users", 5 * USERS), five_times, "/s"),
        fact("the second divided by the first".to_owned(), five_times / once, ""),
    ])
}
