//! Everything that is printed.
//!
//! In come results of the engine; out go tables, documents and descriptions on stdout, and progress, warnings and errors
//! on stderr. Stdout never holds anything but the result, so that it can be piped. Texts that came from a cluster or a
//! bucket pass through [`plain`]: they cannot steer a terminal.

pub(crate) mod describe;
pub(crate) mod document;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod yaml;

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, BufWriter, StdoutLock, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use backup_plan::human;
use jiff::Timestamp;
use velero_model::time;

use crate::exit::Failure;

/// Stdout, buffered. Flush it: an error at the end counts too.
pub(crate) fn out() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// Prints one piece of text on stdout.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints names for `-o name`: `backup/nightly`, a line each.
pub(crate) fn names<N: Display>(kind: &str, names: impl Iterator<Item = N>) -> io::Result<()> {
    let mut out = out();
    for name in names {
        writeln!(out, "{kind}/{name}")?;
    }
    out.flush()
}

/// Prints one line on stderr. Whether anybody reads it changes nothing.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", plain(line));
}

/// Prints a warning on stderr.
pub(crate) fn warn(line: &str) {
    labelled("warning:", AnsiColor::Yellow, &format!(" {}\n", plain(line)));
}

/// Prints a failure on stderr.
pub(crate) fn fail(failure: &Failure) {
    let text = failure.text();
    labelled(
        "error:",
        AnsiColor::Red,
        text.strip_prefix("error:").unwrap_or(&text),
    );
}

fn labelled(label: &str, color: AnsiColor, text: &str) {
    let style = Style::new().bold().fg_color(Some(color.into()));
    let mut stderr = anstream::stderr().lock();
    let _ = write!(stderr, "{style}{label}{style:#}{text}");
}

/// The text without control characters, which could move a terminal's cursor or hide what stands before.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(
            text.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// A time for a table: RFC 3339, or `<unknown>`.
pub(crate) fn when(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "<unknown>".to_owned(), time::format)
}

/// A time for a document.
pub(crate) fn timestamp(at: Option<Timestamp>) -> Option<String> {
    at.map(time::format)
}

/// How long is left: `29d`, `never`, `expired`.
pub(crate) fn expires(at: Option<Timestamp>, now: Timestamp) -> String {
    match at {
        None => "never".to_owned(),
        Some(at) if at <= now => "expired".to_owned(),
        Some(at) => human::age(at.as_millisecond().saturating_sub(now.as_millisecond())),
    }
}

/// How long something took: tenths below ten seconds, then as kubectl prints ages.
pub(crate) fn took(time: Duration) -> String {
    let milliseconds = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    if milliseconds < 10_000 {
        format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100)
    } else {
        human::age(milliseconds)
    }
}

/// Whether a warning only repeats what the line about claims says.
pub(crate) fn is_about_claims(warning: &str) -> bool {
    warning.ends_with("claims: manifests only, no data")
}

/// `1 object`, `2 objects`.
pub(crate) fn count(number: u64, singular: &str) -> String {
    if number == 1 {
        format!("1 {singular}")
    } else {
        format!("{number} {singular}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn expiry_as_time_left() {
        let now = at("2026-11-22T01:00:00Z");
        let table = [
            (None, "never"),
            (Some("2026-11-22T01:00:00Z"), "expired"),
            (Some("2026-11-21T01:00:00Z"), "expired"),
            (Some("2026-12-22T01:00:00Z"), "30d"),
            (Some("2026-11-22T01:01:30Z"), "90s"),
        ];
        for (time, expected) in table {
            assert_eq!(expires(time.map(at), now), expected, "{time:?}");
        }
    }

    #[test]
    fn durations_of_runs() {
        for (milliseconds, expected) in [
            (0, "0.0s"),
            (940, "0.9s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (330_000, "5m30s"),
        ] {
            assert_eq!(took(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(plain("a\x1b[2Jb\nc\u{9b}d"), "a [2Jb c d");
        assert!(matches!(plain("straße 日本"), Cow::Borrowed(_)));
    }
}
