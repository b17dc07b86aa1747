//! What a person sees: headings, commands as typed, and their output.
//!
//! Every command is printed and then really run through kubectl; one that does not do what it should ends the demo with
//! all that it printed.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cluster::Cluster;
use crate::plugin::Plugin;

/// Lines of one command's output that are shown.
const LINES: usize = 16;

/// The terminal, or whatever stdout is.
#[derive(Debug)]
pub(super) struct Screen {
    paced: bool,
    colour: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            paced: terminal,
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// A line of text. A reader that went away is no reason to stop comparing.
    #[allow(clippy::unused_self)]
    pub(super) fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Begins a step: what happens now, in one sentence.
    pub(super) fn step(&self, sentence: &str) {
        self.pause(600);
        self.line("");
        self.line(&self.strong(&format!("# {sentence}")));
    }

    /// Runs `kubectl backup ...`.
    pub(super) fn backup(&self, plugin: &Plugin, arguments: &[&str]) -> Result<()> {
        self.command("kubectl backup", arguments);
        let ran = plugin.via_kubectl(arguments)?;
        self.output(&ran.stderr);
        self.output(&ran.stdout);
        if ran.code != 0 {
            bail!("wanted exit code 0: {ran}");
        }
        Ok(())
    }

    /// Runs `kubectl ...`.
    pub(super) fn kubectl(&self, cluster: &Cluster, arguments: &[&str]) -> Result<()> {
        self.command("kubectl", arguments);
        let printed = cluster.kubectl_ok(arguments)?;
        self.output(&printed);
        Ok(())
    }

    /// Runs `kubectl ...`, which must be refused.
    pub(super) fn refused(&self, cluster: &Cluster, arguments: &[&str]) -> Result<()> {
        self.command("kubectl", arguments);
        let output = cluster.kubectl(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        self.output(&said);
        if output.status.success() {
            bail!("kubectl {} was not refused", arguments.join(" "));
        }
        Ok(())
    }

    fn command(&self, program: &str, arguments: &[&str]) {
        self.pause(300);
        let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        self.line(&self.strong(&format!("$ {program} {}", words.join(" "))));
        self.pause(200);
    }

    fn output(&self, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        // One line more is no longer than the line that says so.
        let shown = if lines.len() <= LINES + 1 {
            lines.len()
        } else {
            LINES
        };
        for line in lines.iter().take(shown) {
            self.line(line);
        }
        if shown < lines.len() {
            self.line(&format!("... {} more lines", lines.len() - shown));
        }
    }

    fn strong(&self, text: &str) -> String {
        if self.colour {
            format!("\x1b[1m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Only for eyes: a file or a pipe needs no time to read.
    fn pause(&self, milliseconds: u64) {
        if self.paced {
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
    }
}

/// A word as it must be typed in a shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_needs_it() {
        for (word, typed) in [
            ("secret/login", "secret/login"),
            ("shop:shop-test", "shop:shop-test"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            (r#"{"a":null}"#, r#"'{"a":null}'"#),
        ] {
            assert_eq!(quoted(word), typed);
        }
    }
}
