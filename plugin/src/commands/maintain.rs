//! `location maintain`: frees what no snapshot of a volume needs any more.
//!
//! In comes a location; out goes a line for each of its volume repositories. Each is pruned alone, under a lock that no
//! writer shares; one that is at work is left for the next time, and that is exit code 3.

use std::{path::Path, sync::Arc};

use backup_engine::repository::{
    BucketFiles, Files, Lock, Mode, Pruned, Repository, RepositoryError, blocking,
};
use backup_plan::human;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::volume_data;
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
    let password = if names.is_empty() {
        None
    } else {
        let api = session.api().await.ok();
        Some(volume_data::password(session, api.as_ref(), password_file, &opened.bucket, false).await?)
    };
    let mut exit = Exit::Done;
    let mut rows = Vec::new();
    for (name, password) in names.iter().zip(password.iter().cycle()) {
        let files: Arc<dyn Files> = Arc::new(BucketFiles::of_namespace(Arc::clone(&opened.bucket), name));
        session.progress.set_step(&format!("maintaining restic/{name}"));
        // Not dropped on Ctrl-C: whatever instant it ends at, nothing that is needed is gone, but a lock would stay.
        let done = one(files, password.reveal().to_owned()).await;
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
            let result = json!({ "location": opened.bucket.describe(), "repositories": items });
            document::write(&mut view::out(), format, "LocationMaintenance", &result)?;
        }
        _ if rows.is_empty() => {}
        _ => {
            let mut table = Table::new(&["REPOSITORY", "STATUS", "REMOVED", "MARKED", "REPACKED"]);
            for (name, done) in &rows {
                let (status, pruned) = match done {
                    Ok(pruned) => ("done", *pruned),
                    Err(RepositoryError::Locked { .. }) => ("in use", Pruned::default()),
                    Err(_) => ("failed", Pruned::default()),
                };
                table.push(vec![
                    format!("restic/{name}"),
                    status.to_owned(),
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
            "name": name, "removedBytes": pruned.removed, "markedBytes": pruned.marked, "repackedBytes": pruned.repacked,
        }),
        Err(error) => json!({ "name": name, "error": error.to_string() }),
    }
}

async fn one(files: Arc<dyn Files>, password: String) -> Result<Pruned, RepositoryError> {
    let handle = Handle::current();
    let repository = blocking(move || Repository::open(files, &password, &handle)).await?;
    let lock = Lock::take(&repository, Mode::Exclusive).await?;
    let pruned = blocking(move || repository.prune()).await;
    let released = lock.release().await;
    let pruned = pruned?;
    released?;
    Ok(pruned)
}
