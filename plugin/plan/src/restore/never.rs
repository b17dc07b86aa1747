//! What a restore does not write, whatever the backup holds, and why.
//!
//! In comes an object of the backup and what is known around it; out goes `None` or the rule. Left out is what some
//! component of the cluster makes by itself and would fight over, what describes machines of the old cluster, and what has
//! finished. Velero's list is kept; beyond it, objects whose controller is restored are left to that controller.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use velero_model::resource::ApiKind;

use super::transform::{Owner, VolumeFate, owners_of, volume_fate};

/// Why an object is not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Never {
    /// Nodes and what nodes publish about themselves.
    NodeState,
    /// Events tell of the past.
    Event,
    /// Velero's own records belong to the backup's cluster.
    VeleroRecord,
    /// Attachments are made when pods are scheduled.
    VolumeAttachment,
    /// A pod or a job that has ended.
    Finished,
    /// The kubelet's image of a static pod.
    MirrorPod,
    /// Its controller is restored and makes it.
    MadeByController,
    /// A controller of the cluster makes it from a Service.
    MadeFromService,
    /// The API server or its controllers make it.
    MadeByCluster,
    /// The token of a service account is issued anew.
    IssuedToken,
    /// A heartbeat.
    NodeLease,
    /// Its data was not backed up and its volume is deleted with its claim: a new one is provisioned.
    VolumeProvisionedAnew,
    /// The volume of a claim that gets a new one with the data of the backup.
    VolumeFilledAnew,
}

impl Never {
    /// The stable id, as in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::NodeState => "node-state",
            Self::Event => "event",
            Self::VeleroRecord => "velero-record",
            Self::VolumeAttachment => "volume-attachment",
            Self::Finished => "finished",
            Self::MirrorPod => "mirror-pod",
            Self::MadeByController => "made-by-controller",
            Self::MadeFromService => "made-from-service",
            Self::MadeByCluster => "made-by-cluster",
            Self::IssuedToken => "issued-token",
            Self::NodeLease => "node-lease",
            Self::VolumeProvisionedAnew => "volume-provisioned-anew",
            Self::VolumeFilledAnew => "volume-filled-anew",
        }
    }
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeState => "it describes a node of the cluster that was backed up",
            Self::Event => "events tell of the past",
            Self::VeleroRecord => "it is Velero's record of another cluster's backups",
            Self::VolumeAttachment => "volumes are attached when pods are scheduled",
            Self::Finished => "it has ended",
            Self::MirrorPod => "it mirrors a static pod of a node",
            Self::MadeByController => "its controller is restored and makes it anew",
            Self::MadeFromService => "the cluster makes it from the Service",
            Self::MadeByCluster => "the cluster makes it by itself",
            Self::IssuedToken => "the cluster issues tokens of service accounts anew",
            Self::NodeLease => "it is a heartbeat of the cluster that was backed up",
            Self::VolumeFilledAnew => "its claim gets a new volume, which is filled with the data in the backup",
            Self::VolumeProvisionedAnew => {
                "its data is not in the backup and its reclaim policy is Delete: a new, empty volume is provisioned"
            }
        })
    }
}

/// What a rule has to know beyond the object. The defaults know nothing, so that everything is restored.
pub trait Surroundings {
    /// Whether the owner is restored too, or exists in the cluster already.
    fn has_owner(&self, owner: &Owner, namespace: &str) -> bool {
        let _ = (owner, namespace);
        false
    }

    /// Whether volumes of this pod are restored, for which the pod itself has to be written.
    fn restores_volumes_of(&self, namespace: &str, pod: &str) -> bool {
        let _ = (namespace, pod);
        false
    }

    /// Whether the data of this claim, by its names in the backup, is brought into a new volume.
    fn fills(&self, namespace: &str, claim: &str) -> bool {
        let _ = (namespace, claim);
        false
    }

    /// Whether the service account is restored or exists.
    fn has_service_account(&self, namespace: &str, name: &str) -> bool {
        let _ = (namespace, name);
        false
    }

    /// Whether the Service is in the backup or exists, with a selector.
    fn service_has_selector(&self, namespace: &str, name: &str) -> bool {
        let _ = (namespace, name);
        false
    }
}

/// Surroundings of which nothing is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Surroundings for Nothing {}

/// The rule that keeps a whole kind out. Asking for such a kind by name is a usage error.
pub fn kind_never_restored(kind: &ApiKind) -> Option<Never> {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "nodes") | ("storage.k8s.io", "csinodes") | ("resource.k8s.io", "resourceslices") => {
            Some(Never::NodeState)
        }
        ("" | "events.k8s.io", "events") => Some(Never::Event),
        ("velero.io", "backups" | "restores" | "resticrepositories" | "backuprepositories") => {
            Some(Never::VeleroRecord)
        }
        ("storage.k8s.io", "volumeattachments") => Some(Never::VolumeAttachment),
        ("internal.apiserver.k8s.io", "storageversions") => Some(Never::MadeByCluster),
        _ => None,
    }
}

/// The rule that keeps an object out, if any.
pub fn object_never_restored(kind: &ApiKind, object: &Value, around: &dyn Surroundings) -> Option<Never> {
    if let Some(rule) = kind_never_restored(kind) {
        return Some(rule);
    }
    let object = Object(object);
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod(object, around),
        ("batch", "jobs") => job(object, around),
        ("", "secrets") => secret(object, around),
        ("", "endpoints") | ("discovery.k8s.io", "endpointslices") => endpoints(object, around),
        ("", "services") if object.is_kubernetes_service() => Some(Never::MadeByCluster),
        ("", "configmaps") if object.name() == "kube-root-ca.crt" => Some(Never::MadeByCluster),
        ("", "persistentvolumes") if object.is_of_filled_claim(around) => Some(Never::VolumeFilledAnew),
        ("", "persistentvolumes") if volume_fate(object.0) == VolumeFate::ProvisionedAnew => {
            Some(Never::VolumeProvisionedAnew)
        }
        ("coordination.k8s.io", "leases") => lease(object),
        ("apiregistration.k8s.io", "apiservices") => object
            .label("kube-aggregator.kubernetes.io/automanaged")
            .map(|_| Never::MadeByCluster),
        ("scheduling.k8s.io", "priorityclasses") => object
            .name()
            .starts_with("system-")
            .then_some(Never::MadeByCluster),
        ("flowcontrol.apiserver.k8s.io", "flowschemas" | "prioritylevelconfigurations") => {
            (object.annotation("apf.kubernetes.io/autoupdate-spec") == Some("true"))
                .then_some(Never::MadeByCluster)
        }
        ("networking.k8s.io", "ipaddresses") => object
            .label("ipaddress.kubernetes.io/managed-by")
            .map(|_| Never::MadeByCluster),
        ("networking.k8s.io", "servicecidrs") => {
            (object.name() == "kubernetes").then_some(Never::MadeByCluster)
        }
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Object<'a>(&'a Value);

impl<'a> Object<'a> {
    fn text(self, pointer: &str) -> Option<&'a str> {
        self.0.pointer(pointer)?.as_str()
    }

    fn name(self) -> &'a str {
        self.text("/metadata/name").unwrap_or_default()
    }

    fn namespace(self) -> &'a str {
        self.text("/metadata/namespace").unwrap_or_default()
    }

    fn label(self, key: &str) -> Option<&'a str> {
        self.0.get("metadata")?.get("labels")?.get(key)?.as_str()
    }

    fn annotation(self, key: &str) -> Option<&'a str> {
        self.0.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    fn is_of_filled_claim(self, around: &dyn Surroundings) -> bool {
        let text = |pointer: &str| self.text(pointer).unwrap_or_default();
        around.fills(text("/spec/claimRef/namespace"), text("/spec/claimRef/name"))
    }

    fn controller(self) -> Option<Owner> {
        owners_of(self.0)
            .into_iter()
            .find(|owner| owner.controller == Some(true))
    }

    fn is_kubernetes_service(self) -> bool {
        self.namespace() == "default" && self.name() == "kubernetes"
    }

    fn made_by(self, around: &dyn Surroundings) -> bool {
        self.controller()
            .is_some_and(|owner| around.has_owner(&owner, self.namespace()))
    }
}

fn pod(pod: Object<'_>, around: &dyn Surroundings) -> Option<Never> {
    if pod.annotation("kubernetes.io/config.mirror").is_some() {
        Some(Never::MirrorPod)
    } else if matches!(pod.text("/status/phase"), Some("Succeeded" | "Failed")) {
        Some(Never::Finished)
    } else if pod.made_by(around) && !around.restores_volumes_of(pod.namespace(), pod.name()) {
        Some(Never::MadeByController)
    } else {
        None
    }
}

/// A failed Job has no completion time, and Velero runs it again; here a Job that has ended stays ended.
fn job(job: Object<'_>, around: &dyn Surroundings) -> Option<Never> {
    let is_true = |condition: &Value, kind| condition["type"] == kind && condition["status"] == "True";
    let conditions = job.0.pointer("/status/conditions").and_then(Value::as_array);
    let ended = conditions
        .into_iter()
        .flatten()
        .any(|condition| is_true(condition, "Complete") || is_true(condition, "Failed"));
    if ended
        || job
            .text("/status/completionTime")
            .is_some_and(|time| !time.is_empty())
    {
        Some(Never::Finished)
    } else {
        job.made_by(around).then_some(Never::MadeByController)
    }
}

/// The token secrets that clusters before 1.24 made for each service account; one that a user made has another name.
fn secret(secret: Object<'_>, around: &dyn Surroundings) -> Option<Never> {
    if secret.text("/type") != Some("kubernetes.io/service-account-token") {
        return None;
    }
    let account = secret.annotation("kubernetes.io/service-account.name")?;
    let made_by_controller = secret
        .name()
        .strip_prefix(account)
        .and_then(|rest| rest.strip_prefix("-token-"))
        .is_some_and(|suffix| !suffix.is_empty());
    (made_by_controller && around.has_service_account(secret.namespace(), account))
        .then_some(Never::IssuedToken)
}

fn endpoints(object: Object<'_>, around: &dyn Surroundings) -> Option<Never> {
    if object.is_kubernetes_service() {
        return Some(Never::MadeByCluster);
    }
    let managed_by = object
        .label("endpointslice.kubernetes.io/managed-by")
        .or_else(|| object.label("endpoints.kubernetes.io/managed-by"));
    if let Some(manager) = managed_by {
        let by_cluster = [
            "endpointslice-controller.k8s.io",
            "endpointslicemirroring-controller.k8s.io",
            "endpoint-controller",
        ]
        .contains(&manager);
        return by_cluster.then_some(Never::MadeFromService);
    }
    let service = object
        .label("kubernetes.io/service-name")
        .unwrap_or_else(|| object.name());
    let from_selector = object
        .annotation("endpoints.kubernetes.io/last-change-trigger-time")
        .is_some()
        || around.service_has_selector(object.namespace(), service);
    from_selector.then_some(Never::MadeFromService)
}

fn lease(lease: Object<'_>) -> Option<Never> {
    let is_server = lease.label("apiserver.kubernetes.io/identity").is_some();
    (is_server || lease.namespace() == "kube-node-lease").then_some(Never::NodeLease)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::tests::kind;

    struct Everything;

    impl Surroundings for Everything {
        fn has_owner(&self, owner: &Owner, _: &str) -> bool {
            owner.name != "gone"
        }
        fn restores_volumes_of(&self, _: &str, pod: &str) -> bool {
            pod == "with-data"
        }
        fn has_service_account(&self, _: &str, name: &str) -> bool {
            name == "sa"
        }
        fn service_has_selector(&self, _: &str, name: &str) -> bool {
            name == "web"
        }
    }

    fn rule(api_version: &str, plural: &str, object: &Value) -> &'static str {
        let kind = kind(api_version, plural, "X", true).api;
        object_never_restored(&kind, object, &Everything).map_or("-", Never::id)
    }

    #[test]
    fn kinds_that_are_never_restored() {
        for (version, plural, expected) in [
            ("v1", "nodes", "node-state"),
            ("storage.k8s.io/v1", "csinodes", "node-state"),
            ("v1", "events", "event"),
            ("events.k8s.io/v1", "events", "event"),
            ("velero.io/v1", "backups", "velero-record"),
            ("velero.io/v1", "restores", "velero-record"),
            ("velero.io/v1", "resticrepositories", "velero-record"),
            ("velero.io/v1", "backuprepositories", "velero-record"),
            ("velero.io/v1", "schedules", "-"),
            ("storage.k8s.io/v1", "volumeattachments", "volume-attachment"),
            ("stable.example.com/v1", "backups", "-"),
            ("v1", "configmaps", "-"),
        ] {
            assert_eq!(rule(version, plural, &json!({})), expected, "{version} {plural}");
        }
    }

    #[test]
    fn objects_that_are_never_restored() {
        let owned = |name: &str, kind: &str, controller: bool, owner: &str| {
            json!({"metadata": {"name": name, "namespace": "n", "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u", "controller": controller}]}})
        };
        let token = |name: &str, account: &str| {
            json!({"type": "kubernetes.io/service-account-token", "metadata": {"name": name,
                "annotations": {"kubernetes.io/service-account.name": account}}})
        };
        for (version, plural, object, expected) in [
            (
                "v1",
                "pods",
                json!({"status": {"phase": "Succeeded"}}),
                "finished",
            ),
            ("v1", "pods", json!({"status": {"phase": "Running"}}), "-"),
            (
                "v1",
                "pods",
                json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": ""}}}),
                "mirror-pod",
            ),
            (
                "v1",
                "pods",
                owned("p", "ReplicaSet", true, "rs"),
                "made-by-controller",
            ),
            ("v1", "pods", owned("p", "ReplicaSet", true, "gone"), "-"),
            ("v1", "pods", owned("p", "ReplicaSet", false, "rs"), "-"),
            ("v1", "pods", owned("with-data", "ReplicaSet", true, "rs"), "-"),
            (
                "apps/v1",
                "replicasets",
                owned("rs", "Deployment", true, "d"),
                "-",
            ),
            (
                "apps/v1",
                "controllerrevisions",
                owned("r", "StatefulSet", true, "s"),
                "-",
            ),
            (
                "batch/v1",
                "jobs",
                owned("j", "CronJob", true, "c"),
                "made-by-controller",
            ),
            (
                "batch/v1",
                "jobs",
                json!({"status": {"completionTime": "2026-01-01T00:00:00Z"}}),
                "finished",
            ),
            (
                "batch/v1",
                "jobs",
                json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}),
                "finished",
            ),
            (
                "batch/v1",
                "jobs",
                json!({"status": {"conditions": [{"type": "Suspended", "status": "True"}]}}),
                "-",
            ),
            ("v1", "secrets", token("sa-token-x7k2p", "sa"), "issued-token"),
            ("v1", "secrets", token("sa-token-x7k2p", "other"), "-"),
            ("v1", "secrets", token("mine", "sa"), "-"),
            ("v1", "secrets", json!({"type": "Opaque"}), "-"),
            (
                "v1",
                "configmaps",
                json!({"metadata": {"name": "kube-root-ca.crt"}}),
                "made-by-cluster",
            ),
            (
                "v1",
                "services",
                json!({"metadata": {"name": "kubernetes", "namespace": "default"}}),
                "made-by-cluster",
            ),
            (
                "v1",
                "services",
                json!({"metadata": {"name": "kubernetes", "namespace": "shop"}}),
                "-",
            ),
            (
                "v1",
                "endpoints",
                json!({"metadata": {"name": "kubernetes", "namespace": "default"}}),
                "made-by-cluster",
            ),
            (
                "v1",
                "endpoints",
                json!({"metadata": {"name": "web"}}),
                "made-from-service",
            ),
            ("v1", "endpoints", json!({"metadata": {"name": "external"}}), "-"),
            (
                "discovery.k8s.io/v1",
                "endpointslices",
                json!({"metadata": {"name": "web-x", "labels": {
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}}),
                "made-from-service",
            ),
            (
                "discovery.k8s.io/v1",
                "endpointslices",
                json!({"metadata": {"name": "web-x", "labels": {
                    "kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "me"}}}),
                "-",
            ),
            (
                "v1",
                "persistentvolumes",
                json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}),
                "volume-provisioned-anew",
            ),
            (
                "v1",
                "persistentvolumes",
                json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}),
                "-",
            ),
            (
                "coordination.k8s.io/v1",
                "leases",
                json!({"metadata": {"namespace": "kube-node-lease"}}),
                "node-lease",
            ),
            (
                "coordination.k8s.io/v1",
                "leases",
                json!({"metadata": {"namespace": "shop"}}),
                "-",
            ),
            (
                "apiregistration.k8s.io/v1",
                "apiservices",
                json!({"metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}}}),
                "made-by-cluster",
            ),
            ("apiregistration.k8s.io/v1", "apiservices", json!({}), "-"),
            (
                "scheduling.k8s.io/v1",
                "priorityclasses",
                json!({"metadata": {"name": "system-node-critical"}}),
                "made-by-cluster",
            ),
            (
                "flowcontrol.apiserver.k8s.io/v1",
                "flowschemas",
                json!({"metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}}),
                "made-by-cluster",
            ),
            (
                "rbac.authorization.k8s.io/v1",
                "clusterroles",
                json!({"metadata": {"name": "view", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}}),
                "-",
            ),
        ] {
            assert_eq!(rule(version, plural, &object), expected, "{plural} {object}");
        }
    }

    #[test]
    fn nothing_known_around_keeps_what_could_be_lost() {
        let pods = kind("v1", "pods", "Pod", true).api;
        let pod =
            json!({"metadata": {"ownerReferences": [{"kind": "Job", "name": "j", "controller": true}]}});
        assert_eq!(object_never_restored(&pods, &pod, &Nothing), None);
        assert_eq!(
            serde_json::to_value(Never::NodeLease).unwrap(),
            Never::NodeLease.id()
        );
    }
}
