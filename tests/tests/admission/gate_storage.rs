//! The work itself, on a real S3 server with versions: what is chosen happens to the backups of a cluster that is going.
//!
//! The management cluster has the admission suite and the real controller of Jobs, the workload cluster is another API
//! server. There is no kubelet: what the pod of a Job would run is run here, as its ServiceAccount with the shipped rights
//! and nothing but the cluster to tell where the backups are. What is left is looked for where the S3 server keeps its
//! files, which asks nobody's client.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use backup_engine::location::{self, password, redacted::Redacted};
use backup_tests::cluster::{Cluster, base64};
use backup_tests::cluster_api::Workload;
use backup_tests::plugin::{Plugin, Ran};
use backup_tests::store::Store;
use serde_json::{Value, json};
use velero_model::api::{DISPOSITION, PROTECTED, SOURCE};

use super::gate_site::{OURS, Site, decider, operator, until_ok};
use super::gate_work::{self, Work};

mod last_backup;
mod ticket;

const RIGHTS: &str = include_str!("../../../manifests/webhook/storage-rbac.yaml");
/// Password of the volume repository.
const PASSWORD: &str = "hunter2-hunter2";
const ACCOUNT: &str = "system:serviceaccount:kubectl-backup:backup-storage";

/// The cluster whose backups they are.
fn workload() -> Result<&'static Cluster> {
    static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let made = CLUSTER.get_or_init(|| Cluster::start().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

fn identity(cluster: &Cluster) -> Result<String> {
    let system = cluster
        .get("/api/v1/namespaces/kube-system")?
        .context("kube-system")?;
    Ok(system["metadata"]["uid"].as_str().context("uid")?.to_owned())
}

/// What a Job may do, as it is shipped.
fn rights(cluster: &Cluster) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.apply(RIGHTS)
}

/// A protected cluster with backups, and everything that a Job needs.
struct Story {
    site: &'static Site,
    store: Store,
    namespace: backup_tests::cluster::Namespace,
    location: String,
    path: String,
    uid: String,
    /// A user of the management cluster, who may decide.
    user: Plugin,
}

impl Story {
    fn begin(store: Store) -> Result<Self> {
        let site = gate_work::site()?;
        rights(site.cluster)?;
        let namespace = site.cluster.namespace()?;
        let location = format!("main-{}", namespace.name());
        let mut data = json!({ "url": store.location_url() });
        if let [(_, key), (_, secret), ..] = &store.env()[..] {
            let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
            data["credentials"] = text.into();
        }
        site.cluster.create(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": format!("location-{location}"), "namespace": OURS,
                "labels": { "kubectl-backup.io/location": location },
            },
            "stringData": data,
        }))?;
        Workload::Cluster.create(site.cluster, namespace.name(), "prod")?;
        let path = Workload::Cluster.path(namespace.name(), "prod");
        let object = site.cluster.get(&path)?.context("prod")?;
        let user = Plugin::bare()?.with_kubeconfig(site.cluster.kubeconfig())?;
        Ok(Self {
            uid: object["metadata"]["uid"].as_str().context("uid")?.to_owned(),
            site,
            store,
            namespace,
            location,
            path,
            user,
        })
    }

    /// Cluster API's Secret, with this text.
    fn kubeconfig(&self, text: &str) -> Result<()> {
        self.site
            .cluster
            .create(json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": { "name": "prod-kubeconfig", "namespace": self.namespace.name() },
                "data": { "value": base64(text.as_bytes()) },
            }))
            .map(drop)
    }

    /// The real one.
    fn known(self) -> Result<Self> {
        self.kubeconfig(&std::fs::read_to_string(workload()?.kubeconfig())?)?;
        Ok(self)
    }

    fn prefix(&self) -> String {
        format!("{}/prod", self.namespace.name())
    }

    /// A backup of some cluster in the folder of ours.
    fn back_up(&self, cluster: &Cluster, name: &str, more: &[&str]) -> Result<()> {
        let plugin = Plugin::new(cluster, &self.store)?.with_env(
            "KUBECTL_BACKUP_LOCATION",
            &self.store.location_url_with_prefix(&self.prefix()),
        );
        plugin
            .run([&["create", name, "-n", "default"], more].concat())?
            .ok();
        Ok(())
    }

    /// A repository of volumes, made by the real restic, and its password in the cluster; gives the path of that Secret.
    fn volume_repository(&self, cluster: &Cluster) -> Result<String> {
        let below = self.store.location_url_with_prefix(&self.prefix());
        let place = location::url::parse(&below)?.describe();
        let secret = password::secret(&place, &Redacted::new(PASSWORD));
        cluster.apply(
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OURS } }).to_string(),
        )?;
        cluster.create(secret)?;
        let bucket = self.store.bucket().context("no bucket")?;
        let endpoint = self.store.endpoint().context("no server")?;
        let made = std::process::Command::new("restic")
            .args(["--no-cache", "init", "--repo"])
            .arg(format!("s3:{endpoint}/{bucket}/{}/restic/default", self.prefix()))
            .env("RESTIC_PASSWORD", PASSWORD)
            .envs(self.store.env())
            .output()
            .context("restic does not start; apt-get install restic")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(password::secret_path(&place))
    }

    fn cluster_command(&self, words: &[&str]) -> Result<Ran> {
        let namespace = ["-n", self.namespace.name()];
        self.user.run([&["cluster"], words, &namespace].concat())
    }

    fn protect(&self) -> Result<Ran> {
        self.cluster_command(&["protect", "prod", "--location", &self.location])
    }

    fn delete(&self) -> Result<Work<'static>> {
        let operator = operator(self.site.cluster)?;
        until_ok(|| operator.delete(&self.path))?;
        Ok(Work::of(self.site.cluster, &self.uid))
    }

    /// What the Job's pod does.
    fn job(&self, work: &Work<'_>) -> Result<Ran> {
        let job = work.wait_for_job(None)?;
        let words = job["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        let words: Vec<String> = serde_json::from_value(words)?;
        self.pod()?.run(&words)
    }

    /// The same once more, whatever the Job says.
    fn again(&self, work: &Work<'_>) -> Result<Ran> {
        self.pod()?.run(["cluster", "carry-out", &work.name])
    }

    fn wait_for_order(&self, work: &Work<'_>, says: &str) -> Result<()> {
        self.site
            .cluster
            .wait_until(&format!("an order with {says}"), |cluster| {
                let map = cluster.get(&work.map())?.context("no ConfigMap")?;
                Ok(map["data"]["order"]
                    .as_str()
                    .is_some_and(|order| order.contains(says)))
            })
    }

    /// With one backup under an object lock and one without.
    fn with_a_lock() -> Result<Self> {
        let story = Self::begin(Store::shared_versitygw_with_object_lock()?)?.known()?;
        story.back_up(workload()?, "locked", &["--lock-until", "1h"])?;
        story.back_up(workload()?, "free", &[])?;
        story.protect()?.ok();
        Ok(story)
    }

    fn pod(&self) -> Result<Plugin> {
        let kubeconfig = self.site.cluster.kubeconfig_as(ACCOUNT)?;
        Ok(Plugin::bare()?
            .with_kubeconfig(&kubeconfig)?
            .with_env("AWS_EC2_METADATA_DISABLED", "true"))
    }

    fn report(&self, work: &Work<'_>) -> Result<Value> {
        let map = self.site.cluster.get(&work.map())?.context("no ConfigMap")?;
        let text = map["data"]["report"]
            .as_str()
            .with_context(|| format!("no report: {map}"))?;
        Ok(serde_json::from_str(text)?)
    }

    fn is_there(&self) -> Result<bool> {
        Ok(self.site.cluster.get(&self.path)?.is_some())
    }

    /// Every file that the S3 server has of this cluster's folder: keys, versions, parts of uploads.
    fn files(&self) -> Result<Vec<String>> {
        let bucket = self.store.path();
        let mut roots = vec![bucket.clone()];
        if let (Some(server), Some(name)) = (bucket.parent().and_then(Path::parent), self.store.bucket()) {
            roots.push(server.join("versions").join(name));
        }
        let mut files = Vec::new();
        for root in roots {
            below(&root, &mut files)?;
        }
        files.sort();
        Ok(files)
    }
}

fn below(folder: &PathBuf, files: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            below(&path, files)?;
        } else {
            files.push(path.display().to_string());
        }
    }
    Ok(())
}

#[test]
fn delete_leaves_nothing_of_the_cluster_and_everything_of_others() -> Result<()> {
    let story = Story::begin(Store::shared_versitygw_with_object_lock()?)?.known()?;
    let (ours, other) = (workload()?, story.site.cluster);
    story.back_up(ours, "one", &[])?;
    story.back_up(ours, "two", &[])?;
    story.back_up(ours, "gone", &[])?;
    // One that is there only as older versions under delete markers.
    let inside = Plugin::new(ours, &story.store)?.with_env(
        "KUBECTL_BACKUP_LOCATION",
        &story.store.location_url_with_prefix(&story.prefix()),
    );
    for _ in 0..2 {
        inside.run(["hold", "one", "--reason", "audit"])?.ok();
        inside.run(["release", "one"])?.ok();
    }
    story.back_up(other, "neighbour", &[])?;
    story.protect()?.ok().stdout_has("4 backups");
    let object = other.get(&story.path)?.context("prod")?;
    let marks = &object["metadata"]["annotations"];
    assert_eq!(marks[SOURCE], identity(ours)?.as_str());
    assert_eq!(marks[PROTECTED], format!("{}:{}", story.location, story.prefix()));
    story.cluster_command(&["delete-storage", "prod", "--yes"])?.ok();
    let work = story.delete()?;
    story
        .job(&work)?
        .ok()
        .stderr_has("Deleted (StorageDeleted)")
        .stderr_has("3 backups");
    other.wait_until_gone(&story.path)?;
    let report = story.report(&work)?;
    let receipt = &report["receipt"];
    assert_eq!(
        (&receipt["backups"], &receipt["emptyProven"], &report["source"]),
        (&json!(3), &json!(true), &json!(identity(ours)?))
    );
    let kept = receipt["left"]["foreign"][identity(other)?].as_u64();
    ensure!(kept.is_some_and(|kept| kept > 3), "{receipt}");
    let files = story.files()?;
    ensure!(files.iter().any(|file| file.contains("/neighbour/")), "{files:?}");
    for name in ["/one/", "/two/", "/gone/"] {
        ensure!(
            !files.iter().any(|file| file.contains(name)),
            "{name} is left: {files:?}"
        );
    }
    inside.run(["verify", "neighbour"])?.ok();
    work.wait_for_event(story.namespace.name(), "StorageDeleted")?;
    // Once more changes nothing: the receipt stays.
    story.again(&work)?.ok().stderr_has("Deleted (StorageDeleted)");
    inside.run(["verify", "neighbour"])?.ok();
    story
        .user
        .run(["cluster", "status", "prod", "-n", story.namespace.name()])?
        .ok()
        .stdout_has("deleted")
        .stdout_has("3 backups");
    Ok(())
}

#[test]
fn retain_outlives_expiry_and_the_ticket_leads_back() -> Result<()> {
    let story = Story::begin(Store::shared_versitygw()?)?.known()?;
    let ours = workload()?;
    story.back_up(ours, "old", &["--ttl", "1s"])?;
    story.back_up(ours, "new", &["--ttl", "720h"])?;
    let kept = story.volume_repository(ours)?;
    story.protect()?.ok();
    story
        .cluster_command(&["retain", "prod", "--for", "90d", "--final-backup"])?
        .ok();
    let work = story.delete()?;
    story
        .job(&work)?
        .ok()
        .stderr_has("Retained (StorageRetained)")
        .stderr_has("3 backups");
    story.site.cluster.wait_until_gone(&story.path)?;
    let report = story.report(&work)?;
    assert_eq!(report["finalBackup"]["verified"], true, "{report}");
    let ticket = report["receipt"]["ticket"].as_str().context("no ticket")?;
    ensure!(report["receipt"]["retainedUntil"].is_string(), "{report}");
    let below = story.store.location_url_with_prefix(&story.prefix());
    let keys = story.store.keys()?;
    ensure!(keys.contains(&format!("{}/{ticket}", story.prefix())), "{keys:?}");
    let text = std::fs::read_to_string(story.store.path().join(story.prefix()).join(ticket))?;
    let copied = story
        .site
        .cluster
        .get(&kept)?
        .context("the password is not kept")?;
    assert_eq!(copied["data"]["password"], base64(PASSWORD.as_bytes()).as_str());
    ensure!(text.contains("of the management cluster"), "{text}");
    for secret in ["tester-secret-key", "client-key-data", PASSWORD] {
        ensure!(!text.contains(secret), "{text}");
    }
    // A cluster that has never seen these backups.
    let new = Cluster::start()?;
    let recovery = Plugin::new(&new, &story.store)?.with_env("KUBECTL_BACKUP_LOCATION", &below);
    let plan = recovery.run(["retention", "plan", "--all-clusters"])?.ok();
    ensure!(!plan.stdout.contains("remove"), "{plan}");
    recovery
        .run(["retention", "apply", "--all-clusters", "--yes"])?
        .ok();
    let listed = recovery.json(["list"])?;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3), "{listed:#}");
    let shown = recovery.run(["cluster", "recover", &below, "--plan"])?.ok();
    for text in ["prod", "old", "new", "kept until", "nothing is changed"] {
        ensure!(
            shown.stdout.contains(text) || shown.stderr.contains(text),
            "{text}: {shown}"
        );
    }
    ensure!(
        shown
            .stderr
            .contains("give it as KUBECTL_BACKUP_REPOSITORY_PASSWORD"),
        "{shown}"
    );
    let recovery = recovery.with_env("KUBECTL_BACKUP_REPOSITORY_PASSWORD", PASSWORD);
    recovery
        .run(["cluster", "recover", &below, "--plan"])?
        .ok()
        .stderr_has("the password that is known here opens it");
    let before = story.store.keys()?;
    recovery
        .run(["cluster", "recover", &below, "--backup", "new", "--yes"])?
        .ok()
        .stdout_has("Completed");
    assert_eq!(story.store.keys()?, before, "the storage is attached read-only");
    let secret = new
        .get("/api/v1/namespaces/kubectl-backup/secrets/location-prod")?
        .context("the location is not attached")?;
    ensure!(secret["data"]["url"].is_string());
    recovery
        .run(["list", "--location", "prod"])?
        .ok()
        .stdout_has("new");
    Ok(())
}

#[test]
fn what_stands_in_the_way_is_said_with_the_way_out() -> Result<()> {
    // Nobody knows whose backups they are.
    let story = Story::begin(Store::shared_versitygw()?)?;
    let ours = workload()?;
    story.back_up(ours, "one", &[])?;
    story.protect()?.ok();
    story.cluster_command(&["delete-storage", "prod", "--yes"])?.ok();
    let work = story.delete()?;
    let before = story.store.keys()?;
    story.job(&work)?.ok().stderr_has("Blocked (SourceUnknown)");
    assert_eq!(story.store.keys()?, before);
    // Whoever may delete clusters may not say it, whoever may decide may.
    operator(story.site.cluster)?
        .annotate(&story.path, SOURCE, identity(ours)?)?
        .forbidden(&["say which backups"])?;
    decider(story.site.cluster)?
        .annotate(&story.path, SOURCE, identity(ours)?)?
        .ok()?;
    story.wait_for_order(&work, "\"revision\":2")?;
    // The location vanishes, comes back, and may not be written to.
    let secret = format!("/api/v1/namespaces/{OURS}/secrets/location-{}", story.location);
    let with_url = |url: &str| {
        story
            .site
            .cluster
            .patch(&secret, json!({ "data": { "url": base64(url.as_bytes()) } }))
            .map(drop)
    };
    let url = story.store.location_url();
    let bucket = story.store.bucket().context("bucket")?;
    for (url, reason) in [
        (url.replace(bucket, "no-such-bucket"), "StorageMissing"),
        (format!("{url}&read-only=true"), "LocationReadOnly"),
        (url.replace("127.0.0.1", "not a host"), "LocationUnknown"),
    ] {
        with_url(&url)?;
        let ran = story.again(&work)?.ok();
        ensure!(
            ran.stderr.contains(&format!("Blocked ({reason})")),
            "{reason}: {ran}"
        );
        ensure!(story.is_there()?);
    }
    with_url(&url)?;
    story.again(&work)?.ok().stderr_has("Deleted (StorageDeleted)");
    story.site.cluster.wait_until_gone(&story.path)?;
    ensure!(story.store.keys()?.is_empty());
    Ok(())
}

#[test]
fn locks_are_listed_with_their_dates_and_retain_lets_the_cluster_go() -> Result<()> {
    let story = Story::with_a_lock()?;
    story.cluster_command(&["delete-storage", "prod", "--yes"])?.ok();
    let work = story.delete()?;
    story.job(&work)?.ok().stderr_has("Blocked (ObjectLocked)");
    let report = story.report(&work)?;
    let locked = &report["receipt"]["left"]["locked"][0];
    ensure!(
        locked["until"].is_string() && locked["key"].as_str().is_some_and(|key| key.contains("locked")),
        "{report}"
    );
    assert_eq!(report["receipt"]["backups"], 1, "{report}");
    ensure!(story.is_there()?);
    story.cluster_command(&["retain", "prod"])?.ok();
    story.wait_for_order(&work, "Retain")?;
    story.again(&work)?.ok().stderr_has("Retained (StorageRetained)");
    story.site.cluster.wait_until_gone(&story.path)?;
    let report = story.report(&work)?;
    assert_eq!(report["receipt"]["backups"], 1, "{report}");
    let below = story.store.location_url_with_prefix(&story.prefix());
    let plugin = Plugin::new(workload()?, &story.store)?.with_env("KUBECTL_BACKUP_LOCATION", &below);
    plugin.run(["verify", "locked"])?.ok();
    Ok(())
}

#[test]
fn a_cluster_goes_before_its_locks_where_that_was_chosen() -> Result<()> {
    let story = Story::with_a_lock()?;
    story
        .cluster_command(&["delete-storage", "prod", "--release-when-locked", "--yes"])?
        .ok()
        .stdout_has("but what object locks keep");
    let work = story.delete()?;
    story.job(&work)?.ok().stderr_has("Deleted (DeletedButLocked)");
    story.site.cluster.wait_until_gone(&story.path)?;
    let report = story.report(&work)?;
    let receipt = &report["receipt"];
    assert_eq!(
        (&receipt["backups"], &receipt["emptyProven"]),
        (&json!(1), &json!(false)),
        "{report}"
    );
    ensure!(receipt["left"]["locked"][0]["until"].is_string(), "{report}");
    let note = work.wait_for_event(story.namespace.name(), "StorageDeleted")?;
    ensure!(note.contains("what object locks keep"), "{note}");
    let keys = story.store.keys()?;
    ensure!(
        keys.iter().all(|key| key.contains("/locked/")) && !keys.is_empty(),
        "{keys:?}"
    );
    Ok(())
}

#[test]
fn a_job_of_another_time_does_nothing() -> Result<()> {
    let story = Story::begin(Store::shared_versitygw()?)?.known()?;
    story.back_up(workload()?, "one", &[])?;
    story.protect()?.ok();
    let before = story.store.keys()?;
    let cluster = story.site.cluster;
    let plain = |uid: &str| -> Result<(String, Ran)> {
        let work = Work::of(cluster, uid);
        let order = json!({
            "format": 1, "revision": 1, "location": story.location, "prefix": story.prefix(), "choice": "Delete",
            "source": identity(workload()?)?,
            "cluster": { "group": "cluster.x-k8s.io", "kind": "Cluster", "namespace": story.namespace.name(), "name": "prod",
                "uid": uid },
        });
        cluster.create(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": work.name, "namespace": OURS },
            "data": { "order": order.to_string() },
        }))?;
        let ran = story.again(&work)?;
        Ok((work.name.clone(), ran))
    };
    // The cluster of a management cluster before it was restored, and one that nobody deletes.
    for uid in ["99999999-8888-7777-6666-555555555555", &story.uid] {
        let (name, ran) = plain(uid)?;
        ran.ok().stderr_has("Blocked (InvalidOrder)");
        assert_eq!(story.store.keys()?, before, "{name}");
    }
    // Nobody else may carry anything out.
    let stranger = Plugin::bare()?.with_kubeconfig(&cluster.kubeconfig_as("stranger")?)?;
    ensure!(
        stranger
            .run(["cluster", "carry-out", &Work::of(cluster, &story.uid).name])?
            .code
            != 0
    );
    decider(cluster)?
        .annotate(&story.path, DISPOSITION, "Retain")?
        .ok()?;
    assert_eq!(story.store.keys()?, before);
    Ok(())
}
