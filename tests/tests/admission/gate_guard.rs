//! The guard: who may decide, and whose name stands under it.

use anyhow::{Context, Result, ensure};
use backup_tests::cluster_api::Workload;
use serde_json::{Value, json};
use velero_model::api::{ACCEPTED, AT_STAKE, DECIDED_BY, DECIDED_FOR, DISPOSITION, FINALIZER, PROTECTED};

use crate::gate_site::{Prod, decider, operator, site, with, writer};

fn annotation(object: &Value, key: &str) -> String {
    let text = object["metadata"]["annotations"][key].as_str();
    text.unwrap_or_default().to_owned()
}

#[test]
fn the_right_to_decide_is_apart_from_the_rights_to_write_and_to_delete() -> Result<()> {
    let site = site()?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    let words = ["may not choose what becomes of the backup storage", "decide"];
    let writer = writer(site.cluster)?;
    prod.choose(&writer, "Delete")?.forbidden(&words)?;
    writer
        .annotate(&prod.path, DISPOSITION, "Delete")?
        .forbidden(&words)?;
    operator(site.cluster)?
        .annotate(&prod.path, DISPOSITION, "Retain")?
        .forbidden(&words)?;
    ensure!(site.cluster.get(&prod.choice())?.is_none());
    let decider = with(writer, site.cluster, "decide")?;
    prod.choose(&decider, "Delete")?.ok()?;
    Ok(())
}

#[test]
fn the_author_is_stamped_and_can_be_neither_forged_nor_edited() -> Result<()> {
    let site = site()?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    let decider = decider(site.cluster)?;
    let mut object = prod.disposition("Retain", json!({}));
    object["metadata"]["annotations"] =
        json!({ DECIDED_BY: "somebody-else", DECIDED_FOR: "x 2000-01-01T00:00:00Z" });
    let made = decider.create(&prod.dispositions(), &object)?.ok()?;
    ensure!(annotation(&made, DECIDED_BY) == decider.name(), "{made}");
    ensure!(annotation(&made, DECIDED_FOR).starts_with(&prod.uid), "{made}");
    for person in [&decider, &site.cluster.admin()?] {
        for value in [json!("eve"), Value::Null] {
            let changed = person.annotate(&prod.choice(), DECIDED_BY, value)?.ok()?;
            ensure!(annotation(&changed, DECIDED_BY) == decider.name(), "{changed}");
        }
    }
    // The short form has the same stamps.
    let both = json!({ "metadata": { "annotations": { DISPOSITION: "Retain", DECIDED_BY: "eve" } } });
    let changed = decider.patch(&prod.path, &both)?.ok()?;
    ensure!(annotation(&changed, DECIDED_BY) == decider.name(), "{changed}");
    let changed = site
        .cluster
        .admin()?
        .annotate(&prod.path, DECIDED_BY, "eve")?
        .ok()?;
    ensure!(annotation(&changed, DECIDED_BY) == decider.name(), "{changed}");
    // Whoever changes the word is its author from then on.
    let other = crate::gate_site::decider(site.cluster)?;
    let changed = other
        .patch(&prod.choice(), &json!({ "spec": { "backupStorage": "Delete" } }))?
        .ok()?;
    ensure!(annotation(&changed, DECIDED_BY) == other.name(), "{changed}");
    Ok(())
}

#[test]
fn words_that_mean_nothing_are_refused_with_the_two_that_do() -> Result<()> {
    let site = site()?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    let decider = decider(site.cluster)?;
    for word in ["Keep", "retain", "", "Retain "] {
        let answer = decider.annotate(&prod.path, DISPOSITION, word)?;
        ensure!(answer.code == 403, "{word:?}: {answer}");
        for allowed in ["Retain", "Delete"] {
            ensure!(answer.message().contains(allowed), "{answer}");
        }
        let object = prod.choose(&decider, word)?;
        ensure!(matches!(object.code, 403 | 422), "{object}");
        for allowed in ["Retain", "Delete"] {
            ensure!(object.message().contains(allowed), "{object}");
        }
    }
    Ok(())
}

#[test]
fn what_the_gate_writes_is_nobody_elses() -> Result<()> {
    let site = site()?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    let admin = site.cluster.admin()?;
    for (key, value) in [
        (ACCEPTED, format!("Delete/{}", prod.uid)),
        (AT_STAKE, "{}".to_owned()),
    ] {
        let answer = admin.annotate(&prod.path, key, value)?;
        let is_put_back = answer.code == 403 || answer.body["metadata"]["annotations"][key].is_null();
        ensure!(is_put_back, "{key}: {answer}");
    }
    operator(site.cluster)?
        .delete(&prod.path)?
        .forbidden(&["retain prod"])?;
    Ok(())
}

#[test]
fn a_cluster_that_is_made_inherits_nothing() -> Result<()> {
    let site = site()?;
    let namespace = site.cluster.namespace()?;
    let mut object = Workload::Cluster.object(namespace.name(), "prod");
    object["metadata"]["annotations"] = json!({
        PROTECTED: format!("main:{namespace}/prod"), DISPOSITION: "Delete", DECIDED_BY: "eve", ACCEPTED: "Delete/x",
    });
    let made = site.cluster.create(object)?;
    for key in [DISPOSITION, DECIDED_BY, ACCEPTED] {
        ensure!(annotation(&made, key).is_empty(), "{key}: {made}");
    }
    // Protection is complete at once.
    ensure!(
        made["metadata"]["finalizers"].to_string().contains(FINALIZER),
        "{made}"
    );
    operator(site.cluster)?
        .delete(&Workload::Cluster.path(namespace.name(), "prod"))?
        .forbidden(&["retain prod"])?;
    Ok(())
}

#[test]
fn protection_ends_by_the_right_to_decide_alone() -> Result<()> {
    let site = site()?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    let operator = operator(site.cluster)?;
    operator
        .annotate(&prod.path, PROTECTED, Value::Null)?
        .forbidden(&["may not", "protection"])?;
    // A tool that writes back a list that it read earlier does not mean it.
    let changed = operator
        .patch(&prod.path, &json!({ "metadata": { "finalizers": [] } }))?
        .ok()?;
    ensure!(
        changed["metadata"]["finalizers"].to_string().contains(FINALIZER),
        "{changed}"
    );
    let both = json!({ "metadata": { "annotations": { PROTECTED: null }, "finalizers": [] } });
    let decider = with(operator, site.cluster, "decide")?;
    decider.patch(&prod.path, &both)?.ok()?;
    decider.delete(&prod.path)?.ok()?;
    site.cluster.wait_until_gone(&prod.path)
}

#[test]
fn the_choice_stays_while_the_cluster_is_held_for_it() -> Result<()> {
    let site = site()?;
    let (operator, decider) = (operator(site.cluster)?, decider(site.cluster)?);
    let prod = Prod::protected(site, Workload::Cluster)?;
    prod.choose(&decider, "Retain")?.ok()?;
    operator.delete(&prod.path)?.ok()?;
    site.cluster.get(&prod.path)?.context("not held")?;
    decider
        .delete(&prod.choice())?
        .forbidden(&["stays until it is gone"])?;
    decider
        .patch(&prod.choice(), &json!({ "spec": { "backupStorage": "Delete" } }))?
        .forbidden(&["too late"])?;
    prod.release(site.cluster)
}
