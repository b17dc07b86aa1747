//! A gate that has not read the choices yet: it asks once, live, and refuses what that does not answer.
//!
//! A replica whose account may not read StorageDispositions everywhere never gets past its start: its table of them stays
//! cold. In a case's own namespace it may list them, or not, and that is the one live read. Clusters, choices and their
//! stamps are real, made through the site's other replica; the cold one is asked past the API server, which asks the warm
//! one only.

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::cluster_api::Workload;
use backup_tests::webhook::Webhook;
use serde_json::{Value, json};

use crate::gate_site::{OURS, Prod, Site, decider, site};

/// An account of ours, of a replica that may read everything but choices.
const COLD: &str = "system:serviceaccount:kubectl-backup:cold-webhook";

fn cold(cluster: &Cluster) -> Result<Webhook> {
    let everything = |group: &str| json!({ "apiGroups": [group], "resources": ["*"], "verbs": ["*"] });
    let mut rules: Vec<Value> = [
        "",
        "cluster.x-k8s.io",
        "run.tanzu.vmware.com",
        "velero.io",
        "coordination.k8s.io",
        "authorization.k8s.io",
        "apiextensions.k8s.io",
        "admissionregistration.k8s.io",
    ]
    .map(everything)
    .into();
    rules.push(json!({
        "apiGroups": ["kubectl-backup.io"], "resources": ["volumebackuppolicies"], "verbs": ["get", "list", "watch"],
    }));
    let account = cluster.person(COLD)?.may(cluster, &rules.into())?;
    let webhook = Webhook::builder(cluster)
        .kubeconfig(account.kubeconfig())
        .namespace(OURS)
        .start_alone()?;
    cluster.wait_until("the cold replica to answer", |_| {
        Ok(webhook.probe("/livez").is_ok_and(|(status, _)| status == 200) && webhook.connect().is_ok())
    })?;
    Ok(webhook)
}

/// Lets the cold replica list the choices of one namespace.
fn lets_it_list(cluster: &Cluster, prod: &Prod) -> Result<()> {
    let namespace = prod.namespace.name();
    cluster.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "choices", "namespace": namespace },
        "rules": [{ "apiGroups": ["kubectl-backup.io"], "resources": ["storagedispositions"], "verbs": ["list"] }],
    }))?;
    cluster.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "choices", "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "choices" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": COLD }],
    }))?;
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "verb": "list", "group": "kubectl-backup.io", "resource": "storagedispositions", "namespace": namespace,
        } },
    });
    let account = cluster.person(COLD)?;
    cluster.wait_until("the cold replica to have its right", |_| {
        let answer = account.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)?;
        Ok(answer.body["status"]["allowed"] == true)
    })
}

/// The cold replica's answer to the deletion of a cluster as it is now.
fn ask(webhook: &Webhook, site: &Site, prod: &Prod) -> Result<Value> {
    let object = site.cluster.get(&prod.path)?.context("the cluster is gone")?;
    let request = json!({
        "uid": "1",
        "operation": "DELETE",
        "kind": { "group": prod.kind.group(), "version": "v1beta2", "kind": prod.kind.kind() },
        "resource": { "group": prod.kind.group(), "version": "v1beta2", "resource": "clusters" },
        "name": prod.name,
        "namespace": prod.namespace.name(),
        "userInfo": { "username": "jane" },
        "oldObject": object,
    });
    let (status, answer) = webhook.review("/gate", &request)?;
    ensure!(status == 200, "{status}: {answer}");
    let (_, ready) = webhook.probe("/readyz")?;
    let in_step = webhook.metric("kubectl_backup_watch_in_step", "storagedispositions")?;
    ensure!(in_step < 0.5, "it is not cold: {ready}");
    Ok(answer["response"].clone())
}

#[test]
fn gate_with_a_cold_cache_reads_once_and_then_refuses() -> Result<()> {
    let site = site()?;
    let cluster = site.cluster;
    let webhook = cold(cluster)?;
    let somebody = decider(cluster)?;
    let prod = || Prod::protected(site, Workload::Cluster);
    let (chosen, undecided, unreadable) = (prod()?, prod()?, prod()?);
    for prod in [&chosen, &undecided] {
        lets_it_list(cluster, prod)?;
    }
    for prod in [&chosen, &unreadable] {
        prod.choose(&somebody, "Retain")?.ok()?;
    }

    let allowed = ask(&webhook, site, &chosen)?;
    ensure!(allowed["allowed"] == true, "{allowed}");

    let refused = ask(&webhook, site, &undecided)?;
    ensure!(refused["allowed"] == false, "{refused}");
    ensure!(refused["status"]["code"] == 403, "{refused}");
    let message = refused["status"]["message"].as_str().unwrap_or_default();
    for command in undecided.commands() {
        ensure!(message.contains(&command), "{message}");
    }

    // Here a choice is made, and even so: what cannot be read is not there.
    let refused = ask(&webhook, site, &unreadable)?;
    ensure!(refused["allowed"] == false, "{refused}");
    ensure!(
        refused["auditAnnotations"]["reason"] == "unreachable",
        "{refused}"
    );
    let message = refused["status"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("could not be read"), "{message}");

    for prod in [&chosen, &undecided, &unreadable] {
        prod.release(cluster)?;
    }
    Ok(())
}
