//! The Job of a mover.
//!
//! Pure. It runs beside the claim, on the node of the pod that uses it, once, and goes by itself: stopped at its deadline,
//! deleted a minute after its end. The claim is mounted read-only where it is only read. What it may do inside is what its
//! namespace's Pod Security level allows: root with few capabilities, or, where that is forbidden, the user of the
//! application, who can read what the application can.

use std::time::Duration;

use backup_plan::rule::EXCLUDE_LABEL;
use serde_json::{Value, json};

use crate::schedule::objects::APP;

/// Label of movers, with the name of the backup or restore.
pub const LABEL: &str = "kubectl-backup.io/mover";

/// Where the volume is inside.
pub const FOLDER: &str = "/volume";

/// Seconds after its end at which the Job goes.
const LINGERS: u64 = 60;

/// Capabilities of a mover that writes: owners, modes, devices, and files of others. All in Pod Security's baseline.
const WRITER: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"];

/// The same of one that reads.
const READER: [&str; 1] = ["DAC_OVERRIDE"];

/// A mover.
#[derive(Debug, Clone, PartialEq)]
pub struct Mover {
    /// Name of the Job.
    pub name: String,
    /// Namespace of the claim.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// Node of the pod that uses it; none where the scheduler may choose.
    pub node: Option<String>,
    /// Whether it writes.
    pub writes: bool,
    /// Image of this program.
    pub image: String,
    /// Secret to pull it with.
    pub image_pull_secret: Option<String>,
    /// Longest time.
    pub deadline: Duration,
    /// Backup or restore that it belongs to.
    pub belongs_to: String,
    /// The pod's own securityContext to run under, where root is forbidden.
    pub as_application: Option<Value>,
}

/// The Job.
pub fn job(mover: &Mover) -> Value {
    let labels = json!({
        APP.0: APP.1,
        LABEL: velero_model::name::label_value(&mover.belongs_to),
        // It works for a backup and is none of it.
        EXCLUDE_LABEL: "true",
    });
    let (pod_security, security) = match &mover.as_application {
        None => {
            let capabilities: &[&str] = if mover.writes { &WRITER } else { &READER };
            (
                json!({ "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false }),
                json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"], "add": capabilities } }),
            )
        }
        Some(context) => (
            context.clone(),
            json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                "capabilities": { "drop": ["ALL"] } }),
        ),
    };
    let mut pod_security = pod_security;
    pod_security["seccompProfile"] = json!({ "type": "RuntimeDefault" });
    let mut pod = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 5,
        "securityContext": pod_security,
        // A node that is cordoned or tainted has volumes too.
        "tolerations": [{ "operator": "Exists" }],
        "containers": [{
            "name": "mover",
            "image": mover.image,
            "args": ["mover", "wait"],
            "securityContext": security,
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
            "volumeMounts": [
                { "name": "volume", "mountPath": FOLDER, "readOnly": !mover.writes },
                { "name": "tmp", "mountPath": "/tmp" },
            ],
        }],
        "volumes": [
            { "name": "volume", "persistentVolumeClaim": { "claimName": mover.claim } },
            { "name": "tmp", "emptyDir": {} },
        ],
    });
    if let Some(node) = &mover.node {
        pod["nodeName"] = node.as_str().into();
    }
    if let Some(secret) = &mover.image_pull_secret {
        pod["imagePullSecrets"] = json!([{ "name": secret }]);
    }
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": mover.name, "namespace": mover.namespace, "labels": labels },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": mover.deadline.as_secs(),
            "ttlSecondsAfterFinished": LINGERS,
            "template": {
                // No mesh or injector has business in it, and none of it is to be backed up.
                "metadata": { "labels": labels, "annotations": { "sidecar.istio.io/inject": "false", "linkerd.io/inject": "disabled" } },
                "spec": pod,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mover(writes: bool, as_application: Option<Value>) -> Value {
        job(&Mover {
            name: "mover-1".into(),
            namespace: "shop".into(),
            claim: "data".into(),
            node: Some("n1".into()),
            writes,
            image: "i".into(),
            image_pull_secret: None,
            deadline: Duration::from_mins(1),
            belongs_to: "b1".into(),
            as_application,
        })
    }

    #[test]
    fn a_reader_cannot_write_and_nobody_gets_more_than_baseline() {
        let reader = mover(false, None);
        let pod = &reader["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["readOnly"], true);
        assert_eq!(pod["nodeName"], "n1");
        assert_eq!(
            pod["containers"][0]["securityContext"]["capabilities"]["add"],
            json!(["DAC_OVERRIDE"])
        );
        assert_eq!(reader["spec"]["ttlSecondsAfterFinished"], 60);
        let writer = mover(true, None);
        let mount = &writer["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0];
        assert_eq!(mount["readOnly"], false);
        let own = mover(true, Some(json!({ "runAsUser": 999, "fsGroup": 999 })));
        let pod = &own["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsUser"], 999);
        assert!(pod["containers"][0]["securityContext"]["capabilities"]["add"].is_null());
    }
}
