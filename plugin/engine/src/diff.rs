//! Two backups compared, or a backup and the live cluster: object by object, field by field.
//!
//! In come a backup, what it is compared with, and which objects count; out goes a [`Diff`]: every object that is on one
//! side only or differs, in the order of kind, namespace and name, and counts of the rest. Both sides are gone through in
//! the order of the index; a kind of the cluster is listed into a temporary file and sorted there. Equal bytes are not
//! parsed. Later code may rely on: nothing is written to cluster or location, memory holds a window of objects whatever the
//! size, and what could not be compared is named and never taken for gone.

mod error;
mod live;
mod merge;
mod result;
mod wanted;

use std::{collections::BTreeMap, sync::Arc};

use backup_plan::{
    compare::Secrets,
    kinds::DiscoveredKind,
    scope::{Scope, StoredScopeError},
};
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use velero_model::resource::ApiKind;

pub use error::DiffError;
pub use result::{Change, Diff, DiffCounts, NotCompared, ObjectDifference};

use crate::{
    api::{ApiClient, ClusterIdentity},
    catalog::{Objects, OpenBackup, kinds_from_directory},
    progress::Progress,
    restore::ObjectRef,
};
use live::{Live, Spooled};
use merge::{Merge, Right};
use result::Recorder;
use wanted::{Own, Wanted};

/// Which objects are compared, and how.
#[derive(Debug, Clone, Default)]
pub struct DiffRequest {
    /// Only what is in this scope.
    pub scope: Scope,
    /// Only these objects, if any is named.
    pub only: Vec<ObjectRef>,
    /// Compare every path of every kind, also what servers and controllers change all the time.
    pub everything: bool,
    /// Whether differences show what Secrets hold.
    pub secrets: Secrets,
}

/// What a backup is compared with.
#[derive(Clone, Copy)]
pub enum Against<'a> {
    /// Another backup.
    Backup(&'a OpenBackup),
    /// The live cluster.
    Cluster(&'a ApiClient),
}

/// Kinds of the cluster that are listed ahead of the comparison.
const LISTS_AHEAD: usize = 2;

/// Compares a backup with another one, or with the cluster. May be dropped at any moment.
///
/// # Errors
/// When a side cannot be read at all, the scope names no kind, or nothing of what was asked for is on either side. Single
/// objects and kinds that cannot be read stand in the result.
pub async fn diff(
    backup: &OpenBackup,
    against: Against<'_>,
    request: &DiffRequest,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Diff, DiffError> {
    progress.set_step("reading the index");
    let objects = backup.objects(progress, cancel).await?;
    progress.set_total(objects.directory().objects);
    let mut recorder = Recorder::new(backup.name().to_string())?;
    let wanted = match against {
        Against::Backup(other) => {
            let others = other.objects(progress, cancel).await?;
            let wanted = Wanted::new(
                request,
                &known_kinds(&objects, kinds_from_directory(others.directory())),
            )?;
            recorder.against_backup(other.name().to_string());
            warn_of_scopes(backup, other, &mut recorder);
            backups(&objects, &others, &wanted, progress, &mut recorder).await?;
            wanted
        }
        Against::Cluster(api) => {
            progress.set_step("looking at the cluster");
            let (identity, discovery) = tokio::try_join!(api.identity(), api.discover())?;
            let kinds = known_kinds(&objects, discovery.kinds.clone());
            let wanted = Wanted::new(request, &kinds)?;
            let (own, warning) = Own::of(backup, &kinds);
            recorder.warnings.extend(warning);
            warn_of_source(backup, &identity, &mut recorder);
            recorder.against_cluster(identity);
            let live = Live::look(api, discovery, own, &wanted).await?;
            cluster(&objects, &live, &wanted, progress, &mut recorder).await?;
            wanted
        }
    };
    for kind in &objects.directory().kinds {
        if wanted.passes_over(&kind.kind) {
            recorder.pass_over(kind.kind.resource_group());
        }
    }
    let missing: Vec<String> = wanted
        .filter()
        .missing_namespaces(&|name| recorder.has_seen(name))
        .map(|namespace| format!("neither side holds anything in namespace {namespace}"))
        .collect();
    recorder.warnings.extend(missing);
    let diff = recorder.finish()?;
    if let Some(what) = wanted
        .describe()
        .filter(|_| diff.counts.objects() == 0 && diff.not_compared.is_empty())
    {
        return Err(DiffError::Nothing {
            what,
            left: format!("backup {}", diff.left),
            right: diff.right_name(),
        });
    }
    Ok(diff)
}

/// Kinds of both sides, those of the right one first: a cluster knows short names that a backup does not. What the left
/// one holds is marked so.
fn known_kinds(left: &Objects, mut right: Vec<DiscoveredKind>) -> Vec<DiscoveredKind> {
    for kind in kinds_from_directory(left.directory()) {
        let mut is_known = false;
        for known in &mut right {
            if known.api.group == kind.api.group && known.api.plural == kind.api.plural {
                known.is_held = true;
                is_known = true;
            }
        }
        if !is_known {
            right.push(kind);
        }
    }
    right
}

/// Kinds of a backup by their resource group, as far as they are wanted.
fn kinds_of(objects: &Objects, wanted: &Wanted) -> BTreeMap<String, ApiKind> {
    let kinds = objects.directory().kinds.iter().map(|counted| &counted.kind);
    kinds
        .filter(|kind| wanted.takes_kind(kind))
        .map(|kind| (kind.resource_group(), kind.clone()))
        .collect()
}

async fn backups(
    left: &Objects,
    right: &Objects,
    wanted: &Wanted,
    progress: &Progress,
    recorder: &mut Recorder,
) -> Result<(), DiffError> {
    let (of_left, of_right) = (kinds_of(left, wanted), kinds_of(right, wanted));
    let mut kinds = of_right.clone();
    kinds.extend(of_left.clone());
    for (resource, kind) in &kinds {
        progress.set_step(&format!("comparing {resource}"));
        if let (Some(left), Some(right)) = (of_left.get(resource), of_right.get(resource))
            && left.version != right.version
        {
            recorder.warnings.push(format!(
                "{resource}: one backup holds version {}, the other {}; fields may differ by that alone",
                left.version, right.version
            ));
        }
        let merge = Merge {
            kind,
            wanted,
            left: of_left.contains_key(resource).then_some(left),
            right: if of_right.contains_key(resource) {
                Right::Backup(right)
            } else {
                Right::Nothing
            },
            progress,
        };
        merge.run(recorder).await?;
    }
    Ok(())
}

async fn cluster(
    left: &Objects,
    live: &Live,
    wanted: &Wanted,
    progress: &Progress,
    recorder: &mut Recorder,
) -> Result<(), DiffError> {
    let of_left = kinds_of(left, wanted);
    let kinds = live.kinds(&of_left, wanted, recorder);
    let mut spooled = stream::iter(&kinds)
        .map(|(resource, kind)| {
            let of_left = of_left.get(resource);
            async move {
                let listed = match kind {
                    Some(kind) => live.list(kind, wanted, progress).await?,
                    None => Spooled::default(),
                };
                Ok::<_, DiffError>((resource, of_left, kind.as_ref(), listed))
            }
        })
        .buffered(LISTS_AHEAD);
    while let Some(next) = spooled.next().await {
        let (resource, of_left, of_live, listed) = next?;
        let Some(kind) = of_left.or(of_live) else { continue };
        progress.set_step(&format!("comparing {resource}"));
        for fault in &listed.faults {
            recorder.not_compared(resource.clone(), fault.clone());
        }
        let merge = Merge {
            kind,
            wanted,
            left: of_left.map(|_| left),
            right: match of_live {
                Some(served) => Right::Cluster { live, served, listed },
                None if live.is_dead(kind) => Right::Unknown,
                None => Right::Nothing,
            },
            progress,
        };
        merge.run(recorder).await?;
    }
    Ok(())
}

/// Two backups of different scopes differ by what was asked for.
fn warn_of_scopes(left: &OpenBackup, right: &OpenBackup, recorder: &mut Recorder) {
    let scope =
        |backup: &OpenBackup| -> Result<Scope, StoredScopeError> { Scope::of_backup(&backup.backup().spec) };
    if !matches!((scope(left), scope(right)), (Ok(left), Ok(right)) if left == right) {
        recorder.warnings.push(format!(
            "backups {} and {} were made with different scopes, so that an object on one side only may just not have been \
             asked for on the other; `kubectl backup describe` shows the scopes",
            left.name(),
            right.name()
        ));
    }
    for backup in [left, right] {
        warn_of_phase(backup, recorder);
    }
}

fn warn_of_source(backup: &OpenBackup, cluster: &ClusterIdentity, recorder: &mut Recorder) {
    let source = backup.backup().source();
    if !source.cluster_uid.is_empty() && source.cluster_uid != cluster.uid {
        recorder.warnings.push(format!(
            "backup {} is of cluster {} ({}), this is cluster {} ({})",
            backup.name(),
            source.cluster_name,
            source.cluster_uid,
            cluster.name,
            cluster.uid
        ));
    }
    warn_of_phase(backup, recorder);
}

fn warn_of_phase(backup: &OpenBackup, recorder: &mut Recorder) {
    let phase = &backup.backup().status.phase;
    if *phase != velero_model::phase::Phase::Completed {
        recorder.warnings.push(format!(
            "backup {name} is {phase}: what it lacks looks as if it had not been there; `kubectl backup describe {name}` \
             names it",
            name = backup.name()
        ));
    }
}
