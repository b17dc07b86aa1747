//! `disable`: takes the parts away, and does with the backups what was chosen.
//!
//! In comes the choice; out goes what was removed. Nothing is begun while a cluster is protected, since nobody would carry
//! its choice out, or while nobody has said what becomes of the backups. Runs are stopped first, then backups go where that
//! was chosen, then the parts, then a Velero that `enable` has installed: the choice is still visible, and repeatable, until
//! it is done. What Velero alone can delete is deleted by Velero, before it goes.

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use backup_engine::{
    api::{ApiClient, ClusterIdentity},
    catalog::{self, CatalogError, DeleteOptions, Ended},
    clusters::Clusters,
    lifecycle::{
        LifecycleError,
        install::Installer,
        removal::Removal,
        velero::{
            look::{self, Seen},
            removal as velero_removal,
        },
    },
    location::{self, Location},
    schedule::{NAMESPACE, Repository, Schedules},
    storage::Bucket,
    velero::{Kind, Velero, choice},
};
use backup_plan::{disposition::Settings, velero_release::Owner};
use serde_json::json;
use velero_model::{api_object::Run, name::BackupName};

use super::{delete, repository_password};
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
    location: Location,
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
    let installed = session.unless_interrupted(installer.installed(NAMESPACE)).await?;
    let velero_namespace = &session.common.velero_namespace;
    let seen = session
        .unless_interrupted(look::look(&installer, &api, velero_namespace))
        .await?;
    let is_ours = seen.found.as_ref().is_some_and(|found| found.owner == Owner::Us);
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
    if storage != StorageWord::Delete && installed.has_namespace {
        session.unless_interrupted(keep_passwords(session, &api)).await?;
    }
    let removal = Removal::new(&api, session.common.timeout.unwrap_or(PATIENCE));
    let stopped = removal.stop().await?;
    if stopped > 0 {
        view::say(&format!("{} stopped", count(stopped as u64, "CronJob")));
    }
    let velero = Velero::new(api.clone(), velero_namespace);
    let deleted = if storage == StorageWord::Delete {
        if is_ours {
            session.unless_interrupted(pause(&velero)).await?;
        }
        let deleted = delete_all(session, &held, seen.found.as_ref().map(|_| &velero)).await?;
        if is_ours {
            // Nobody mends a repository that is being taken away.
            let forgotten = velero_removal::forget_repositories(&api, velero_namespace);
            session.unless_interrupted(forgotten).await?;
        }
        if is_ours || seen.found.is_none() {
            delete_rest(session, &held, &identity.uid).await?;
        }
        deleted
    } else {
        0
    };
    let mut removed = Vec::new();
    let mut gone = |what: &str| {
        view::say(&format!("{what} deleted"));
        removed.push(what.to_owned());
    };
    let ended: Result<(), LifecycleError> = async {
        // The gate guards Velero's locations, and goes before they do.
        removal.remove(&mut gone).await?;
        if is_ours {
            let keeps_kinds = !seen.elsewhere.is_empty();
            velero_removal::remove(&removal, velero_namespace, keeps_kinds, &mut gone).await?;
        }
        Ok(())
    }
    .await;
    if ended.is_err() {
        view::warn(&format!(
            "{} removed; the same command goes on from there",
            count(removed.len() as u64, "object")
        ));
    }
    ended?;
    say_of_velero(&seen, is_ours);
    let places: Vec<&str> = held.iter().map(|held| held.place.as_str()).collect();
    show(session.common.output, storage, &removed, &places, deleted)
}

/// Data that is kept must be readable afterwards: passwords that lie in our namespace go with it.
async fn keep_passwords(session: &Session, api: &ApiClient) -> Result<(), Failure> {
    for Repository { place, password } in Schedules::new(api).repository_passwords().await? {
        if let Some(file) = repository_password::keep_copy(session, &place, &password)? {
            view::say(&format!(
                "the password of the volume repositories at {place} is kept in {}, since its Secret goes",
                file.display()
            ));
        }
    }
    Ok(())
}

/// What becomes of a Velero that is not ours, and of kinds that another one uses.
fn say_of_velero(seen: &Seen, is_ours: bool) {
    if let Some(found) = seen.found.as_ref().filter(|_| !is_ours) {
        view::say(&format!(
            "Velero in namespace {} is looked after by {} and stays",
            found.namespace, found.owner
        ));
    }
    if let (true, Some(other)) = (is_ours, seen.elsewhere.first()) {
        view::say(&format!(
            "Velero's definitions stay, since Velero runs in namespace {other} too"
        ));
    }
}

/// No Schedule of Velero's begins another backup.
async fn pause(velero: &Velero) -> Result<(), Failure> {
    let schedules: Vec<Run> = velero.list(Kind::Schedule).await?;
    for schedule in schedules {
        velero.pause_schedule(&schedule.metadata.name, true).await?;
    }
    Ok(())
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
            location,
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

/// Deletes a backup whose volume data only Velero can delete, by the Velero that uses the place.
async fn delete_by_velero(
    session: &Session,
    velero: Option<&Velero>,
    held: &Held,
    name: &BackupName,
    refused: Failure,
) -> Result<(), Failure> {
    let Some(velero) = velero else {
        return Err(refused);
    };
    let locations = session
        .unless_interrupted(velero.list(Kind::BackupStorageLocation))
        .await?;
    if choice::at(&held.location, &locations).is_none() {
        return Err(refused);
    }
    let request = session.unless_interrupted(velero.request_deletion(name)).await?;
    velero
        .wait_for_deletion(name, &request, &session.progress, &session.cancel)
        .await?;
    Ok(())
}

/// One after the other, by the routine of `delete`. What cannot go keeps the parts where they are.
async fn delete_all(session: &Session, held: &[Held], velero: Option<&Velero>) -> Result<u64, Failure> {
    let (mut deleted, mut left) = (0, 0);
    for held in held {
        for name in &held.backups {
            let options = DeleteOptions {
                leave_volume_data: false,
                force: false,
            };
            let work = catalog::delete(&held.bucket, name, &options);
            let ended = match session.unless_interrupted(work).await {
                Err(refused @ Failure::Catalog(CatalogError::VolumeData { .. })) => {
                    delete_by_velero(session, velero, held, name, refused)
                        .await
                        .map(|()| None)
                }
                ended => ended.map(Some),
            };
            let is_complete = |summary: &Option<catalog::DeleteSummary>| {
                summary.as_ref().is_none_or(catalog::DeleteSummary::is_complete)
            };
            match ended {
                Ok(summary) if is_complete(&summary) => {
                    deleted += 1;
                    view::say(&format!("backup {name} deleted from {}", held.place));
                }
                Ok(summary) => {
                    left += 1;
                    for line in summary.iter().flat_map(delete::lines) {
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

/// What no backup needs any more: volume repositories, records of restores, litter of runs that died.
async fn delete_rest(session: &Session, held: &[Held], cluster: &str) -> Result<(), Failure> {
    for held in held {
        let work = catalog::dispose(&held.bucket, Some(cluster), async |_| {
            Ok::<_, CatalogError>(!session.cancel.is_cancelled())
        });
        let (_, ended) = session.unless_interrupted(work).await?;
        let why = match ended {
            Ended::Empty => continue,
            Ended::Stopped => return Err(Failure::Interrupted),
            Ended::Locked => "object locks keep it".to_owned(),
            Ended::Refused { first, .. } => first,
            Ended::AtWork(names) => format!("somebody is writing {}", names.join(", ")),
            Ended::SourceUnknown(named) | Ended::Shared { named, .. } => format!(
                "other clusters have backups there, and nobody can tell whose it is ({})",
                named.join(", ")
            ),
        };
        view::warn(&format!(
            "what lies beside the backups in {} (volume repositories, records of restores) stays: {why}",
            held.place
        ));
    }
    Ok(())
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
