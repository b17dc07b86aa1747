//! `delete`: removes backups for good, once a person has said which.

use std::io::{self, IsTerminal};

use backup_engine::catalog::{self, DeleteOptions, DeleteSummary, Purged};
use backup_plan::human;
use serde_json::{Value, json};
use velero_model::name::BackupName;

use super::velero;
use crate::{
    arguments::global::OutputFormat,
    engine::{self, Cluster, Engine},
    exit::{Exit, Failure},
    request::Place,
    session::{Opened, Session},
    view::{self, count, document},
};

/// What a deletion may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) force: bool,
    pub(crate) leave_volume_data: bool,
    pub(crate) dry_run: bool,
}

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    names: &[BackupName],
    options: Options,
) -> Result<Exit, Failure> {
    if !options.dry_run {
        if !session.common.yes && !io::stdin().is_terminal() {
            return Err(needs_yes(names));
        }
        let chosen = engine::choose(session, place, Cluster::IfThere).await?;
        view::say(&format!("deleting {}: {}", listed(names), chosen.words));
        if let Engine::Velero(driven) = chosen.engine {
            return velero::delete::run(session, place, names, options, &driven).await;
        }
        engine::must_wait(session)?;
    }
    let opened = session.open(place).await?;
    let mut exit = Exit::Done;
    let mut results = Vec::new();
    for name in names {
        match one(session, &opened, name, options).await {
            Ok((result, ended)) => {
                results.push(result);
                exit = exit.and(ended);
            }
            Err(failure @ (Failure::Output(_) | Failure::Interrupted)) => return Err(failure),
            // One that cannot be deleted does not protect the others.
            Err(failure) => {
                view::fail(&failure);
                exit = exit.and(failure.exit());
            }
        }
    }
    let format = session.common.output;
    if matches!(format, OutputFormat::Json | OutputFormat::Yaml) {
        document::write(&mut view::out(), format, "DeletionList", &results)?;
    }
    Ok(exit)
}

/// Nobody is there who could be asked.
fn needs_yes(names: &[BackupName]) -> Failure {
    Failure::Refused(format!(
        "{} would be deleted for good; give --yes, or run this on a terminal",
        listed(names)
    ))
}

pub(super) fn listed(names: &[BackupName]) -> String {
    names
        .iter()
        .map(|name| format!("backup {name}"))
        .collect::<Vec<_>>()
        .join(", ")
}

async fn one(
    session: &Session,
    opened: &Opened,
    name: &BackupName,
    options: Options,
) -> Result<(Value, Exit), Failure> {
    let location = opened.bucket.describe();
    if options.dry_run {
        return preview(session, opened, name).await;
    }
    if !session.common.yes {
        confirm(session, name, &location).await?;
    }
    let engine_options = DeleteOptions {
        leave_volume_data: options.leave_volume_data,
        force: options.force,
    };
    let summary = session
        .unless_interrupted(catalog::delete(&opened.bucket, name, &engine_options))
        .await?;
    for line in lines(&summary) {
        view::warn(&line);
    }
    match session.common.output {
        OutputFormat::Json | OutputFormat::Yaml => {}
        OutputFormat::Name => view::print(&format!("backup/{name}\n"))?,
        OutputFormat::Table | OutputFormat::Wide => {
            view::print(&format!("backup/{name} {}\n", done(&summary.purged, &location)))?;
        }
    }
    let exit = if summary.is_complete() {
        Exit::Done
    } else {
        Exit::DoneWithErrors
    };
    Ok((result(&summary), exit))
}

async fn preview(session: &Session, opened: &Opened, name: &BackupName) -> Result<(Value, Exit), Failure> {
    let backup = session
        .unless_interrupted(catalog::open(&opened.bucket, name))
        .await?;
    let files = backup.files().len() as u64;
    match session.common.output {
        OutputFormat::Json | OutputFormat::Yaml => {}
        OutputFormat::Name => view::print(&format!("backup/{name}\n"))?,
        OutputFormat::Table | OutputFormat::Wide => view::print(&format!(
            "backup/{name} would be deleted from {} ({}, {})\n",
            opened.bucket.describe(),
            count(files, "file"),
            human::bytes(backup.size())
        ))?,
    }
    Ok((
        json!({ "name": name, "dryRun": true, "files": files, "bytes": backup.size() }),
        Exit::Done,
    ))
}

/// Asks for the name on the terminal.
pub(super) async fn confirm(session: &Session, name: &BackupName, location: &str) -> Result<(), Failure> {
    let question = format!("backup {name} in {location} will be deleted for good; type its name to go on:");
    if session.ask(&question).await? == name.as_str() {
        Ok(())
    } else {
        Err(Failure::Refused(format!(
            "backup {name} is kept: its name was not typed"
        )))
    }
}

/// What became of it. Versions that a lock keeps are hidden by the deletion, not removed.
fn done(purged: &Purged, location: &str) -> String {
    if purged.locked.is_empty() {
        let files = count(purged.keys, "file");
        format!(
            "deleted from {location} ({files}, {})",
            human::bytes(purged.bytes)
        )
    } else {
        let locked = count(purged.locked.len() as u64, "version");
        format!("hidden in {location}; a lock keeps {locked} of its files")
    }
}

/// What is left behind, a line each.
pub(super) fn lines(summary: &DeleteSummary) -> Vec<String> {
    let name = &summary.name;
    let mut lines = Vec::new();
    lines.extend(
        summary
            .purged
            .locked
            .iter()
            .map(|line| format!("kept by its lock: {line}")),
    );
    lines.extend(
        summary
            .purged
            .failures
            .iter()
            .map(|line| format!("left behind: {line}")),
    );
    lines.extend(summary.purged.warnings.iter().cloned());
    lines.extend(
        summary
            .volume_data_left
            .iter()
            .map(|volume| format!("volume data stays: {volume}")),
    );
    if !summary.restores_left.is_empty() {
        let names: Vec<_> = summary.restores_left.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "restores without a record of ours stay, because it is not known whether they are of backup {name}: {}",
            names.join(", ")
        ));
    }
    if !summary.purged.locked.is_empty() {
        lines.push(
            "what a lock keeps stays hidden; remove it with the store's own tools when the lock has run out"
                .to_owned(),
        );
    }
    if !summary.purged.failures.is_empty() {
        lines.push(format!(
            "run `kubectl backup delete {name}` again to finish; nobody sees the backup any more"
        ));
    }
    lines
}

pub(super) fn result(summary: &DeleteSummary) -> Value {
    json!({
        "name": summary.name,
        "files": summary.purged.keys,
        "bytes": summary.purged.bytes,
        "versions": summary.purged.versions,
        "uploads": summary.purged.uploads,
        "restores": summary.restores,
        "complete": summary.is_complete(),
        "locked": summary.purged.locked,
        "failures": summary.purged.failures,
        "warnings": summary.purged.warnings,
        "restoresLeft": summary.restores_left,
        "volumeDataLeft": summary.volume_data_left,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_named() {
        let mut summary = DeleteSummary {
            name: "nightly".into(),
            ..DeleteSummary::default()
        };
        assert!(lines(&summary).is_empty());
        assert_eq!(
            done(&summary.purged, "s3://b"),
            "deleted from s3://b (0 files, 0B)"
        );
        summary.purged.locked.push("a version is locked".into());
        assert_eq!(
            done(&summary.purged, "s3://b"),
            "hidden in s3://b; a lock keeps 1 version of its files"
        );
        summary.purged.failures.push("access denied".into());
        summary.restores_left.push(BackupName::parse("r").unwrap());
        let text = lines(&summary).join("\n");
        assert!(text.contains("left behind: access denied"), "{text}");
        assert!(
            text.contains("backup nightly: r") && text.contains("delete nightly` again"),
            "{text}"
        );
    }
}
