//! `enable`, `upgrade` and `disable` against an API server alone: what they write, refuse and take away. Nothing runs here,
//! so nothing is waited for; with pods it is in `running`.

use anyhow::{Context, Result, ensure};
use backup_engine::location::{password, redacted::Redacted};
use backup_tests::cluster::Cluster;
use backup_tests::cluster_api::{self, Workload};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::{Value, json};
use velero_model::api::{FINALIZER, PROTECTED};

const NAMESPACE: &str = "/api/v1/namespaces/kubectl-backup";
const RETENTION: &str = "/apis/batch/v1/namespaces/kubectl-backup/cronjobs/retention-main";
const GATE: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/kubectl-backup-gate";
const ENABLE: [&str; 4] = ["enable", "--location", "main", "--wait=false"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The plugin with a place of its own in the store under the name `main`.
fn with_main(cluster: &Cluster, url: &str, store: &Store) -> Result<Plugin> {
    let plugin = Plugin::new(cluster, store)?;
    plugin.run(["location", "add", "main", url])?.ok();
    Ok(plugin.with_env("KUBECTL_BACKUP_LOCATION", "main"))
}

fn version_of(cluster: &Cluster, key: &str) -> Result<Option<String>> {
    let namespace = cluster.get(NAMESPACE)?.context("no namespace")?;
    let annotation = &namespace["metadata"]["annotations"][key];
    Ok(annotation.as_str().map(str::to_owned))
}

fn image_of(cron_job: &Value) -> &Value {
    &cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"]
}

/// Nothing of ours is left, of any kind that is cluster-wide.
fn nothing_is_left(cluster: &Cluster) -> Result<()> {
    for kind in [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "clusterroles",
        "clusterrolebindings",
        "namespaces",
        "crds",
    ] {
        let all = cluster.kubectl_ok(&["get", kind, "-o", "name"])?;
        let left: Vec<&str> = all
            .lines()
            .filter(|name| name.contains("kubectl-backup"))
            .collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
    }
    Ok(())
}

#[test]
fn enable_is_repeatable_and_disable_leaves_nothing_of_this_cluster() -> Result<()> {
    let (cluster, other) = (Cluster::start()?, Cluster::shared()?);
    let store = Store::shared_versitygw()?;
    let url = store.location_url();
    let plugin = with_main(&cluster, &url, &store)?;
    let neighbour = with_main(other, &url, &store)?;
    neighbour
        .run(["create", "theirs", "-n", "default", "--engine=direct"])?
        .ok();
    plugin
        .run([
            "create",
            "expired",
            "-n",
            "default",
            "--engine=direct",
            "--ttl",
            "1s",
        ])?
        .ok();
    plugin
        .run(["create", "ours", "-n", "default", "--engine=direct"])?
        .ok();

    plugin.run(ENABLE)?.ok().stdout_has(" 0 configured, 0 unchanged");
    ensure!(cluster.get(RETENTION)?.is_some(), "no retention");
    ensure!(cluster.get(GATE)?.is_some(), "no gate");
    assert_eq!(
        version_of(&cluster, "kubectl-backup.io/version")?.as_deref(),
        Some(VERSION)
    );
    assert_eq!(version_of(&cluster, "kubectl-backup.io/version-coming")?, None);
    let again = plugin.json(ENABLE)?;
    assert_eq!(again["kind"], "Installation");
    for line in again["items"].as_array().context("no items")? {
        // The namespace says for a moment that a version is coming.
        let is_namespace = line["object"] == "Namespace kubectl-backup";
        ensure!(is_namespace || line["outcome"] == "unchanged", "{line}");
    }

    // What the CronJob's pod does, under its account and with nothing else to know.
    let account = cluster.kubeconfig_as("system:serviceaccount:kubectl-backup:retention-main")?;
    let pod = Plugin::bare()?.with_kubeconfig(&account)?;
    let cron_job = cluster.get(RETENTION)?.context("no retention")?;
    let words = &cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"];
    let words: Vec<&str> = words
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    std::thread::sleep(std::time::Duration::from_secs(1));
    pod.run(&words)?.ok().stdout_has("expired");
    let names = |plugin: &Plugin| -> Result<String> { Ok(plugin.run(["list", "-o", "name"])?.ok().stdout) };
    ensure!(!names(&plugin)?.contains("backup/expired"), "it did not go");

    // A schedule that comes and goes leaves the Secret that retention lives on.
    plugin
        .run([
            "schedule",
            "create",
            "nightly",
            "--schedule=@daily",
            "--engine=direct",
        ])?
        .ok();
    plugin.run(["schedule", "delete", "nightly", "--yes"])?.ok();
    let secret = "/api/v1/namespaces/kubectl-backup/secrets/location-main";
    ensure!(
        cluster.get(secret)?.is_some(),
        "the location's Secret went with a schedule"
    );

    plugin
        .run(["disable"])?
        .exits(4)
        .stderr_has("1 backup of this cluster")
        .stderr_has("--backup-storage Retain")
        .stderr_has("--backup-storage Delete");
    ensure!(
        cluster.get(GATE)?.is_some(),
        "something went although nothing was chosen"
    );
    plugin
        .run(["disable", "--backup-storage", "Delete"])?
        .exits(4)
        .stderr_has("--yes");
    plugin
        .run(["disable", "--backup-storage", "Delete", "--yes"])?
        .ok()
        .stdout_has("1 backup deleted");
    nothing_is_left(&cluster)?;
    assert_eq!(
        names(&neighbour)?.trim(),
        "backup/theirs",
        "backups of another cluster stay"
    );
    plugin
        .run(["disable"])?
        .ok()
        .stdout_has("nothing of kubectl backup was in the cluster");
    Ok(())
}

#[test]
fn half_an_installation_goes_on_or_goes_away() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::shared_versitygw()?;
    let plugin = with_main(&cluster, &store.location_url(), &store)?;

    // Somebody who may do all but give out rights gets as far as that, and is told.
    let somebody = cluster.person("somebody")?.may(
        &cluster,
        &json!([
            { "apiGroups": [""], "resources": ["*"], "verbs": ["*"] },
            { "apiGroups": ["apiextensions.k8s.io"], "resources": ["*"], "verbs": ["*"] },
        ]),
    )?;
    with_main(&cluster, &store.location_url(), &store)?
        .with_kubeconfig(somebody.kubeconfig())?
        .run(ENABLE)?
        .exits(4)
        .stderr_has("clusterroles")
        .stderr_has("the same command goes on from there");
    assert_eq!(version_of(&cluster, "kubectl-backup.io/version")?, None);
    assert_eq!(
        version_of(&cluster, "kubectl-backup.io/version-coming")?.as_deref(),
        Some(VERSION)
    );
    plugin.run(ENABLE)?.ok();
    assert_eq!(
        version_of(&cluster, "kubectl-backup.io/version")?.as_deref(),
        Some(VERSION)
    );

    // Half of it is taken away by hand.
    for words in [
        ["mutatingwebhookconfiguration", "kubectl-backup-guard"],
        ["clusterrole", "kubectl-backup-webhook"],
    ] {
        cluster.kubectl_ok(&["delete", words[0], words[1]])?;
    }
    cluster.kubectl_ok(&["delete", "deployment", "backup-webhook", "-n", "kubectl-backup"])?;
    // What opens the data that is kept goes with our namespace, and is kept by whoever removes it.
    let place = "s3://bucket/prefix at https://s3.local";
    cluster.create(password::secret(place, &Redacted::new("hunter2")))?;
    plugin
        .run(["disable", "--backup-storage=Retain"])?
        .ok()
        .stderr_has("is kept in")
        .nowhere_has("hunter2");
    let file = format!(
        ".config/kubectl-backup/repository-passwords/{}",
        password::place_id(place)
    );
    assert_eq!(
        std::fs::read_to_string(plugin.home().join(file))?.trim(),
        "hunter2"
    );
    nothing_is_left(&cluster)
}

#[test]
fn disable_is_refused_while_a_cluster_is_protected() -> Result<()> {
    let cluster = Cluster::start()?;
    cluster_api::install(&cluster)?;
    let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    plugin
        .run(["enable", "--components=admission", "--wait=false"])?
        .ok();
    let namespace = cluster.namespace()?;
    // Without the server nobody could write it.
    cluster.kubectl_ok(&["delete", "mutatingwebhookconfiguration", "kubectl-backup-guard"])?;
    let mut prod = Workload::Cluster.object(namespace.name(), "prod");
    prod["metadata"]["annotations"] = json!({ PROTECTED: "main:team-a/prod" });
    prod["metadata"]["finalizers"] = json!([FINALIZER]);
    cluster.create(prod)?;
    plugin
        .run(["disable", "--backup-storage=Retain"])?
        .exits(4)
        .stderr_has(&format!("kubectl backup cluster unprotect prod -n {namespace}"));
    ensure!(cluster.get(GATE)?.is_some(), "something went");
    plugin
        .run(["cluster", "unprotect", "prod", "-n", namespace.name(), "--yes"])?
        .ok();
    plugin.run(["disable"])?.ok();
    let prod = cluster
        .get(&Workload::Cluster.path(namespace.name(), "prod"))?
        .context("the cluster is gone")?;
    ensure!(prod["metadata"]["finalizers"].is_null(), "{prod:#}");
    nothing_is_left(&cluster)
}

#[test]
fn upgrade_takes_pods_along_and_never_goes_back() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::shared_versitygw()?;
    let plugin = with_main(&cluster, &store.location_url(), &store)?;
    plugin
        .run(["upgrade"])?
        .exits(5)
        .stderr_has("kubectl backup enable");

    let old = "registry.local:5000/t/kubectl-backup:0.0.9";
    let image = format!("--image={old}");
    plugin
        .run([&ENABLE[..], &[&image, "--image-pull-secret=pull"]].concat())?
        .ok();
    plugin
        .run([
            "schedule",
            "create",
            "nightly",
            "--schedule=@daily",
            "--engine=direct",
            &image,
        ])?
        .ok();
    let says = |key: &str, version: &str| {
        let annotations = json!({ "metadata": { "annotations": { key: version } } });
        cluster.patch(NAMESPACE, annotations).map(drop)
    };
    // As an upgrade from the version before leaves it when it is cut off.
    says("kubectl-backup.io/version", "0.0.9")?;
    says("kubectl-backup.io/version-coming", VERSION)?;
    plugin
        .run(["upgrade", "--wait=false"])?
        .ok()
        .stderr_has("1 schedule run");
    assert_eq!(
        version_of(&cluster, "kubectl-backup.io/version")?.as_deref(),
        Some(VERSION)
    );
    assert_eq!(version_of(&cluster, "kubectl-backup.io/version-coming")?, None);
    let new = format!("registry.local:5000/t/kubectl-backup:{VERSION}");
    for name in ["retention-main", "nightly"] {
        let path = format!("/apis/batch/v1/namespaces/kubectl-backup/cronjobs/{name}");
        let cron_job = cluster.get(&path)?.context("no CronJob")?;
        assert_eq!(image_of(&cron_job), &new, "{name}");
    }
    let path = "/apis/apps/v1/namespaces/kubectl-backup/deployments/backup-metrics";
    let pod = &cluster.get(path)?.context("no exporter")?["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], new);
    assert_eq!(pod["imagePullSecrets"][0]["name"], "pull");

    says("kubectl-backup.io/version", "9.0.0")?;
    for command in [&["upgrade", "--wait=false"][..], &ENABLE] {
        plugin.run(command)?.exits(4).stderr_has("never moved back");
    }
    says("kubectl-backup.io/version", "new")?;
    plugin.run(["upgrade"])?.exits(4).stderr_has("\"new\"");
    Ok(())
}

#[test]
fn what_enable_prints_is_what_kubectl_applies() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::shared_versitygw()?;
    let plugin = with_main(&cluster, &store.location_url(), &store)?;
    let printed = plugin
        .run([
            "enable",
            "--dry-run=client",
            "-o",
            "yaml",
            "--image-registry=registry.local/t",
        ])?
        .ok()
        .stdout_has(&format!("registry.local/t/kubectl-backup:{VERSION}"))
        .stderr_has("holds credentials");
    ensure!(cluster.get(NAMESPACE)?.is_none(), "a preview wrote");
    let file = plugin.home().join("enable.yaml");
    std::fs::write(&file, &printed.stdout)?;
    cluster.kubectl_ok(&[
        "apply",
        "--server-side",
        "-f",
        file.to_str().context("not UTF-8")?,
    ])?;
    ensure!(cluster.get(RETENTION)?.is_some(), "no retention");
    plugin.run(ENABLE)?.ok();

    plugin
        .run(["enable", "--location", "file:///tmp/backups", "--dry-run=client"])?
        .exits(4)
        .stderr_has("a pod cannot see the folder");
    plugin
        .run(["enable", "--components=retention", "--image-registry=https://r"])?
        .exits(2)
        .stderr_has("--image-registry");
    Plugin::bare()?
        .with_kubeconfig(cluster.kubeconfig())?
        .run(["enable", "--components=retention"])?
        .exits(2)
        .stderr_has("location");
    Ok(())
}

#[test]
fn a_location_that_is_away_is_no_reason_not_to_enable_and_is_said() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::shared_versitygw()?;
    let endpoint = store.endpoint().context("no server")?;
    let away = store.location_url().replace(&endpoint, "http://127.0.0.1:1");
    let plugin = with_main(&cluster, &away, &store)?;
    plugin
        .run(ENABLE)?
        .ok()
        .stderr_has("location main cannot be read from here")
        .stderr_has("kubectl backup status");
    ensure!(cluster.get(RETENTION)?.is_some(), "no retention");
    Ok(())
}

#[test]
fn a_person_at_a_terminal_chooses_what_becomes_of_the_backups() -> Result<()> {
    let cluster = Cluster::start()?;
    let store = Store::shared_versitygw()?;
    let plugin = with_main(&cluster, &store.location_url(), &store)?;
    plugin
        .run(["create", "ours", "-n", "default", "--engine=direct"])?
        .ok();
    plugin.run(ENABLE)?.ok();
    let asked = |answers: &[(&str, &str)]| -> Result<backup_tests::plugin::Ran> {
        let mut running = plugin.at_terminal(["disable"])?;
        for (question, answer) in answers {
            running.wait_until(question, |running| running.stdout_so_far().contains(question))?;
            running.types(&format!("{answer}\n"))?;
        }
        running.wait()
    };
    let (what, sure) = ("Type Retain or Delete:", "to go on:");
    for (answers, said) in [
        (&[(what, "retain")][..], "neither Retain nor Delete"),
        (&[(what, "Delete"), (sure, "yes")], "was not typed"),
    ] {
        asked(answers)?.exits(4).stdout_has(said);
        ensure!(cluster.get(GATE)?.is_some(), "something went");
    }
    asked(&[(what, "Delete"), (sure, cluster.name())])?
        .ok()
        .stdout_has("1 backup deleted");
    nothing_is_left(&cluster)?;
    ensure!(store.keys()?.is_empty(), "{:?}", store.keys()?);
    Ok(())
}
