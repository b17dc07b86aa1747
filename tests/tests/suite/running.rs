//! The suite on a node, installed and taken away as its users do it: image imported, `enable`, and `disable` at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backup_tests::cluster_api::{self, Workload};
use backup_tests::image;
use backup_tests::node::{BUSYBOX, Node};
use backup_tests::plugin::{self, Plugin};
use serde_json::{Value, json};
use velero_model::api::{ACCEPTED, BACKUP_VOLUMES, PROTECTED};

pub(crate) const NAMESPACE: &str = "kubectl-backup";

/// A pod with a claim, which a label of its namespace opts in.
pub(crate) fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "shop", "image": BUSYBOX, "command": ["sleep", "3600"],
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
        },
    })
}

pub(crate) fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod["metadata"]["annotations"].get(key)?.as_str()
}

pub(crate) fn replicas(node: &Node) -> Result<Vec<String>> {
    let printed = node.cluster().kubectl_ok(&[
        "get",
        "pods",
        "-n",
        NAMESPACE,
        "-l",
        "app.kubernetes.io/name=backup-webhook",
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ])?;
    Ok(printed.split_whitespace().map(str::to_owned).collect())
}

/// Every configuration trusts somebody: the server has published its authority.
pub(crate) fn is_trusted(node: &Node) -> Result<bool> {
    let paths = [
        "mutatingwebhookconfigurations/kubectl-backup-annotator",
        "mutatingwebhookconfigurations/kubectl-backup-guard",
        "validatingwebhookconfigurations/kubectl-backup-gate",
    ];
    for path in paths {
        let found = node
            .cluster()
            .get(&format!("/apis/admissionregistration.k8s.io/v1/{path}"))?;
        let webhooks = found.context("a configuration is missing")?["webhooks"].clone();
        let trusts = |webhook: &Value| webhook["clientConfig"]["caBundle"].is_string();
        if !webhooks.as_array().into_iter().flatten().all(trusts) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[test]
fn the_suite_is_installed_works_and_goes_without_a_trace() -> Result<()> {
    let _alone = super::alone();
    let node = Node::start()?;
    let cluster = node.cluster();
    let binaries = BTreeMap::from([
        ("kubectl-backup", plugin::binary()?),
        ("backup-webhook", plugin::webhook_binary()?),
    ]);
    node.import(&image::suite(&binaries)?)?;
    cluster_api::install(cluster)?;
    let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    // Comes back when everything is ready.
    plugin.run(["enable"])?.ok().stdout_has("0 configured");
    assert_eq!(replicas(&node)?.len(), 2, "{}", node.state_of(NAMESPACE));
    cluster
        .wait_until("the configurations to trust the server", |_| is_trusted(&node))
        .with_context(|| node.state_of(NAMESPACE))?;

    annotates(&node).with_context(|| node.state_of(NAMESPACE))?;
    holds_an_undecided_cluster(&node)?;
    goes_on_with_one_replica(&node)?;
    super::storage::choices_are_carried_out(&node).with_context(|| node.state_of(NAMESPACE))?;
    the_plugin_runs_from_the_image(&node)?;
    plugin.run(["enable"])?.ok().stdout_has("0 created");
    goes_without_a_trace(&node, &plugin)
}

fn annotates(node: &Node) -> Result<()> {
    let cluster = node.cluster();
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "kubectl-backup.io/volumes": "include" } },
    }))?;
    cluster.wait_until("a pod of a labelled namespace to be annotated", |cluster| {
        let answered = cluster.create_dry(pod("shop", "till"))?;
        Ok(annotation(&answered, BACKUP_VOLUMES) == Some("data"))
    })?;
    let created = cluster.create(pod("shop", "till"))?;
    ensure!(
        annotation(&created, BACKUP_VOLUMES) == Some("data"),
        "{created:#}"
    );
    let elsewhere = cluster.create_dry(pod("default", "till"))?;
    ensure!(annotation(&elsewhere, BACKUP_VOLUMES).is_none(), "{elsewhere:#}");
    Ok(())
}

fn holds_an_undecided_cluster(node: &Node) -> Result<()> {
    let cluster = node.cluster();
    let mut undecided = Workload::Cluster.object("shop", "prod");
    undecided["metadata"]["annotations"] = json!({ PROTECTED: "prod:shop/prod" });
    cluster.create(undecided)?;
    let refused = cluster.kubectl(&[
        "delete",
        "clusters.cluster.x-k8s.io",
        "prod",
        "-n",
        "shop",
        "--wait=false",
    ])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success(), "an undecided cluster was deleted");
    ensure!(
        said.contains("kubectl backup cluster retain prod -n shop"),
        "{said}"
    );
    Ok(())
}

fn goes_on_with_one_replica(node: &Node) -> Result<()> {
    let cluster = node.cluster();
    let before = replicas(node)?;
    let first = before.first().context("no replica")?;
    cluster.kubectl_ok(&[
        "delete",
        "pod",
        "-n",
        NAMESPACE,
        first,
        "--grace-period=0",
        "--force",
        "--wait=false",
    ])?;
    // The annotator may be skipped while the endpoints still name the dead one; it must be back soon and stay.
    std::thread::sleep(Duration::from_secs(2));
    for number in 0..10 {
        let answered = cluster.create_dry(pod("shop", &format!("till-{number}")))?;
        ensure!(
            annotation(&answered, BACKUP_VOLUMES) == Some("data"),
            "review {number} was skipped"
        );
    }
    node.wait_for_deployment(NAMESPACE, "backup-webhook")
}

fn the_plugin_runs_from_the_image(node: &Node) -> Result<()> {
    let cluster = node.cluster();
    cluster.kubectl_ok(&[
        "run",
        "plugin",
        "-n",
        "default",
        &format!("--image={}", image::suite_name()?),
        "--restart=Never",
        "--",
        "--version",
    ])?;
    // Attaching to what ends at once may come too late for its only line.
    let done = cluster.wait_until("the plugin's pod to end", |cluster| {
        let pod = cluster.get("/api/v1/namespaces/default/pods/plugin")?;
        Ok(pod.is_some_and(|pod| pod["status"]["phase"] == "Succeeded"))
    });
    done.with_context(|| node.state_of("default"))?;
    let printed = cluster.kubectl_ok(&["logs", "plugin", "-n", "default"])?;
    ensure!(printed.contains(env!("CARGO_PKG_VERSION")), "{printed}");
    Ok(())
}

fn goes_without_a_trace(node: &Node, plugin: &Plugin) -> Result<()> {
    let cluster = node.cluster();
    let ours = "app.kubernetes.io/part-of=kubectl-backup";
    plugin
        .run(["disable"])?
        .exits(4)
        .stderr_has("kubectl backup cluster unprotect prod -n shop");
    plugin
        .run(["cluster", "unprotect", "prod", "-n", "shop", "--yes"])?
        .ok();
    plugin.run(["disable"])?.ok();
    for kind in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "clusterroles",
        "clusterrolebindings",
        "namespaces",
        "crds",
    ] {
        let left = cluster.kubectl_ok(&["get", kind, "-l", ours, "-o", "name"])?;
        ensure!(left.trim().is_empty(), "left behind: {left}");
    }
    let namespaces = cluster.kubectl_ok(&["get", "namespaces", "-o", "jsonpath={.items[*].status.phase}"])?;
    ensure!(!namespaces.contains("Terminating"), "{namespaces}");
    let path = Workload::Cluster.path("shop", "prod");
    let prod = cluster.get(&path)?.context("the cluster is gone")?;
    ensure!(annotation(&prod, ACCEPTED).is_none(), "{prod:#}");
    ensure!(prod["metadata"]["finalizers"].is_null(), "{prod:#}");
    cluster
        .kubectl_ok(&["delete", "namespace", "shop", "--timeout=60s"])
        .map(drop)
}
