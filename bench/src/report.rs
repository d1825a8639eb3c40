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
    "counterpart /s",
    "ratio",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "CPU µs: idem",
    "CPU µs: PostgreSQL",
];

impl Report {
    /// The results as Markdown. In a pair of figures, idem's is the left one.
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
