//! `volumes explain`, `policy list` and `policy explain`: what they say about a real cluster, and what is wrong with what
//! was asked.

use anyhow::{Context, Result};
use backup_tests::plugin::Plugin;
use serde_json::{Value, json};

use super::{Bench, claim, start, wait_until_served};

/// `volume: chosen, rule` of every line.
fn fates(document: &Value) -> Vec<(String, &str, &str)> {
    let items = document["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let text = |value: &'_ Value| value.as_str().unwrap_or("-").to_owned();
    items
        .iter()
        .map(|item| {
            let what = format!("{}/{}", text(&item["pod"]), text(&item["volume"]));
            (
                what,
                item["fate"].as_str().unwrap_or("-"),
                item["rule"].as_str().unwrap_or("-"),
            )
        })
        .collect()
}

#[test]
fn every_volume_has_a_fate_and_the_rule_that_decides() -> Result<()> {
    let bench = Bench::new()?;
    let namespace = bench.namespace.name();
    let large = bench.policy("large", json!({ "volumes": { "minimumCapacity": "5Gi" } }))?;
    let none = bench.policy(
        "no-wal",
        json!({ "action": "Exclude", "volumes": { "claimNames": ["wal-*"] } }),
    )?;
    bench.claim("data-db-0", "fast", "10Gi")?;
    bench.claim("wal-db-0", "fast", "10Gi")?;
    bench.claim("old", "fast", "1Gi")?;
    bench.database("db-0", &json!({}))?;
    bench.claim("data-db-1", "fast", "1Gi")?;
    bench.claim("wal-db-1", "fast", "1Gi")?;
    bench.database(
        "db-1",
        &json!({ "backup.velero.io/backup-volumes": "scratch,settings" }),
    )?;
    let document = bench.plugin.json(["volumes", "explain", "-n", namespace])?;
    let fates = fates(&document);
    let chosen = format!("policy \"{large}\" includes it, but the pod's annotation does not list it yet");
    let excluded = format!("policy \"{none}\" excludes it");
    let expected = [
        ("db-0/data", "chosen", chosen.as_str()),
        ("db-0/wal", "excluded", &excluded),
        (
            "db-0/scratch",
            "not-chosen",
            "no policy, label or annotation chooses it",
        ),
        (
            "db-0/settings",
            "skipped",
            "Velero skips it: its files come from a ConfigMap",
        ),
        (
            "db-1/data",
            "not-chosen",
            "no policy, label or annotation chooses it",
        ),
        ("db-1/wal", "excluded", &excluded),
        (
            "db-1/scratch",
            "listed",
            "the pod's annotation backup.velero.io/backup-volumes lists it",
        ),
        (
            "db-1/settings",
            "listed-in-vain",
            "the pod's annotation backup.velero.io/backup-volumes lists it, but Velero skips it: its files come from a \
             ConfigMap",
        ),
        (
            "-/-",
            "no-pod",
            "no pod mounts it, and files are read through a running pod",
        ),
    ];
    let found: Vec<(&str, &str, &str)> = fates
        .iter()
        .map(|(what, fate, rule)| (what.as_str(), *fate, *rule))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(document["items"][8]["claim"], "old");
    assert_eq!(document["volumeData"], true);
    assert_eq!(document["items"][6]["outcome"], "nothing");
    assert_eq!(document["items"][0]["outcome"], "manifest only");
    bench
        .plugin
        .run(["volumes", "explain", "-n", namespace])?
        .ok()
        .stderr_has("movers read what a pod's own list has")
        .stderr_has("1 volume not in the annotation of its pod yet");
    Ok(())
}

#[test]
fn one_pod_is_found_by_its_name_if_it_is_the_only_one() -> Result<()> {
    let (one, other) = (Bench::new()?, Bench::new()?);
    let unique = format!("only-{}", one.namespace);
    one.database(&unique, &json!({}))?;
    let document = one.plugin.json(["volumes", "explain", &unique])?;
    assert_eq!(fates(&document).len(), 4, "{document:#}");
    let shared = format!("both-{}", one.namespace);
    for bench in [&one, &other] {
        bench.database(&shared, &json!({}))?;
    }
    one.plugin
        .run(["volumes", "explain", &shared])?
        .exits(2)
        .stderr_has(one.namespace.name())
        .stderr_has(other.namespace.name())
        .stderr_has("-n");
    let document = one.plugin.json([
        "volumes",
        "explain",
        &format!("pod/{shared}"),
        "-n",
        other.namespace.name(),
    ])?;
    assert_eq!(document["items"][0]["namespace"], other.namespace.name());
    Ok(())
}

#[test]
fn what_is_not_there_is_exit_code_5() -> Result<()> {
    let bench = Bench::new()?;
    let namespace = bench.namespace.name();
    for (words, said) in [
        (vec!["volumes", "explain", "gone"], "there is no pod gone"),
        (vec!["volumes", "explain", "gone", "-n", namespace], namespace),
        (
            vec!["volumes", "explain", "-n", "nowhere"],
            "there is no namespace nowhere",
        ),
        (vec!["policy", "explain", "gone"], "there is no policy gone"),
        (
            vec!["policy", "explain", "gone", "--as-cel"],
            "there is no policy gone",
        ),
        (
            vec!["policy", "apply", "gone", "--yes"],
            "there is no policy gone",
        ),
    ] {
        bench.plugin.run(&words)?.exits(5).stderr_has(said);
    }
    Ok(())
}

#[test]
fn what_makes_no_sense_is_exit_code_2() -> Result<()> {
    let bench = Bench::new()?;
    for (words, said) in [
        (vec!["policy", "explain", "Not_A_Name"], "no valid name"),
        (vec!["policy", "explain", "pod/x"], "policy/NAME"),
        (vec!["policy", "explain", "x", "--cel-version", "v1"], "--as-cel"),
        (
            vec!["policy", "explain", "x", "--as-cel", "-n", "shop"],
            "--namespace",
        ),
        (vec!["policy", "explain", "x", "--as-cel", "-o", "json"], "json"),
        (vec!["policy", "explain"], "POLICY"),
        (vec!["volumes", "explain", "-o", "name"], "name"),
        (vec!["policy", "list", "-n", "shop"], "--namespace"),
    ] {
        bench.plugin.run(&words)?.exits(2).stderr_has(said);
    }
    Ok(())
}

#[test]
fn an_invalid_policy_is_named_and_chooses_nothing() -> Result<()> {
    // On a cluster of its own: the definition of the case lets everything through, as an older one would.
    let cluster = start(false)?;
    cluster.create(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "volumebackuppolicies.kubectl-backup.io" },
        "spec": {
            "group": "kubectl-backup.io", "scope": "Cluster",
            "names": { "kind": "VolumeBackupPolicy", "plural": "volumebackuppolicies" },
            "versions": [{ "name": "v1alpha1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true
            } } }]
        }
    }))?;
    wait_until_served(&cluster)?;
    for (name, spec) in [
        ("empty-name", json!({ "volumes": { "claimNames": [""] } })),
        ("unknown-word", json!({ "action": "Maybe" })),
        ("fine", json!({})),
    ] {
        cluster.create(json!({
            "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
            "metadata": { "name": name }, "spec": spec
        }))?;
    }
    let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    let ran = plugin.run(["policy", "list"])?;
    ran.exits(3)
        .stdout_has("fine")
        .stderr_has("policy empty-name is invalid and chooses nothing")
        .stderr_has("policy unknown-word cannot be read");
    plugin
        .run(["policy", "explain", "empty-name"])?
        .exits(4)
        .stderr_has("volumes.claimNames");
    Ok(())
}

#[test]
fn a_cluster_without_our_objects_has_no_policies() -> Result<()> {
    let cluster = start(false)?;
    cluster.create(super::database(
        "default",
        "db-0",
        &json!({ "backup.velero.io/backup-volumes": "data" }),
    ))?;
    cluster.create(claim("default", "data-db-0", "fast", "1Gi"))?;
    let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    let document = plugin.json(["volumes", "explain", "-A"])?;
    assert_eq!(document["hasPolicies"], false);
    assert_eq!(fates(&document)[0].1, "listed");
    plugin
        .run(["volumes", "explain"])?
        .ok()
        .stderr_has("our API objects are not installed");
    plugin
        .run(["policy", "list"])?
        .exits(5)
        .stderr_has("our API objects are not installed");
    Ok(())
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_is_said() -> Result<()> {
    let bench = Bench::new()?;
    let namespace = bench.namespace.name();
    let policy = bench.policy("large", json!({ "volumes": { "minimumCapacity": "5Gi" } }))?;
    bench.claim("data-db-0", "fast", "1Gi")?;
    bench.database("db-0", &json!({}))?;
    let user = format!("reader-{namespace}");
    bench.cluster.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": user },
        "rules": [
            { "apiGroups": ["kubectl-backup.io"], "resources": ["volumebackuppolicies"], "verbs": ["get", "list"] },
            { "apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get", "list"] }
        ]
    }))?;
    bench.cluster.create(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }]
    }))?;
    let reader = Plugin::bare()?.with_kubeconfig(&bench.cluster.kubeconfig_as(&user)?)?;
    let ran = reader.run(["volumes", "explain", "-n", namespace, "-o", "json"])?;
    ran.exits(3)
        .stderr_has("persistentvolumeclaims cannot be read")
        .stderr_has("persistentvolumes cannot be read");
    let ran = reader.run(["volumes", "explain", "-n", namespace, "-o", "json"])?;
    let document: Value = serde_json::from_str(&ran.stdout).context("a document")?;
    // A capacity that is not known speaks for a backup.
    assert_eq!(document["items"][0]["fate"], "chosen", "{document:#}");
    assert_eq!(document["items"][0]["unknownFacts"], "capacity");
    assert_eq!(document["notRead"][0]["what"], "persistentvolumeclaims");
    // Who may write nothing changes nothing, and is told for which pod.
    reader
        .run(["policy", "apply", &policy, "-n", namespace, "--yes"])?
        .exits(4)
        .stdout_has("refused");
    assert_eq!(bench.listed("db-0")?, None);
    let nobody = Plugin::bare()?.with_kubeconfig(&bench.cluster.kubeconfig_as("nobody")?)?;
    nobody.run(["policy", "list"])?.exits(4);
    nobody.run(["volumes", "explain", "-n", namespace])?.exits(4);
    Ok(())
}
