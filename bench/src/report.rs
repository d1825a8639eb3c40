//! What comes out: a table to read, and everything as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::measure::Sample;

/// All of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// On what.
    pub machine: Machine,
    /// Versions and settings.
    pub versions: Vec<(String, String)>,
    /// How long and how often.
    pub seconds: u64,
    /// How long and how often.
    pub rounds: u32,
    /// Work beside the same work.
    pub rows: Vec<Row>,
    /// Single figures.
    pub facts: Vec<Fact>,
}

/// One kind of work, ours beside theirs.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Of which scenario.
    pub scenario: &'static str,
    /// Which of its kinds.
    pub variant: String,
    /// What is counted.
    pub item: &'static str,
    /// Our server.
    pub ours: Side,
    /// pgbench or psql, where there is a counterpart.
    pub theirs: Option<Side>,
    /// Rate of ours by rate of theirs, of the medians.
    pub ratio: Option<f64>,
}

/// One side of it.
#[derive(Debug, Serialize)]
pub struct Side {
    /// The median of each figure.
    pub median: Sample,
    /// Each measurement, in turn with the other side.
    pub samples: Vec<Sample>,
}

/// A figure by itself.
#[derive(Debug, Serialize)]
pub struct Fact {
    /// Of which scenario.
    pub scenario: &'static str,
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

impl Side {
    /// `None` when nothing was measured.
    pub fn new(samples: Vec<Sample>) -> Option<Self> {
        Sample::median(&samples).map(|median| Self { median, samples })
    }
}

impl Row {
    /// Puts two sides beside each other.
    pub fn new(
        scenario: &'static str,
        variant: String,
        item: &'static str,
        ours: Side,
        theirs: Option<Side>,
    ) -> Self {
        let ratio = theirs.as_ref().map(|theirs| ours.median.rate / theirs.median.rate);
        Self { scenario, variant, item, ours, theirs, ratio }
    }

    fn cells(&self) -> Vec<String> {
        let (ours, theirs) = (&self.ours.median, self.theirs.as_ref().map(|side| &side.median));
        let pair = |figure: fn(&Sample) -> Option<f64>| {
            let [ours, theirs] =
                [Some(ours), theirs].map(|side| side.and_then(figure).map_or("–".into(), show));
            format!("{ours} / {theirs}")
        };
        vec![
            format!("`{}` {}", self.scenario, self.variant),
            self.item.to_owned(),
            show(ours.rate),
            theirs.map_or("–".into(), |side| show(side.rate)),
            self.ratio.map_or("–".into(), |ratio| format!("{ratio:.2}")),
            pair(|side| side.p50_ms),
            pair(|side| side.p95_ms),
            pair(|side| side.p99_ms),
            ours.server_us.map_or("–".into(), show),
            pair(|side| (side.postgres_us > 0.0).then_some(side.postgres_us)),
        ]
    }
}

const HEAD: [&str; 10] = [
    "work",
    "item",
    "idem /s",
    "beside it /s",
    "ratio",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "CPU µs: idem",
    "CPU µs: PostgreSQL",
];

impl Report {
    /// As Markdown; left is idem's, right is the other side's.
    pub fn table(&self) -> anyhow::Result<String> {
        let machine = &self.machine;
        let mut text = format!(
            "{} × {}, {} GiB, Linux {}, load before it {}; medians of {} × {} s\n\n",
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
            write_row(&mut text, &["what", "how much"])?;
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

/// Three digits that count, and groups of three.
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
