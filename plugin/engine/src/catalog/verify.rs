//! Whether a stored backup is still, bit for bit, what was written, and whole.
//!
//! In comes an open backup; out goes a report with one finding for everything that is wrong. For our backups: the seal
//! of the digests, the digest of every file and member, every object against its index entry, the index against the
//! archive in both directions, and the counts of the outcome and the names of the resource list against both. For
//! backups that Velero wrote there is nothing to compare bits with: gzip, tar and every object must be sound, and a
//! resource list that disagrees is noted. Everything is streamed; memory holds one member and one run of the spool.
//! Storage faults are errors, damage is a finding. Later code may rely on a sound report meaning that every object can
//! be read back. Notes are decisions made later and stand outside the digests: only their form is checked.

mod archive;
mod files;
mod index;
mod tally;
mod volumes;

pub use self::volumes::{read_volumes, volumes_are_there};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{error::CatalogError, open::OpenBackup};
use crate::progress::Progress;

/// Findings that are kept; more are only counted.
const FINDINGS_MAX: usize = 1000;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files that were read from end to end.
    pub checked_files: u64,
    /// Gzip members of the archive that were inflated and compared; 0 for a backup without digests.
    pub checked_members: u64,
    /// Objects that were parsed.
    pub checked_objects: u64,
    /// Everything that is wrong or odd, at most 1000.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more_findings: u64,
    /// Whether this tool did not write the backup, so that there are no digests to compare with.
    pub foreign: bool,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something is lost or changed.
    Damage,
    /// Worth knowing; nothing is lost.
    Note,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// File, member or object.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
}

impl VerifyReport {
    /// Whether nothing is lost or changed.
    pub fn is_sound(&self) -> bool {
        self.more_findings == 0 && self.findings.iter().all(|finding| finding.level == Level::Note)
    }
}

/// Collects findings up to the bound.
#[derive(Debug, Default)]
struct Findings {
    kept: Vec<Finding>,
    more: u64,
}

impl Findings {
    fn add(&mut self, level: Level, what: impl Into<String>, problem: impl Into<String>) {
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push(Finding {
                level,
                what: what.into(),
                problem: problem.into(),
            });
        } else {
            // A note beyond the bound counts as damage does: nobody can read which it was.
            self.more += 1;
        }
    }

    fn damage(&mut self, what: impl Into<String>, problem: impl Into<String>) {
        self.add(Level::Damage, what, problem);
    }

    fn note(&mut self, what: impl Into<String>, problem: impl Into<String>) {
        self.add(Level::Note, what, problem);
    }

    fn append(&mut self, other: Self) {
        for finding in other.kept {
            self.add(finding.level, finding.what, finding.problem);
        }
        self.more += other.more;
    }

    fn has_damage(&self) -> bool {
        self.more > 0 || self.kept.iter().any(|finding| finding.level == Level::Damage)
    }

    /// Takes damage as a finding and lets everything else through.
    fn catch<T>(&mut self, what: &str, result: Result<T, CatalogError>) -> Result<Option<T>, CatalogError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_damage() => {
                self.damage(what, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Checks one backup from end to end.
///
/// # Errors
/// Storage faults and interruption; damage is in the report.
pub async fn verify(
    open: &OpenBackup,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<VerifyReport, CatalogError> {
    let foreign = !open.was_written_by_us();
    let mut findings = Findings::default();
    progress.set_total_bytes(open.size());
    progress.set_step("checking files");
    let digests = findings
        .catch(&open.keys().digests(), open.digests().await)?
        .flatten();
    if !foreign && !open.is_ours() {
        for key in [open.keys().index(), open.keys().digests()] {
            if open.file(&key).is_none() {
                findings.damage(
                    &key,
                    "it is missing, so that this backup cannot be compared with what was written",
                );
            }
        }
    }
    let mut checked_files = files::check(open, digests.as_ref(), &mut findings, progress, cancel).await?;
    progress.set_step("checking the archive");
    let (archive, found) = archive::check(open, digests, progress, cancel).await?;
    checked_files += u64::from(archive.is_some());
    let archive_is_sound = !found.has_damage();
    findings.append(found);
    let mut report = VerifyReport {
        checked_files,
        foreign,
        ..VerifyReport::default()
    };
    if let Some(archive) = archive {
        report.checked_members = archive.members;
        report.checked_objects = archive.tally.objects();
        // What a damaged archive does not yield would be found missing once more in every list.
        if archive_is_sound {
            progress.set_step("comparing index and archive");
            tally::compare(open, &archive.tally, foreign, &mut findings, progress, cancel).await?;
            index::compare(open, archive, &mut findings, cancel).await?;
        }
    }
    report.findings = findings.kept;
    report.more_findings = findings.more;
    Ok(report)
}

#[cfg(test)]
mod tests;
