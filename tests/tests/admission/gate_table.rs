//! The gate's truth table, row by row, on a real API server: what is decided, what a deletion is answered.

use anyhow::{Result, ensure};
use backup_tests::cluster_api::Workload;
use serde_json::{Value, json};
use velero_model::api::{AT_STAKE, BREAK_GLASS, DELETE_FOR_MOVE, DISPOSITION, FINALIZER, StorageFacts};

use crate::gate_site::{Prod, decider, operator, site, with};

fn dry() -> Value {
    json!({ "dryRun": ["All"] })
}

#[test]
fn without_a_choice_nothing_goes_and_the_words_are_the_same_every_time() -> Result<()> {
    let site = site()?;
    let operator = operator(site.cluster)?;
    for kind in [
        Workload::Cluster,
        Workload::OlderCluster,
        Workload::TanzuKubernetesCluster,
    ] {
        let prod = Prod::protected(site, kind)?;
        let facts = StorageFacts {
            location: format!("s3://backups/{}/prod", prod.namespace),
            backups: 214,
            bytes: 310 << 30,
            oldest: Some("2026-08-01T00:00:00Z".parse()?),
            newest: Some("2026-11-25T00:00:00Z".parse()?),
            observed: "2026-11-25T01:00:00Z".parse()?,
        };
        let ours = site.cluster.person(crate::gate_site::ACCOUNT)?;
        ours.annotate(&prod.path, AT_STAKE, serde_json::to_string(&facts)?)?
            .ok()?;
        let [retain, delete_storage] = prod.commands();
        let words = [
            "214 backups (310GiB)",
            "2026-11-25T00:00:00Z",
            &retain,
            &delete_storage,
        ];
        let first = operator.delete(&prod.path)?.forbidden(&words)?;
        let undecided = site.webhook.metric("kubectl_backup_undecided_clusters ", "")?;
        ensure!(undecided >= 1.0, "{undecided} undecided clusters");
        for options in [
            json!({}),
            dry(),
            json!({ "propagationPolicy": "Foreground" }),
            json!({ "propagationPolicy": "Background" }),
            json!({ "propagationPolicy": "Orphan" }),
            json!({ "gracePeriodSeconds": 0 }),
        ] {
            let again = operator.delete_with(&prod.path, &options)?.forbidden(&words)?;
            ensure!(
                first == again,
                "{options}: refused in other words:\n{first}\n{again}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_choice_about_this_very_cluster_lets_it_go_and_a_repeat_is_no_question() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    for kind in Workload::KINDS {
        for word in ["Retain", "Delete"] {
            let prod = Prod::protected(site, kind)?;
            prod.choose(&decider, word)?.ok()?;
            operator.delete_with(&prod.path, &dry())?.ok()?;
            operator.delete(&prod.path)?.ok()?;
            operator.delete(&prod.path)?.ok()?;
            let held = site.cluster.get(&prod.path)?.unwrap_or_default();
            ensure!(
                held["metadata"]["deletionTimestamp"].is_string(),
                "the finalizer does not hold: {held}"
            );
            prod.release(site.cluster)?;
        }
    }
    Ok(())
}

#[test]
fn a_choice_about_an_older_cluster_of_the_name_is_none() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let prod = Prod::protected(site, Workload::Cluster)?;
    let stale = "00000000-1111-2222-3333-444444444444";
    let reference =
        json!({ "group": prod.kind.group(), "kind": prod.kind.kind(), "name": "prod", "uid": stale });
    let object = prod.disposition("Delete", json!({ "clusterRef": reference }));
    let made = decider.create(&prod.dispositions(), &object)?;
    ensure!(
        made.warnings
            .iter()
            .any(|warning| warning.contains("decides nothing")),
        "{made}"
    );
    made.ok()?;
    operator
        .delete(&prod.path)?
        .forbidden(&["prod-choice", "Delete", stale, "retain prod"])?;
    Ok(())
}

#[test]
fn an_expired_choice_is_none_and_the_answer_says_when() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let prod = Prod::protected(site, Workload::Cluster)?;
    let object = prod.disposition("Retain", json!({ "expiresAfter": "2s" }));
    decider.create(&prod.dispositions(), &object)?.ok()?;
    operator.delete_with(&prod.path, &dry())?.ok()?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    let first = operator
        .delete(&prod.path)?
        .forbidden(&["has expired at 2", "prod-choice"])?;
    ensure!(first == operator.delete(&prod.path)?.forbidden(&[])?);
    Ok(())
}

#[test]
fn two_choices_that_differ_are_none() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let prod = Prod::protected(site, Workload::Cluster)?;
    prod.choose(&decider, "Retain")?.ok()?;
    decider.annotate(&prod.path, DISPOSITION, "Delete")?.ok()?;
    operator
        .delete(&prod.path)?
        .forbidden(&["prod-choice", DISPOSITION, "remove one"])?;
    decider.delete(&prod.choice())?.ok()?;
    operator.delete_with(&prod.path, &dry())?.ok()?;
    Ok(())
}

#[test]
fn a_last_backup_is_waited_for_by_the_finalizer() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let prod = Prod::protected(site, Workload::Cluster)?;
    let object = prod.disposition("Retain", json!({ "finalBackup": "Required" }));
    decider.create(&prod.dispositions(), &object)?.ok()?;
    operator.delete(&prod.path)?.ok()?;
    let held = site.cluster.get(&prod.path)?.unwrap_or_default();
    ensure!(
        held["metadata"]["finalizers"].to_string().contains(FINALIZER),
        "{held}"
    );
    prod.release(site.cluster)
}

#[test]
fn a_cluster_that_was_never_protected_goes_with_a_warning() -> Result<()> {
    let site = site()?;
    let operator = operator(site.cluster)?;
    let namespace = site.cluster.namespace()?;
    Workload::Cluster.create(site.cluster, namespace.name(), "plain")?;
    let answer = operator.delete(&Workload::Cluster.path(namespace.name(), "plain"))?;
    ensure!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.contains("never protected")),
        "{answer}"
    );
    answer.ok().map(drop)
}

#[test]
fn a_choice_counts_the_moment_it_is_written() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    for number in 0..20 {
        let prod = Prod::protected(site, Workload::KINDS[number % 2])?;
        if number % 4 < 2 {
            decider.annotate(&prod.path, DISPOSITION, "Retain")?.ok()?;
        } else {
            prod.choose(&decider, "Retain")?.ok()?;
        }
        let answer = operator.delete(&prod.path)?;
        ensure!(answer.code == 200, "attempt {number}: {answer}");
        prod.release(site.cluster)?;
    }
    Ok(())
}

#[test]
fn a_choice_that_is_withdrawn_counts_no_longer() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let prod = Prod::protected(site, Workload::Cluster)?;
    prod.choose(&decider, "Delete")?.ok()?;
    prod.wait_for_mirror(site.cluster, Some("Delete"))?;
    decider.delete(&prod.choice())?.ok()?;
    operator.delete(&prod.path)?.forbidden(&["nobody has chosen"])?;
    prod.wait_for_mirror(site.cluster, None)
}

#[test]
fn the_glass_is_broken_by_whoever_may_and_with_a_reason() -> Result<()> {
    let site = site()?;
    let operator = operator(site.cluster)?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    operator
        .annotate(&prod.path, BREAK_GLASS, "I want to")?
        .forbidden(&["may not", "breakglass"])?;
    let breaker = with(operator, site.cluster, "breakglass")?;
    let empty = breaker.annotate(&prod.path, BREAK_GLASS, " ")?;
    ensure!(empty.code == 403 && empty.message().contains("reason"), "{empty}");
    breaker
        .annotate(&prod.path, BREAK_GLASS, "site lost, incident 4711")?
        .ok()?;
    let answer = breaker.delete(&prod.path)?;
    ensure!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.contains("incident 4711")),
        "{answer}"
    );
    answer.ok()?;
    prod.release(site.cluster)
}

#[test]
fn clusterctl_moves_for_whoever_may() -> Result<()> {
    let site = site()?;
    // clusterctl replaces the whole map, deletes, and strips the finalizers.
    let patch = json!([{ "op": "add", "path": "/metadata/annotations", "value": { DELETE_FOR_MOVE: "" } }]);
    let prod = Prod::protected(site, Workload::Cluster)?;
    let operator = operator(site.cluster)?;
    operator
        .json_patch(&prod.path, &patch)?
        .forbidden(&["may not", "move"])?;
    let mover = with(crate::gate_site::operator(site.cluster)?, site.cluster, "move")?;
    mover.json_patch(&prod.path, &patch)?.ok()?;
    operator
        .delete(&prod.path)?
        .forbidden(&["marked as moved", operator.name()])?;
    mover.delete(&prod.path)?.ok()?;
    mover
        .patch(&prod.path, &json!({ "metadata": { "finalizers": [] } }))?
        .ok()?;
    site.cluster.wait_until_gone(&prod.path)
}
