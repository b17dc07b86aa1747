//! `delete` by Velero: a DeleteBackupRequest each, so that snapshots, repositories and restores go too.

use std::sync::Arc;

use backup_engine::{
    catalog,
    storage::Bucket,
    velero::{VeleroError, check},
};
use serde_json::{Value, json};
use velero_model::name::BackupName;

use super::bucket;
use crate::{
    arguments::global::OutputFormat,
    commands::delete::{Options, confirm},
    engine::Driven,
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view::{self, document},
};

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    names: &[BackupName],
    options: Options,
    driven: &Driven,
) -> Result<Exit, Failure> {
    if options.leave_volume_data {
        return Err(VeleroError::Unsupported {
            what: "--leave-volume-data".to_owned(),
            reason: "Velero deletes the volume data of a backup with it",
            next: "leave it out, or use --engine direct",
        }
        .into());
    }
    check::writable(&driven.velero, &driven.location)?;
    let bucket = bucket(session, place).await?;
    let mut exit = Exit::Done;
    let mut results = Vec::new();
    for name in names {
        match one(session, driven, bucket.as_ref(), name, options).await {
            Ok(result) => results.push(result),
            Err(failure @ (Failure::Output(_) | Failure::Interrupted)) => return Err(failure),
            Err(Failure::Velero(VeleroError::Interrupted)) => return Err(Failure::Interrupted),
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

async fn one(
    session: &Session,
    driven: &Driven,
    bucket: Option<&Arc<dyn Bucket>>,
    name: &BackupName,
    options: Options,
) -> Result<Value, Failure> {
    let Driven { velero, location } = driven;
    let watch = session.watch();
    let found =
        check::backup_object(velero, location, bucket, name, &session.progress, &session.cancel).await;
    watch.end().await;
    found?;
    if !options.force {
        session.unless_interrupted(not_held(bucket, name)).await?;
    }
    if !session.common.yes {
        confirm(session, name, &driven.place()).await?;
    }
    // Not dropped on Ctrl-C: afterwards nobody could say whether it was requested.
    let request = velero.request_deletion(name).await?;
    if session.common.wait {
        wait(session, driven, name, &request).await?;
        session.unless_interrupted(own_records(bucket, name)).await?;
    }
    let done = if session.common.wait {
        "deleted by Velero"
    } else {
        "deletion requested of Velero"
    };
    match session.common.output {
        OutputFormat::Json | OutputFormat::Yaml => {}
        OutputFormat::Name => view::print(&format!("backup/{name}\n"))?,
        OutputFormat::Table | OutputFormat::Wide => {
            view::print(&format!("backup/{name} {done} from {}\n", driven.place()))?;
        }
    }
    Ok(json!({ "name": name, "engine": "velero", "request": request, "complete": session.common.wait }))
}

/// Removes a backup that a policy gave up: nobody is asked, and it was not on hold when that was decided.
pub(crate) async fn by_policy(
    session: &Session,
    driven: &Driven,
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<(), Failure> {
    let Driven { velero, location } = driven;
    let watch = session.watch();
    let found = check::backup_object(
        velero,
        location,
        Some(bucket),
        name,
        &session.progress,
        &session.cancel,
    )
    .await;
    watch.end().await;
    found?;
    session.unless_interrupted(not_held(Some(bucket), name)).await?;
    let request = velero.request_deletion(name).await?;
    wait(session, driven, name, &request).await?;
    session.unless_interrupted(own_records(Some(bucket), name)).await
}

async fn wait(session: &Session, driven: &Driven, name: &BackupName, request: &str) -> Result<(), Failure> {
    let watch = session.watch();
    let waited = driven
        .velero
        .wait_for_deletion(name, request, &session.progress, &session.cancel)
        .await;
    watch.end().await;
    if let Err(VeleroError::Interrupted) = &waited {
        view::say(&format!("Velero goes on deleting backup {name}"));
    }
    Ok(waited?)
}

/// Records of restores that this tool made from the backup go with it. Velero deletes only those that it has objects for.
async fn own_records(bucket: Option<&Arc<dyn Bucket>>, name: &BackupName) -> Result<(), Failure> {
    let Some(bucket) = bucket else {
        return Ok(());
    };
    let restores = match catalog::restores(bucket).await {
        Ok(restores) => restores,
        Err(error) => {
            view::warn(&format!(
                "records of restores from backup {name} may be left: {error}"
            ));
            return Ok(());
        }
    };
    let ours = restores.into_iter().filter(|restore| {
        let record = restore.record.as_ref();
        record.is_some_and(|record| record.backup == name.as_str())
    });
    for restore in ours {
        if let Err(error) = catalog::delete_restore(bucket, &restore.name).await {
            view::warn(&format!(
                "the record of restore {} is left: {error}",
                restore.name
            ));
        }
    }
    Ok(())
}

/// Velero knows no holds, so they are looked at here, as far as the bucket can be read.
async fn not_held(bucket: Option<&Arc<dyn Bucket>>, name: &BackupName) -> Result<(), VeleroError> {
    let unseen = || {
        view::warn(&format!(
            "whether backup {name} is on hold cannot be seen: its bucket cannot be read from here"
        ));
    };
    let Some(bucket) = bucket else {
        unseen();
        return Ok(());
    };
    match catalog::open(bucket, name).await {
        Ok(backup) => match &backup.notes().hold {
            None => Ok(()),
            Some(reason) => Err(VeleroError::Held {
                name: name.to_string(),
                reason: reason
                    .as_ref()
                    .map(|reason| format!(" ({reason})"))
                    .unwrap_or_default(),
            }),
        },
        Err(catalog::CatalogError::Storage(_)) => {
            unseen();
            Ok(())
        }
        // A backup that never came to the bucket has no holds.
        Err(_) => Ok(()),
    }
}
