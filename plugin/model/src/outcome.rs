//! The account of a backup: what was seen, stored, skipped and why, per kind.
//!
//! The sums must meet: for every kind, what was seen is what was stored, skipped by a named rule, or failed. A backup
//! whose sums do not meet is not clean. Volumes and hooks have their sections from the first version on, because old
//! backups cannot be given one later.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{resource::ApiKind, source::Source, time};

/// Names that one rule lists per kind before it only counts.
pub const EXAMPLES: usize = 20;

/// Account of one backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outcome {
    /// Version of the document, 1.
    pub version: u32,
    /// Where the backup came from.
    pub source: Source,
    /// Begin.
    #[serde(with = "time::optional_seconds")]
    pub started: Option<Timestamp>,
    /// End.
    #[serde(with = "time::optional_seconds")]
    pub completed: Option<Timestamp>,
    /// Kinds that were listed.
    pub kinds: Vec<KindOutcome>,
    /// Kinds that were not listed, each with the rule or error.
    pub not_listed: Vec<NotListed>,
    /// Related objects that were taken although the scope did not name them: reason to number.
    pub related: BTreeMap<String, u64>,
    /// Things that a reader should know and that lost no object.
    pub warnings: Vec<String>,
    /// Volumes.
    pub volumes: Volumes,
    /// Hooks.
    pub hooks: Hooks,
}

/// Account of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindOutcome {
    /// The kind.
    #[serde(flatten)]
    pub kind: ApiKind,
    /// Objects that the server listed.
    pub seen: u64,
    /// Objects in the archive.
    pub stored: u64,
    /// Objects left out, by rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// Objects that could not be stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedObject>,
    /// Whether the list shows one moment; `false` when a continue token expired on the way.
    pub point_in_time: bool,
    /// Resource version of the list's first page.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// What ended the list early. Objects after that are missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Objects that one rule left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Stable id of the rule.
    pub rule: String,
    /// Number of objects.
    pub count: u64,
    /// The first [`EXAMPLES`] of them as `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

/// An object that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedObject {
    /// `namespace/name` or `name`.
    pub object: String,
    /// Why.
    pub error: String,
}

/// A kind, or an API group, that was not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotListed {
    /// `deployments.apps/v1`, or `group metrics.k8s.io/v1beta1`.
    pub what: String,
    /// Stable id of the rule, or `error`.
    pub rule: String,
    /// A sentence for people.
    pub reason: String,
    /// Whether objects may be missing because of it.
    pub is_error: bool,
}

/// What became of the volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volumes {
    /// Whether volume data was to be stored at all.
    pub data: bool,
    /// One entry a volume.
    pub items: Vec<VolumeOutcome>,
}

/// What became of one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeOutcome {
    /// Namespace of pod or claim.
    pub namespace: String,
    /// Pod, if the volume was reached through one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Name of the volume in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// How it was stored, or the rule that left it out.
    pub rule: String,
    /// Snapshot in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Bytes in the volume.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that were new.
    #[serde(default)]
    pub new_bytes: u64,
    /// Files that could not be read.
    #[serde(default)]
    pub failed_files: u64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What became of the hooks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Hooks that were run.
    pub attempted: u64,
    /// Hooks that failed.
    pub failed: u64,
    /// One entry a hook.
    pub items: Vec<HookOutcome>,
}

impl Hooks {
    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// What became of one hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookOutcome {
    /// Namespace of the pod.
    pub namespace: String,
    /// Pod.
    pub pod: String,
    /// Container.
    pub container: String,
    /// `pre` or `post`.
    pub phase: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl KindOutcome {
    /// An account with nothing in it yet.
    pub fn new(kind: ApiKind) -> Self {
        Self {
            kind,
            seen: 0,
            stored: 0,
            skipped: Vec::new(),
            failed: Vec::new(),
            point_in_time: true,
            resource_version: String::new(),
            error: None,
        }
    }

    /// Counts an object that a rule leaves out.
    pub fn skip(&mut self, rule: &str, object: impl FnOnce() -> String) {
        let position = match self.skipped.iter().position(|skipped| skipped.rule == rule) {
            Some(position) => position,
            None => {
                self.skipped.push(Skipped {
                    rule: rule.to_owned(),
                    count: 0,
                    examples: Vec::new(),
                });
                self.skipped.len() - 1
            }
        };
        if let Some(skipped) = self.skipped.get_mut(position) {
            skipped.count += 1;
            if skipped.examples.len() < EXAMPLES {
                skipped.examples.push(object());
            }
        }
    }

    /// Counts objects that a rule leaves out and whose names are not known.
    pub fn skip_many(&mut self, rule: &str, count: u64) {
        if count == 0 {
            return;
        }
        match self.skipped.iter_mut().find(|skipped| skipped.rule == rule) {
            Some(skipped) => skipped.count += count,
            None => self.skipped.push(Skipped {
                rule: rule.to_owned(),
                count,
                examples: Vec::new(),
            }),
        }
    }

    /// Objects left out by rules.
    pub fn skipped_count(&self) -> u64 {
        self.skipped.iter().map(|skipped| skipped.count).sum()
    }

    /// Whether every object that was seen is accounted for.
    pub fn sums_meet(&self) -> bool {
        self.seen == self.stored + self.skipped_count() + self.failed.len() as u64
    }
}

impl Outcome {
    /// Objects in the archive.
    pub fn stored(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.stored).sum()
    }

    /// Objects that were seen.
    pub fn seen(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.seen).sum()
    }

    /// Every error as a sentence: lists that broke off, objects that failed, groups that could not be listed, sums that
    /// do not meet.
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for kind in &self.kinds {
            let name = kind.kind.resource_group();
            errors.extend(kind.error.iter().map(|error| format!("{name}: {error}")));
            errors.extend(
                kind.failed
                    .iter()
                    .map(|failed| format!("{name} {}: {}", failed.object, failed.error)),
            );
            if !kind.sums_meet() {
                errors.push(format!(
                    "{name}: {} objects seen, but {} stored, {} skipped and {} failed",
                    kind.seen,
                    kind.stored,
                    kind.skipped_count(),
                    kind.failed.len()
                ));
            }
        }
        errors.extend(
            self.not_listed
                .iter()
                .filter(|n| n.is_error)
                .map(|n| format!("{}: {}", n.what, n.reason)),
        );
        for volume in &self.volumes.items {
            let name = volume
                .claim
                .as_deref()
                .or(volume.volume.as_deref())
                .unwrap_or("?");
            errors.extend(
                volume
                    .error
                    .iter()
                    .map(|error| format!("volume {}/{name}: {error}", volume.namespace)),
            );
        }
        for hook in &self.hooks.items {
            errors.extend(
                hook.error
                    .iter()
                    .map(|error| format!("hook of {}/{}: {error}", hook.namespace, hook.pod)),
            );
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_do_not_meet_are_an_error() {
        let mut kind = KindOutcome::new(ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: "pods".into(),
            kind: "Pod".into(),
            namespaced: true,
        });
        kind.seen = 31;
        kind.stored = 1;
        for n in 0..30 {
            kind.skip("exclude-label", || format!("a/{n}"));
        }
        assert_eq!(kind.skipped[0].examples.len(), EXAMPLES);
        assert!(kind.sums_meet());
        kind.seen = 32;
        let outcome = Outcome {
            kinds: vec![kind],
            ..Outcome::default()
        };
        assert_eq!(
            outcome.errors(),
            ["pods: 32 objects seen, but 1 stored, 30 skipped and 0 failed"]
        );
    }
}
