//! What a restore asks of others before and while it deletes: a person at a terminal, finalizers that hold an object, webhooks
//! that take no dry run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backup_engine::api::PatchKind;
use backup_engine::restore::RestoreRequest;
use backup_plan::restore::planned::{Checked, PlannedAction};
use backup_plan::restore::policy::Policy;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::runtime;
use backup_tests::store::Store;
use serde_json::{Value, json};
use velero_model::phase::Phase;

use crate::site::{
    Site, assert_completed, client, config_map, object, objects, of_namespaces, path, planned, request, uid,
};

fn uid_at(cluster: &Cluster, path: &str) -> Result<Value> {
    Ok(uid(&object(cluster, path)?))
}

#[test]
fn a_person_at_a_terminal_is_asked_and_only_yes_deletes() -> Result<()> {
    let (cluster, store) = (Cluster::shared()?, Store::folder()?);
    let namespace = cluster.namespace()?;
    let plugin = Plugin::new(cluster, &store)?;
    cluster.create(config_map(&namespace, "changed", "1"))?;
    plugin.run(["create", "b1", "-n", namespace.name()])?.ok();
    let changed = path(namespace.name(), "configmaps", "changed");
    cluster.patch(&changed, json!({ "data": { "a": "2" } }))?;
    let before = uid_at(cluster, &changed)?;
    let recreate = |name: &'static str| {
        let policy = ["--existing-resource-policy", "none,configmaps=recreate"];
        ["restore", "b1", "--name", name].into_iter().chain(policy)
    };
    for (typed, code, said) in [
        ("no\n", 4, "nothing is changed: yes was not typed"),
        ("\n", 4, "nothing is changed: yes was not typed"),
        // Ctrl-C, as the terminal makes a signal of it.
        ("\u{3}", 130, "stopping"),
    ] {
        let mut running = plugin.at_terminal(recreate("refused"))?;
        running.wait_until("the question", |running| {
            running.stdout_so_far().contains("type yes to go on:")
        })?;
        running.types(typed)?;
        running.wait()?.exits(code).stdout_has(said);
        assert_eq!(uid_at(cluster, &changed)?, before, "{typed:?}");
    }
    let mut running = plugin.at_terminal(recreate("agreed"))?;
    running.wait_until("the question", |running| {
        running.stdout_so_far().contains("type yes to go on:")
    })?;
    running.types("yes\n")?;
    running.wait()?.ok().stdout_has("Completed");
    assert_ne!(uid_at(cluster, &changed)?, before);
    assert_eq!(object(cluster, &changed)?["data"]["a"], "1");
    Ok(())
}

fn recreate(restore: &str) -> RestoreRequest {
    RestoreRequest {
        existing: Policy::Recreate.into(),
        ..request(restore)
    }
}

#[test]
fn an_object_that_a_finalizer_holds_is_waited_for_and_then_named_and_made_anew_on_resume() -> Result<()> {
    const HOLD: &str = "example.com/hold";
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let maps = ["freed", "held"].map(|name| path(namespace.name(), "configmaps", name));
    for name in ["freed", "held"] {
        cluster.create(config_map(&namespace, name, "1"))?;
    }
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    for map in &maps {
        cluster.patch(
            map,
            json!({ "data": { "a": "2" }, "metadata": { "finalizers": [HOLD] } }),
        )?;
    }
    let [freed, held] = &maps;
    let (freed_before, held_before) = (uid_at(cluster, freed)?, uid_at(cluster, held)?);
    let (kubeconfig, free) = (cluster.kubeconfig().to_owned(), freed.clone());
    let releasing = std::thread::spawn(move || {
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let patch = json!({ "metadata": { "finalizers": null } }).to_string();
            api.patch(&free, &PatchKind::Merge, patch.into()).await?;
            Ok(())
        })
    });
    let begun = Instant::now();
    let summary = site.restore(cluster, "b", recreate("r"))?;
    releasing.join().ok().context("the releaser panicked")??;
    assert!(
        begun.elapsed() >= Duration::from_mins(1),
        "{:?} is no patience",
        begun.elapsed()
    );
    assert_eq!(summary.record.phase, Phase::PartiallyFailed);
    assert_eq!(summary.failures.len(), 1, "{:?}", summary.failures);
    let failure = &summary.failures[0];
    assert_eq!(failure.object, format!("configmaps {namespace}/held"));
    assert!(
        failure
            .reason
            .contains("it was deleted to be made anew and does not go away")
            && failure.reason.contains(&format!("its finalizers {HOLD} hold it")),
        "{}",
        failure.reason
    );
    assert_ne!(uid_at(cluster, freed)?, freed_before);
    assert_eq!(object(cluster, freed)?["data"]["a"], "1");
    assert_eq!(uid_at(cluster, held)?, held_before);

    // The object goes at last, and the restore goes on.
    cluster.patch(held, json!({ "metadata": { "finalizers": null } }))?;
    cluster.wait_until_gone(held)?;
    let summary = site.restore(cluster, "b", recreate("r"))?;
    assert_completed(&summary);
    assert_eq!(object(cluster, held)?["data"]["a"], "1");
    assert_eq!(summary.record.kinds["configmaps"].created, 2);
    Ok(())
}

#[test]
fn a_webhook_without_dry_run_is_named_in_the_plan_and_keeps_nothing_from_being_restored() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for name in ["there", "gone"] {
        cluster.create(config_map(&namespace, name, "1"))?;
    }
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    cluster.delete(&path(namespace.name(), "configmaps", "gone"))?;
    // Today's API takes no webhook that has effects in a dry run; one that an older server stored still works.
    let configuration = format!("effects-{namespace}");
    let webhook = format!("effects.{namespace}.example.com");
    cluster.put_into_etcd(
        &format!("validatingwebhookconfigurations/{configuration}"),
        &json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": configuration, "uid": "5f0c3c0e-0000-4000-8000-0000000000ff",
                "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1 },
            "webhooks": [{ "name": webhook, "sideEffects": "Some", "failurePolicy": "Ignore", "matchPolicy": "Equivalent",
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace.name() } },
                "objectSelector": {}, "timeoutSeconds": 1, "admissionReviewVersions": ["v1"],
                "clientConfig": { "url": "https://127.0.0.1:1/" },
                "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["configmaps"], "scope": "*" }] }] }),
    )?;
    cluster.wait_until("the webhook to refuse dry runs", |cluster| {
        Ok(cluster.create_dry(config_map(&namespace, "any", "1")).is_err())
    })?;

    let all = objects(&site.plan(cluster, "b", request("r"))?)?;
    let gone = planned(&all, "configmaps", "gone")?;
    assert_eq!(gone.action, PlannedAction::Create);
    assert!(
        matches!(&gone.checked, Checked::NotPossible(why) if *why == format!("webhook {webhook} does not support dry run")),
        "{gone:?}"
    );
    assert_eq!(
        planned(&all, "configmaps", "there")?.action,
        PlannedAction::Unchanged
    );

    let summary = site.restore(cluster, "b", request("r"))?;
    assert_completed(&summary);
    let maps = &summary.record.kinds["configmaps"];
    assert_eq!((maps.created, maps.unchanged), (1, 1));
    cluster.delete(&format!(
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{configuration}"
    ))
}
