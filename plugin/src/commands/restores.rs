//! `restores list|describe|logs|delete`: records of restores, in the location and, where that could not be written, on
//! this machine; and, in the list, what only a running Velero knows of.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
};

use backup_engine::{
    catalog::{self, ListedRestore},
    storage::{Bucket, folder::Folder},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use velero_model::{
    api_object::DownloadTargetKind as File, name::BackupName, phase::Phase, restore_record::RestoreRecord,
    time,
};

use super::{
    describe::hook_lines,
    logs as backup_logs, restore,
    velero::{self, list::RestoreObject},
};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view::{self, describe::Description, document, table::Table},
};

/// The places that may hold records: the location first.
async fn places(session: &Session, place: &Place) -> Result<Vec<Arc<dyn Bucket>>, Failure> {
    let mut places = vec![session.open(place).await?.bucket];
    if let Some(folder) = session
        .common
        .records_folder
        .as_ref()
        .filter(|folder| folder.is_dir())
    {
        places.push(Arc::new(Folder::new(folder, false)));
    }
    Ok(places)
}

/// Every stored restore with the place that holds it.
async fn all(session: &Session, place: &Place) -> Result<Vec<(Arc<dyn Bucket>, ListedRestore)>, Failure> {
    let mut found: Vec<(Arc<dyn Bucket>, ListedRestore)> = Vec::new();
    for bucket in places(session, place).await? {
        for restore in session.unless_interrupted(catalog::restores(&bucket)).await? {
            found.push((Arc::clone(&bucket), restore));
        }
    }
    Ok(found)
}

async fn one(
    session: &Session,
    place: &Place,
    name: &BackupName,
) -> Result<(Arc<dyn Bucket>, ListedRestore), Failure> {
    let mut found = all(session, place).await?.into_iter();
    found.find(|(_, restore)| restore.name == *name).ok_or_else(|| {
        Failure::NotFound(format!(
            "there is no restore {name}; `kubectl backup restores list` shows what is there"
        ))
    })
}

/// A restore in the list.
struct Row {
    restore: ListedRestore,
    /// Velero's object of it.
    object: Option<RestoreObject>,
}

impl Row {
    fn started(&self) -> Option<Timestamp> {
        match (&self.restore.record, &self.object) {
            (Some(record), _) => record.started,
            (None, Some(object)) => object.run.status.start_timestamp,
            (None, None) => None,
        }
    }

    fn json(&self) -> Value {
        let restore = &self.restore;
        let object = self.object.as_ref().map(|object| {
            let status = &object.run.status;
            json!({
                "backup": object.backup, "status": status.phase_word(), "errors": status.errors, "warnings": status.warnings,
                "started": status.start_timestamp.map(time::format), "completed": status.completion_timestamp.map(time::format),
            })
        });
        json!({
            "name": restore.name, "record": restore.record, "running": restore.running,
            "interrupted": restore.is_interrupted(), "velero": object,
        })
    }
}

/// What is stored, and what only Velero knows of: restores that are under way or were refused. The cluster is asked at the
/// same time and only briefly, since most lists need none.
async fn rows(session: &Session, place: &Place) -> Result<Vec<Row>, Failure> {
    let (stored, objects) = tokio::join!(all(session, place), velero::list::restores(session, place));
    let stored = match (stored, &objects) {
        (Ok(stored), _) => stored,
        (Err(failure), Some(_)) if velero::read::is_out_of_reach(&failure) => {
            velero::read::through_velero(&failure);
            Vec::new()
        }
        (Err(failure), _) => return Err(failure),
    };
    let mut rows: Vec<Row> = stored
        .into_iter()
        .map(|(_, restore)| Row {
            restore,
            object: None,
        })
        .collect();
    for object in objects.map(|(objects, _)| objects).unwrap_or_default() {
        // A record of ours says what is to be known of a restore of ours, whoever else has used its name.
        match rows.iter_mut().find(|row| row.restore.name == object.name) {
            Some(row) if row.restore.record.is_some() => {}
            Some(row) => row.object = Some(object),
            None => rows.push(Row {
                restore: ListedRestore {
                    name: object.name.clone(),
                    record: None,
                    running: None,
                },
                object: Some(object),
            }),
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.started()));
    Ok(rows)
}

pub(crate) async fn list(session: &Session, place: &Place) -> Result<Exit, Failure> {
    let restores = Box::pin(rows(session, place)).await?;
    match session.common.output {
        OutputFormat::Name => {
            view::names("restore", restores.iter().map(|row| &row.restore.name))?;
        }
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let results: Vec<Value> = restores.iter().map(Row::json).collect();
            document::write(&mut view::out(), format, "RestoreList", &results)?;
        }
        format => table(&restores, format == OutputFormat::Wide).write(&mut view::out())?,
    }
    if restores.is_empty() {
        view::say("no restores");
    }
    Ok(Exit::Done)
}

fn table(restores: &[Row], wide: bool) -> Table {
    let mut headings = vec![
        "NAME",
        "BACKUP",
        "STATUS",
        "STARTED",
        "COMPLETED",
        "ERRORS",
        "WARNINGS",
    ];
    if wide {
        headings.push("CLUSTER");
    }
    let mut table = Table::new(&headings);
    for Row { restore, object } in restores {
        let unknown = || "<unknown>".to_owned();
        let mut row = vec![restore.name.to_string()];
        match (&restore.record, object) {
            (Some(record), _) => row.extend([
                record.backup.clone(),
                phase(restore, record),
                view::when(record.started),
                record.completed.map(time::format).unwrap_or_default(),
                record.errors.to_string(),
                record.warnings.to_string(),
            ]),
            (None, Some(object)) => {
                let status = &object.run.status;
                row.extend([
                    object.backup.clone(),
                    status.phase_word().to_owned(),
                    view::when(status.start_timestamp),
                    status.completion_timestamp.map(time::format).unwrap_or_default(),
                    status.errors.to_string(),
                    status.warnings.to_string(),
                ]);
            }
            (None, None) => row.extend(std::iter::repeat_with(unknown).take(6)),
        }
        if wide {
            row.push(
                restore
                    .record
                    .as_ref()
                    .map_or_else(unknown, |record| record.target_cluster_name.clone()),
            );
        }
        table.push(row);
    }
    table
}

pub(crate) async fn describe(session: &Session, place: &Place, name: &BackupName) -> Result<Exit, Failure> {
    let (bucket, restore) = match one(session, place, name).await {
        Ok(found) => found,
        Err(failure) => {
            let files = [File::RestoreResults];
            return match velero::read::restore(session, place, name, &files, &failure).await? {
                Some(found) => veleros(session, name, &found).await,
                None => Err(failure),
            };
        }
    };
    let results = session
        .unless_interrupted(catalog::restore_results(&bucket, name))
        .await?;
    match session.common.output {
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let result = json!({
                "name": name, "record": restore.record, "running": restore.running,
                "interrupted": restore.is_interrupted(), "results": results,
            });
            document::write(&mut view::out(), format, "RestoreDescription", &result)?;
        }
        _ => {
            let mut text = Description::default();
            text.field("Name", name.to_string());
            match &restore.record {
                Some(record) => facts(&mut text, &restore, record),
                None => {
                    text.field("Record", "none of ours: this restore was made by Velero");
                }
            }
            if let Some(results) = &results {
                text.blank();
                text.list("Errors", results.errors.iter().map(str::to_owned));
                text.list("Warnings", results.warnings.iter().map(str::to_owned));
            }
            view::print(&text.text())?;
            if let Some(record) = &restore.record {
                view::print("\n")?;
                restore::kinds(record).write(&mut view::out())?;
            }
        }
    }
    Ok(Exit::Done)
}

/// A restore of which only Velero knows.
async fn veleros(
    session: &Session,
    name: &BackupName,
    found: &velero::read::ReadableRestore,
) -> Result<Exit, Failure> {
    let status = &found.run().status;
    let results = session
        .unless_interrupted(catalog::restore_results(&found.bucket, name))
        .await?;
    let reasons = velero::reasons(found.run());
    if let format @ (OutputFormat::Json | OutputFormat::Yaml) = session.common.output {
        let result = json!({
            "name": name, "engine": "velero", "status": status.phase_word(), "reasons": reasons, "results": results,
        });
        document::write(&mut view::out(), format, "RestoreDescription", &result)?;
        return Ok(Exit::Done);
    }
    let progress = status.progress.unwrap_or_default();
    let mut text = Description::default();
    text.field("Name", name.to_string());
    text.field("Phase", status.phase_word());
    text.beside("Reasons", reasons);
    text.field(
        "Started",
        status.start_timestamp.map(time::format).unwrap_or_default(),
    );
    text.field(
        "Completed",
        status.completion_timestamp.map(time::format).unwrap_or_default(),
    );
    text.field(
        "Items restored",
        format!("{} of {}", progress.items_restored, progress.total_items),
    );
    text.field("Written by", "Velero");
    let results = results.unwrap_or_default();
    text.blank();
    text.list("Errors", results.errors.iter().map(str::to_owned));
    text.list("Warnings", results.warnings.iter().map(str::to_owned));
    view::print(&text.text())?;
    Ok(Exit::Done)
}

/// The phase, unless the restore broke off without a word.
fn phase(restore: &ListedRestore, record: &RestoreRecord) -> String {
    if restore.is_interrupted() {
        "Interrupted".to_owned()
    } else {
        record.phase.to_string()
    }
}

fn facts(text: &mut Description, restore: &ListedRestore, record: &RestoreRecord) {
    text.field("Phase", phase(restore, record));
    if let Some(claim) = &restore.running {
        text.field("Running on", format!("{}, run {}", claim.host, claim.run_id));
    } else if record.phase != Phase::Completed {
        let next = format!(
            "the same restore with --name {} goes on where it stopped",
            record.name
        );
        text.field("Next", next);
    }
    text.field("Backup", record.backup.clone());
    text.field(
        "Cluster",
        format!("{}, {}", record.target_cluster_name, record.target_cluster_uid),
    );
    text.field("Started", record.started.map(time::format).unwrap_or_default());
    text.field(
        "Completed",
        record.completed.map(time::format).unwrap_or_default(),
    );
    text.field("Written by", format!("kubectl-backup {}", record.tool_version));
    if !record.hooks.is_empty() {
        text.list("Hooks", hook_lines(&record.hooks));
    }
    text.blank();
    text.heading("Request");
    for (key, value) in record.request.as_object().into_iter().flatten() {
        let value = match value {
            Value::String(value) => value.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        text.inner(key, value);
    }
}

pub(crate) async fn logs(session: &Session, place: &Place, name: &BackupName) -> Result<Exit, Failure> {
    // Holds the folder of what was fetched until it is printed.
    let fetched;
    let bucket = match one(session, place, name).await {
        Ok((bucket, _)) => bucket,
        Err(failure) => {
            let files = [File::RestoreLog];
            let found = velero::read::restore(session, place, name, &files, &failure).await?;
            fetched = found.ok_or(failure)?;
            Arc::clone(&fetched.bucket)
        }
    };
    let Some(log) = session
        .unless_interrupted(catalog::restore_logs(&bucket, name))
        .await?
    else {
        return Err(Failure::NotFound(format!(
            "restore {name} has no log; `kubectl backup restores describe {name}` shows the rest"
        )));
    };
    backup_logs::print(session, log).await?;
    Ok(Exit::Done)
}

pub(crate) async fn delete(session: &Session, place: &Place, names: &[BackupName]) -> Result<Exit, Failure> {
    if !session.common.yes && !io::stdin().is_terminal() {
        return Err(Failure::Refused(
            "records of restores would be deleted; give --yes".to_owned(),
        ));
    }
    let mut exit = Exit::Done;
    for name in names {
        let (bucket, _) = one(session, place, name).await?;
        let purged = session
            .unless_interrupted(catalog::delete_restore(&bucket, name))
            .await?;
        for line in purged.locked.iter().chain(&purged.failures) {
            view::warn(line);
        }
        if !purged.is_complete() {
            exit = exit.and(Exit::DoneWithErrors);
        }
        view::print(&format!("restore/{name} deleted\n"))?;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restores_of_velero_are_listed_by_name() {
        let restores = [Row {
            restore: ListedRestore {
                name: BackupName::parse("theirs").unwrap(),
                record: None,
                running: None,
            },
            object: None,
        }];
        let mut out = Vec::new();
        table(&restores, true).write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("NAME     BACKUP      STATUS"), "{text}");
        assert!(text.contains("theirs   <unknown>"), "{text}");
    }
}
