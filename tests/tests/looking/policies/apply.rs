//! Pods that are older than a policy: how they show, how they are brought up to date, and what is left alone.

use std::path::Path;

use anyhow::{Context, Result};
use backup_tests::plugin::{self, Plugin};
use backup_tests::scratch::Scratch;
use serde_json::{Value, json};

use super::Bench;

fn item<'d>(document: &'d Value, pod: &str) -> Result<&'d Value> {
    let items = document["items"].as_array().context("items")?;
    let found = items.iter().find(|item| item["pod"] == pod);
    found.with_context(|| format!("{pod} in {document:#}"))
}

/// Two pods that a policy for `data-*` came too late for, and one that lists it already.
fn late() -> Result<(Bench, String)> {
    let bench = Bench::new()?;
    bench.database("db-0", &json!({}))?;
    bench.database("db-1", &json!({ "backup.velero.io/backup-volumes": "scratch" }))?;
    bench.database("db-2", &json!({ "backup.velero.io/backup-volumes": "data" }))?;
    let policy = bench.policy("data", json!({ "volumes": { "claimNames": ["data-*"] } }))?;
    Ok((bench, policy))
}

#[test]
fn drift_is_shown_by_owner_and_pod() -> Result<()> {
    let (bench, policy) = late()?;
    let document = bench.plugin.json(["policy", "explain", &policy])?;
    assert_eq!(document["policies"][0]["pods"], 3, "{document:#}");
    assert_eq!(item(&document, "db-0")?["lacks"], json!(["data"]));
    assert_eq!(item(&document, "db-1")?["wouldBe"], "scratch,data");
    assert_eq!(item(&document, "db-2")?["lacks"], json!([]));
    assert_eq!(item(&document, "db-2")?["workload"], "StatefulSet/db");
    bench
        .plugin
        .run(["policy", "explain", &policy])?
        .ok()
        .stdout_has("StatefulSet/db   3      3         2")
        .stderr_has("2 pods not up to date")
        .stderr_has("without a restart");
    Ok(())
}

#[test]
fn running_pods_are_brought_up_to_date_in_place() -> Result<()> {
    let (bench, policy) = late()?;
    let namespace = bench.namespace.name().to_owned();
    let words = ["policy", "apply", &policy, "-n", &namespace];
    let with = |more: &[&'static str]| -> Vec<String> {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .chain(more.iter().map(|word| (*word).to_owned()))
            .collect()
    };
    let before = bench.cluster.get(&bench.path("db-1"))?.context("db-1")?;
    // A plan and a question without an answer change nothing.
    bench
        .plugin
        .run(with(&["--dry-run"]))?
        .ok()
        .stdout_has("would change");
    bench
        .plugin
        .run(with(&["--dry-run=server"]))?
        .ok()
        .stdout_has("asked the server");
    bench
        .plugin
        .run(with(&[]))?
        .exits(4)
        .stderr_has("db-1 (StatefulSet/db): scratch -> scratch,data")
        .stderr_has("--yes");
    assert_eq!(bench.listed("db-0")?, None);
    let ran = bench.plugin.run(with(&["--yes", "-o", "json"]))?.ok();
    let document: Value = serde_json::from_str(&ran.stdout)?;
    assert_eq!(item(&document, "db-0")?["result"], "changed");
    assert_eq!(
        document["items"].as_array().map(Vec::len),
        Some(2),
        "{document:#}"
    );
    assert_eq!(bench.listed("db-0")?.as_deref(), Some("data"));
    assert_eq!(bench.listed("db-1")?.as_deref(), Some("scratch,data"));
    assert_eq!(bench.listed("db-2")?.as_deref(), Some("data"));
    // The same pod, with two annotations more and nothing else.
    let mut after = bench.cluster.get(&bench.path("db-1"))?.context("db-1")?;
    assert_eq!(
        after["metadata"]["annotations"]["kubectl-backup.io/volumes-chosen-by"],
        format!("{policy}@1")
    );
    for field in ["annotations", "resourceVersion", "managedFields", "generation"] {
        after["metadata"][field] = before["metadata"][field].clone();
    }
    assert_eq!(after, before);
    // Done once is done.
    bench
        .plugin
        .run(with(&["--yes"]))?
        .ok()
        .stderr_has("every pod that is there is up to date");
    Ok(())
}

#[test]
fn finished_and_leaving_pods_are_left_alone() -> Result<()> {
    let (bench, policy) = late()?;
    bench.phase("db-0", "Succeeded")?;
    let path = bench.path("db-1");
    bench.cluster.patch(
        &path,
        json!({ "metadata": { "finalizers": ["example.org/hold"] } }),
    )?;
    bench.cluster.delete(&path)?;
    let document = bench.plugin.json(["policy", "apply", &policy, "--yes"])?;
    assert_eq!(document["items"], json!([]), "{document:#}");
    bench
        .cluster
        .patch(&path, json!({ "metadata": { "finalizers": null } }))?;
    Ok(())
}

#[test]
fn nothing_is_taken_from_a_list_when_a_policy_goes() -> Result<()> {
    let (bench, policy) = late()?;
    bench.plugin.run(["policy", "apply", &policy, "--yes"])?.ok();
    let none = bench.policy("none", json!({ "action": "Exclude" }))?;
    bench
        .plugin
        .run(["policy", "explain", &none])?
        .ok()
        .stdout_has("NO LONGER CHOSEN")
        .stderr_has("names are never taken from a list");
    bench.plugin.run(["policy", "apply", &none, "--yes"])?.ok();
    assert_eq!(bench.listed("db-0")?.as_deref(), Some("data"));
    Ok(())
}

#[test]
fn a_change_of_somebody_else_is_not_written_over() -> Result<()> {
    let (bench, policy) = late()?;
    // The plugin asks on a terminal; while it waits, one owner writes a list of his own and a kubelet writes a status.
    let folder = Scratch::new("terminal-")?;
    let (seen, go) = (folder.join("seen"), folder.join("go"));
    let binary = plugin::binary()?;
    let script = format!(
        "{{ while [ ! -e {go} ]; do sleep 0.1; done; echo yes; sleep 1; }} | \
         script -qfec '{binary} policy apply {policy}' {seen}",
        go = go.display(),
        binary = binary.display(),
        seen = seen.display(),
    );
    let shell = Plugin::of_binary(Path::new("/bin/bash"))?.with_kubeconfig(bench.cluster.kubeconfig())?;
    let mut running = shell.spawn(["-c", &script])?;
    running.wait_until("the question", |_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::read_to_string(&seen).is_ok_and(|text| text.contains("type yes to go on"))
    })?;
    let list = json!({ "metadata": { "annotations": { "backup.velero.io/backup-volumes": "wal" } } });
    bench.cluster.patch(&bench.path("db-0"), list)?;
    let status = json!({ "status": { "message": "as busy as ever" } });
    bench
        .cluster
        .patch(&format!("{}/status", bench.path("db-1")), status)?;
    std::fs::write(&go, "")?;
    let ran = running.wait()?;
    assert_eq!(ran.code, 3, "{ran}");
    let text = std::fs::read_to_string(&seen)?;
    assert!(text.contains("somebody changed the pod meanwhile"), "{text}");
    assert_eq!(bench.listed("db-0")?.as_deref(), Some("wal"));
    assert_eq!(bench.listed("db-1")?.as_deref(), Some("scratch,data"));
    Ok(())
}

#[test]
fn a_pod_that_was_made_anew_meanwhile_is_another_pod() -> Result<()> {
    let (bench, policy) = late()?;
    let old = bench.cluster.get(&bench.path("db-0"))?.context("db-0")?;
    bench
        .cluster
        .delete(&format!("{}?gracePeriodSeconds=0", bench.path("db-0")))?;
    bench.database("db-0", &json!({}))?;
    let stale = json!({ "metadata": { "uid": old["metadata"]["uid"], "annotations": { "a": "b" } } });
    // What protects it: the server refuses a patch with another pod's UID.
    assert!(bench.cluster.patch(&bench.path("db-0"), stale).is_err());
    bench.plugin.run(["policy", "apply", &policy, "--yes"])?.ok();
    assert_eq!(bench.listed("db-0")?.as_deref(), Some("data"));
    Ok(())
}
