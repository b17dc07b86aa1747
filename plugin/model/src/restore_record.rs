//! Our record of a restore: `restores/<r>/restore-<r>.json`.
//!
//! What was asked, into which cluster, and what came of each kind. Per-object results stand in Velero's
//! `resource-list.json` and `results` files beside it. It is deleted with its backup.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{outcome::Hooks, phase::Phase, time};

/// One restore.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreRecord {
    /// Version of the document, 1.
    pub version: u32,
    /// Name of the restore.
    pub name: String,
    /// Name of the backup.
    pub backup: String,
    /// Begin of the backup: another one of its name has another.
    #[serde(with = "time::optional_seconds")]
    pub backup_started: Option<Timestamp>,
    /// UID of `kube-system` of the target cluster.
    pub target_cluster_uid: String,
    /// Name of the target cluster.
    pub target_cluster_name: String,
    /// Version of the tool.
    pub tool_version: String,
    /// Id of the run that wrote this.
    pub run_id: String,
    /// What was asked for, as the command line understood it.
    pub request: Value,
    /// State.
    pub phase: Phase,
    /// Begin.
    #[serde(with = "time::optional_seconds")]
    pub started: Option<Timestamp>,
    /// End.
    #[serde(with = "time::optional_seconds")]
    pub completed: Option<Timestamp>,
    /// Results by resource.
    pub kinds: BTreeMap<String, KindResult>,
    /// Commands that were run in pods.
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Number of errors.
    pub errors: u64,
    /// Number of warnings.
    pub warnings: u64,
}

/// What became of the objects of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KindResult {
    /// Made anew.
    pub created: u64,
    /// Changed to what the backup holds.
    pub updated: u64,
    /// There already, and the same.
    pub unchanged: u64,
    /// There already, different, and left alone.
    pub differs: u64,
    /// Left out, by rule.
    pub skipped: BTreeMap<String, u64>,
    /// Refused by the server or lost on the way.
    pub failed: u64,
}

impl KindResult {
    /// Objects left out by rules.
    pub fn skipped_count(&self) -> u64 {
        self.skipped.values().sum()
    }

    /// All objects of the kind.
    pub fn total(&self) -> u64 {
        self.created + self.updated + self.unchanged + self.differs + self.skipped_count() + self.failed
    }
}

impl RestoreRecord {
    /// Sums over all kinds.
    pub fn totals(&self) -> KindResult {
        let mut totals = KindResult::default();
        for kind in self.kinds.values() {
            totals.created += kind.created;
            totals.updated += kind.updated;
            totals.unchanged += kind.unchanged;
            totals.differs += kind.differs;
            totals.failed += kind.failed;
            for (rule, count) in &kind.skipped {
                *totals.skipped.entry(rule.clone()).or_default() += count;
            }
        }
        totals
    }
}
