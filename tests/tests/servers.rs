//! The servers that all other tests stand on: they start, behave, do not disturb each other, and leave nothing behind.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::compare::{AT_REST, Ignored, compare};
use backup_tests::process::is_alive;
use backup_tests::scratch::Scratch;
use backup_tests::servers::{self, Program};
use backup_tests::snapshot::{self, ObjectKey};
use backup_tests::store::Store;
use serde_json::{Value, json};

fn config_map(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": namespace }, "data": { "a": "1" } })
}

#[test]
fn kubectl_talks_to_the_shared_cluster() -> Result<()> {
    let cluster = Cluster::shared()?;
    assert!(cluster.kubectl_ok(&["version"])?.contains("Server Version: v1."));
    assert!(
        cluster
            .kubectl_ok(&["get", "namespaces", "-o", "name"])?
            .contains("namespace/kube-system")
    );
    let refused = cluster.kubectl(&["get", "nonsense"])?;
    assert_eq!(refused.status.code(), Some(1));
    Ok(())
}

#[test]
fn objects_are_created_changed_and_deleted() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/prices");
    cluster.create(config_map(namespace.name(), "prices"))?;
    let changed = cluster.patch(&path, json!({ "data": { "a": "2" } }))?;
    assert_eq!(changed.pointer("/data/a"), Some(&json!("2")));
    assert!(
        cluster.create(config_map(namespace.name(), "prices")).is_err(),
        "the second of that name is refused"
    );
    cluster.delete(&path)?;
    cluster.wait_until_gone(&path)
}

#[test]
fn a_namespace_vanishes_when_its_case_ends() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    cluster.create(config_map(namespace.name(), "prices"))?;
    let path = format!("/api/v1/namespaces/{namespace}");
    drop(namespace);
    cluster.wait_until_gone(&path)
}

#[test]
fn many_objects_are_created_at_once() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    let name = namespace.name().to_owned();
    let took = cluster.create_many(1_200, move |number| config_map(&name, &format!("many-{number}")))?;
    eprintln!("1,200 ConfigMaps in {took:?}");
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    // Three pages; the controllers add kube-root-ca.crt.
    let listed = cluster.list(&path)?;
    assert_eq!(
        listed
            .iter()
            .filter(|object| object["metadata"]["name"] != "kube-root-ca.crt")
            .count(),
        1_200
    );
    Ok(())
}

#[test]
fn a_user_may_do_only_what_was_bound_to_that_name() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    let user = format!("reader-of-{namespace}");
    let kubeconfig = cluster.kubeconfig_as(&user)?;
    let kubeconfig = kubeconfig.to_str().context("not UTF-8")?;
    let list = [
        "get",
        "configmaps",
        "-n",
        namespace.name(),
        "--kubeconfig",
        kubeconfig,
    ];
    let refused = cluster.kubectl(&list)?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&format!("User \"{user}\" cannot list")));
    cluster.kubectl_ok(&[
        "create",
        "rolebinding",
        "view",
        "--clusterrole=view",
        &format!("--user={user}"),
        "-n",
        namespace.name(),
    ])?;
    cluster.wait_until("the binding to count", |cluster| {
        Ok(cluster.kubectl(&list)?.status.success())
    })
}

#[test]
fn two_clusters_stand_side_by_side() -> Result<()> {
    let first = Cluster::builder().name("first").controllers(false).start()?;
    let second = Cluster::builder().name("second").controllers(false).start()?;
    first.create(config_map("default", "only-here"))?;
    assert!(
        first
            .get("/api/v1/namespaces/default/configmaps/only-here")?
            .is_some()
    );
    assert!(
        second
            .get("/api/v1/namespaces/default/configmaps/only-here")?
            .is_none()
    );
    let pids = [first.pids(), second.pids()].concat();
    assert_eq!(pids.len(), 4);
    drop((first, second));
    assert!(
        pids.into_iter().all(|pid| !is_alive(pid)),
        "a dropped cluster takes its servers along"
    );
    Ok(())
}

#[test]
fn a_restarted_api_server_has_kept_its_objects() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    cluster.create(config_map("default", "kept"))?;
    cluster.restart_apiserver()?;
    assert!(
        cluster
            .get("/api/v1/namespaces/default/configmaps/kept")?
            .is_some()
    );
    Ok(())
}

#[test]
fn a_page_after_compaction_is_refused_with_a_fresh_token() -> Result<()> {
    let gate = "--feature-gates=ListFromCacheSnapshot=false";
    let cluster = Cluster::builder()
        .controllers(false)
        .apiserver_flag(gate)
        .start()?;
    cluster.create_many(20, |number| config_map("default", &format!("page-{number}")))?;
    let list = "/api/v1/namespaces/default/configmaps?limit=5";
    let page = cluster.get(list)?.context("no page")?;
    let token = page
        .pointer("/metadata/continue")
        .and_then(Value::as_str)
        .context("no token")?
        .to_owned();
    let next = format!("{list}&continue={token}");
    assert!(cluster.get(&next)?.is_some(), "the token is good before");
    cluster.create(config_map("default", "later"))?;
    cluster.compact()?;
    let error = format!(
        "{:#}",
        cluster.get(&next).err().context("the token is still good")?
    );
    assert!(
        error.contains("410 Gone") && error.contains("inconsistent"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_cluster_at_rest_changes_only_where_the_table_says() -> Result<()> {
    let cluster = Cluster::start()?;
    applications::install_all(&cluster)?;
    let before = snapshot::of_cluster(&cluster)?;
    // Leases are renewed every ten seconds.
    std::thread::sleep(Duration::from_secs(17));
    let compared = compare(&before, &snapshot::of_cluster(&cluster)?, AT_REST);
    compared.assert_same();
    assert_eq!(compared.unused(), Vec::<&Ignored>::new());
    Ok(())
}

#[test]
fn a_server_that_does_not_start_shows_the_end_of_its_log() {
    let started = Cluster::builder().apiserver_flag("--no-such-flag").start();
    let error = format!("{:#}", started.err().expect("an unknown flag is refused"));
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
}

#[test]
fn the_applications_install_compare_and_go() -> Result<()> {
    let cluster = Cluster::start()?;
    let begun = Instant::now();
    applications::install_all(&cluster)?;
    eprintln!("applications installed in {:?}", begun.elapsed());
    applications::ballast(&cluster, 300, 3)?;
    let snapshot = snapshot::of_cluster(&cluster)?;
    for (resource, namespace, name) in [
        ("replicasets.apps", "web-shop", ""),
        ("secrets", "web-shop", "backend-token"),
        ("persistentvolumeclaims", "database", "data-postgres-1"),
        ("fountains.water.example.com", "operator", "market-square"),
        ("secrets", "operator", "market-square-valve"),
    ] {
        let there = |key: &ObjectKey| {
            key.resource == resource
                && key.namespace.as_deref() == Some(namespace)
                && key.name.starts_with(name)
        };
        assert!(snapshot.keys().any(there), "no {resource} {namespace}/{name}");
    }
    let key = ObjectKey::namespaced("secrets", "operator", "market-square-valve");
    let owner =
        snapshot[&ObjectKey::namespaced("fountains.water.example.com", "operator", "market-square")].clone();
    assert_eq!(
        snapshot[&key]["metadata"]["ownerReferences"][0]["uid"],
        owner["metadata"]["uid"]
    );
    assert_eq!(
        snapshot[&ObjectKey::namespaced("fountains.water.example.com", "operator", "station")]["spec"]["litresPerMinute"],
        json!(9_007_199_254_740_993_u64)
    );
    for resource in [
        "clusterroles.rbac.authorization.k8s.io",
        "priorityclasses.scheduling.k8s.io",
        "apiservices.apiregistration.k8s.io",
    ] {
        assert!(
            snapshot.keys().any(|key| key.resource == resource),
            "no {resource}"
        );
    }
    assert!(
        !snapshot.keys().any(|key| key.resource == "events.events.k8s.io"),
        "an object stands once"
    );
    assert_eq!(
        snapshot
            .keys()
            .filter(|key| key.name.starts_with("ballast-0"))
            .count(),
        301
    );
    finds_a_change_in_every_kind(&snapshot);

    let begun = Instant::now();
    applications::delete_all(&cluster)?;
    eprintln!("applications deleted in {:?}", begun.elapsed());
    let after = snapshot::of_cluster(&cluster)?;
    assert!(
        !after
            .keys()
            .any(|key| key.namespace.as_deref() == Some("web-shop"))
    );
    Ok(())
}

/// One changed field in one object of each kind, and nothing else, is found.
fn finds_a_change_in_every_kind(snapshot: &snapshot::Snapshot) {
    let mut changed = snapshot.clone();
    let mut resources = std::collections::BTreeSet::new();
    for (key, object) in &mut changed {
        if resources.insert(key.resource.clone()) {
            object["metadata"]["annotations"]["changed-by-test"] = json!("yes");
        }
    }
    let found = compare(snapshot, &changed, AT_REST);
    assert!(resources.len() > 40, "{resources:?}");
    assert_eq!(
        found.differences.len(),
        resources.len(),
        "{:?}",
        found.differences
    );
    compare(snapshot, snapshot, AT_REST).assert_same();
}

#[test]
fn each_case_has_a_store_of_its_own() -> Result<()> {
    let (first, second) = (Store::shared_versitygw()?, Store::shared_versitygw()?);
    assert_ne!(first.location_url(), second.location_url());
    assert!(first.location_url().starts_with("s3://bucket-"));
    assert!(first.path().is_dir() && first.keys()?.is_empty());
    Store::shared_versitygw_with_object_lock()?;
    let own = Store::versitygw()?;
    assert_ne!(own.endpoint(), first.endpoint());
    let folder = Store::folder()?;
    std::fs::create_dir_all(folder.path().join("backups/b1"))?;
    std::fs::write(folder.path().join("backups/b1/b1.tar.gz"), "x")?;
    assert_eq!(folder.keys()?, ["backups/b1/b1.tar.gz"]);
    let path = folder.path();
    drop(folder);
    assert!(!path.exists());
    Ok(())
}

/// Started by the test below as a process of its own, in another environment.
#[test]
#[ignore = "a process that another test starts"]
fn helper_that_asks_for_kubectl() {
    match servers::binary(Program::Kubectl) {
        Ok(path) => println!("found {}", path.display()),
        Err(error) => println!("refused {error:#}"),
    }
}

#[test]
fn binaries_come_from_the_assets_folder_or_say_how_to_build_them() -> Result<()> {
    let folder = Scratch::new("assets-")?;
    let executable = |name: &str, text: &str| -> Result<()> {
        std::fs::write(folder.join(name), text)?;
        Ok(std::fs::set_permissions(
            folder.join(name),
            std::fs::Permissions::from_mode(0o755),
        )?)
    };
    let ask = || -> Result<String> {
        let output = Command::new(std::env::current_exe()?)
            .args([
                "--exact",
                "helper_that_asks_for_kubectl",
                "--ignored",
                "--nocapture",
            ])
            .env("KUBECTL_BACKUP_TEST_CACHE", folder.join("cache"))
            .env("KUBEBUILDER_ASSETS", folder.path())
            .env("PATH", folder.path())
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    executable("go", "#!/bin/sh\necho go version go1.19.8 linux/amd64\n")?;
    let said = ask()?;
    assert!(
        said.contains("refused") && said.contains("Go 1.19, too old") && said.contains("https://go.dev/dl"),
        "{said}"
    );
    executable(
        "go",
        "#!/bin/sh\n[ $1 = version ] && echo go version go1.26.8 linux/amd64 && exit\necho no network >&2; exit 1\n",
    )?;
    let said = ask()?;
    assert!(
        said.contains("refused") && said.contains("no network"),
        "a failed build shows its last lines: {said}"
    );
    executable("kubectl", "#!/bin/sh\n")?;
    let said = ask()?;
    assert!(
        said.contains(&format!("found {}", folder.join("kubectl").display())),
        "{said}"
    );
    Ok(())
}

/// Started by the test below as a process of its own: starts servers, says what is to vanish, and waits to be killed.
#[test]
#[ignore = "a process that another test starts and kills"]
fn helper_that_is_killed() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::versitygw()?;
    for pid in cluster.pids() {
        println!("pid {pid}");
    }
    println!("folder {}", cluster.folder().display());
    println!("folder {}", store.path().display());
    println!("ready");
    std::thread::sleep(Duration::from_mins(10));
    Ok(())
}

#[test]
fn everything_dies_with_a_killed_process() -> Result<()> {
    let mut helper = Command::new(std::env::current_exe()?)
        .args(["--exact", "helper_that_is_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (mut pids, mut folders) = (Vec::new(), Vec::new());
    for line in BufReader::new(helper.stdout.take().context("no stdout")?).lines() {
        let line = line?;
        if let Some(pid) = line.strip_prefix("pid ") {
            pids.push(pid.parse::<u32>()?);
        } else if let Some(folder) = line.strip_prefix("folder ") {
            folders.push(folder.to_owned());
        } else if line == "ready" {
            break;
        }
    }
    assert_eq!((pids.len(), folders.len()), (3, 2), "the helper did not start");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    assert!(folders.iter().all(|folder| Path::new(folder).is_dir()));
    helper.kill()?;
    helper.wait()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while pids.iter().any(|pid| is_alive(*pid)) || folders.iter().any(|folder| Path::new(folder).exists()) {
        assert!(Instant::now() < deadline, "still there: {pids:?} {folders:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
