//! The work on a cluster's backups, as `cluster status` shows it, and clusters of which only that is left.

use std::fmt::Write;

use backup_engine::clusters::{Clusters, ClustersError, WorkSeen};
use backup_plan::human;
use serde::Serialize;
use velero_model::api::{
    FinalBackup,
    storage_work::{StorageReport, WorkPhase},
};

use super::{Answer, Row};
use crate::{
    exit::Failure,
    session::Session,
    view::{self, count},
};

/// What is being done or was done.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Work {
    choice: &'static str,
    decided_by: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<StorageReport>,
}

/// All that is known; nothing where that may not be read, which is said.
pub(super) async fn seen(session: &Session, clusters: &Clusters) -> Result<Vec<WorkSeen>, Failure> {
    match session.unless_interrupted(clusters.work_seen()).await {
        Err(Failure::Clusters(ClustersError::Api(error))) if error.is_forbidden() => {
            view::warn(&format!(
                "what was done to the backups of clusters that went is not shown: {error}"
            ));
            Ok(Vec::new())
        }
        other => other,
    }
}

impl Work {
    pub(super) fn of(seen: &WorkSeen) -> Self {
        Self {
            choice: seen.order.choice.word(),
            decided_by: seen.order.decided_by.clone(),
            // What is said about an order that does not stand any more would be misread.
            report: seen
                .report
                .clone()
                .filter(|report| report.revision == seen.order.revision),
        }
    }

    /// For the table.
    pub(super) fn word(&self) -> String {
        let Some(report) = &self.report else {
            return "Ordered".to_owned();
        };
        match report.phase {
            WorkPhase::Blocked | WorkPhase::Failed => format!("{:?}: {}", report.phase, report.reason),
            phase => format!("{phase:?}"),
        }
    }

    /// Below the table.
    pub(super) fn explained(&self) -> String {
        let by = match self.decided_by.as_slice() {
            [] => String::new(),
            authors => format!(", chosen by {}", authors.join(", ")),
        };
        let Some(report) = &self.report else {
            return format!(
                "its backups: {} is ordered{by}; a Job begins in a moment\n",
                self.choice
            );
        };
        let receipt = &report.receipt;
        let word = match report.phase {
            WorkPhase::Deleted => "deleted",
            WorkPhase::Retained => "kept",
            WorkPhase::FinalBackup => "the last one is being taken",
            WorkPhase::Working => "being worked on",
            WorkPhase::Blocked => "held up",
            WorkPhase::Failed => "failed, and tried again",
        };
        let mut text = format!(
            "its backups: {word}{by}: {}, {}, {}, begun {}, ended {}\n  {}\n",
            count(receipt.backups, "backup"),
            count(receipt.keys, "key"),
            human::bytes(receipt.bytes),
            view::when(Some(report.started_at)),
            view::when(report.finished_at),
            view::plain(&report.message)
        );
        if let Some(last) = &report.final_backup {
            let state = if last.verified {
                "read back and whole"
            } else {
                "not whole"
            };
            let _ = writeln!(text, "  last backup: {} ({}), {state}", last.name, last.phase);
        }
        for locked in &receipt.left.locked {
            let until = view::when(locked.until);
            let _ = writeln!(text, "  locked until {until}: {}", view::plain(&locked.key));
        }
        for snapshot in &receipt.left.snapshots {
            let _ = writeln!(text, "  left outside the storage: {}", view::plain(snapshot));
        }
        text
    }
}

/// A cluster that is gone.
pub(super) fn row(seen: &WorkSeen) -> Row {
    let order = &seen.order;
    let cluster = &order.cluster;
    Row {
        cluster: cluster.clone(),
        protected: false,
        location: Some(format!("{}:{}", order.location, order.prefix)),
        at_stake: None,
        counted_now: false,
        decision: Some(order.choice.word()),
        authors: order.decided_by.clone(),
        accepted: true,
        final_backup: order.final_backup == FinalBackup::Required,
        expires: None,
        deletion: Answer {
            allowed: true,
            why: "it is gone".to_owned(),
            commands: Vec::new(),
        },
        work: Some(Work::of(seen)),
        gone: true,
        short: format!("{}/{}", cluster.kind.to_lowercase(), cluster.name),
    }
}
