//! The objects of our parts, from the manifests that this program carries.
//!
//! Pure. In comes what is wanted, out go objects in stages. What differs from `kubectl apply -k manifests` is said here:
//! the image and the Secret to pull it with, and the CronJob that removes expired backups, one for each location.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{LifecycleError, RETENTION_LABEL};
use crate::schedule::{
    Credentials, NAMESPACE, location_secret_name,
    objects::{APP, Pod, location_secret, pod},
};

/// The image that the manifests name.
const IMAGE: &str = "localhost/kubectl-backup";

/// Variables of the admission suite: image of the Jobs that it makes, and the Secret to pull that with.
const STORAGE_IMAGE: &str = "STORAGE_IMAGE";
const STORAGE_IMAGE_PULL_SECRET: &str = "STORAGE_IMAGE_PULL_SECRET";

/// A part that can be had by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Webhooks, their policies and definitions.
    Admission,
    /// The exporter of Prometheus metrics.
    Metrics,
    /// What has expired is removed every hour.
    Retention,
}

/// When an object is written. Each stage waits for the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The namespace and the kinds that others are of.
    Definitions,
    /// What runs, and what it may do.
    Parts,
    /// What the API server asks of what runs.
    Doors,
}

/// One object.
#[derive(Debug, Clone)]
pub struct Shipped {
    /// When.
    pub stage: Stage,
    /// As it is applied.
    pub object: Value,
}

/// A location that lies in the cluster.
#[derive(Debug, Clone)]
pub struct InCluster {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Its credentials.
    pub credentials: Credentials,
}

/// What shall be there.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which parts.
    pub components: BTreeSet<Component>,
    /// Image of all pods.
    pub image: String,
    /// Secret to pull it with.
    pub image_pull_secret: Option<String>,
    /// Whose Secret is written; whose expired backups are removed.
    pub locations: Vec<InCluster>,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Admission, Self::Metrics, Self::Retention];

    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Metrics => "metrics",
            Self::Retention => "retention",
        }
    }

    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Admission => &ADMISSION,
            Self::Metrics => &METRICS,
            Self::Retention => &[],
        }
    }
}

/// A file of `manifests/` with its name.
macro_rules! manifest {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/", $name)),
        )
    };
}
pub(super) use manifest;

const GROUND: (&str, &str) = manifest!("webhook/namespace.yaml");

const ADMISSION: [(&str, &str); 13] = [
    manifest!("crds/storagedispositions.yaml"),
    manifest!("crds/volumebackuppolicies.yaml"),
    manifest!("rbac/personas.yaml"),
    manifest!("policies/floor-clusters.yaml"),
    manifest!("policies/floor-holders.yaml"),
    manifest!("policies/floor-marks.yaml"),
    manifest!("webhook/rbac.yaml"),
    manifest!("webhook/storage-rbac.yaml"),
    manifest!("webhook/service.yaml"),
    manifest!("webhook/availability.yaml"),
    manifest!("webhook/network-policy.yaml"),
    manifest!("webhook/deployment.yaml"),
    manifest!("webhook/configurations.yaml"),
];

const METRICS: [(&str, &str); 4] = [
    manifest!("metrics/rbac.yaml"),
    manifest!("metrics/service.yaml"),
    manifest!("metrics/network-policy.yaml"),
    manifest!("metrics/deployment.yaml"),
];

/// Everything, in the order in which it is written.
///
/// # Errors
/// [`LifecycleError::Manifest`], which only a defect of this program can be.
pub fn objects(wanted: &Wanted) -> Result<Vec<Shipped>, LifecycleError> {
    let mut objects = read(GROUND)?;
    for component in &wanted.components {
        for file in component.files() {
            objects.extend(read(*file)?);
        }
    }
    for location in &wanted.locations {
        objects.extend(location_secret(
            &location.name,
            &location.url,
            &location.credentials,
        ));
        if wanted.components.contains(&Component::Retention) {
            objects.extend(retention(location, wanted));
        }
    }
    for object in &mut objects {
        with_image(object, wanted);
    }
    Ok(in_stages(objects))
}

/// Objects in the order in which they are written, each once.
pub(super) fn in_stages(mut objects: Vec<Value>) -> Vec<Shipped> {
    let mut seen = BTreeSet::new();
    objects.retain(|object| seen.insert(describe(object)));
    let mut shipped: Vec<Shipped> = objects
        .into_iter()
        .map(|object| Shipped {
            stage: stage(&object),
            object,
        })
        .collect();
    shipped.sort_by_key(|shipped| (shipped.stage, rank(&shipped.object)));
    shipped
}

/// Everything that could have been installed, whatever was.
///
/// # Errors
/// As [`objects`].
pub fn everything() -> Result<Vec<Value>, LifecycleError> {
    let wanted = Wanted {
        components: Component::ALL.into(),
        image: IMAGE.to_owned(),
        image_pull_secret: None,
        locations: Vec::new(),
    };
    Ok(objects(&wanted)?
        .into_iter()
        .map(|shipped| shipped.object)
        .collect())
}

pub(super) fn read((name, text): (&str, &str)) -> Result<Vec<Value>, LifecycleError> {
    serde_saphyr::from_multiple(text).map_err(|error| LifecycleError::Manifest {
        name: name.to_owned(),
        reason: error.to_string(),
    })
}

/// `Kind namespace/name`.
pub fn describe(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn stage(object: &Value) -> Stage {
    match object["kind"].as_str() {
        Some("Namespace" | "CustomResourceDefinition") => Stage::Definitions,
        Some("MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => Stage::Doors,
        _ => Stage::Parts,
    }
}

/// Whoever needs something comes after it.
fn rank(object: &Value) -> u8 {
    match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("ServiceAccount") => 1,
        Some("ClusterRole" | "Role" | "Secret") => 2,
        Some("ClusterRoleBinding" | "RoleBinding" | "ValidatingAdmissionPolicy") => 3,
        Some("Deployment" | "DaemonSet" | "CronJob" | "ValidatingAdmissionPolicyBinding") => 5,
        // Its state is what a server says that runs.
        Some("BackupStorageLocation") => 6,
        _ => 4,
    }
}

/// Pods of the manifests get the image that is wanted.
fn with_image(object: &mut Value, wanted: &Wanted) {
    let Some(pod) = object.pointer_mut("/spec/template/spec") else {
        return;
    };
    for container in pod["containers"].as_array_mut().into_iter().flatten() {
        let is_ours = container["image"]
            .as_str()
            .is_some_and(|image| image.starts_with(IMAGE));
        if is_ours {
            container["image"] = wanted.image.as_str().into();
            for variable in container["env"].as_array_mut().into_iter().flatten() {
                if variable["name"] == STORAGE_IMAGE {
                    variable["value"] = wanted.image.as_str().into();
                }
            }
            if let (Some(secret), Some(variables)) =
                (&wanted.image_pull_secret, container["env"].as_array_mut())
                && variables.iter().any(|variable| variable["name"] == STORAGE_IMAGE)
            {
                variables.push(json!({ "name": STORAGE_IMAGE_PULL_SECRET, "value": secret }));
            }
        }
    }
    if let Some(secret) = &wanted.image_pull_secret {
        pod["imagePullSecrets"] = json!([{ "name": secret }]);
    }
}

/// Name of what removes a location's expired backups.
pub fn retention_name(location: &str) -> String {
    format!("retention-{location}")
}

/// The CronJob of a location with an account that may read the location and who the cluster is, nothing more.
fn retention(location: &InCluster, wanted: &Wanted) -> Vec<Value> {
    let name = retention_name(&location.name);
    let cluster_name = format!("kubectl-backup-{name}");
    let labels = json!({ APP.0: APP.1, RETENTION_LABEL: location.name });
    let here = json!({ "name": name, "namespace": NAMESPACE, "labels": labels });
    let wide = json!({ "name": cluster_name, "labels": labels });
    let subjects = json!([{ "kind": "ServiceAccount", "name": name, "namespace": NAMESPACE }]);
    let role = |kind: &str, name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
    let words = [
        "retention".to_owned(),
        "apply".to_owned(),
        format!("--location={}", location.name),
        "--engine=direct".to_owned(),
        "--yes".to_owned(),
    ];
    let pod = pod(&Pod {
        account: &name,
        image: &wanted.image,
        image_pull_secret: wanted.image_pull_secret.as_deref(),
        words: &words,
    });
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": here }),
        json!({
            "apiVersion": RBAC, "kind": "Role", "metadata": here,
            "rules": [{
                "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"],
                "resourceNames": [location_secret_name(&location.name)],
            }],
        }),
        json!({ "apiVersion": RBAC, "kind": "RoleBinding", "metadata": here,
            "roleRef": role("Role", &name), "subjects": subjects }),
        json!({
            "apiVersion": RBAC, "kind": "ClusterRole", "metadata": wide,
            "rules": [{
                "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"], "resourceNames": ["kube-system"],
            }],
        }),
        json!({ "apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": wide,
            "roleRef": role("ClusterRole", &cluster_name), "subjects": subjects }),
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": here,
            "spec": {
                // As often as Velero's garbage collector looks.
                "schedule": "17 * * * *",
                "timeZone": "Etc/UTC",
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": 1800,
                "successfulJobsHistoryLimit": 1,
                "failedJobsHistoryLimit": 3,
                "jobTemplate": {
                    "metadata": { "labels": labels },
                    "spec": {
                        // The next hour tries again.
                        "backoffLimit": 0,
                        "activeDeadlineSeconds": 3600 * 6,
                        "template": { "metadata": { "labels": labels }, "spec": pod },
                    },
                },
            },
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(components: &[Component]) -> Wanted {
        Wanted {
            components: components.iter().copied().collect(),
            image: "registry.local/tools/kubectl-backup:9".into(),
            image_pull_secret: Some("pull".into()),
            locations: vec![InCluster {
                name: "main".into(),
                url: "s3://b".into(),
                credentials: Credentials::Text("[default]".into()),
            }],
        }
    }

    #[test]
    fn every_pod_has_the_image_that_is_wanted_and_the_way_to_pull_it() {
        let mut pods = 0;
        for shipped in objects(&wanted(&Component::ALL)).unwrap() {
            let object = &shipped.object;
            let spec = object
                .pointer("/spec/template/spec")
                .or_else(|| object.pointer("/spec/jobTemplate/spec/template/spec"));
            if let Some(spec) = spec {
                pods += 1;
                assert_eq!(
                    spec["containers"][0]["image"],
                    "registry.local/tools/kubectl-backup:9"
                );
                assert_eq!(spec["imagePullSecrets"][0]["name"], "pull");
            }
        }
        assert_eq!(pods, 3, "webhook, exporter, retention");
    }

    #[test]
    fn stages_come_in_order_and_doors_last() {
        let all = objects(&wanted(&Component::ALL)).unwrap();
        assert_eq!(describe(&all[0].object), "Namespace kubectl-backup");
        assert!(all.is_sorted_by_key(|shipped| shipped.stage));
        let doors: Vec<_> = all
            .iter()
            .filter(|shipped| shipped.stage == Stage::Doors)
            .collect();
        assert_eq!(doors.len(), 3);
        let names: BTreeSet<String> = all.iter().map(|shipped| describe(&shipped.object)).collect();
        assert_eq!(names.len(), all.len(), "nothing is there twice");
    }

    #[test]
    fn components_are_had_one_by_one() {
        let kinds = |components: &[Component]| -> BTreeSet<String> {
            objects(&wanted(components))
                .unwrap()
                .iter()
                .map(|shipped| shipped.object["kind"].as_str().unwrap().to_owned())
                .collect()
        };
        assert!(!kinds(&[Component::Metrics]).contains("MutatingWebhookConfiguration"));
        assert!(kinds(&[Component::Retention]).contains("CronJob"));
        assert_eq!(kinds(&[]), ["Namespace", "Secret"].map(str::to_owned).into());
    }
}
