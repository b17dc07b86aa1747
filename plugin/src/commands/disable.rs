//! `disable`: takes the parts away, and does with the backups what was chosen.
//!
//! In comes the choice; out goes what was removed. Nothing is begun while a cluster is protected, since nobody would carry
//! its choice out, or while nobody has said what becomes of the backups. Runs are stopped first, then backups go where that
//! was chosen, then the parts: the choice is still visible, and repeatable, until it is done.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use backup_engine::{
    api::{ApiClient, ClusterIdentity},
    catalog::{self, DeleteOptions},
    clusters::Clusters,
    lifecycle::{install::Installer, removal::Removal},
    location,
    schedule::{NAMESPACE, Schedules},
    storage::Bucket,
};
use backup_plan::disposition::Settings;
use serde_json::json;
use velero_model::name::BackupName;

use super::delete;
use crate::{
    arguments::{global::OutputFormat, lifecycle::StorageWord},
    exit::{Exit, Failure},
    session::Session,
    view::{self, count, document},
};

/// Longest wait for one object to go.
const PATIENCE: Duration = Duration::from_mins(2);

/// A location of the cluster and what of this cluster is in it.
struct Held {
    name: String,
    place: String,
    bucket: Arc<dyn Bucket>,
    backups: Vec<BackupName>,
}

pub(crate) async fn run(session: &Session, storage: Option<StorageWord>) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let protected = session.unless_interrupted(protected(&api)).await?;
    if !protected.is_empty() {
        return Err(is_protected(&protected));
    }
    let installer = Installer::new(&api, &session.cancel);
    let installed = session.unless_interrupted(installer.installed()).await?;
    let identity = session.unless_interrupted(api.identity()).await?;
    let held = if installed.has_namespace {
        held(session, &api, &identity).await?
    } else {
        Vec::new()
    };
    let storage = choose(session, storage, &held).await?;
    if storage == StorageWord::Delete {
        confirm(session, &identity, &held).await?;
    }
    let removal = Removal::new(&api, session.common.timeout.unwrap_or(PATIENCE));
    let stopped = removal.stop().await?;
    if stopped > 0 {
        view::say(&format!("{} stopped", count(stopped as u64, "CronJob")));
    }
    let deleted = if storage == StorageWord::Delete {
        delete_all(session, &held).await?
    } else {
        0
    };
    let mut removed = Vec::new();
    let ended = removal
        .remove(|what| {
            view::say(&format!("{what} deleted"));
            removed.push(what.to_owned());
        })
        .await;
    if ended.is_err() {
        view::warn(&format!(
            "{} removed; the same command goes on from there",
            count(removed.len() as u64, "object")
        ));
    }
    ended?;
    let places: Vec<&str> = held.iter().map(|held| held.place.as_str()).collect();
    show(session.common.output, storage, &removed, &places, deleted)
}

/// Every protected cluster, as `namespace/name`.
async fn protected(api: &ApiClient) -> Result<Vec<String>, Failure> {
    let clusters = Clusters::new(api.clone());
    let mut found = Vec::new();
    for kind in Settings::default().kinds {
        let Some(kind) = clusters.kind(&kind).await? else {
            continue;
        };
        let all = clusters.list(&kind, None).await?;
        let protected = all.iter().filter(|found| found.cluster.is_protected());
        found.extend(protected.map(|found| format!("{}/{}", found.cluster.namespace, found.cluster.name)));
    }
    Ok(found)
}

fn is_protected(names: &[String]) -> Failure {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let rest = names.len().saturating_sub(SHOWN);
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    let (namespace, name) = names
        .first()
        .and_then(|first| first.split_once('/'))
        .unwrap_or_default();
    Failure::Refused(format!(
        "{} protected ({}{more}), and without these parts nobody guards them or lets them go; end that first, one by one: \
         `kubectl backup cluster unprotect {name} -n {namespace}`",
        if names.len() == 1 {
            "a cluster is".to_owned()
        } else {
            format!("{} clusters are", names.len())
        },
        shown.join(", ")
    ))
}

/// The locations that lie in the cluster, with the backups of this cluster alone.
async fn held(session: &Session, api: &ApiClient, identity: &ClusterIdentity) -> Result<Vec<Held>, Failure> {
    let mut held = Vec::new();
    for (name, location) in session
        .unless_interrupted(Schedules::new(api).locations())
        .await?
    {
        let location = location?;
        let bucket = location::open(&location).await?;
        let listing = session.unless_interrupted(catalog::list(&bucket)).await?;
        let is_own = |uid: &str| !identity.uid.is_empty() && uid == identity.uid;
        let mut backups = Vec::new();
        for listed in &listing.backups {
            if is_own(&listed.backup.source().cluster_uid) {
                let name = BackupName::parse(&listed.backup.metadata.name);
                backups.push(name.map_err(|error| Failure::Damaged(error.to_string()))?);
            }
        }
        let half = listing.half_deleted.iter();
        backups.extend(
            half.filter(|half| is_own(&half.source.cluster_uid))
                .map(|half| half.name.clone()),
        );
        for unreadable in &listing.unreadable {
            view::warn(&format!(
                "backup {} in {} is left alone, since it is not known whose it is: {}",
                unreadable.name,
                location.describe(),
                unreadable.reason
            ));
        }
        held.push(Held {
            name,
            place: location.describe(),
            backups,
            bucket,
        });
    }
    Ok(held)
}

async fn choose(
    session: &Session,
    given: Option<StorageWord>,
    held: &[Held],
) -> Result<StorageWord, Failure> {
    let backups: usize = held.iter().map(|held| held.backups.len()).sum();
    if let Some(given) = given {
        return Ok(given);
    }
    if backups == 0 {
        return Ok(StorageWord::Retain);
    }
    let places: Vec<String> = held
        .iter()
        .map(|held| {
            let backups = count(held.backups.len() as u64, "backup");
            format!(
                "location {} ({}): {backups} of this cluster",
                held.name, held.place
            )
        })
        .collect();
    let what = places.join("; ");
    if !io::stdin().is_terminal() {
        return Err(Failure::Refused(format!(
            "{what}; say what becomes of them: `kubectl backup disable --backup-storage Retain`, or `kubectl backup disable \
             --backup-storage Delete`"
        )));
    }
    match session
        .ask(&format!("{what}; what becomes of them? Type Retain or Delete:"))
        .await?
        .as_str()
    {
        "Retain" => Ok(StorageWord::Retain),
        "Delete" => Ok(StorageWord::Delete),
        other => Err(Failure::Refused(format!(
            "nothing is changed: {other:?} is neither Retain nor Delete"
        ))),
    }
}

/// Deleting backups takes the cluster's name, or --yes.
async fn confirm(session: &Session, identity: &ClusterIdentity, held: &[Held]) -> Result<(), Failure> {
    let backups: usize = held.iter().map(|held| held.backups.len()).sum();
    if identity.uid.is_empty() {
        return Err(Failure::Refused(
            "it is not known which backups are this cluster's: this user may not read namespace kube-system; with \
             --backup-storage Retain nothing has to be known"
                .to_owned(),
        ));
    }
    if backups == 0 {
        return Ok(());
    }
    let what = format!(
        "{} of cluster {} will be deleted for good",
        count(backups as u64, "backup"),
        identity.name
    );
    session.agree(&what, &identity.name, "").await
}

/// One after the other, by the routine of `delete`. What cannot go keeps the parts where they are.
async fn delete_all(session: &Session, held: &[Held]) -> Result<u64, Failure> {
    let (mut deleted, mut left) = (0, 0);
    for held in held {
        for name in &held.backups {
            let options = DeleteOptions {
                leave_volume_data: false,
                force: false,
            };
            let work = catalog::delete(&held.bucket, name, &options);
            match session.unless_interrupted(work).await {
                Ok(summary) if summary.is_complete() => {
                    deleted += 1;
                    view::say(&format!("backup {name} deleted from {}", held.place));
                }
                Ok(summary) => {
                    left += 1;
                    for line in delete::lines(&summary) {
                        view::warn(&line);
                    }
                }
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(failure) => {
                    left += 1;
                    view::fail(&failure);
                }
            }
        }
    }
    if left > 0 {
        return Err(Failure::Refused(format!(
            "{} could not be deleted, for the reasons above; schedules are stopped and all else in the cluster is as it was: mend \
             that and run it again, or choose --backup-storage Retain",
            count(left, "backup")
        )));
    }
    Ok(deleted)
}

fn show(
    format: OutputFormat,
    storage: StorageWord,
    removed: &[String],
    places: &[&str],
    deleted: u64,
) -> Result<Exit, Failure> {
    let word = match storage {
        StorageWord::Retain => "Retain",
        StorageWord::Delete => "Delete",
    };
    match format {
        OutputFormat::Json | OutputFormat::Yaml => {
            let result = json!({
                "namespace": NAMESPACE, "backupStorage": word, "locations": places, "backupsDeleted": deleted,
                "removed": removed,
            });
            document::write(&mut view::out(), format, "Removal", &result)?;
        }
        OutputFormat::Name => view::print(&format!("namespace/{NAMESPACE}\n"))?,
        OutputFormat::Table | OutputFormat::Wide if removed.is_empty() => {
            view::print("nothing of kubectl backup was in the cluster\n")?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let backups = match storage {
                StorageWord::Delete => format!("{} deleted", count(deleted, "backup")),
                StorageWord::Retain if places.is_empty() => "no location was in the cluster".to_owned(),
                StorageWord::Retain => format!(
                    "backups stay in {}, and expire no more by themselves",
                    places.join(", ")
                ),
            };
            view::print(&format!(
                "namespace/{NAMESPACE}: {} removed; {backups}\n",
                count(removed.len() as u64, "object")
            ))?;
        }
    }
    Ok(Exit::Done)
}
