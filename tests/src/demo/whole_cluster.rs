//! The chapter about whole clusters: one is guarded, its deletion refused, a choice made and carried out, the way back shown.
//!
//! The demo's cluster is the management cluster, with Cluster API's own definition of clusters and the admission suite as a
//! process beside it; the second cluster is the one that goes. There is no node, so what the pod of the Job would run is run
//! here, in its name.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use velero_model::api::storage_work::work_name;

use super::Stage;
use crate::cluster::{Cluster, base64};
use crate::cluster_api::{self, Workload};
use crate::plugin::Plugin;
use crate::webhook::{Registration, Webhook, gate, guard};

const OURS: &str = "kubectl-backup";
const SUITE: &str = "system:serviceaccount:kubectl-backup:backup-webhook";
const JOB: &str = "system:serviceaccount:kubectl-backup:backup-storage";
/// Where the cluster's object lives.
const TEAM: &str = "team-a";
const DELETE: [&str; 6] = [
    "delete",
    "clusters.cluster.x-k8s.io",
    "prod",
    "-n",
    TEAM,
    "--wait=false",
];

impl Stage {
    pub(super) fn guard_a_whole_cluster(&self, second: &Cluster) -> Result<()> {
        let (screen, management) = (&self.screen, &self.cluster);
        screen.step(
            "A management cluster guards the backups of a whole cluster, prod, with the admission suite",
        );
        let _suite = self.suite()?;
        self.prod(second)?;
        let folder = self.store.location_url_with_prefix(&format!("{TEAM}/prod"));
        std::fs::create_dir_all(self.store.path().join(TEAM).join("prod"))?;
        self.backup(&[
            "create",
            "nightly",
            "--kubeconfig",
            "second.kubeconfig",
            "--location",
            &folder,
        ])?;
        self.backup(&["cluster", "protect", "prod", "-n", TEAM])?;
        screen.step("Nobody deletes it before somebody has chosen what becomes of its backups");
        screen.refused(management, &DELETE)?;
        self.backup(&[
            "cluster",
            "retain",
            "prod",
            "-n",
            TEAM,
            "--for",
            "90d",
            "--final-backup",
        ])?;
        screen.kubectl(management, &DELETE)?;
        screen.step("The choice is carried out before the cluster goes: a last backup, and all of them kept");
        self.job()?;
        management.wait_until_gone(&Workload::Cluster.path(TEAM, "prod"))?;
        self.backup(&["cluster", "status", "prod", "-n", TEAM])?;
        screen.step("The recovery ticket leads back, into any cluster");
        self.backup(&[
            "cluster",
            "recover",
            &folder,
            "--plan",
            "--kubeconfig",
            "second.kubeconfig",
        ])
    }

    /// Definitions, and the server with its gate and its guard.
    fn suite(&self) -> Result<Webhook> {
        let cluster = &self.cluster;
        cluster_api::install_clusters(cluster)?;
        for name in [OURS, TEAM] {
            cluster
                .create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))?;
        }
        cluster.create(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": "backup-storage", "namespace": OURS },
        }))?;
        let everything = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
        let account = cluster.person(SUITE)?.may(cluster, &everything)?;
        Webhook::builder(cluster)
            .kubeconfig(account.kubeconfig())
            .namespace(OURS)
            .flag("--storage-image=localhost/kubectl-backup")
            .registration(
                Registration::none()
                    .validating("/gate", gate())
                    .mutating("/guard", guard()),
            )
            .start()
    }

    /// The object of the cluster that will go, and its kubeconfig as Cluster API keeps it.
    fn prod(&self, second: &Cluster) -> Result<()> {
        let kubeconfig = std::fs::read_to_string(second.kubeconfig())?;
        self.cluster.create(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "prod-kubeconfig", "namespace": TEAM },
            "data": { "value": base64(kubeconfig.as_bytes()) },
        }))?;
        Workload::Cluster.create(&self.cluster, TEAM, "prod").map(drop)
    }

    /// What the pod of the Job does.
    fn job(&self) -> Result<()> {
        let cluster = &self.cluster;
        let object = cluster
            .get(&Workload::Cluster.path(TEAM, "prod"))?
            .context("the cluster went before its backups were taken care of")?;
        let name = work_name(object["metadata"]["uid"].as_str().context("no uid")?);
        let job = format!("/apis/batch/v1/namespaces/{OURS}/jobs/{name}");
        cluster.wait_until("the Job", |cluster| Ok(cluster.get(&job)?.is_some()))?;
        let rights = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "patch"] }]);
        let account = cluster.person(JOB)?.may(cluster, &rights)?;
        let pod = Plugin::bare()?.with_kubeconfig(account.kubeconfig())?;
        let ran = pod.run(["cluster", "carry-out", &name])?;
        ensure!(ran.code == 0, "{ran}");
        for line in ran.stderr.lines() {
            self.screen.line(&format!("job/{name}: {line}"));
        }
        Ok(())
    }
}
