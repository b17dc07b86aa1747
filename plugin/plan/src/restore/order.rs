//! The order in which a restore writes kinds.
//!
//! In comes a kind, out goes its [`Rank`]: a wave and a position in it. A wave starts when the one before is finished;
//! inside a wave kinds with the same position go in parallel and positions go one after another.
//!
//! Why this order: definitions and namespaces are what everything else needs. Access rights, classes and quotas' neighbours
//! come before anything that is admitted against them; limit ranges and quotas come after the configuration they would
//! count, and before pods. Volumes come before claims, so that a claim finds its volume. Network policies and services come
//! before workloads, so that no pod runs unprotected or unreachable. Owners come before the owned (Velero starts with pods
//! and lets controllers adopt them); references can then carry the new UIDs. The engine makes one exception, for ReplicaSets
//! of new Deployments. Custom resources come when everything they
//! may refer to is there. What intercepts API requests comes last: a webhook whose pods are not up would refuse the rest.

use serde::{Deserialize, Serialize};
use velero_model::resource::ApiKind;

use crate::kinds::is_built_in_group;

/// The waves, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wave {
    /// Custom resource definitions; the next wave waits until they are established.
    CustomResourceDefinitions,
    /// Namespaces.
    Namespaces,
    /// Classes, access rights and other things that objects are admitted against.
    ClusterBasics,
    /// Storage classes, volumes, claims.
    Storage,
    /// Service accounts, secrets, config maps, then limit ranges and quotas.
    Configuration,
    /// Network policies and services, controllers, what controllers own, pods.
    Workloads,
    /// Objects of kinds that are not built in.
    CustomResources,
    /// What intercepts API requests.
    Last,
}

impl Wave {
    /// The stable id, as in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::CustomResourceDefinitions => "custom-resource-definitions",
            Self::Namespaces => "namespaces",
            Self::ClusterBasics => "cluster-basics",
            Self::Storage => "storage",
            Self::Configuration => "configuration",
            Self::Workloads => "workloads",
            Self::CustomResources => "custom-resources",
            Self::Last => "last",
        }
    }
}

/// Place of a kind in a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rank {
    /// The wave.
    pub wave: Wave,
    /// The place inside it.
    pub position: u8,
}

/// The kinds that go together, as plural and group.
type Position = &'static [(&'static str, &'static str)];

const TABLE: &[(Wave, &[Position])] = &[
    (
        Wave::CustomResourceDefinitions,
        &[&[("customresourcedefinitions", "apiextensions.k8s.io")]],
    ),
    (Wave::Namespaces, &[&[("namespaces", "")]]),
    (
        Wave::ClusterBasics,
        &[
            &[
                ("priorityclasses", "scheduling.k8s.io"),
                ("runtimeclasses", "node.k8s.io"),
                ("ingressclasses", "networking.k8s.io"),
                ("prioritylevelconfigurations", "flowcontrol.apiserver.k8s.io"),
                ("clusterroles", "rbac.authorization.k8s.io"),
                ("roles", "rbac.authorization.k8s.io"),
            ],
            &[
                ("flowschemas", "flowcontrol.apiserver.k8s.io"),
                ("clusterrolebindings", "rbac.authorization.k8s.io"),
                ("rolebindings", "rbac.authorization.k8s.io"),
            ],
        ],
    ),
    (
        Wave::Storage,
        &[
            &[
                ("storageclasses", "storage.k8s.io"),
                ("csidrivers", "storage.k8s.io"),
                ("volumeattributesclasses", "storage.k8s.io"),
                ("volumesnapshotclasses", "snapshot.storage.k8s.io"),
            ],
            &[
                ("persistentvolumes", ""),
                ("volumesnapshotcontents", "snapshot.storage.k8s.io"),
            ],
            &[("volumesnapshots", "snapshot.storage.k8s.io")],
            &[("persistentvolumeclaims", "")],
        ],
    ),
    (
        Wave::Configuration,
        &[
            &[("serviceaccounts", "")],
            &[("secrets", ""), ("configmaps", "")],
            &[("limitranges", "")],
            &[("resourcequotas", "")],
        ],
    ),
    (
        Wave::Workloads,
        &[
            &[
                ("networkpolicies", "networking.k8s.io"),
                ("poddisruptionbudgets", "policy"),
                ("podtemplates", ""),
                ("services", ""),
            ],
            &[
                ("deployments", "apps"),
                ("statefulsets", "apps"),
                ("daemonsets", "apps"),
                ("replicationcontrollers", ""),
                ("cronjobs", "batch"),
                ("ingresses", "networking.k8s.io"),
                ("endpoints", ""),
                ("endpointslices", "discovery.k8s.io"),
            ],
            &[
                ("replicasets", "apps"),
                ("jobs", "batch"),
                ("controllerrevisions", "apps"),
                ("horizontalpodautoscalers", "autoscaling"),
            ],
            &[("pods", "")],
        ],
    ),
    (
        Wave::Last,
        &[
            &[("apiservices", "apiregistration.k8s.io")],
            &[
                ("validatingadmissionpolicies", "admissionregistration.k8s.io"),
                ("mutatingadmissionpolicies", "admissionregistration.k8s.io"),
            ],
            &[
                (
                    "validatingadmissionpolicybindings",
                    "admissionregistration.k8s.io",
                ),
                ("mutatingadmissionpolicybindings", "admissionregistration.k8s.io"),
                ("mutatingwebhookconfigurations", "admissionregistration.k8s.io"),
                ("validatingwebhookconfigurations", "admissionregistration.k8s.io"),
            ],
        ],
    ),
];

/// After every position of a table.
const AFTER_ALL: u8 = u8::MAX;

/// The place of a kind. Kinds that the table does not name go to the end of their wave: custom ones to the custom
/// resources, built-in cluster-scoped ones to the basics, built-in namespaced ones to the workloads.
pub fn rank(kind: &ApiKind) -> Rank {
    // Old backups hold workloads under `extensions`; they have the same place.
    let group = if kind.group == "extensions" {
        extensions_successor(&kind.plural)
    } else {
        &kind.group
    };
    for (wave, positions) in TABLE {
        for (position, kinds) in positions.iter().enumerate() {
            if kinds.contains(&(kind.plural.as_str(), group)) {
                return Rank {
                    wave: *wave,
                    position: u8::try_from(position).unwrap_or(AFTER_ALL),
                };
            }
        }
    }
    let wave = match (is_built_in_group(&kind.group), kind.namespaced) {
        (false, _) => Wave::CustomResources,
        (true, false) => Wave::ClusterBasics,
        (true, true) => Wave::Workloads,
    };
    Rank {
        wave,
        position: AFTER_ALL,
    }
}

fn extensions_successor(plural: &str) -> &'static str {
    match plural {
        "ingresses" | "networkpolicies" => "networking.k8s.io",
        _ => "apps",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::kinds::tests::kind;

    fn ranked(plural: &str, group: &str, namespaced: bool) -> Rank {
        rank(&kind(&format!("{group}/v1"), plural, "X", namespaced).api)
    }

    #[test]
    fn owner_kinds_come_before_the_owned() {
        for (owner, owned) in [
            (("deployments", "apps"), ("replicasets", "apps")),
            (("replicasets", "apps"), ("pods", "")),
            (("statefulsets", "apps"), ("pods", "")),
            (("statefulsets", "apps"), ("controllerrevisions", "apps")),
            (("daemonsets", "apps"), ("pods", "")),
            (("daemonsets", "apps"), ("controllerrevisions", "apps")),
            (("cronjobs", "batch"), ("jobs", "batch")),
            (("jobs", "batch"), ("pods", "")),
            (("replicationcontrollers", ""), ("pods", "")),
            (("services", ""), ("endpointslices", "discovery.k8s.io")),
            (("deployments", "extensions"), ("replicasets", "extensions")),
        ] {
            assert!(
                ranked(owner.0, owner.1, true) < ranked(owned.0, owned.1, true),
                "{owner:?} {owned:?}"
            );
        }
    }

    #[test]
    fn needed_kinds_come_before_those_that_need_them() {
        for (first, then) in [
            (
                ("customresourcedefinitions", "apiextensions.k8s.io"),
                ("orders", "shop.example.com"),
            ),
            (("namespaces", ""), ("configmaps", "")),
            (
                ("clusterroles", "rbac.authorization.k8s.io"),
                ("clusterrolebindings", "rbac.authorization.k8s.io"),
            ),
            (("storageclasses", "storage.k8s.io"), ("persistentvolumes", "")),
            (("persistentvolumes", ""), ("persistentvolumeclaims", "")),
            (("persistentvolumeclaims", ""), ("pods", "")),
            (("serviceaccounts", ""), ("secrets", "")),
            (("secrets", ""), ("pods", "")),
            (("configmaps", ""), ("resourcequotas", "")),
            (("resourcequotas", ""), ("pods", "")),
            (("networkpolicies", "networking.k8s.io"), ("deployments", "apps")),
            (("pods", ""), ("orders", "shop.example.com")),
            (
                ("orders", "shop.example.com"),
                ("apiservices", "apiregistration.k8s.io"),
            ),
            (
                ("apiservices", "apiregistration.k8s.io"),
                ("mutatingwebhookconfigurations", "admissionregistration.k8s.io"),
            ),
        ] {
            assert!(
                ranked(first.0, first.1, true) < ranked(then.0, then.1, true),
                "{first:?} {then:?}"
            );
        }
    }

    #[test]
    fn unlisted_kinds_have_a_wave() {
        assert_eq!(ranked("orders", "x.io", true).wave, Wave::CustomResources);
        assert_eq!(
            ranked("servicecidrs", "networking.k8s.io", false).wave,
            Wave::ClusterBasics
        );
        assert_eq!(
            ranked("leases", "coordination.k8s.io", true).wave,
            Wave::Workloads
        );
    }

    #[test]
    fn the_table_names_each_kind_once_and_waves_in_order() {
        let kinds: Vec<_> = TABLE
            .iter()
            .flat_map(|(_, positions)| positions.iter().copied().flatten())
            .collect();
        assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len());
        assert!(TABLE.is_sorted_by_key(|(wave, _)| *wave));
        for (wave, _) in TABLE {
            assert_eq!(serde_json::json!(wave), wave.id());
        }
    }
}
