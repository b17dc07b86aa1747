//! What the schedules and the locations of a cluster look like at one moment.
//!
//! In comes a connection; out goes an [`Overview`]: schedules as their CronJobs and Jobs say, and for each location that lies
//! in the cluster what is stored there for this cluster, or why that is not known. Later code may rely on: backups of
//! other clusters in the same place are not in it, a backup that two locations show is in it once, and one location that
//! fails hides no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use backup_plan::tally::{Made, Ran, Standing};
use jiff::Timestamp;
use velero_model::{layout::BackupKeys, name::BackupName, phase::Phase};

use crate::{
    api::{ApiClient, ApiError, ClusterIdentity},
    catalog::{self, CatalogError},
    clock,
    location::{self, Location},
    schedule::{Schedules, State},
    storage::{Bucket, StorageError},
};

/// A cluster's schedules and locations.
#[derive(Debug)]
pub struct Overview {
    /// Who the cluster is.
    pub identity: ClusterIdentity,
    /// When it was looked at.
    pub at: Timestamp,
    /// By name.
    pub schedules: Vec<State>,
    /// By name.
    pub locations: Vec<Seen>,
}

/// One location.
#[derive(Debug)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// It in words, without its settings; empty where its Secret says nothing that can be read.
    pub place: String,
    /// Whether it is never written to.
    pub is_read_only: bool,
    /// What it holds, or why that is not known.
    pub contents: Result<Contents, String>,
}

/// What a location holds for this cluster.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Its backups.
    pub backups: Vec<Made>,
    /// Its restores: schedule of the backup and phase.
    pub restores: Vec<Restored>,
    /// Backups whose time is over, which nothing holds, by name: end of their time.
    pub overdue: Vec<(String, Timestamp)>,
    /// Bytes of the archive of each schedule's newest backup.
    pub archives: BTreeMap<String, u64>,
    /// Backups of other clusters in the same place.
    pub of_others: u64,
    /// Backups that cannot be read.
    pub unreadable: u64,
}

/// One restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Something that no other restore has.
    pub id: String,
    /// Schedule of the backup, or empty.
    pub schedule: String,
    /// How it ended.
    pub phase: Phase,
    /// When.
    pub ended: Option<Timestamp>,
}

/// Looks at everything once.
///
/// # Errors
/// When the API server does not answer; a location that does not is told in its place.
pub async fn look(api: &ApiClient) -> Result<Overview, ApiError> {
    let schedules = Schedules::new(api);
    let (identity, states, found) = tokio::try_join!(api.identity(), schedules.all(), schedules.locations())?;
    let mut locations = Vec::new();
    let mut known = BTreeSet::new();
    for (name, location) in found {
        locations.push(match location {
            Ok(location) => {
                let mut contents = contents(&location, &identity.uid)
                    .await
                    .map_err(|error| error.to_string());
                if let Ok(contents) = &mut contents {
                    contents.backups.retain(|made| known.insert(made.id.clone()));
                }
                Seen {
                    name,
                    place: location.describe(),
                    is_read_only: location.read_only(),
                    contents,
                }
            }
            Err(error) => Seen {
                name,
                place: String::new(),
                is_read_only: false,
                contents: Err(error.to_string()),
            },
        });
    }
    locations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Overview {
        identity,
        at: clock::now(),
        schedules: states,
        locations,
    })
}

async fn contents(location: &Location, cluster: &str) -> Result<Contents, CatalogError> {
    let bucket = location::open(location).await?;
    let listing = catalog::list(&bucket).await?;
    let restores = catalog::restores(&bucket).await?;
    let now = clock::now();
    let mut contents = Contents {
        unreadable: listing.unreadable.len() as u64,
        ..Contents::default()
    };
    for listed in listing.backups {
        let source = listed.backup.source();
        if source.cluster_uid != cluster {
            contents.of_others += 1;
            continue;
        }
        let status = &listed.backup.status;
        let name = listed.backup.metadata.name.clone();
        let expiration = listed.notes.expiration.unwrap_or(status.expiration);
        if let Some(over) = expiration.filter(|at| *at < now && listed.notes.hold.is_none()) {
            contents.overdue.push((name.clone(), over));
        }
        contents.backups.push(Made {
            id: if source.run_id.is_empty() {
                name
            } else {
                format!("{name}/{}", source.run_id)
            },
            schedule: source.schedule.unwrap_or_default(),
            phase: status.phase.clone(),
            started: status.start_timestamp,
            ended: status.completion_timestamp,
            items: status.progress.map_or(0, |progress| progress.items_backed_up),
            errors: status.errors,
            warnings: status.warnings,
        });
    }
    contents.restores = restores
        .into_iter()
        .filter_map(|restore| restore.record)
        .filter(|record| record.target_cluster_uid == cluster)
        .map(|record| {
            let of = |made: &&Made| name_of(made) == record.backup;
            Restored {
                schedule: contents
                    .backups
                    .iter()
                    .find(of)
                    .map(|made| made.schedule.clone())
                    .unwrap_or_default(),
                id: format!("{}/{}", record.name, record.run_id),
                phase: record.phase,
                ended: record.completed,
            }
        })
        .collect();
    contents.archives = archives(&bucket, &contents.backups).await?;
    Ok(contents)
}

/// The name of a stored backup.
pub fn name_of(made: &Made) -> &str {
    made.id.split('/').next().unwrap_or_default()
}

/// The bytes of the archive of each schedule's newest backup.
async fn archives(bucket: &Arc<dyn Bucket>, backups: &[Made]) -> Result<BTreeMap<String, u64>, StorageError> {
    let mut archives = BTreeMap::new();
    let schedules: BTreeSet<&str> = backups.iter().map(|made| made.schedule.as_str()).collect();
    for schedule in schedules {
        let Some(newest) = Standing::of(schedule, backups, &[]).newest else {
            continue;
        };
        let Ok(name) = BackupName::parse(name_of(&newest)) else {
            continue;
        };
        if let Some(file) = bucket.head(&BackupKeys(&name).tarball()).await? {
            archives.insert(schedule.to_owned(), file.size);
        }
    }
    Ok(archives)
}

impl Overview {
    /// Every backup of this cluster that is known.
    pub fn made(&self) -> Vec<Made> {
        self.locations
            .iter()
            .filter_map(|seen| seen.contents.as_ref().ok())
            .flat_map(|contents| contents.backups.iter().cloned())
            .collect()
    }

    /// Every run of a schedule that the cluster remembers.
    pub fn ran(&self) -> Vec<Ran> {
        let of = |state: &State| {
            let schedule = state.name.clone();
            state
                .runs
                .iter()
                .map(move |run| Ran {
                    id: run.name.clone(),
                    schedule: schedule.clone(),
                    started: run.started,
                    ended: run.ended,
                    has_failed: run.status == "Failed",
                })
                .collect::<Vec<_>>()
        };
        self.schedules.iter().flat_map(of).collect()
    }
}
