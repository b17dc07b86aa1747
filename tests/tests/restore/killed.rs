//! A restore that is killed fifty times, each time at another point, and resumed: it ends as one that ran through.
//!
//! The kills are spread over the whole run: each has a number of bytes, drawn from a seed that is printed, and comes as
//! soon as the API server has been sent so many. `KILL_SEED` repeats a run. The cluster has no controllers, so that whatever differs was
//! done by the restore.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::compare::{RESTORED, compare};
use backup_tests::meter::Meter;
use backup_tests::plugin::Plugin;
use backup_tests::snapshot::{self, ObjectKey, Snapshot};
use backup_tests::store::Store;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::{Value, json};

const KILLS: usize = 50;

/// Kills that must find some objects made and others not.
const PARTIAL: usize = 40;

/// More than are written at a time, so that a kill can come between two.
const WEBHOOKS: usize = 40;
const DEFINITIONS: usize = 14;
const NAMESPACES: usize = 8;

/// The collections of each wave, in the order in which a restore writes the waves.
const WAVES: [&[&str]; 8] = [
    &["/apis/apiextensions.k8s.io/v1/customresourcedefinitions"],
    &["/api/v1/namespaces"],
    &[
        "/apis/scheduling.k8s.io/v1/priorityclasses",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/rbac.authorization.k8s.io/v1/roles",
        "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    ],
    &[
        "/apis/storage.k8s.io/v1/storageclasses",
        "/api/v1/persistentvolumeclaims",
    ],
    &["/api/v1/serviceaccounts", "/api/v1/secrets", "/api/v1/configmaps"],
    &["/api/v1/services", "/apis/apps/v1/deployments"],
    &["/apis/kill.example.com/v1/widgets"],
    &["/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"],
];

fn labelled(mut object: Value, namespace: Option<usize>) -> Value {
    object["metadata"]["labels"] = json!({ "fixture": "kill" });
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(format!("kill-{namespace}"));
    }
    object
}

fn definition(number: usize) -> Value {
    let (singular, plural, kind) = match number {
        0 => ("widget".to_owned(), "widgets".to_owned(), "Widget".to_owned()),
        _ => (
            format!("gadget{number}"),
            format!("gadgets{number}"),
            format!("Gadget{number}"),
        ),
    };
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.kill.example.com") },
        "spec": { "group": "kill.example.com", "scope": "Namespaced",
            "names": { "plural": plural, "singular": singular, "kind": kind, "listKind": format!("{kind}List") },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }] } })
}

fn webhook(number: usize) -> Value {
    let webhook = json!({ "name": format!("w{number}.kill.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore", "rules": [], "clientConfig": { "url": "https://127.0.0.1:1/none" } });
    json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": { "name": format!("kill-{number}") }, "webhooks": [webhook] })
}

/// What else is cluster-scoped, one of each kind for a number.
fn cluster_scoped(number: usize) -> [Value; 3] {
    let name = json!({ "name": format!("kill-{number}") });
    [
        json!({ "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": name, "value": number }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": name,
            "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] }),
        json!({ "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": name,
            "provisioner": "kill.example.com/none" }),
    ]
}

fn deployment(number: usize) -> Value {
    let labels = json!({ "app": format!("d-{number}") });
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": format!("d-{number}") },
        "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "c", "image": "registry.example/c:1" }] } } } })
}

/// What lives in namespaces, one of each kind for a number.
fn namespaced(number: usize) -> [Value; 7] {
    let role =
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": format!("r-{number}") });
    let named = |api_version: &str, kind: &str, name: &str| json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": format!("{name}-{number}") } });
    let with = |mut object: Value, key: &str, value: Value| {
        object[key] = value;
        object
    };
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }]);
    let claim =
        json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    [
        with(named("rbac.authorization.k8s.io/v1", "Role", "r"), "rules", rules),
        with(
            named("rbac.authorization.k8s.io/v1", "RoleBinding", "r"),
            "roleRef",
            role,
        ),
        with(named("v1", "PersistentVolumeClaim", "c"), "spec", claim),
        named("v1", "ServiceAccount", "s"),
        with(
            named("v1", "Secret", "s"),
            "stringData",
            json!({ "password": format!("p-{number}") }),
        ),
        with(
            named("v1", "Service", "s"),
            "spec",
            json!({ "ports": [{ "port": 80 }] }),
        ),
        deployment(number),
    ]
}

/// Owners of all sorts: earlier in the restore than what they own, later, and of a custom kind.
fn install_owned(cluster: &Cluster, number: usize, deployment: &Value) -> Result<()> {
    let owner = |object: &Value| {
        json!([{ "apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
            "uid": object["metadata"]["uid"] }])
    };
    let named = |api_version: &str, kind: &str, name: &str, owners: Option<Value>| {
        let mut object = json!({ "apiVersion": api_version, "kind": kind,
            "metadata": { "name": format!("{name}-{number}") } });
        if let Some(owners) = owners {
            object["metadata"]["ownerReferences"] = owners;
        }
        labelled(object, Some(number % NAMESPACES))
    };
    for name in ["free", "spare"] {
        cluster.create(named("kill.example.com/v1", "Widget", name, None))?;
    }
    let widget = cluster.create(named(
        "kill.example.com/v1",
        "Widget",
        "w",
        Some(owner(deployment)),
    ))?;
    cluster.create(named("v1", "ConfigMap", "of-deployment", Some(owner(deployment))))?;
    cluster.create(named("v1", "ConfigMap", "of-widget", Some(owner(&widget))))?;
    cluster.create(named("v1", "ConfigMap", "free", None))?;
    Ok(())
}

fn install(cluster: &Cluster) -> Result<()> {
    for number in 0..DEFINITIONS {
        cluster.create(labelled(definition(number), None))?;
    }
    for number in 0..NAMESPACES {
        let name = json!({ "name": format!("kill-{number}") });
        cluster.create(labelled(
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": name }),
            None,
        ))?;
    }
    cluster.wait_until("the widgets to be served", |cluster| {
        Ok(cluster.get("/apis/kill.example.com/v1/widgets")?.is_some())
    })?;
    for number in 0..12 {
        for object in cluster_scoped(number) {
            cluster.create(labelled(object, None))?;
        }
    }
    for number in 0..WEBHOOKS {
        cluster.create(labelled(webhook(number), None))?;
    }
    for number in 0..20 {
        for object in namespaced(number) {
            let made = cluster.create(labelled(object, Some(number % NAMESPACES)))?;
            if made["kind"] == "Deployment" {
                install_owned(cluster, number, &made)?;
            }
        }
    }
    Ok(())
}

/// Objects of each wave. Custom resources outlive their definition here, so that only those of one restore count.
fn counts(cluster: &Cluster, prefix: &str) -> Result<Vec<u64>> {
    let count = |path: &&str| -> Result<u64> {
        // A kind that is not served yet has none.
        let Some(page) = cluster.get(&format!("{path}?limit=1"))? else {
            return Ok(0);
        };
        if path.contains("kill.example.com") {
            let of_prefix = |object: &&Value| {
                let namespace = object["metadata"]["namespace"].as_str();
                namespace.is_some_and(|namespace| namespace.starts_with(prefix))
            };
            return Ok(cluster.list(path)?.iter().filter(of_prefix).count() as u64);
        }
        let more = page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
        Ok(page["items"].as_array().map_or(0, |items| items.len() as u64) + more)
    };
    WAVES.iter().map(|wave| wave.iter().map(count).sum()).collect()
}

/// Removes everything cluster-scoped of the fixture. What is in namespaces may stay: each restore goes into its own.
fn remove(cluster: &Cluster) -> Result<()> {
    for path in [
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "/apis/storage.k8s.io/v1/storageclasses",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/scheduling.k8s.io/v1/priorityclasses",
    ] {
        cluster.delete(&format!("{path}?labelSelector=fixture%3Dkill"))?;
    }
    cluster.wait_until("the fixture to be removed", |cluster| {
        let left = cluster.list("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")?;
        Ok(left.is_empty())
    })
}

/// The fixture as one restore brought it back, under the names that it has in the backup.
fn restored(cluster: &Cluster, prefix: &str) -> Result<Snapshot> {
    let mut mine = Snapshot::new();
    for (key, object) in snapshot::of_cluster(cluster)? {
        let place = key
            .namespace
            .as_deref()
            .or((key.resource == "namespaces").then_some(&key.name));
        let is_mine = match place {
            Some(namespace) => namespace.starts_with(&format!("{prefix}kill-")),
            None => object["metadata"]["labels"]["fixture"] == "kill",
        };
        if is_mine {
            let bare = |text: &str| text.replace(prefix, "");
            let key = ObjectKey {
                resource: key.resource,
                namespace: key.namespace.as_deref().map(bare),
                name: bare(&key.name),
            };
            mine.insert(key, serde_json::from_str(&bare(&object.to_string()))?);
        }
    }
    Ok(mine)
}

/// Every owner that an object names is there under the UID that it names.
fn check_owners(snapshot: &Snapshot) -> Result<usize> {
    let uids: BTreeSet<Option<&str>> = snapshot
        .values()
        .map(|object| object["metadata"]["uid"].as_str())
        .collect();
    let mut owned = 0;
    for (key, object) in snapshot {
        for owner in object["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
        {
            ensure!(
                uids.contains(&owner["uid"].as_str()),
                "{key} names an owner that is not there: {owner}"
            );
            owned += 1;
        }
    }
    Ok(owned)
}

fn arguments(number: usize) -> Vec<String> {
    let mappings: Vec<String> = (0..NAMESPACES)
        .map(|namespace| format!("kill-{namespace}:run-{number}-kill-{namespace}"))
        .collect();
    let name = format!("r-{number}");
    [
        "restore",
        "b",
        "--name",
        &name,
        "--namespace-mappings",
        &mappings.join(","),
        "-o",
        "json",
    ]
    .map(str::to_owned)
    .into()
}

/// Runs a restore to its end and gives what it did by kind.
fn restore(plugin: &Plugin, number: usize) -> Result<Value> {
    let ran = plugin.run(arguments(number))?.ok();
    let summary: Value = serde_json::from_str(&ran.stdout).with_context(|| ran.to_string())?;
    Ok(summary["record"]["kinds"].clone())
}

fn made_since(before: &[u64], now: &[u64]) -> Vec<u64> {
    now.iter()
        .zip(before)
        .map(|(now, before)| now.saturating_sub(*before))
        .collect()
}

struct Kills<'a> {
    cluster: &'a Cluster,
    plugin: &'a Plugin,
    meter: &'a Meter,
    random: TestRng,
    /// Objects that a whole restore makes, by wave.
    whole: Vec<u64>,
    /// Bytes that a whole restore sends.
    bytes: u64,
    /// Waves that were under way when a kill came, by how many kills.
    waves: BTreeMap<usize, usize>,
    partial: usize,
}

impl Kills<'_> {
    /// Where the share of a kill begins, in bytes sent. The first bytes ask what the cluster serves; the first waves are
    /// small, so that shares are smaller there.
    fn instant(&self, number: usize) -> u64 {
        let first = self.bytes / 16;
        let (number, kills) = (number as u64, KILLS as u64);
        first + (self.bytes - first) * number * (number + kills) / (2 * kills * kills)
    }

    /// Starts a restore and kills it when it has sent a number of bytes, drawn from this kill's share of all.
    fn kill(&mut self, number: usize) -> Result<()> {
        let prefix = format!("run-{number}-");
        let before = counts(self.cluster, &prefix)?;
        let limit =
            self.instant(number) + self.random.next_u64() % (self.instant(number + 1) - self.instant(number));
        self.meter.limit(limit);
        let mut run = self.plugin.spawn(arguments(number))?;
        while run.exited()?.is_none() && !self.meter.is_shut() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The server may be about to answer, and the client to take note.
        std::thread::sleep(Duration::from_micros(self.random.next_u64() % 20_000));
        if run.exited()?.is_none() {
            run.kill()?;
        }
        let ran = run.wait()?;
        self.meter.limit(u64::MAX);
        ensure!(ran.code == 0 || ran.code == 128 + 9, "{ran}");
        let now = counts(self.cluster, &prefix)?;
        let made = made_since(&before, &now);
        let under_way = made.iter().zip(&self.whole).position(|(made, all)| made < all);
        if let Some(wave) = under_way.filter(|_| made.iter().any(|count| *count > 0)) {
            self.partial += 1;
            *self.waves.entry(wave).or_default() += 1;
        }
        Ok(())
    }
}

fn seed() -> Result<u64> {
    match std::env::var("KILL_SEED") {
        Ok(seed) => seed.parse().context("KILL_SEED is no number"),
        Err(_) => Ok(u64::from(std::process::id()) << 20
            | u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() & 0xf_ffff)),
    }
}

#[test]
fn a_restore_killed_at_fifty_instants_and_resumed_ends_as_one_that_ran_through() -> Result<()> {
    let seed = seed()?;
    eprintln!("KILL_SEED={seed}");
    let cluster = Cluster::builder().controllers(false).start()?;
    let store = Store::folder()?;
    let address = cluster.api_url();
    let address = address
        .strip_prefix("https://")
        .context("the API server's address")?;
    let meter = Meter::start(address.parse()?)?;
    let kubeconfig = cluster.folder().join("kubeconfig-metered");
    let text = std::fs::read_to_string(cluster.kubeconfig())?;
    std::fs::write(&kubeconfig, text.replace(address, &meter.address().to_string()))?;
    let plugin = Plugin::bare()?.with_kubeconfig(&kubeconfig)?.with_store(&store);
    install(&cluster)?;
    let source = restored(&cluster, "")?;
    let owned = check_owners(&source)?;
    ensure!(owned == 60, "{owned} owners");
    plugin.run(["create", "b", "-l", "fixture=kill"])?.ok();

    remove(&cluster)?;
    let prefix = format!("run-{KILLS}-");
    let before = counts(&cluster, &prefix)?;
    meter.limit(u64::MAX);
    let ran_through = restore(&plugin, KILLS)?;
    let sent = meter.passed();
    let whole: Vec<u64> = made_since(&before, &counts(&cluster, &prefix)?);
    let total: u64 = whole.iter().sum();
    let unbroken = restored(&cluster, &prefix)?;
    ensure!(check_owners(&unbroken)? == owned, "owners were lost");
    compare(&source, &unbroken, RESTORED).assert_same();

    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut kills = Kills {
        cluster: &cluster,
        plugin: &plugin,
        meter: &meter,
        random: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
        whole,
        bytes: sent,
        waves: BTreeMap::new(),
        partial: 0,
    };
    for number in 0..KILLS {
        let context = || format!("kill {number} of KILL_SEED={seed}");
        remove(&cluster)?;
        kills.kill(number).with_context(context)?;
        let name = format!("r-{number}");
        let listed = plugin.json(["restores", "list"])?;
        let list = listed["items"].as_array().context("a list")?;
        let ended = list
            .iter()
            .any(|restore| restore["name"] == name.as_str() && restore["interrupted"] == false);
        if !ended {
            let done = restore(&plugin, number).with_context(context)?;
            ensure!(
                done == ran_through,
                "{}: {done} instead of {ran_through}",
                context()
            );
        }
        let resumed = restored(&cluster, &format!("run-{number}-"))?;
        ensure!(
            check_owners(&resumed).with_context(context)? == owned,
            "{}: owners were lost",
            context()
        );
        let comparison = compare(&unbroken, &resumed, RESTORED);
        ensure!(
            comparison.differences.is_empty(),
            "{}: {:?}",
            context(),
            comparison.differences
        );
    }
    let (partial, waves) = (kills.partial, kills.waves);
    eprintln!("{partial} of {KILLS} kills found some of {total} objects made; by wave: {waves:?}");
    ensure!(
        partial >= PARTIAL,
        "only {partial} kills found some objects made and others not, KILL_SEED={seed}"
    );
    ensure!(
        waves.len() == WAVES.len(),
        "not all waves were met: {waves:?}, KILL_SEED={seed}"
    );
    Ok(())
}
