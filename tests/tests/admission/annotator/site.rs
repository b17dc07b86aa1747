//! What the cases share: a namespace with policies, and pods that are created in it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use backup_tests::cluster::{Cluster, Namespace};
use backup_tests::webhook::Webhook;
use serde_json::{Value, json};
use velero_model::api::{BACKUP_VOLUMES, CHOSEN_BY, VOLUMES_LABEL};

/// The namespace of one case.
pub(crate) struct Case {
    pub(crate) cluster: &'static Cluster,
    pub(crate) webhook: &'static Webhook,
    pub(crate) namespace: Namespace,
    policies: Vec<String>,
}

impl Case {
    pub(crate) fn new() -> Result<Self> {
        let webhook = Webhook::shared()?;
        let cluster = Cluster::shared()?;
        let namespace = cluster.namespace()?;
        wait_for_account(cluster, namespace.name())?;
        Ok(Self {
            cluster,
            webhook,
            namespace,
            policies: Vec::new(),
        })
    }

    /// The full name of a policy of this case.
    pub(crate) fn policy_name(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    /// Creates a policy for this namespace alone.
    pub(crate) fn policy(&mut self, name: &str, spec: &Value) -> Result<()> {
        let full = self.policy_name(name);
        let mut spec = spec.clone();
        spec["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] =
            json!(self.namespace.name());
        self.cluster.create(
            json!({ "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
            "metadata": { "name": full }, "spec": spec }),
        )?;
        self.policies.push(full);
        Ok(())
    }

    /// Sets our label on the namespace.
    pub(crate) fn label(&self, value: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.cluster.patch(
            &path,
            json!({ "metadata": { "labels": { VOLUMES_LABEL: value } } }),
        )?;
        Ok(())
    }

    /// What the API server makes of a pod of this namespace; nothing is stored.
    pub(crate) fn admitted(&self, pod: &Value) -> Result<Value> {
        self.cluster.create_dry(placed(pod, self.namespace.name()))
    }

    /// The list that a pod gets.
    pub(crate) fn list(&self, pod: &Value) -> Result<Option<String>> {
        Ok(list(&self.admitted(pod)?))
    }

    /// Waits until a pod gets this list: policies, labels and claims reach the server a moment after the API server.
    pub(crate) fn until(&self, pod: &Value, expected: Option<&str>) -> Result<()> {
        let begun = Instant::now();
        loop {
            let found = self.list(pod)?;
            if found.as_deref() == expected {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(20) {
                bail!(
                    "{found:?} instead of {expected:?} for {pod}\n{}",
                    self.webhook.log()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The answer of the server itself to the creation of a pod here.
    pub(crate) fn review(&self, pod: &Value) -> Result<Value> {
        let request = json!({ "uid": "u", "operation": "CREATE", "namespace": self.namespace.name(),
            "resource": { "group": "", "version": "v1", "resource": "pods" }, "object": placed(pod, self.namespace.name()) });
        let (status, mut answer) = self.webhook.review("/annotate", &request)?;
        anyhow::ensure!(status == 200, "{status}: {answer}");
        Ok(answer["response"].take())
    }

    /// The status of a policy, once it is about the newest generation and `done` says so.
    pub(crate) fn status(&self, name: &str, done: impl Fn(&Value) -> bool) -> Result<Value> {
        let path = format!(
            "/apis/kubectl-backup.io/v1alpha1/volumebackuppolicies/{}",
            self.policy_name(name)
        );
        let begun = Instant::now();
        loop {
            let policy = self.cluster.get(&path)?.context("no policy")?;
            let status = &policy["status"];
            if status["observedGeneration"] == policy["metadata"]["generation"] && done(status) {
                return Ok(status.clone());
            }
            if begun.elapsed() > Duration::from_secs(90) {
                bail!("{policy}\n{}", self.webhook.log());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        for policy in &self.policies {
            let _ = self.cluster.delete(&format!(
                "/apis/kubectl-backup.io/v1alpha1/volumebackuppolicies/{policy}"
            ));
        }
    }
}

/// The one namespace of the shared cluster in which the shared server is not asked, for one case at a time.
pub(crate) const UNASKED: &str = "velero";

/// Makes [`UNASKED`] and keeps other cases out of it.
pub(crate) fn unasked(cluster: &Cluster) -> Result<MutexGuard<'static, ()>> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if cluster.get(&format!("/api/v1/namespaces/{UNASKED}"))?.is_none() {
        cluster
            .create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": UNASKED } }))?;
    }
    wait_for_account(cluster, UNASKED)?;
    Ok(guard)
}

/// No pod is admitted before the namespace has its default account.
pub(crate) fn wait_for_account(cluster: &Cluster, namespace: &str) -> Result<()> {
    let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
    cluster.wait_until("the default account", |cluster| {
        Ok(cluster.get(&account)?.is_some())
    })
}

/// A pod in this namespace.
pub(crate) fn placed(pod: &Value, namespace: &str) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["namespace"] = json!(namespace);
    pod
}

/// The value of Velero's annotation.
pub(crate) fn list(pod: &Value) -> Option<String> {
    Some(
        pod["metadata"]["annotations"][BACKUP_VOLUMES]
            .as_str()?
            .to_owned(),
    )
}

/// The value of our own.
pub(crate) fn chosen_by(pod: &Value) -> Option<String> {
    Some(pod["metadata"]["annotations"][CHOSEN_BY].as_str()?.to_owned())
}

/// A pod whose one container mounts all of these volumes.
pub(crate) fn pod(volumes: &[Value]) -> Value {
    let mounts: Vec<Value> = volumes
        .iter()
        .enumerate()
        .map(|(at, volume)| json!({ "name": volume["name"], "mountPath": format!("/v{at}") }))
        .collect();
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web-0" }, "spec": {
        "automountServiceAccountToken": false, "containers": [{ "name": "main", "image": "example.com/web:1", "volumeMounts": mounts }], "volumes": volumes } })
}

/// The pod with an annotation.
pub(crate) fn annotated(mut pod: Value, key: &str, value: &str) -> Value {
    pod["metadata"]["annotations"][key] = json!(value);
    pod
}

/// A volume of the claim `claim-NAME`.
pub(crate) fn claim(name: &str) -> Value {
    json!({ "name": name, "persistentVolumeClaim": { "claimName": format!("claim-{name}") } })
}

/// An ephemeral volume.
pub(crate) fn ephemeral(name: &str, class: &str, size: &str) -> Value {
    json!({ "name": name, "ephemeral": { "volumeClaimTemplate": { "spec": { "storageClassName": class,
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } } } } })
}
