//! Engine velero: the plugin drives a running Velero.
//!
//! One cluster, one bucket and one Velero are shared by all cases, each with names of its own. What a real Velero does not
//! do on demand stands in [`puppet`].

mod proxied;
mod puppet;

use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result, anyhow};
use backup_tests::cluster::{Cluster, Namespace};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use backup_tests::velero::{LOCATION, Velero};
use serde_json::{Value, json};

struct Site {
    cluster: &'static Cluster,
    store: &'static Store,
    velero: Velero<'static>,
    /// Held by whoever backs up everything, or makes something that cannot be.
    everything: Mutex<()>,
}

fn site() -> Result<&'static Site> {
    static SITE: OnceLock<Result<Site, String>> = OnceLock::new();
    let make = || -> Result<Site> {
        let cluster = Cluster::shared()?;
        // Lives as long as the process, as the server that reads it.
        let store: &'static Store = Box::leak(Box::new(Store::shared_versitygw()?));
        let velero = Velero::start(cluster, store)?;
        Ok(Site {
            cluster,
            store,
            velero,
            everything: Mutex::new(()),
        })
    };
    SITE.get_or_init(|| make().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("the site did not start: {error}"))
}

impl Site {
    fn plugin(&self) -> Result<Plugin> {
        Plugin::new(self.cluster, self.store)
    }

    /// A namespace with a few objects.
    fn shop(&self) -> Result<Namespace> {
        let namespace = self.cluster.namespace()?;
        for name in ["prices", "banner"] {
            self.cluster.create(config_map(namespace.name(), name))?;
        }
        Ok(namespace)
    }
}

fn config_map(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": namespace }, "data": { "a": "1" } })
}

#[test]
fn everything_is_backed_up_by_velero_with_all_cluster_scoped_kinds() -> Result<()> {
    let site = site()?;
    let _alone = site.everything.lock();
    site.cluster.apply(
        &json!({ "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": "gold" }, "value": 7 })
            .to_string(),
    )?;
    let plugin = site.plugin()?;
    let ran = plugin.run(["create", "all"])?.ok();
    let first = ran.stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with(
            "backup all: engine velero (auto: BackupStorageLocation velero/default is Available, validated "
        ) && first.ends_with("scope: everything; to velero/default"),
        "{ran}"
    );
    let ran = ran
        .stdout_has("NAME   STATUS      OBJECTS")
        .stdout_has("all    Completed");
    let object = site.velero.get("Backup", "all")?.context("it is an object")?;
    assert_eq!(object["spec"]["includedClusterScopedResources"], json!(["*"]));
    // Velero's own default leaves these out.
    plugin
        .run(["contents", "all", "priorityclasses", "--engine", "direct"])?
        .ok()
        .stdout_has("gold");
    let kinds = plugin.json(["contents", "all", "--kinds"])?;
    let count = |resource: &str| {
        let mut kinds = kinds["items"].as_array().into_iter().flatten();
        kinds
            .find(|kind| kind["plural"] == resource)
            .and_then(|kind| kind["count"].as_u64())
    };
    let roles = site
        .cluster
        .list("/apis/rbac.authorization.k8s.io/v1/clusterroles")?;
    assert_eq!(count("clusterroles"), Some(roles.len() as u64), "{kinds}");
    // What it leaves out all the same is named, and nothing that it has taken.
    assert!(!ran.stderr.contains("clusterroles"), "{ran}");
    Ok(())
}

#[test]
fn a_backup_is_made_shown_restored_and_deleted_by_velero() -> Result<()> {
    let site = site()?;
    let (plugin, shop) = (site.plugin()?, site.shop()?);
    let document = plugin.json([
        "create",
        "shop",
        "-n",
        shop.name(),
        "--labels",
        "team=shop",
        "--ttl",
        "24h",
    ])?;
    assert_eq!(document["engine"], "velero");
    assert_eq!(document["status"], "Completed");
    assert!(document["size"].as_u64() > Some(0), "{document}");
    let object = site.velero.get("Backup", "shop")?.context("it is an object")?;
    assert_eq!(object["spec"]["ttl"], "24h0m0s");
    assert_eq!(object["metadata"]["labels"]["team"], "shop");
    plugin.run(["list"])?.ok().stdout_has("shop");
    plugin
        .run(["describe", "shop"])?
        .ok()
        .stdout_has("Written by")
        .stdout_has("Velero");
    plugin.run(["logs", "shop"])?.ok().stdout_has("level=info");
    plugin
        .run(["create", "shop", "-n", shop.name()])?
        .exits(4)
        .stderr_has("Backup velero/shop exists already (Completed)");

    let maps = format!("/api/v1/namespaces/{shop}/configmaps");
    site.cluster.delete(&format!("{maps}/prices"))?;
    site.cluster
        .patch(&format!("{maps}/banner"), json!({ "data": { "a": "2" } }))?;
    let ran = plugin.run(["restore", "shop", "--name", "again"])?.ok();
    let ran = ran
        .stderr_has("restore again of backup shop: engine velero (auto:")
        .stdout_has("again   Completed");
    // Velero warns where something exists and differs.
    let ran = ran.stderr_has("banner");
    assert!(site.cluster.get(&format!("{maps}/prices"))?.is_some(), "{ran}");
    plugin
        .run(["restore", "shop", "--name", "again"])?
        .exits(4)
        .stderr_has("Restore velero/again exists already");
    plugin
        .run([
            "restore",
            "shop",
            "--name",
            "twin",
            "--namespace-mappings",
            &format!("{shop}:{shop}-2"),
        ])?
        .ok();
    assert!(
        site.cluster
            .get(&format!("/api/v1/namespaces/{shop}-2/configmaps/prices"))?
            .is_some()
    );
    plugin
        .run(["restores", "logs", "again"])?
        .ok()
        .stdout_has("level=");

    // A restore by the other engine leaves a record that Velero knows nothing of.
    plugin
        .run(["restore", "shop", "--name", "direct", "--engine", "direct"])?
        .ok();
    assert!(
        site.store
            .keys()?
            .iter()
            .any(|key| key.starts_with("restores/direct/"))
    );
    let ran = plugin.run(["delete", "shop", "--yes"])?.ok();
    ran.stderr_has("deleting backup shop: engine velero (auto:")
        .stdout_has("backup/shop deleted by Velero from velero/default");
    assert!(site.velero.get("Backup", "shop")?.is_none());
    assert!(site.velero.get("Restore", "again")?.is_none());
    let left: Vec<String> = site
        .store
        .keys()?
        .into_iter()
        .filter(|key| {
            ["backups/shop/", "restores/direct/", "restores/again/"]
                .iter()
                .any(|left| key.starts_with(left))
        })
        .collect();
    assert_eq!(left, [""; 0]);
    plugin
        .run(["delete", "shop", "--yes"])?
        .exits(5)
        .stderr_has("there is no Backup velero/shop");
    Ok(())
}

#[test]
fn a_backup_that_misses_something_ends_with_3() -> Result<()> {
    let site = site()?;
    let _alone = site.everything.lock();
    let (plugin, shop) = (site.plugin()?, site.shop()?);
    // A hook before the backup of a pod fails where no pod runs, and the pod is left out then.
    let container = json!({ "name": "web", "image": "web" });
    site.cluster.create(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "hooked", "namespace": shop.name(),
            "annotations": { "pre.hook.backup.velero.io/command": "[\"/bin/freeze\"]" },
        },
        "spec": { "containers": [container], "automountServiceAccountToken": false },
    }))?;
    let ran = plugin.run(["create", "partial", "-n", shop.name()])?.exits(3);
    ran.stdout_has("PartiallyFailed")
        .stderr_has("engine velero (auto:")
        .stderr_has("error in Velero's log: ")
        .stderr_has("hooked")
        .stderr_has("next: `kubectl backup logs partial` says what failed");
    let document = plugin.json(["restore", "partial", "--name", "partial-r"])?;
    assert_eq!(
        (&document["status"], &document["backup"]),
        (&json!("Completed"), &json!("partial"))
    );
    let pod = format!("/api/v1/namespaces/{shop}/pods/hooked");
    site.cluster.delete(&pod)?;
    site.cluster.wait_until_gone(&pod)
}

#[test]
fn nothing_is_submitted_that_velero_would_refuse_or_misread() -> Result<()> {
    let site = site()?;
    let (plugin, shop) = (site.plugin()?, site.shop()?);
    let table: [(&[&str], i32, &str); 9] = [
        (&["--ttl", "0"], 4, "Velero takes 0 for its own default"),
        (&["--lock-until", "24h"], 4, "--lock-until"),
        (&["--upload-bandwidth", "1Mi"], 4, "--upload-bandwidth"),
        (&["--requests-per-second", "5"], 4, "--requests-per-second"),
        (
            &["--include-resources", "deploymets"],
            2,
            "did you mean \"deployments\"",
        ),
        (
            &["--include-namespaces", "no-such-one"],
            5,
            "there is no namespace no-such-one",
        ),
        (
            &[
                "--include-resources",
                "pods",
                "--include-cluster-scoped-resources",
                "nodes",
            ],
            2,
            "cannot be combined",
        ),
        (&["-l", "a=b", "--or-selector", "c=d"], 2, "cannot be used with"),
        (&["--dry-run"], 4, "Velero cannot say beforehand"),
    ];
    for (words, code, expected) in table {
        let first = ["create", "never", "-n", shop.name(), "--engine", "velero"];
        plugin
            .run(first.iter().chain(words).copied())?
            .exits(code)
            .stderr_has(expected);
        assert!(site.velero.get("Backup", "never")?.is_none(), "{words:?}");
    }
    plugin
        .run(["create", "b", "--location", "nowhere", "--engine", "velero"])?
        .exits(4)
        .stderr_has("location nowhere");

    // In the storage, and no object: Velero looks there once a minute.
    plugin
        .run(["create", "stored", "-n", shop.name(), "--engine", "direct"])?
        .ok();
    if site.velero.get("Backup", "stored")?.is_none() {
        plugin
            .run(["create", "stored", "-n", shop.name(), "--engine", "velero"])?
            .exits(4)
            .stderr_has("backup `stored` exists already in s3://");
    }
    plugin
        .run(["restore", "stored", "configmap/prices", "-n", shop.name()])?
        .exits(4)
        .stderr_has("never single objects; use --engine direct");
    plugin
        .run(["restore", "stored", "--include-cluster-scoped-resources", "nodes"])?
        .exits(4)
        .stderr_has("Velero's Restores have no such fields");
    // Waits until Velero has found it, and restores it then.
    site.cluster
        .delete(&format!("/api/v1/namespaces/{shop}/configmaps/prices"))?;
    plugin
        .run(["restore", "stored", "--name", "synced"])?
        .ok()
        .stderr_has("engine velero (auto:");
    assert!(
        site.cluster
            .get(&format!("/api/v1/namespaces/{shop}/configmaps/prices"))?
            .is_some()
    );
    Ok(())
}

#[test]
fn without_access_to_the_bucket_velero_hands_the_files_out() -> Result<()> {
    let site = site()?;
    let (plugin, shop) = (site.plugin()?, site.shop()?);
    plugin.run(["create", "handed", "-n", shop.name()])?.ok();
    plugin.run(["restore", "handed", "--name", "handed-r"])?.ok();
    // No credentials, and the location by the name that Velero has for it.
    let outside = Plugin::bare()?
        .with_kubeconfig(site.cluster.kubeconfig())?
        .with_env("AWS_EC2_METADATA_DISABLED", "true")
        .with_env("KUBECTL_BACKUP_LOCATION", LOCATION);
    let note = "so this comes through Velero's API";
    outside
        .run(["logs", "handed"])?
        .ok()
        .stdout_has("level=info")
        .stderr_has(note);
    outside
        .run(["describe", "handed", "--details"])?
        .ok()
        .stdout_has("Completed")
        .stdout_has("prices")
        .stderr_has(note);
    outside
        .run(["contents", "handed", "configmaps"])?
        .ok()
        .stdout_has("banner")
        .stderr_has(note);
    outside
        .run(["list"])?
        .ok()
        .stdout_has("handed")
        .stdout_has("Completed")
        .stderr_has(note);
    outside
        .run(["restores", "logs", "handed-r"])?
        .ok()
        .stdout_has("level=")
        .stderr_has(note);
    outside
        .run(["restores", "describe", "handed-r"])?
        .ok()
        .stdout_has("Completed")
        .stderr_has(note);
    // The whole way works without any access.
    outside
        .run(["create", "outside", "-n", shop.name()])?
        .ok()
        .stdout_has("Completed")
        .stdout_has("<unknown>");
    outside.run(["delete", "outside", "--yes"])?.ok();
    // Requests do not pile up.
    assert_eq!(site.velero.list("DownloadRequest")?.len(), 0);

    // A store that is known by a name which means nothing here.
    let spec = json!({ "objectStorage": { "prefix": "metadata/inside" }, "config": { "publicUrl": "http://minio.invalid:9000" } });
    site.velero.add_location("inside", site.store, spec)?;
    outside
        .run(["create", "hidden", "-n", shop.name(), "--location", "inside"])?
        .ok()
        .stderr_has("what Velero wrote cannot be read");
    outside
        .run(["logs", "hidden", "--location", "inside"])?
        .exits(1)
        .stderr_has("a URL on host minio.invalid, which cannot be reached from here")
        .stderr_has("set publicUrl in the config of BackupStorageLocation velero/inside")
        .nowhere_has("X-Amz-Signature");
    Ok(())
}
