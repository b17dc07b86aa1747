//! The work on the backup storage of one cluster whose deletion has begun: what was chosen is done, and proven.
//!
//! In comes the name of a ConfigMap with an order ([`velero_model::api::storage_work`]); out goes a report beside it. The
//! last backup comes first, then everything is deleted or kept. Before anything is done, and again before each thing that is
//! deleted, the order is read anew and the cluster is looked at: only one that is going, that is held for this very choice
//! and that nobody has moved is worked for. Later code may rely on: repeating it after any interruption goes on where it
//! was, and what is reported was seen in the storage itself.

mod account;
mod erase;
mod final_backup;
mod keep;
mod stop;

use std::sync::Arc;

use backup_plan::disposition::{Accepted, Cluster, accepted, name_of};
use tokio_util::sync::CancellationToken;
use velero_model::{
    api::{
        BackupStorage, FinalBackup, SOURCE,
        storage_work::{StorageOrder, StorageReport, WorkPhase, reason},
    },
    resource::ApiKind,
};

use self::account::Account;
pub use self::stop::Stop;
use super::{Clusters, Workload};
use crate::{
    api::{ApiClient, ApiError},
    location::Location,
    progress::Progress,
    storage::Bucket,
};

/// An opened place: the folder of one cluster.
pub struct Place {
    /// The location, the cluster's prefix included.
    pub location: Location,
    /// The same, opened.
    pub bucket: Arc<dyn Bucket>,
}

/// Who works.
pub struct Worker<'a> {
    /// The management cluster.
    pub api: &'a ApiClient,
    /// Version of this program.
    pub tool_version: &'a str,
    /// Namespace in which a Velero of the cluster would live.
    pub velero_namespace: &'a str,
    /// For the terminal, or the log.
    pub progress: &'a Arc<Progress>,
    /// Told to stop.
    pub cancel: &'a CancellationToken,
}

/// How it ended.
#[derive(Debug)]
pub enum Carried {
    /// As the report says; it is written down.
    Reported(Box<StorageReport>),
    /// The order is another one now; whoever wrote that starts the work for it.
    OrderChanged,
}

impl Worker<'_> {
    /// Carries the order in the ConfigMap `name` out. `open` turns its location into a place, or says why that cannot be.
    ///
    /// # Errors
    /// When the management cluster cannot be asked or told, when there is no such order, and [`Stop::Interrupted`]. What
    /// stands in the way of the work itself is reported.
    pub async fn carry_out(
        &self,
        name: &str,
        open: impl AsyncFnOnce(&StorageOrder) -> Result<Place, Stop>,
    ) -> Result<Carried, Stop> {
        let mut account = Account::open(self.api, name).await?;
        // Proof stays as it is, also when the cluster that it let go is gone.
        if account.report.is_proof_for(&account.order) {
            return Ok(Carried::Reported(Box::new(account.report)));
        }
        match Box::pin(self.work(&mut account, open)).await {
            Ok(()) => {}
            Err(Stop::Blocked { reason, message }) => {
                account.end(WorkPhase::Blocked, reason, message).await?;
            }
            Err(Stop::Failed { reason, message }) => account.end(WorkPhase::Failed, reason, message).await?,
            Err(Stop::OrderChanged) => return Ok(Carried::OrderChanged),
            Err(other) => return Err(other),
        }
        Ok(Carried::Reported(Box::new(account.report)))
    }

    async fn work(
        &self,
        account: &mut Account<'_>,
        open: impl AsyncFnOnce(&StorageOrder) -> Result<Place, Stop>,
    ) -> Result<(), Stop> {
        self.is_owed(account.kind.as_ref(), &account.order).await?;
        let place = open(&account.order).await?;
        account.working("looking at the storage").await?;
        let workload = {
            let cluster = &account.order.cluster;
            Workload::find(self.api, &cluster.namespace, &cluster.name).await?
        };
        identify(account, &workload)?;
        if account.order.final_backup == FinalBackup::Required {
            final_backup::take(self, account, &place, &workload).await?;
        }
        match account.order.choice {
            BackupStorage::Delete => erase::everything(self, account, &place, &workload).await,
            BackupStorage::Retain => keep::everything(self, account, &place, &workload).await,
        }
    }

    /// Whether the cluster of the order is there, is going, is held by us and was let go with this choice.
    async fn is_owed(&self, kind: Option<&ApiKind>, order: &StorageOrder) -> Result<(), Stop> {
        let wanted = &order.cluster;
        let found = match kind {
            Some(kind) => Clusters::new(self.api.clone())
                .get(kind, &wanted.namespace, &wanted.name)
                .await
                .map_err(Stop::of_clusters)?,
            None => None,
        };
        let problem = match found.as_ref().map(|found| &found.cluster) {
            None => Some("there is no such cluster".to_owned()),
            Some(cluster) => not_owed(cluster, order),
        };
        match problem {
            None => Ok(()),
            Some(problem) => Err(Stop::Blocked {
                reason: reason::INVALID_ORDER,
                message: format!(
                    "nothing is done for {} {}/{} (uid {}): {problem}",
                    wanted.kind.to_lowercase(),
                    wanted.namespace,
                    wanted.name,
                    wanted.uid
                ),
            }),
        }
    }

    /// Goes on only if the order still stands, the cluster still waits for it, and nobody wants this to stop.
    async fn still(&self, account: &Account<'_>) -> Result<(), Stop> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Interrupted);
        }
        account.still_stands().await?;
        self.is_owed(account.kind.as_ref(), &account.order).await
    }
}

/// Whose backups are the cluster's: what was recorded when it was protected, else what it says itself. Where these differ,
/// nothing is deleted.
fn identify(account: &mut Account<'_>, workload: &Workload) -> Result<(), Stop> {
    let recorded = account
        .order
        .source
        .clone()
        .or_else(|| account.report.source.clone());
    let found = workload.uid();
    if let (Some(recorded), Some(found)) = (&recorded, found)
        && recorded != found
        && (account.order.choice == BackupStorage::Delete
            || account.order.final_backup == FinalBackup::Required)
    {
        return Err(Stop::blocked(
            reason::SOURCE_UNKNOWN,
            format!(
                "the cluster was protected as the one with identity {recorded}, and its kubeconfig leads to {found}; whoever may \
                 decide says which is right with annotation {SOURCE} on the cluster"
            ),
        ));
    }
    account.report.source = recorded.or_else(|| found.map(str::to_owned));
    Ok(())
}

/// Why nothing is owed to this cluster.
fn not_owed(cluster: &Cluster, order: &StorageOrder) -> Option<String> {
    if cluster.uid != order.cluster.uid {
        return Some(format!("{} has uid {} now", name_of(cluster), cluster.uid));
    }
    if cluster.is_marked_as_moved() {
        return Some("it was moved to another management cluster".to_owned());
    }
    if !cluster.is_dying() || !cluster.has_finalizer() {
        return Some("it is not being deleted, or not held for its backups".to_owned());
    }
    (accepted(cluster) != Some(Accepted::Storage(order.choice))).then(|| {
        format!(
            "what was accepted for it is not {}; the admission suite writes another order when that has changed",
            order.choice.word()
        )
    })
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Management(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use velero_model::api::{
        ACCEPTED, DELETE_FOR_MOVE, FINALIZER,
        storage_work::{FORMAT, OrderedCluster},
    };

    fn order(choice: BackupStorage) -> StorageOrder {
        StorageOrder {
            format: FORMAT,
            revision: 1,
            cluster: OrderedCluster {
                group: "cluster.x-k8s.io".into(),
                kind: "Cluster".into(),
                namespace: "team-a".into(),
                name: "prod".into(),
                uid: "u".into(),
            },
            source: None,
            location: "main".into(),
            prefix: "team-a/prod".into(),
            choice,
            retain_for: None,
            final_backup: FinalBackup::Skip,
            when_locked: velero_model::api::WhenLocked::Wait,
            decided_by: Vec::new(),
            decided_at: None,
        }
    }

    #[test]
    fn only_a_cluster_that_waits_for_this_very_choice_is_worked_for() {
        let waiting = || Cluster {
            kind: "Cluster".into(),
            namespace: "team-a".into(),
            name: "prod".into(),
            uid: "u".into(),
            deletion: Some("2026-11-25T01:00:00Z".parse().unwrap()),
            finalizers: vec![FINALIZER.into()],
            annotations: [(ACCEPTED.to_owned(), "Delete/u".to_owned())].into(),
            ..Cluster::default()
        };
        let with = |change: fn(&mut Cluster)| {
            let mut cluster = waiting();
            change(&mut cluster);
            cluster
        };
        let table = [
            (waiting(), None),
            (with(|cluster| cluster.uid = "v".into()), Some("uid v now")),
            (with(|cluster| cluster.deletion = None), Some("not being deleted")),
            (with(|cluster| cluster.finalizers.clear()), Some("not held")),
            (
                with(|cluster| {
                    cluster.annotations.insert(DELETE_FOR_MOVE.into(), String::new());
                }),
                Some("moved"),
            ),
            (with(|cluster| cluster.annotations.clear()), Some("not Delete")),
            (
                with(|cluster| {
                    cluster.annotations.insert(ACCEPTED.into(), "Retain/u".into());
                }),
                Some("not Delete"),
            ),
            (
                with(|cluster| {
                    cluster.annotations.insert(ACCEPTED.into(), "Delete/v".into());
                }),
                Some("not Delete"),
            ),
        ];
        for (number, (cluster, expected)) in table.into_iter().enumerate() {
            let found = not_owed(&cluster, &order(BackupStorage::Delete));
            match expected {
                None => assert_eq!(found, None, "row {number}"),
                Some(expected) => assert!(found.unwrap().contains(expected), "row {number}"),
            }
        }
    }
}
