//! `location maintain`: frees what no snapshot of a volume needs any more.
//!
//! In comes a location; out goes a line for each of its volume repositories. Snapshots of backups that are not there, left by a
//! run that was killed, go first. Each is pruned alone, under a lock that no
//! writer shares; one that is at work is left for the next time, and that is exit code 3.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use backup_engine::{
    repository::{BucketFiles, Files, Lock, Mode, Pruned, Repository, RepositoryError, blocking},
    storage::Bucket,
};
use backup_plan::human;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::repository_password;
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view::{self, document, table::Table},
};

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    password_file: Option<&Path>,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let opened = session.open(place).await?;
    let names = session
        .unless_interrupted(opened.bucket.list_folders("restic/"))
        .await?;
    if names.is_empty() {
        view::say(&format!(
            "there are no volume repositories at {}",
            opened.bucket.describe()
        ));
    }
    let mut exit = Exit::Done;
    let mut rows = Vec::new();
    let mut password = None;
    for name in &names {
        let password = match &password {
            Some(known) => known,
            None => {
                let api = session.api().await.ok();
                let found =
                    repository_password::find(session, api.as_ref(), password_file, &opened.bucket, false);
                password.insert(found.await?)
            }
        };
        session.progress.set_step(&format!("maintaining restic/{name}"));
        // Not dropped on Ctrl-C: whatever instant it ends at, nothing that is needed is gone, but a lock would stay.
        let done = one(&opened.bucket, name, password.reveal().to_owned(), dry_run).await;
        if let Err(error) = &done {
            exit = exit.and(match error {
                RepositoryError::Locked { .. } => Exit::DoneWithErrors,
                _ => Exit::Failed,
            });
            view::warn(&error.to_string());
        }
        rows.push((name, done));
        if session.cancel.is_cancelled() {
            return Err(Failure::Interrupted);
        }
    }
    match session.common.output {
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let items: Vec<Value> = rows.iter().map(|(name, done)| result(name, done)).collect();
            let result =
                json!({ "location": opened.bucket.describe(), "dryRun": dry_run, "repositories": items });
            document::write(&mut view::out(), format, "LocationMaintenance", &result)?;
        }
        _ if rows.is_empty() => {}
        _ => {
            let mut table = Table::new(&["REPOSITORY", "STATUS", "ORPHANS", "REMOVED", "MARKED", "REPACKED"]);
            for (name, done) in &rows {
                let (status, pruned) = match done {
                    Ok(pruned) if dry_run => ("dry run", *pruned),
                    Ok(pruned) => ("done", *pruned),
                    Err(RepositoryError::Locked { .. }) => ("in use", Pruned::default()),
                    Err(_) => ("failed", Pruned::default()),
                };
                table.push(vec![
                    format!("restic/{name}"),
                    status.to_owned(),
                    pruned.orphans.to_string(),
                    human::bytes(pruned.removed),
                    human::bytes(pruned.marked),
                    human::bytes(pruned.repacked),
                ]);
            }
            table.write(&mut view::out())?;
        }
    }
    Ok(exit)
}

fn result(name: &str, done: &Result<Pruned, RepositoryError>) -> Value {
    match done {
        Ok(pruned) => json!({
            "name": name, "orphans": pruned.orphans, "removedBytes": pruned.removed, "markedBytes": pruned.marked, "repackedBytes": pruned.repacked,
        }),
        Err(error) => json!({ "name": name, "error": error.to_string() }),
    }
}

/// One repository. Backups are listed under the lock: whatever snapshot is there then was begun before it, and so was its backup.
async fn one(
    bucket: &Arc<dyn Bucket>,
    name: &str,
    password: String,
    dry_run: bool,
) -> Result<Pruned, RepositoryError> {
    let handle = Handle::current();
    let files: Arc<dyn Files> = Arc::new(BucketFiles::of_namespace(Arc::clone(bucket), name));
    let place = files.describe();
    let repository = blocking(move || Repository::open(files, &password, &handle)).await?;
    let lock = Lock::take(&repository, Mode::Exclusive).await?;
    let pruned = match bucket.list_folders("backups/").await {
        Ok(backups) => {
            let known: BTreeSet<String> = backups.into_iter().collect();
            blocking(move || {
                let orphans = repository.orphans(&known)?;
                if !dry_run {
                    repository.forget(&orphans)?;
                }
                let pruned = repository.prune(dry_run)?;
                Ok(Pruned {
                    orphans: orphans.len() as u64,
                    ..pruned
                })
            })
            .await
        }
        Err(error) => Err(RepositoryError::Files {
            place,
            reason: error.to_string(),
        }),
    };
    let released = lock.release().await;
    let pruned = pruned?;
    released?;
    Ok(pruned)
}
