//! Figures, their bars, and how both are printed.
//!
//! In come series of measurements; out come a table for people and a JSON document for machines, made from the same rows.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bar {
    /// The ratio (or, without a peer, the figure) may not be above this.
    AtMost(f64),
    /// The ratio (or, without a peer, the figure) may not be below this.
    AtLeast(f64),
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    objects: usize,
    what: String,
    unit: &'static str,
    runs: Vec<f64>,
    /// The figure that this one is held against, and its name.
    peer: Option<(String, f64)>,
    bar: Option<Bar>,
}

impl Row {
    pub(super) fn new(objects: usize, what: &str, unit: &'static str, runs: Vec<f64>) -> Self {
        Self {
            objects,
            what: what.to_owned(),
            unit,
            runs,
            peer: None,
            bar: None,
        }
    }

    /// Held against another row: what counts is the ratio of the two medians.
    pub(super) fn against(mut self, peer: &Self) -> Self {
        self.peer = Some((peer.what.clone(), peer.median()));
        self
    }

    pub(super) fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    /// With a bar only where it is meant: at this number of objects.
    pub(super) fn bar_at(self, objects: usize, bar: Bar) -> Self {
        if self.objects == objects {
            self.bar(bar)
        } else {
            self
        }
    }

    /// With a bar only where it is meant: from this number of objects on.
    pub(super) fn bar_from(self, objects: usize, bar: Bar) -> Self {
        if self.objects >= objects {
            self.bar(bar)
        } else {
            self
        }
    }

    pub(super) fn median(&self) -> f64 {
        median(&self.runs)
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|(_, peer)| self.median() / peer)
    }

    fn met(&self) -> Option<bool> {
        let judged = self.ratio().unwrap_or_else(|| self.median());
        self.bar.map(|bar| match bar {
            Bar::AtMost(most) => judged <= most,
            Bar::AtLeast(least) => judged >= least,
        })
    }

    fn cells(&self) -> [String; 7] {
        let (least, most) = extremes(&self.runs);
        let bar = self.bar.map(|bar| match bar {
            Bar::AtMost(most) => format!("<= {}", short(most)),
            Bar::AtLeast(least) => format!(">= {}", short(least)),
        });
        let met = self.met().map(|met| if met { "met" } else { "MISSED" });
        [
            // No number where a figure is about none.
            Some(self.objects)
                .filter(|objects| *objects > 0)
                .map(|objects| objects.to_string())
                .unwrap_or_default(),
            self.what.clone(),
            format!("{} {}", short(self.median()), self.unit),
            format!("{} to {}", short(least), short(most)),
            self.ratio()
                .map(|ratio| format!("{} x", short(ratio)))
                .unwrap_or_default(),
            bar.unwrap_or_default(),
            met.unwrap_or_default().to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "objects": self.objects, "what": self.what, "unit": self.unit, "runs": self.runs, "median": self.median(),
            "against": self.peer.as_ref().map(|(name, _)| name), "ratio": self.ratio(),
            "atMost": match self.bar { Some(Bar::AtMost(most)) => Some(most), _ => None },
            "atLeast": match self.bar { Some(Bar::AtLeast(least)) => Some(least), _ => None },
            "met": self.met(),
        })
    }
}

/// The middle of a series; of an even number the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(below), Some(above)) if sorted.len().is_multiple_of(2) => f64::midpoint(*below, *above),
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

fn extremes(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
            (least.min(*value), most.max(*value))
        })
}

/// Three digits that count, no more than a noisy machine gives.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

const HEADINGS: [&str; 7] = ["OBJECTS", "WHAT", "MEDIAN", "RANGE", "RATIO", "BAR", ""];

/// The table, in Markdown, so that it can be put into a page as it is.
pub(super) fn table(rows: &[Row]) -> String {
    table_of(HEADINGS[0], rows)
}

/// The same with another heading over its first column.
pub(super) fn table_of(first: &str, rows: &[Row]) -> String {
    let mut cells: Vec<[String; 7]> = vec![HEADINGS.map(str::to_owned)];
    first.clone_into(&mut cells[0][0]);
    cells.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| {
            cells
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut lines: Vec<String> = cells
        .iter()
        .map(|row| {
            let padded = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            format!("| {} |", padded.collect::<Vec<_>>().join(" | "))
        })
        .collect();
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    lines.insert(1, format!("|{}|", rule.join("|")));
    lines.join("\n")
}

/// Writes all figures with what a reader needs to judge them.
pub(super) fn write_json(file: &Path, conditions: &Value, rows: &[Row]) -> Result<()> {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let document = json!({ "conditions": conditions, "figures": rows });
    let text = serde_json::to_string_pretty(&document)?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp)]
    fn the_median_is_the_middle() {
        for (values, middle) in [
            (vec![3.0], 3.0),
            (vec![3.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0], 2.5),
        ] {
            assert_eq!(median(&values), middle);
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_bar_is_judged_by_the_ratio_where_there_is_a_peer() {
        let limit = Row::new(28_000, "bare LIST", "s", vec![0.8, 0.7, 0.9]);
        let ours = Row::new(28_000, "backup", "s", vec![1.0]).against(&limit);
        assert_eq!(ours.clone().bar(Bar::AtMost(1.3)).met(), Some(true));
        assert_eq!(ours.clone().bar(Bar::AtMost(1.2)).met(), Some(false));
        assert_eq!(ours.clone().bar_at(3_000, Bar::AtMost(1.2)).met(), None);
        let memory = Row::new(28_000, "memory", "MiB", vec![48.5]);
        assert_eq!(memory.bar(Bar::AtMost(48.0)).met(), Some(false));
        let rate = Row::new(28_000, "restore", "objects/s", vec![90.0]);
        let loop_rate = Row::new(28_000, "create loop", "objects/s", vec![100.0]);
        assert_eq!(rate.against(&loop_rate).bar(Bar::AtLeast(0.85)).met(), Some(true));
    }

    #[test]
    fn the_table_shows_what_was_missed() {
        let limit = Row::new(28_000, "bare LIST", "s", vec![0.8]);
        let ours = Row::new(28_000, "backup", "s", vec![1.2])
            .against(&limit)
            .bar(Bar::AtMost(1.3));
        let text = table(&[limit, ours]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[3].contains("1.50 x") && lines[3].contains("<= 1.30") && lines[3].contains("MISSED"),
            "{text}"
        );
        let widths: Vec<usize> = lines.iter().map(|line| line.len()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    }
}
