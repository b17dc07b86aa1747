//! An operator with a definition, a webhook and children that it owns comes back working: its controllers, started after the
//! restore, know every child again by its owner and make none anew.
//!
//! The operator is a process of its own on kube-runtime. It finds the children of a basin by their owner's UID alone, since
//! their names are made up by the API server: without its owner each would be an orphan for ever, and be doubled. The
//! controllers of Deployments and StatefulSets are those of kube-controller-manager.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backup_plan::scope::Scope;
use backup_tests::cluster::{Cluster, client_from};
use backup_tests::{process, runtime};
use futures::StreamExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use kube_runtime::controller::{Action, Controller};
use kube_runtime::watcher;
use serde_json::{Value, json};

use crate::site::{Site, assert_completed, request};

/// ConfigMaps that each basin owns.
const MAPS: usize = 3;
const BASINS: [&str; 2] = ["front", "rear"];
const KUBECONFIG: &str = "OPERATOR_KUBECONFIG";

/// What a basin's controller works with.
struct Operator {
    client: Client,
    run: String,
}

fn kind(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn basins() -> ApiResource {
    kind("ops.example.com", "v1", "Basin")
}

impl Operator {
    fn api(&self, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }

    /// Makes what is missing of a kind until so many objects have the basin as their controller.
    async fn ensure(
        &self,
        basin: &DynamicObject,
        resource: &ApiResource,
        wanted: usize,
        child: &Value,
    ) -> Result<()> {
        let namespace = basin.namespace().context("a basin without a namespace")?;
        let api = self.api(&namespace, resource);
        let uid = basin.uid().context("a basin without a UID")?;
        let owned = api.list(&ListParams::default()).await?;
        let owned = owned
            .iter()
            .filter(|child| child.owner_references().iter().any(|owner| owner.uid == uid));
        let owner = json!({ "apiVersion": "ops.example.com/v1", "kind": "Basin", "name": basin.name_any(), "uid": uid,
            "controller": true, "blockOwnerDeletion": true });
        for _ in owned.count()..wanted {
            let mut child = child.clone();
            child["metadata"] =
                json!({ "generateName": format!("{}-", basin.name_any()), "ownerReferences": [owner] });
            api.create(&PostParams::default(), &serde_json::from_value(child)?)
                .await?;
        }
        Ok(())
    }

    async fn reconcile(&self, basin: &DynamicObject) -> Result<()> {
        let name = basin.name_any();
        let labels = json!({ "basin": name });
        let template = json!({ "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "c", "image": "registry.example/c:1" }] } });
        let selector = json!({ "matchLabels": labels });
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "basin": name } });
        let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
            "spec": { "replicas": 1, "selector": selector, "template": template } });
        let set = json!({ "apiVersion": "apps/v1", "kind": "StatefulSet",
            "spec": { "serviceName": name, "replicas": 1, "selector": selector, "template": template } });
        self.ensure(basin, &kind("", "v1", "ConfigMap"), MAPS, &map)
            .await?;
        self.ensure(basin, &kind("apps", "v1", "Deployment"), 1, &deployment)
            .await?;
        self.ensure(basin, &kind("apps", "v1", "StatefulSet"), 1, &set)
            .await?;
        let namespace = basin.namespace().unwrap_or_default();
        let seen = json!({ "metadata": { "annotations": { "ops.example.com/seen-by": self.run } } });
        let patch = Patch::Merge(seen);
        self.api(&namespace, &basins())
            .patch(&name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

/// An error that kube-runtime can carry.
#[derive(Debug)]
struct Refused(anyhow::Error);

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

impl std::error::Error for Refused {}

/// Started by the test below as a process of its own.
#[test]
#[ignore = "a process that another test starts"]
fn operator_process() -> Result<()> {
    let kubeconfig = PathBuf::from(std::env::var(KUBECONFIG)?);
    let client = client_from(&kubeconfig)?;
    runtime::run(async move {
        let operator = Arc::new(Operator {
            client: client.clone(),
            run: std::process::id().to_string(),
        });
        let all: Api<DynamicObject> = Api::all_with(client, &basins());
        Controller::new_with(all, watcher::Config::default(), basins())
            .run(
                |basin, operator: Arc<Operator>| async move {
                    operator.reconcile(&basin).await.map_err(Refused)?;
                    Ok(Action::await_change())
                },
                |_, _: &Refused, _| Action::requeue(Duration::from_millis(200)),
                operator,
            )
            .for_each(|result| async move {
                // Errors of reconciling come by here too.
                if let Err(error) = result {
                    eprintln!("the operator: {error}");
                }
            })
            .await;
        Ok(())
    })
}

/// The operator as a process; gone when it is dropped.
struct Running(Child);

impl Running {
    fn start(kubeconfig: &Path) -> Result<Self> {
        let mut command = process::tied(&std::env::current_exe()?)?;
        command.args([
            "--exact",
            "operator::operator_process",
            "--ignored",
            "--nocapture",
        ]);
        command
            .env(KUBECONFIG, kubeconfig)
            .stdout(std::process::Stdio::null());
        Ok(Self(process::spawn(command)?))
    }

    /// Waits until it has looked at every basin.
    fn wait_until_done(&self, cluster: &Cluster) -> Result<()> {
        let run = self.0.id().to_string();
        cluster.wait_until("the operator to have seen every basin", |cluster| {
            let basins = cluster.list("/apis/ops.example.com/v1/namespaces/ops/basins")?;
            let seen = basins
                .iter()
                .filter(|basin| basin["metadata"]["annotations"]["ops.example.com/seen-by"] == run);
            Ok(seen.count() == BASINS.len())
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A webhook that nobody answers: until its operator is up it refuses every basin.
fn webhook() -> Value {
    json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": "basins.ops.example.com" },
        "webhooks": [{ "name": "basins.ops.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "timeoutSeconds": 1, "clientConfig": { "url": "https://127.0.0.1:1/validate" },
            "rules": [{ "apiGroups": ["ops.example.com"], "apiVersions": ["*"], "resources": ["basins"],
                "operations": ["CREATE"] }] }] })
}

fn basin(name: &str) -> Value {
    json!({ "apiVersion": "ops.example.com/v1", "kind": "Basin", "metadata": { "name": name, "namespace": "ops" } })
}

fn install(cluster: &Cluster) -> Result<()> {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    cluster.create(json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "basins.ops.example.com" },
        "spec": { "group": "ops.example.com", "scope": "Namespaced",
            "names": { "plural": "basins", "singular": "basin", "kind": "Basin", "listKind": "BasinList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }] } }))?;
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "ops" } }))?;
    cluster.wait_until("basins to be served", |cluster| {
        Ok(cluster.get("/apis/ops.example.com/v1/basins")?.is_some())
    })?;
    for name in BASINS {
        cluster.create(basin(name))?;
    }
    cluster.create(webhook())?;
    Ok(())
}

/// UIDs by kind and name.
type Uids = BTreeMap<(String, String), String>;

/// The operator's children, and theirs, but not pods.
fn children(cluster: &Cluster) -> Result<Uids> {
    let mut uids = Uids::new();
    for (path, kind) in [
        ("/api/v1/namespaces/ops/configmaps", "ConfigMap"),
        ("/apis/apps/v1/namespaces/ops/deployments", "Deployment"),
        ("/apis/apps/v1/namespaces/ops/statefulsets", "StatefulSet"),
        ("/apis/apps/v1/namespaces/ops/replicasets", "ReplicaSet"),
    ] {
        for object in cluster.list(path)? {
            let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            if text("name") != "kube-root-ca.crt" {
                uids.insert((kind.to_owned(), text("name")), text("uid"));
            }
        }
    }
    Ok(uids)
}

/// Waits until every controller has made its pods.
fn wait_for_pods(cluster: &Cluster) -> Result<()> {
    cluster.wait_until("a pod of each Deployment and of each StatefulSet", |cluster| {
        Ok(cluster.list("/api/v1/namespaces/ops/pods")?.len() == 2 * BASINS.len())
    })
}

#[test]
fn an_operator_comes_back_working_and_knows_its_children() -> Result<()> {
    let (source, site) = (Cluster::start()?, Site::new());
    install(&source)?;
    let operator = Running::start(source.kubeconfig())?;
    operator.wait_until_done(&source)?;
    wait_for_pods(&source)?;
    let before = children(&source)?;
    ensure!(before.len() == BASINS.len() * (MAPS + 3), "{before:?}");
    drop(operator);
    site.back_up(&source, "b", Scope::default())?;
    drop(source);

    // Nothing works in the new cluster until the restore is done.
    let target = Cluster::builder().controllers(false).start()?;
    assert_completed(&site.restore(&target, "b", request("r"))?);
    let restored = children(&target)?;
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        restored.keys().collect::<Vec<_>>()
    );
    assert!(
        target.list("/api/v1/namespaces/ops/pods")?.is_empty(),
        "pods are left to their controllers"
    );

    target.start_controllers()?;
    let operator = Running::start(target.kubeconfig())?;
    operator.wait_until_done(&target)?;
    wait_for_pods(&target)?;
    assert_eq!(
        restored,
        children(&target)?,
        "the same children as before the controllers ran, and no others"
    );
    // The webhook is back too, and was not in the way of the basins.
    let refused = target
        .create(basin("new"))
        .expect_err("nobody answers the webhook");
    assert!(
        format!("{refused:#}").contains("basins.ops.example.com"),
        "{refused:#}"
    );
    Ok(())
}
