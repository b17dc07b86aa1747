//! Whole stories with the server, the floor and the plugin together: refused, the commands of the refusal run, gone;
//! and the server taken away in the middle.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::cluster_api::{self, Workload};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use backup_tests::webhook::Webhook;
use serde_json::json;
use velero_model::api::{ACCEPTED, DISPOSITION};

use crate::gate_floor;
use crate::gate_site::{self, ACCOUNT, decider, operator, protect, until_ok};

/// Server and floor, as installed.
fn whole() -> Result<(&'static Cluster, &'static Webhook)> {
    static SITE: OnceLock<Result<(&'static Cluster, Webhook), String>> = OnceLock::new();
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let make = || -> Result<(&'static Cluster, Webhook)> {
        let started = Cluster::start()?;
        let cluster = CLUSTER.get_or_init(|| started);
        cluster_api::install(cluster)?;
        gate_floor::install(cluster)?;
        Ok((cluster, gate_site::start(cluster, &[])?))
    };
    let made = SITE.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    let (cluster, webhook) = made.as_ref().map_err(|error| anyhow!("{error}"))?;
    Ok((cluster, webhook))
}

/// The words of a command between backquotes that begins like this, without `kubectl backup`.
fn command<'m>(message: &'m str, verb: &str) -> Result<Vec<&'m str>> {
    let begin = format!("`kubectl backup cluster {verb} ");
    let start = message
        .find(&begin)
        .with_context(|| format!("no {begin} in {message}"))?
        + 1;
    let rest = message.get(start..).unwrap_or_default();
    let command = rest.split('`').next().unwrap_or_default();
    Ok(command.split(' ').skip(2).collect())
}

#[test]
fn the_commands_of_a_refusal_are_run_and_the_cluster_goes() -> Result<()> {
    let (cluster, _) = whole()?;
    for (kind, verb) in [
        (Workload::Cluster, "retain"),
        (Workload::TanzuKubernetesCluster, "delete-storage"),
    ] {
        let namespace = cluster.namespace()?;
        kind.create(cluster, namespace.name(), "prod")?;
        let path = kind.path(namespace.name(), "prod");
        let store = Store::folder()?;
        let plugin = Plugin::new(cluster, &store)?;
        plugin
            .run(["cluster", "protect", "prod", "-n", namespace.name()])?
            .ok();
        let object = format!("{}/prod", kind.plural());
        let delete = ["delete", &object, "-n", namespace.name(), "--wait=false"];
        let refused = cluster.kubectl(&delete)?;
        ensure!(!refused.status.success());
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        // Both commands are there; one is run, word for word.
        command(&message, "retain")?;
        let words = command(&message, verb)?;
        let ran = plugin.run(words.iter().copied().chain(["--yes"]))?.ok();
        ensure!(ran.stdout.contains("(chosen by "), "{ran}");
        plugin
            .run(["cluster", "status", "prod", "-n", namespace.name()])?
            .ok()
            .stdout_has("a deletion would be allowed:");
        cluster.kubectl_ok(&delete)?;
        cluster
            .person(ACCOUNT)?
            .patch(&path, &json!({ "metadata": { "finalizers": [] } }))?;
        cluster.wait_until_gone(&path)?;
    }
    Ok(())
}

#[test]
fn an_annotation_is_mirrored_for_the_floor_within_a_moment() -> Result<()> {
    let (cluster, _) = whole()?;
    let (operator, decider) = (operator(cluster)?, decider(cluster)?);
    let namespace = cluster.namespace()?;
    let mut waits = Vec::new();
    for number in 0..5 {
        let name = format!("prod-{number}");
        let path = Workload::Cluster.path(namespace.name(), &name);
        protect(cluster, Workload::Cluster, namespace.name(), &name)?;
        decider.annotate(&path, DISPOSITION, "Retain")?.ok()?;
        waits.push(until_ok(|| operator.delete(&path))?);
        cluster
            .person(ACCOUNT)?
            .patch(&path, &json!({ "metadata": { "finalizers": [] } }))?;
    }
    waits.sort();
    let longest = waits.last().copied().unwrap_or_default();
    ensure!(longest.as_secs() < 5, "the mirror took {waits:?}");
    Ok(())
}

#[test]
fn with_the_server_killed_nothing_undecided_goes_and_with_its_registration_gone_neither() -> Result<()> {
    let cluster = Cluster::start()?;
    cluster_api::install(&cluster)?;
    gate_floor::install(&cluster)?;
    let mut webhook = gate_site::start(&cluster, &[])?;
    let (operator, decider) = (operator(&cluster)?, decider(&cluster)?);
    let namespace = cluster.namespace()?;
    let [undecided, decided] =
        ["undecided", "decided"].map(|name| Workload::Cluster.path(namespace.name(), name));
    protect(&cluster, Workload::Cluster, namespace.name(), "undecided")?;
    let uid = protect(&cluster, Workload::Cluster, namespace.name(), "decided")?;
    decider.annotate(&decided, DISPOSITION, "Retain")?.ok()?;
    cluster.wait_until("the choice to be mirrored", |cluster| {
        let object = cluster.get(&decided)?.unwrap_or_default();
        Ok(object["metadata"]["annotations"][ACCEPTED] == format!("Retain/{uid}").as_str())
    })?;
    webhook.kill();
    // Fail: nobody answers, so nothing goes, the decided one included.
    for path in [&undecided, &decided] {
        let answer = operator.delete(path)?;
        ensure!(answer.code >= 400, "{answer}");
    }
    drop(webhook);
    cluster.wait_until("the registration to be gone", |_| {
        let dry = json!({ "dryRun": ["All"] });
        Ok(operator.delete_with(&decided, &dry)?.code == 200)
    })?;
    operator
        .delete(&undecided)?
        .forbidden(&["floor policy", "kubectl backup cluster retain undecided"])?;
    cluster
        .admin()?
        .annotate(&undecided, ACCEPTED, "Retain/x")?
        .forbidden(&["admission suite alone"])?;
    operator.delete(&decided)?.ok()?;
    Ok(())
}

#[test]
fn with_four_eyes_whoever_chose_delete_does_not_delete_the_cluster_too() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    cluster_api::install(&cluster)?;
    let settings = cluster.folder().join("gate-settings.yaml");
    std::fs::write(&settings, "fourEyes: true\n")?;
    let _webhook = gate_site::start(&cluster, &[&format!("--gate-settings={}", settings.display())])?;
    let both = gate_site::with(operator(&cluster)?, &cluster, "decide")?;
    let namespace = cluster.namespace()?;
    for (word, is_refused) in [("Retain", false), ("Delete", true)] {
        let path = Workload::Cluster.path(namespace.name(), &word.to_lowercase());
        protect(
            &cluster,
            Workload::Cluster,
            namespace.name(),
            &word.to_lowercase(),
        )?;
        both.annotate(&path, DISPOSITION, word)?.ok()?;
        let dry = json!({ "dryRun": ["All"] });
        let answer = both.delete_with(&path, &dry)?;
        if is_refused {
            answer.forbidden(&[both.name(), "may not delete the cluster as well"])?;
        } else {
            answer.ok()?;
        }
        operator(&cluster)?.delete_with(&path, &dry)?.ok()?;
    }
    Ok(())
}
