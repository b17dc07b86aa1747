//! The Job of one order.
//!
//! A pod as the suite makes them everywhere: nobody, restricted, an emptyDir to write to. What was typed wrong or refused
//! (exit codes 2, 4, 5) is not tried again by Kubernetes; when it is tried again at all is the leader's.

use k8s_openapi::api::batch::v1::Job;
use serde_json::json;
use velero_model::api::storage_work::{SERVICE_ACCOUNT, WORK_LABEL, work_arguments};

/// Annotation of a Job: the order that it was made for.
pub(super) const ORDER_MARK: &str = "kubectl-backup.io/storage-order";

/// The Job called `name` for the cluster with this UID.
///
/// # Errors
/// Never for the words that the leader has; the types are Kubernetes' own.
pub(crate) fn job(
    name: &str,
    cluster: &str,
    order: &str,
    image: &str,
    pull_secret: Option<&str>,
) -> Result<Job, serde_json::Error> {
    let labels = json!({ "app.kubernetes.io/managed-by": "kubectl-backup", WORK_LABEL: cluster });
    let secrets: Vec<_> = pull_secret
        .iter()
        .map(|secret| json!({ "name": secret }))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "labels": labels, "annotations": { ORDER_MARK: order } },
        "spec": {
            "backoffLimit": 2,
            "ttlSecondsAfterFinished": 7 * 24 * 3600,
            "podFailurePolicy": { "rules": [{
                "action": "FailJob",
                "onExitCodes": { "containerName": "backup", "operator": "In", "values": [2, 3, 4, 5] },
            }] },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "serviceAccountName": SERVICE_ACCOUNT,
                    "restartPolicy": "Never",
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": 60,
                    "imagePullSecrets": secrets,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [{
                        "name": "backup",
                        "image": image,
                        "args": work_arguments(name),
                        "env": [{ "name": "HOME", "value": "/tmp" }, { "name": "TMPDIR", "value": "/tmp" }],
                        "resources": {
                            "requests": { "cpu": "100m", "memory": "128Mi" },
                            "limits": { "memory": "512Mi" },
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
                    }],
                    "volumes": [{ "name": "tmp", "emptyDir": {} }],
                },
            },
        },
    }))
}
