//! Formats the results: a Markdown table for people, and everything as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::measure::Sample;

/// The results of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// The versions of idem and PostgreSQL, and PostgreSQL's settings.
    pub versions: Vec<(String, String)>,
    /// Seconds per measurement.
    pub seconds: u64,
    /// The number of rounds.
    pub rounds: u32,
    /// The kinds of work that were measured.
    pub rows: Vec<Row>,
    /// Figures without a counterpart.
    pub facts: Vec<Fact>,
}

/// One kind of work: idem and its counterpart.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// The variant of the scenario.
    pub variant: String,
    /// The item that is counted.
    pub item: &'static str,
    /// The figures of idem.
    pub ours: Side,
    /// The figures of pgbench or psql, if there is a counterpart.
    pub theirs: Option<Side>,
    /// The median rate of idem divided by the median rate of the counterpart.
    pub ratio: Option<f64>,
    /// The figures of the peer, the Go service, if it does this work.
    pub peer: Option<Side>,
    /// The median rate of idem divided by the median rate of the peer.
    pub ratio_to_peer: Option<f64>,
}

/// The measurements of idem or of its counterpart.
#[derive(Debug, Serialize)]
pub struct Side {
    /// The median of each figure.
    pub median: Sample,
    /// All measurements, in their order.
    pub samples: Vec<Sample>,
}

/// A single figure.
#[derive(Debug, Serialize)]
pub struct Fact {
    /// The scenario.
    pub scenario: &'static str,
    /// What was measured.
    pub name: String,
    /// The value.
    pub value: f64,
    /// The unit.
    pub unit: &'static str,
}

impl Side {
    /// `None` when nothing was measured.
    pub fn new(samples: Vec<Sample>) -> Option<Self> {
        Sample::median(&samples).map(|median| Self { median, samples })
    }
}

impl Row {
    /// Compares idem with its counterpart.
    pub fn new(
        scenario: &'static str,
        variant: String,
        item: &'static str,
        ours: Side,
        theirs: Option<Side>,
    ) -> Self {
        let ratio = theirs.as_ref().map(|theirs| ours.median.rate / theirs.median.rate);
        Self { scenario, variant, item, ours, theirs, ratio, peer: None, ratio_to_peer: None }
    }

    /// Compares idem with the peer as well.
    pub fn with_peer(self, peer: Option<Side>) -> Self {
        let ratio_to_peer = peer.as_ref().map(|peer| self.ours.median.rate / peer.median.rate);
        Self { peer, ratio_to_peer, ..self }
    }

    fn cells(&self) -> Vec<String> {
        let ours = &self.ours.median;
        let [theirs, peer] = [&self.theirs, &self.peer].map(|side| side.as_ref().map(|side| &side.median));
        let or_dash = |figure: Option<f64>| figure.map_or("–".into(), show);
        let ratio = |ratio: Option<f64>| ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"));
        // The figures of idem, of its counterpart, and of the peer if there is one.
        let sides = |figure: fn(&Sample) -> Option<f64>| {
            let sides = [Some(ours), theirs].into_iter().chain(peer.map(Some));
            sides.map(|side| or_dash(side.and_then(figure))).collect::<Vec<_>>().join(" / ")
        };
        let postgres_us: fn(&Sample) -> Option<f64> =
            |side| (side.postgres_us > 0.0).then_some(side.postgres_us);
        let mut servers = vec![or_dash(ours.server_us)];
        servers.extend(peer.map(|peer| or_dash(peer.server_us)));
        vec![
            format!("`{}` {}", self.scenario, self.variant),
            self.item.to_owned(),
            show(ours.rate),
            or_dash(theirs.map(|side| side.rate)),
            ratio(self.ratio),
            or_dash(peer.map(|side| side.rate)),
            ratio(self.ratio_to_peer),
            sides(|side| side.p50_ms),
            sides(|side| side.p95_ms),
            sides(|side| side.p99_ms),
            servers.join(" / "),
            sides(postgres_us),
        ]
    }
}

const HEAD: [&str; 12] = [
    "work",
    "item",
    "idem /s",
    "counterpart /s",
    "ratio",
    "Go service /s",
    "ratio",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "CPU µs: idem",
    "CPU µs: PostgreSQL",
];

impl Report {
    /// The results as Markdown. Where several figures stand in a cell, they are those of idem, of its counterpart
    /// and of the Go service. In the column of the servers' CPU time the counterpart has none.
    pub fn table(&self) -> anyhow::Result<String> {
        let machine = &self.machine;
        let mut text = format!(
            "{} × {}, {} GiB, Linux {}, load before the run {}; medians of {} × {} s\n\n",
            machine.processors,
            machine.model,
            machine.memory_gib,
            machine.linux,
            machine.load_before,
            self.rounds,
            self.seconds,
        );
        if !self.rows.is_empty() {
            write_row(&mut text, &HEAD)?;
            write_row(&mut text, &["---"; HEAD.len()])?;
            for row in &self.rows {
                write_row(&mut text, &row.cells())?;
            }
        }
        if !self.facts.is_empty() {
            text.push('\n');
            write_row(&mut text, &["figure", "value"])?;
            write_row(&mut text, &["---"; 2])?;
            for fact in &self.facts {
                let name = format!("`{}` {}", fact.scenario, fact.name);
                write_row(
                    &mut text,
                    &[name, format!("{} {}", show(fact.value), fact.unit).trim_end().to_owned()],
                )?;
            }
        }
        Ok(text)
    }
}

fn write_row(text: &mut String, cells: &[impl AsRef<str>]) -> std::fmt::Result {
    for cell in cells {
        write!(text, "| {} ", cell.as_ref())?;
    }
    text.push_str("|\n");
    Ok(())
}

/// A figure with three significant digits, and with its digits in groups of three.
pub fn show(figure: f64) -> String {
    if figure < 10.0 {
        return format!("{figure:.2}");
    }
    if figure < 100.0 {
        return format!("{figure:.1}");
    }
    let digits = format!("{figure:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::show;

    #[test]
    fn figures_show_three_digits_and_groups() {
        let shown: Vec<_> = [0.034, 5.678, 56.78, 567.8, 5_678.0, 1_234_567.0].map(show).into();
        assert_eq!(shown, ["0.03", "5.68", "56.8", "568", "5 678", "1 234 567"]);
    }
}
