//! `kubectl backup cluster ...`, run as a user runs it, where our server is not there: the floor alone holds.
//!
//! What the commands do together with the server is in `gate_session`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::{Cluster, Namespace, Person};
use backup_tests::cluster_api::{self, Workload};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use kube::CustomResourceExt;
use serde_json::{Value, json};
use velero_model::api::{ACCEPTED, AT_STAKE, FINALIZER, HOLDS_CLUSTERS, PROTECTED, StorageDisposition};

use crate::gate_floor::{as_ours, site};

/// A cluster with a backup in the folder that protection expects, and the plugin.
struct Case {
    cluster: &'static Cluster,
    namespace: Namespace,
    store: Store,
    plugin: Plugin,
}

impl Case {
    fn new(kind: Workload) -> Result<Self> {
        let cluster = site()?;
        cluster_api::define(cluster, serde_json::to_value(StorageDisposition::crd())?)?;
        let namespace = cluster.namespace()?;
        kind.create(cluster, namespace.name(), "prod")?;
        let store = Store::folder()?;
        let plugin = Plugin::new(cluster, &store)?;
        Ok(Self {
            cluster,
            namespace,
            store,
            plugin,
        })
    }

    /// Where backups of `prod` belong.
    fn folder(&self) -> String {
        format!("{}/{}/prod", self.store.location_url(), self.namespace)
    }

    fn back_up(&self, name: &str) -> Result<()> {
        std::fs::create_dir_all(self.store.path().join(self.namespace.name()).join("prod"))?;
        let location = self.folder();
        let words = [
            "create",
            name,
            "-n",
            self.namespace.name(),
            "--location",
            &location,
        ];
        self.plugin.run(words)?.ok();
        Ok(())
    }

    fn words<'w>(&'w self, words: &[&'w str]) -> Vec<&'w str> {
        let mut all = vec!["cluster"];
        all.extend(words);
        all.extend(["-n", self.namespace.name()]);
        all
    }

    fn object(&self, kind: Workload) -> Result<Value> {
        let path = kind.path(self.namespace.name(), "prod");
        self.cluster.get(&path)?.context("the cluster is gone")
    }

    fn choices(&self) -> Result<Vec<Value>> {
        self.cluster.list(&format!(
            "/apis/kubectl-backup.io/v1alpha1/namespaces/{}/storagedispositions",
            self.namespace
        ))
    }
}

#[test]
fn without_our_kinds_nothing_is_protected_and_the_next_step_is_named() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    let store = Store::folder()?;
    let plugin = Plugin::new(&cluster, &store)?;
    for words in [["cluster", "status", "prod"], ["cluster", "retain", "prod"]] {
        plugin.run(words)?.exits(5).stderr_has("no management cluster");
    }
    cluster_api::install(&cluster)?;
    Workload::Cluster.create(&cluster, "default", "prod")?;
    for words in [
        vec!["cluster", "protect", "prod"],
        vec!["cluster", "retain", "prod"],
        vec!["cluster", "status"],
    ] {
        plugin
            .run(words)?
            .exits(5)
            .stderr_has("install the admission suite first: kubectl apply -k manifests");
    }
    let object = cluster
        .get(&Workload::Cluster.path("default", "prod"))?
        .unwrap_or_default();
    ensure!(object["metadata"]["finalizers"].is_null(), "{object}");
    Ok(())
}

#[test]
fn protect_marks_the_cluster_and_its_namespace_and_counts() -> Result<()> {
    for kind in Workload::KINDS {
        let case = Case::new(kind)?;
        case.back_up("nightly")?;
        let ran = case.plugin.run(case.words(&["protect", "prod"]))?.ok();
        ran.stdout_has("protected: 1 backup (").stdout_has(&case.folder());
        let object = case.object(kind)?;
        let place = format!("{}:{}/prod", case.store.location_url(), case.namespace);
        let annotations = &object["metadata"]["annotations"];
        ensure!(annotations[PROTECTED] == place.as_str(), "{object}");
        ensure!(object["metadata"]["finalizers"] == json!([FINALIZER]), "{object}");
        let facts: Value = serde_json::from_str(annotations[AT_STAKE].as_str().unwrap_or_default())?;
        ensure!(
            facts["backups"] == 1 && facts["oldest"] == facts["newest"],
            "{facts}"
        );
        let home = case
            .cluster
            .get(&format!("/api/v1/namespaces/{}", case.namespace))?;
        ensure!(home.unwrap_or_default()["metadata"]["labels"][HOLDS_CLUSTERS] == "undecided");
        // Again, it is the same.
        case.plugin
            .run(case.words(&["protect", "prod"]))?
            .ok()
            .stdout_has("was protected already");
        // Elsewhere, it is refused.
        let second = Store::folder()?;
        let other = second.location_url();
        case.plugin
            .run(case.words(&["protect", "prod", "--location", &other]))?
            .exits(4)
            .stderr_has("is protected in")
            .stderr_has("cluster unprotect prod");
        // What somebody took away is put back.
        let path = kind.path(case.namespace.name(), "prod");
        as_ours(case.cluster)?
            .patch(&path, &json!({ "metadata": { "finalizers": [] } }))?
            .ok()?;
        case.plugin.run(case.words(&["protect", "prod"]))?.ok();
        ensure!(case.object(kind)?["metadata"]["finalizers"] == json!([FINALIZER]));
        case.cluster
            .admin()?
            .delete(&path)?
            .forbidden(&["backups: 1 ("])?;
    }
    Ok(())
}

#[test]
fn a_location_that_does_not_work_protects_nothing() -> Result<()> {
    let case = Case::new(Workload::Cluster)?;
    let words = case.words(&["protect", "prod", "--location", "file:///proc/nowhere"]);
    case.plugin
        .run(words)?
        .exits(4)
        .stderr_has("no cluster is protected in a location that does not work");
    let object = case.object(Workload::Cluster)?;
    ensure!(
        object["metadata"]["finalizers"].is_null() && object["metadata"]["annotations"].is_null(),
        "{object}"
    );
    Ok(())
}

#[test]
fn a_choice_nobody_accepts_is_written_and_the_exit_code_says_so() -> Result<()> {
    let case = Case::new(Workload::Cluster)?;
    case.plugin.run(case.words(&["protect", "prod"]))?.ok();
    case.plugin
        .run(case.words(&["retain", "prod", "--for", "90d", "--final-backup"]))?
        .exits(6)
        .stderr_has("has not accepted it within 25 s")
        .stdout_has("its backups will be kept for 2160h0m0s, after a last one");
    let uid = cluster_api::uid(&case.object(Workload::Cluster)?)?;
    let choices = case.choices()?;
    let [choice] = choices.as_slice() else {
        anyhow::bail!("{choices:?}");
    };
    ensure!(
        choice["spec"]
            == json!({
                "clusterRef": { "group": "cluster.x-k8s.io", "kind": "Cluster", "name": "prod", "uid": uid },
                "backupStorage": "Retain", "retainFor": "2160h0m0s", "finalBackup": "Required",
            }),
        "{choice}"
    );
    // The other choice takes its place, in the same object.
    let words = case.words(&["delete-storage", "prod"]);
    case.plugin
        .run(words)?
        .exits(4)
        .stderr_has("give --yes, or run this on a terminal");
    ensure!(case.choices()?[0]["spec"]["backupStorage"] == "Retain");
    let words = case.words(&["delete-storage", "prod", "--yes", "--wait=false", "-o", "json"]);
    let document: Value = serde_json::from_str(&case.plugin.run(words)?.ok().stdout)?;
    ensure!(
        document["kind"] == "ClusterChoice" && document["accepted"] == false,
        "{document}"
    );
    let choices = case.choices()?;
    ensure!(
        choices.len() == 1 && choices[0]["spec"]["backupStorage"] == "Delete",
        "{choices:?}"
    );
    // One that expires begins its time anew.
    std::thread::sleep(Duration::from_millis(1100));
    let words = case.words(&["retain", "prod", "--expires-after", "1h", "--wait=false"]);
    case.plugin.run(words)?.ok();
    let renewed = case.choices()?;
    ensure!(renewed.len() == 1 && renewed[0]["metadata"]["uid"] != choices[0]["metadata"]["uid"]);
    Ok(())
}

#[test]
fn an_accepted_choice_ends_the_wait_and_lets_the_cluster_go() -> Result<()> {
    let case = Case::new(Workload::TanzuKubernetesCluster)?;
    let kind = Workload::TanzuKubernetesCluster;
    let path = kind.path(case.namespace.name(), "prod");
    case.plugin.run(case.words(&["protect", "prod"]))?.ok();
    let uid = cluster_api::uid(&case.object(kind)?)?;
    let mut running = case.plugin.spawn(case.words(&["retain", "tkc/prod"]))?;
    case.cluster
        .wait_until("the choice to be written", |_| Ok(!case.choices()?.is_empty()))?;
    ensure!(running.exited()?.is_none(), "it did not wait");
    as_ours(case.cluster)?
        .annotate(&path, ACCEPTED, format!("Retain/{uid}"))?
        .ok()?;
    running.wait()?.ok().stdout_has("its backups will be kept");
    case.cluster.admin()?.delete(&path)?.ok()?;
    as_ours(case.cluster)?
        .patch(&path, &json!({ "metadata": { "finalizers": [] } }))?
        .ok()?;
    case.cluster.wait_until_gone(&path)
}

#[test]
fn status_shows_every_cluster_and_explains_one() -> Result<()> {
    let case = Case::new(Workload::Cluster)?;
    Workload::TanzuKubernetesCluster.create(case.cluster, case.namespace.name(), "dev")?;
    case.back_up("nightly")?;
    case.plugin.run(case.words(&["protect", "prod"]))?.ok();
    let ran = case.plugin.run(case.words(&["status"]))?.ok();
    ran.stdout_has("PROTECTED")
        .stdout_has("prod")
        .stdout_has("refused")
        .stdout_has("dev");
    case.plugin
        .run(case.words(&["status", "prod"]))?
        .ok()
        .stdout_has("a deletion would be refused: cluster")
        .stdout_has(&format!(
            "  kubectl backup cluster retain prod -n {}\n",
            case.namespace
        ));
    case.plugin
        .run(case.words(&["status", "dev"]))?
        .ok()
        .stdout_has("a deletion would be allowed: it was never protected");
    // Counted in the storage, not read from the cluster: a later backup shows.
    case.back_up("weekly")?;
    let document = case.plugin.json(case.words(&["status", "prod"]))?;
    ensure!(document["kind"] == "ClusterStatus", "{document}");
    ensure!(
        document["atStake"]["backups"] == 2 && document["countedNow"] == true,
        "{document}"
    );
    ensure!(document["deletion"]["allowed"] == false && document["deletion"]["commands"][0].is_string());
    let list = case.plugin.json(["cluster", "status", "-A"])?;
    ensure!(
        list["kind"] == "ClusterStatusList" && list["items"].is_array(),
        "{list}"
    );
    let names = case
        .plugin
        .run(case.words(&["status", "-o", "name"]))?
        .ok()
        .stdout;
    ensure!(names == "tanzukubernetescluster/dev\ncluster/prod\n", "{names}");
    case.plugin
        .run(case.words(&["status", "nobody"]))?
        .exits(5)
        .stderr_has("there is no cluster nobody");
    // A storage that is away: what was recorded is shown, and said.
    std::fs::rename(case.store.path(), case.store.path().with_extension("away"))?;
    let ran = case
        .plugin
        .run(case.words(&["status", "prod", "-o", "json"]))?
        .ok();
    std::fs::rename(case.store.path().with_extension("away"), case.store.path())?;
    let document: Value = serde_json::from_str(&ran.stdout)?;
    ensure!(document["atStake"].is_object(), "{document}");
    Ok(())
}

#[test]
fn unprotect_takes_every_mark_off_after_a_yes() -> Result<()> {
    let case = Case::new(Workload::Cluster)?;
    let kind = Workload::Cluster;
    case.plugin.run(case.words(&["protect", "prod"]))?.ok();
    case.plugin
        .run(case.words(&["unprotect", "prod"]))?
        .exits(4)
        .stderr_has("give --yes");
    let nobody = case.cluster.person(&format!("eve-{}", case.namespace))?.may(
        case.cluster,
        &json!([{ "apiGroups": ["cluster.x-k8s.io"], "resources": ["*"], "verbs": ["*"] },
                { "apiGroups": ["run.tanzu.vmware.com"], "resources": ["*"], "verbs": ["*"] }]),
    )?;
    as_person(&case, &nobody)?
        .run(case.words(&["unprotect", "prod", "--yes"]))?
        .exits(4)
        .stderr_has("may not end the protection of cluster");
    case.plugin
        .run(case.words(&["unprotect", "prod", "--yes"]))?
        .ok()
        .stdout_has("its backups stay where they are");
    let object = case.object(kind)?;
    ensure!(
        object["metadata"]["finalizers"].is_null() && object["metadata"]["annotations"][PROTECTED].is_null(),
        "{object}"
    );
    let home = case
        .cluster
        .get(&format!("/api/v1/namespaces/{}", case.namespace))?;
    ensure!(home.unwrap_or_default()["metadata"]["labels"][HOLDS_CLUSTERS].is_null());
    case.cluster
        .admin()?
        .delete(&kind.path(case.namespace.name(), "prod"))?
        .ok()?;
    Ok(())
}

/// The plugin as somebody else.
fn as_person(case: &Case, person: &Person) -> Result<Plugin> {
    Ok(Plugin::bare()?
        .with_kubeconfig(person.kubeconfig())?
        .with_store(&case.store))
}
