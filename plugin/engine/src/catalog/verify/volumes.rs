//! The data of volumes that a backup records, as far as it can be looked at.
//!
//! In come the snapshots of its claims, and a password with a depth where repositories are to be opened; out go findings. That
//! a snapshot's file is there is seen without a password. With one, everything that the snapshot needs is looked up, and
//! read, decrypted and hashed as deep as was asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::runtime::Handle;

use super::{Finding, Level};
use crate::{
    catalog::{CatalogError, ClaimSnapshots, claim_snapshots::key_of_snapshot},
    repository::{BucketFiles, Depth, Files, Lock, Mode, Repository, RepositoryError, Snapshot, blocking},
    storage::Bucket,
};

/// Looks for the snapshots' files. Velero's have ids that are cut off, so that theirs are not looked for.
///
/// # Errors
/// Storage faults; what is missing is a finding.
pub async fn volumes_are_there(
    bucket: &Arc<dyn Bucket>,
    snapshots: &ClaimSnapshots,
) -> Result<Vec<Finding>, CatalogError> {
    let mut findings = Vec::new();
    for ((namespace, claim), id) in snapshots.of_claims.iter().filter(|_| !snapshots.are_veleros) {
        let key = key_of_snapshot(namespace, id);
        if bucket.head(&key).await?.is_none() {
            findings.push(Finding {
                level: Level::Damage,
                what: format!("claim {namespace}/{claim}"),
                problem: format!("its snapshot {id} is not in the location, so its data is lost"),
            });
        }
    }
    Ok(findings)
}

/// Reads what the snapshots need. `done` hears of each claim.
///
/// # Errors
/// When a repository cannot be opened or is locked; damage is a finding.
pub async fn read_volumes(
    bucket: &Arc<dyn Bucket>,
    snapshots: &ClaimSnapshots,
    password: &str,
    depth: Depth,
    mut done: impl FnMut(&str, &str),
) -> Result<Vec<Finding>, RepositoryError> {
    let mut by_repository: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for ((namespace, claim), id) in &snapshots.of_claims {
        by_repository.entry(namespace).or_default().push((claim, id));
    }
    let mut findings = Vec::new();
    for (namespace, claims) in by_repository {
        let files: Arc<dyn Files> = Arc::new(BucketFiles::of_namespace(Arc::clone(bucket), namespace));
        let (handle, password) = (Handle::current(), password.to_owned());
        let mut repository = blocking(move || Repository::open(files, &password, &handle)).await?;
        let lock = Lock::take(&repository, Mode::Shared).await?;
        let mut packs = BTreeSet::new();
        for (claim, id) in claims {
            let wanted = id.to_owned();
            let looked = blocking(move || {
                let looked = repository.check_snapshot(&wanted, depth);
                Ok((repository, looked))
            })
            .await?;
            repository = looked.0;
            let what = format!("claim {namespace}/{claim}");
            let problems = match looked.1 {
                Ok(found) => {
                    packs.extend(found.packs);
                    found.errors
                }
                Err(RepositoryError::Files { place, reason }) => {
                    // What the place refuses is no damage.
                    let _ = lock.release().await;
                    return Err(RepositoryError::Files { place, reason });
                }
                Err(error) => vec![error.to_string()],
            };
            done(namespace, claim);
            findings.extend(problems.into_iter().map(|problem| Finding {
                level: Level::Damage,
                what: what.clone(),
                problem: format!("its data: {problem}"),
            }));
        }
        if !packs.is_empty() {
            let hurt = blocking(move || repository.hurt_by(&packs)).await;
            findings.push(Finding {
                level: Level::Note,
                what: format!("restic/{namespace}"),
                problem: match hurt {
                    Ok(hurt) => format!(
                        "the damage hurts the data of {}; what other backups have there is not concerned",
                        backups(&hurt)
                    ),
                    Err(error) => format!("whom else the damage hurts cannot be told: {error}"),
                },
            });
        }
        lock.release().await?;
    }
    Ok(findings)
}

/// The backups of snapshots, by name.
fn backups(snapshots: &[Snapshot]) -> String {
    let names: BTreeSet<&str> = snapshots
        .iter()
        .map(|snapshot| {
            snapshot
                .tags
                .get("backup")
                .map_or(snapshot.id.as_str(), String::as_str)
        })
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    format!("backup {}", names.join(", "))
}
