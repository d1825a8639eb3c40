//! Too much at once: what one who floods does to another user, how long a refusal takes, and what is left of the rate.

use super::create;
use crate::content::{Content, Template};
use crate::load::{self, Source};
use crate::measure::{Sample, median};
use crate::report::Fact;
use crate::stage::Stage;
use crate::{Bench, USERS};

const ROWS: u64 = 100_000;
/// Connections beside that of the user who is measured.
const CROWD: usize = USERS - 1;
/// More writes of one user at once than may wait.
const TOO_MANY: usize = 1_000;

/// `flood`: the user with one connection is the last one of the stage.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<Vec<Fact>> {
    let stage = Stage::on_postgres(bench, "flood", CROWD + 1, ROWS).await?;
    let source = |user: usize| {
        let template = Template::single(stage.token(user), Content::Plain);
        Source::Fresh(template, bench.numbers.clone())
    };
    let crowd = |connections: usize, users: usize| (0..connections).map(move |n| n % users);
    let (mut spread, mut flooded, mut full, mut refused_ms) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        for (connections, users, samples) in
            [(CROWD, CROWD, &mut spread), (CROWD, 1, &mut flooded), (TOO_MANY, 1, &mut full)]
        {
            stage.settle()?;
            let beside = crowd(connections, users).map(source).collect();
            let measured = vec![source(CROWD)];
            let seconds = bench.options.seconds;
            let (sample, crowd) =
                load::run_beside(&stage, measured, beside, create::CREATED, seconds).await?;
            samples.push(sample);
            refused_ms.extend(crowd.refused.p50_ms.zip(crowd.refused.p99_ms));
        }
    }
    let (mut once, mut five_times) = (Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        for (connections, rates) in [(USERS, &mut once), (5 * USERS, &mut five_times)] {
            stage.settle()?;
            let all = crowd(connections, USERS).map(source).collect();
            let seconds = bench.options.seconds;
            let (_, crowd) = load::run_beside(&stage, Vec::new(), all, create::CREATED, seconds).await?;
            rates.push(crowd.served.rate);
        }
    }
    stage.end()?;
    let (once, five_times) = (median(once), median(five_times));
    let fact = |name: String, value: f64, unit: &'static str| Fact { scenario: "flood", name, value, unit };
    let p50 = |samples: &[Sample]| median(samples.iter().filter_map(|sample| sample.p50_ms).collect());
    let (refused_p50, refused_p99) = refused_ms.into_iter().unzip();
    let (spread, flooded, full) = (p50(&spread), p50(&flooded), p50(&full));
    Ok(vec![
        fact(format!("p50 of a create beside {CROWD} connections of as many users"), spread, "ms"),
        fact(format!("p50 of a create beside {CROWD} connections of one user"), flooded, "ms"),
        fact("the second by the first".to_owned(), flooded / spread, ""),
        fact(format!("p50 of a create beside {TOO_MANY} connections of one user"), full, "ms"),
        fact(format!("p50 of a refusal (503) among those {TOO_MANY}"), median(refused_p50), "ms"),
        fact(format!("p99 of a refusal (503) among those {TOO_MANY}"), median(refused_p99), "ms"),
        fact(format!("creates by {USERS} connections of {USERS} users"), once, "/s"),
        fact(format!("creates by {} connections of {USERS} users", 5 * USERS), five_times, "/s"),
        fact("the second by the first".to_owned(), five_times / once, ""),
    ])
}
