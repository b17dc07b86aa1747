//! The tables of what comparisons pass over: each entry a path and its reason, printed by the demo, and each entry needed
//! by some test.

use std::fmt;

use super::printed;

/// A path that may differ, and why. `*` stands for any key or position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ignored {
    /// The kinds it holds for, as `resource.group`; empty for all.
    pub resources: &'static [&'static str],
    /// From the top of the object; everything below belongs to it. Empty: the object itself may be missing or added.
    pub path: &'static [&'static str],
    /// For people.
    pub why: &'static str,
}

const fn ignored(
    resources: &'static [&'static str],
    path: &'static [&'static str],
    why: &'static str,
) -> Ignored {
    Ignored { resources, path, why }
}

/// For a backup against the cluster it was taken from, at rest: only what the API server itself writes all the time.
pub const AT_REST: &[Ignored] = &[
    ignored(
        &["leases.coordination.k8s.io"],
        &["metadata", "resourceVersion"],
        "leases are renewed all the time",
    ),
    ignored(
        &["leases.coordination.k8s.io"],
        &["metadata", "managedFields"],
        "leases are renewed all the time",
    ),
    ignored(
        &["leases.coordination.k8s.io"],
        &["spec", "renewTime"],
        "leases are renewed all the time",
    ),
];

const BOUND_BY_CONTROLLER: &[&str] = &["metadata", "annotations", "pv.kubernetes.io/bound-by-controller"];

const NEW_OBJECT: &str = "the server gives it to every new object";
const BOUND_AGAIN: &str = "names the claim, which is a new object";
const NEW_ADDRESS: &str = "allocated anew, as the old one may be taken";
const NEW_JOB: &str = "the job controller marks its pods by the job's new uid";
const NEW_TOKEN: &str = "tokens are bound to the service account's new uid";

/// For a cluster after a restore against the cluster before: what cannot or must not come back the same.
pub const RESTORED: &[Ignored] = &[
    ignored(&[], &["metadata", "uid"], NEW_OBJECT),
    ignored(&[], &["metadata", "resourceVersion"], NEW_OBJECT),
    ignored(&[], &["metadata", "creationTimestamp"], NEW_OBJECT),
    ignored(&[], &["metadata", "generation"], "counted by the server from 1"),
    ignored(
        &[],
        &["metadata", "managedFields"],
        "times and managers of the new writes",
    ),
    ignored(
        &[],
        &["metadata", "labels", "velero.io/backup-name"],
        "says where it was restored from",
    ),
    ignored(
        &[],
        &["metadata", "labels", "velero.io/restore-name"],
        "says where it was restored from",
    ),
    ignored(
        &[],
        &["metadata", "ownerReferences", "*", "uid"],
        "the owner is a new object",
    ),
    ignored(&[], &["status"], "written by controllers about the new object"),
    ignored(&["services"], &["spec", "clusterIP"], NEW_ADDRESS),
    ignored(&["services"], &["spec", "clusterIPs"], NEW_ADDRESS),
    ignored(&["services"], &["spec", "ports", "*", "nodePort"], NEW_ADDRESS),
    ignored(&["services"], &["spec", "healthCheckNodePort"], NEW_ADDRESS),
    ignored(&["persistentvolumes"], &["spec", "claimRef", "uid"], BOUND_AGAIN),
    ignored(
        &["persistentvolumes"],
        &["spec", "claimRef", "resourceVersion"],
        BOUND_AGAIN,
    ),
    ignored(
        &["persistentvolumes"],
        BOUND_BY_CONTROLLER,
        "the restore chose the claim",
    ),
    ignored(
        &["persistentvolumeclaims"],
        BOUND_BY_CONTROLLER,
        "the restore chose the volume",
    ),
    ignored(
        &["jobs.batch"],
        &[
            "spec",
            "selector",
            "matchLabels",
            "batch.kubernetes.io/controller-uid",
        ],
        NEW_JOB,
    ),
    ignored(
        &["jobs.batch"],
        &[
            "spec",
            "template",
            "metadata",
            "labels",
            "batch.kubernetes.io/controller-uid",
        ],
        NEW_JOB,
    ),
    ignored(
        &["jobs.batch"],
        &["spec", "template", "metadata", "labels", "controller-uid"],
        NEW_JOB,
    ),
    ignored(
        &["secrets"],
        &["metadata", "annotations", "kubernetes.io/service-account.uid"],
        NEW_TOKEN,
    ),
    ignored(&["secrets"], &["data", "token"], NEW_TOKEN),
    ignored(
        &["pods"],
        &[],
        "controllers make their pods anew, under new names",
    ),
    ignored(&["events"], &[], "history of the old objects"),
    ignored(
        &["endpointslices.discovery.k8s.io"],
        &[],
        "made anew for each Service, under a new name",
    ),
    ignored(
        &["ipaddresses.networking.k8s.io"],
        &[],
        "stands for a Service's address, which is allocated anew",
    ),
    ignored(
        &["endpoints"],
        &[
            "metadata",
            "annotations",
            "endpoints.kubernetes.io/last-change-trigger-time",
        ],
        "the controller's note on when the Service was made",
    ),
];

impl Ignored {
    pub(super) fn covers(&self, resource: &str, path: &[String]) -> bool {
        (self.resources.is_empty() || self.resources.contains(&resource))
            && self.path.len() <= path.len()
            && self
                .path
                .iter()
                .zip(path)
                .all(|(wanted, part)| *wanted == "*" || wanted == part)
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resources = if self.resources.is_empty() {
            "all".to_owned()
        } else {
            self.resources.join(", ")
        };
        let path = if self.path.is_empty() {
            "(the object)".to_owned()
        } else {
            printed(self.path)
        };
        write!(formatter, "{resources:<34} {path:<74} {}", self.why)
    }
}
