//! Whether a repository is whole, as deep as is asked for.
//!
//! In comes a depth; out go findings, a line each. At every depth indexes, trees and the presence of packs are looked at; with
//! data, packs are read, decrypted and hashed.

use std::collections::BTreeSet;

use rustic_core::{CheckOptions, CheckResults, ReadSubsetOption};

use super::{Repository, RepositoryError};

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Structure alone.
    Structure,
    /// About so many of a hundred bytes of data, chosen at random.
    Percent(f64),
    /// All of it.
    Data,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is damaged.
    pub errors: Vec<String>,
    /// What is odd and hurts nothing.
    pub warnings: Vec<String>,
    /// Packs that are damaged, by id: what [`Repository::hurt_by`] asks for.
    pub packs: BTreeSet<String>,
}

impl Repository {
    /// Looks.
    ///
    /// # Errors
    /// When it cannot be looked at; damage is in the result.
    pub fn check(self, depth: Depth) -> Result<Findings, RepositoryError> {
        let found = self
            .rustic
            .check(options(depth))
            .map_err(|error| self.fail(&error))?;
        Ok(sort(found))
    }

    /// Looks at what one snapshot needs, and at nothing else but the presence of all packs.
    ///
    /// # Errors
    /// As [`Self::check`], and [`RepositoryError::NoSnapshot`].
    pub fn check_snapshot(&self, id: &str, depth: Depth) -> Result<Findings, RepositoryError> {
        let snapshot = self.find(id)?;
        let found = self
            .rustic
            .check_with_trees(options(depth), vec![snapshot.tree])
            .map_err(|error| self.fail(&error))?;
        Ok(sort(found))
    }
}

fn options(depth: Depth) -> CheckOptions {
    let subset = match depth {
        Depth::Percent(percent) => ReadSubsetOption::Percentage(percent),
        Depth::Structure | Depth::Data => ReadSubsetOption::All,
    };
    CheckOptions::default()
        .read_data(depth != Depth::Structure)
        .read_data_subset(subset)
}

fn sort(found: CheckResults) -> Findings {
    let mut findings = Findings::default();
    for (level, error) in found.0 {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().to_owned();
        // Its two levels are not public; their names are.
        if format!("{level:?}") == "Error" {
            findings.packs.extend(pack(&line, &format!("{error:?}")));
            findings.errors.push(line);
        } else {
            findings.warnings.push(line);
        }
    }
    findings
}

/// The pack that an error is about. rustic_core's errors have no public names; their words have a short id, and what they
/// print for developers has the whole one.
fn pack(line: &str, debug: &str) -> Option<String> {
    let (_, after) = debug.split_once("id: ").filter(|_| line.contains("pack "))?;
    let id = after.strip_prefix("PackId(").unwrap_or(after).get(..64)?;
    id.bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| id.to_owned())
}
