//! Whether a running pod carries what today's rules give it, and whose pod it is.
//!
//! Pods are annotated when they are created, so a policy that comes or changes later leaves the running ones behind. In
//! comes a [`Decision`] about a pod as it is; out goes what its annotations lack ([`Drift`]). What no rule gives any more
//! is named and stays: names are never taken from a pod's list, since nobody can tell ours from its owner's.

use std::fmt;

use super::{Chooser, Decision, Fate, PodFacts};

/// The label by which Deployments tell their ReplicaSets apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What a pod's annotations lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Volumes that today's rules choose and the list lacks, in the order of the pod.
    pub added: Vec<String>,
    /// Value for `backup.velero.io/backup-volumes`.
    pub annotation: String,
    /// Value for `kubectl-backup.io/volumes-chosen-by`.
    pub chosen_by: String,
}

impl Decision<'_> {
    /// What the pod lacks; none when it is up to date.
    pub fn drift(&self) -> Option<Drift> {
        Some(Drift {
            annotation: self.annotation()?,
            chosen_by: self.chosen_by(),
            added: self
                .added()
                .map(|volume| volume.volume.name.to_string())
                .collect(),
        })
    }

    /// Volumes in the list of a pod that was annotated by rule, and that no rule gives any more. Perhaps its owner wrote them.
    pub fn no_longer_chosen(&self) -> Vec<String> {
        if self.pod.chosen_by.is_none() {
            return Vec::new();
        }
        self.volumes
            .iter()
            .filter(|volume| {
                volume.is_listed && (volume.included_by.is_empty() || !volume.excluded_by.is_empty())
            })
            .map(|volume| volume.volume.name.to_string())
            .collect()
    }

    /// Whether one of the volumes that the list lacks is chosen by this policy, perhaps beside others.
    pub fn adds_by(&self, policy: &str) -> bool {
        self.added().any(|volume| match volume.fate() {
            Fate::Chosen(choosers) => choosers
                .iter()
                .any(|chooser| matches!(chooser, Chooser::Policy(by) if by.name() == policy)),
            _ => false,
        })
    }
}

/// What a person would change to change the pod: its Deployment, its controller, or the pod itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Workload {
    /// Whose pod it is.
    pub fn of(pod: &PodFacts<'_>) -> Self {
        let Some(owner) = &pod.owner else {
            return Self {
                kind: "Pod".to_owned(),
                name: pod.display_name().to_owned(),
            };
        };
        // A Deployment names its ReplicaSets after itself and the hash that their pods carry.
        let deployment = pod
            .labels
            .get(TEMPLATE_HASH)
            .filter(|_| &*owner.kind == "ReplicaSet")
            .and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
        match deployment {
            Some(name) => Self {
                kind: "Deployment".to_owned(),
                name: name.to_owned(),
            },
            None => Self {
                kind: owner.kind.to_string(),
                name: owner.name.to_string(),
            },
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use velero_model::api::VolumeBackupPolicy;

    use super::*;
    use crate::volumes::{NamespaceFacts, Policy, Rules};

    fn rules(policies: &[(&str, Value)]) -> Rules {
        let compiled = policies.iter().map(|(name, spec)| {
            let policy: VolumeBackupPolicy = serde_json::from_value(json!({
                "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
                "metadata": { "name": name, "generation": 2 }, "spec": spec
            }))
            .unwrap();
            Policy::compile(&policy).unwrap()
        });
        Rules::new(compiled.collect(), [])
    }

    fn pod(annotations: &Value) -> String {
        json!({
            "metadata": { "name": "db-0", "namespace": "shop", "annotations": annotations },
            "spec": {
                "containers": [{ "volumeMounts": [{ "name": "data" }, { "name": "wal" }] }],
                "volumes": [
                    { "name": "data", "persistentVolumeClaim": { "claimName": "data-db-0" } },
                    { "name": "wal", "persistentVolumeClaim": { "claimName": "wal-db-0" } }
                ]
            }
        })
        .to_string()
    }

    fn check(rules: &Rules, annotations: &Value, expected: impl FnOnce(&Decision<'_>)) {
        let json = pod(annotations);
        let pod = PodFacts::parse(json.as_bytes()).unwrap();
        let namespace = NamespaceFacts {
            name: "shop",
            labels: None,
        };
        expected(&rules.decide(&pod, namespace, &|_| None));
    }

    #[test]
    fn a_pod_that_is_older_than_a_policy_lacks_its_volumes() {
        let rules = rules(&[("databases", json!({ "volumes": { "claimNames": ["data-*"] } }))]);
        check(
            &rules,
            &json!({ "backup.velero.io/backup-volumes": "wal" }),
            |decision| {
                let drift = decision.drift().unwrap();
                assert_eq!(drift.added, ["data"]);
                assert_eq!(drift.annotation, "wal,data");
                assert_eq!(drift.chosen_by, "databases@2");
                assert!(decision.adds_by("databases") && !decision.adds_by("others"));
                assert_eq!(decision.no_longer_chosen(), [""; 0]);
            },
        );
    }

    #[test]
    fn what_the_list_has_is_up_to_date() {
        let rules = rules(&[("databases", json!({ "volumes": { "claimNames": ["data-*"] } }))]);
        check(
            &rules,
            &json!({ "backup.velero.io/backup-volumes": "data" }),
            |decision| {
                assert_eq!(decision.drift(), None);
            },
        );
    }

    #[test]
    fn what_no_rule_gives_any_more_is_named_where_rules_have_written() {
        let rules = rules(&[
            (
                "databases",
                json!({ "volumes": { "claimNames": ["data-*", "wal-*"] } }),
            ),
            (
                "no-wal",
                json!({ "action": "Exclude", "volumes": { "claimNames": ["wal-*"] } }),
            ),
        ]);
        let listed = json!({ "backup.velero.io/backup-volumes": "data,wal" });
        check(&rules, &listed, |decision| {
            assert_eq!(decision.no_longer_chosen(), [""; 0]);
        });
        let listed = json!({
            "backup.velero.io/backup-volumes": "data,wal", "kubectl-backup.io/volumes-chosen-by": "databases@1"
        });
        check(&rules, &listed, |decision| {
            assert_eq!(decision.no_longer_chosen(), ["wal"]);
            assert_eq!(decision.drift(), None);
        });
    }

    #[test]
    fn pods_belong_to_what_a_person_would_change() {
        let of = |metadata: Value| {
            let json = json!({ "metadata": metadata }).to_string();
            Workload::of(&PodFacts::parse(json.as_bytes()).unwrap()).to_string()
        };
        let owned = |kind: &str, name: &str, hash: &str| {
            of(json!({
                "name": "web-5d9f-x", "labels": { "pod-template-hash": hash },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": kind, "name": name, "controller": true }]
            }))
        };
        assert_eq!(owned("ReplicaSet", "web-5d9f", "5d9f"), "Deployment/web");
        assert_eq!(owned("ReplicaSet", "web-5d9f", "other"), "ReplicaSet/web-5d9f");
        assert_eq!(owned("StatefulSet", "web", "5d9f"), "StatefulSet/web");
        assert_eq!(of(json!({ "name": "alone" })), "Pod/alone");
    }
}
