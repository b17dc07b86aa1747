//! The demo: four applications are backed up, deleted, brought back and compared, on servers that go away afterwards.
//!
//! In come two flags, out comes a number of differences and, on stdout, every command as a user would type it. What is
//! said at the end was found by a judge that shares no code with the product ([`crate::snapshot`], [`crate::compare`]).

mod judge;
pub mod options;
mod screen;
mod volumes;
mod whole_cluster;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use self::judge::Judge;
use self::options::Options;
use self::screen::Screen;
use crate::applications;
use crate::cluster::Cluster;
use crate::plugin::{self, Plugin};
use crate::runtime;
use crate::servers::{self, Program};
use crate::snapshot::{self, ObjectKey, Snapshot};
use crate::store::Store;

/// Name of the backup.
const BACKUP: &str = "demo";

/// What is deleted beside the namespaces, as kubectl names it.
const CLUSTER_SCOPED: [&str; 13] = [
    "priorityclass/database",
    "storageclass/local-retained",
    "clusterrole/platform-operators",
    "clusterrole/platform-read-nodes",
    "clusterrolebinding/platform-operators",
    "validatingwebhookconfiguration/platform-checks",
    "mutatingwebhookconfiguration/platform-defaults",
    "validatingadmissionpolicybinding/platform-replicas",
    "validatingadmissionpolicy/platform-replicas",
    "ingressclass/nginx",
    "runtimeclass/sandboxed",
    "prioritylevelconfiguration/platform-batch",
    "waterworks/north",
];

/// Everything that the steps share.
struct Stage {
    screen: Screen,
    cluster: Cluster,
    store: Store,
    plugin: Plugin,
    /// What stood in the cluster when it was new.
    clean: BTreeSet<ObjectKey>,
    /// What applications and ballast added.
    before: Snapshot,
    judge: Judge,
}

/// Runs the demo and gives the number of differences.
pub fn run(options: &Options) -> Result<usize> {
    let screen = Screen::new();
    screen.line("building what is not built yet");
    plugin::binary()?;
    let mut stage = Stage::set(screen, options)?;
    stage.back_up()?;
    stage.look()?;
    stage.lose_everything()?;
    stage.bring_everything_back()?;
    stage.bring_one_secret_back()?;
    stage.bring_back_under_another_name()?;
    let second = stage.move_to_another_cluster()?;
    stage.guard_a_whole_cluster(&second)?;
    stage.data_of_volumes()?;
    let differences = stage.conclude();
    if options.keep {
        stage.wait_for_ctrl_c(&second)?;
    }
    Ok(differences)
}

impl Stage {
    fn set(screen: Screen, options: &Options) -> Result<Self> {
        screen.step("A throwaway cluster: etcd, kube-apiserver and kube-controller-manager on loopback");
        let cluster = Cluster::builder().name("demo").start()?;
        screen.kubectl(&cluster, &["version"])?;
        let clean: BTreeSet<ObjectKey> = snapshot::of_cluster(&cluster)?.into_keys().collect();

        screen.step("Four applications: a web shop, a database, an operator with custom resources, roles and policies");
        applications::install_all(&cluster)?;
        screen.kubectl(
            &cluster,
            &["get", "deployments,statefulsets,jobs,cronjobs,fountains", "-A"],
        )?;
        let took = applications::ballast(&cluster, options.objects, 10)?;
        screen.line(&format!(
            "and {} objects of ballast, made in {:.1} s",
            options.objects,
            took.as_secs_f64()
        ));

        let before = judge::added_since(&cluster, &clean)?;
        let store = Store::folder()?;
        // No location in the environment: the demo gives the folder a name, as a user would.
        let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
        Ok(Self {
            screen,
            cluster,
            store,
            plugin,
            clean,
            before,
            judge: Judge::default(),
        })
    }

    fn backup(&self, arguments: &[&str]) -> Result<()> {
        self.screen.backup(&self.plugin, arguments)
    }

    fn back_up(&self) -> Result<()> {
        self.screen
            .step("A place for backups gets a name, and everything is backed up to it");
        self.backup(&["location", "add", "main", &self.store.location_url()])?;
        self.backup(&["create", BACKUP])
    }

    fn look(&self) -> Result<()> {
        self.screen.step("What is in it");
        self.backup(&["list"])?;
        self.backup(&["describe", BACKUP])?;
        self.backup(&["contents", BACKUP, "-n", "web-shop"])?;
        self.backup(&["cat", BACKUP, "secret/payment-provider", "-n", "web-shop"])?;
        self.screen.step("Every byte of it is checked");
        self.backup(&["verify", BACKUP])
    }

    fn lose_everything(&self) -> Result<()> {
        let (screen, cluster) = (&self.screen, &self.cluster);
        screen.step(
            "A disaster: all four applications are deleted, with all that they have outside their namespaces",
        );
        // No operator runs here that would take its finalizer off.
        let unfinalized = r#"{"metadata":{"finalizers":null}}"#;
        let patch = [
            "patch",
            "fountain",
            "market-square",
            "-n",
            "operator",
            "--type=merge",
            "-p",
            unfinalized,
        ];
        screen.kubectl(cluster, &patch)?;
        screen.kubectl(cluster, &[&["delete"], CLUSTER_SCOPED.as_slice()].concat())?;
        screen.kubectl(
            cluster,
            &[&["delete", "namespace"], applications::NAMESPACES.as_slice()].concat(),
        )?;
        screen.kubectl(
            cluster,
            &["delete", "pv", "database-0", "database-1", "database-archive"],
        )?;
        let definitions = ["fountains.water.example.com", "waterworks.water.example.com"];
        screen.kubectl(cluster, &[&["delete", "crd"], definitions.as_slice()].concat())?;
        let left = judge::added_since(cluster, &self.clean)?;
        let lost = self.before.keys().filter(|key| !left.contains_key(*key)).count();
        let survivors = |key: &&ObjectKey| {
            key.namespace
                .as_deref()
                .is_some_and(|namespace| applications::NAMESPACES.contains(&namespace))
        };
        let survivors: Vec<String> = left.keys().filter(survivors).map(ToString::to_string).collect();
        screen.line(&format!("-> {lost} objects are gone"));
        ensure!(
            lost > 0,
            "nothing was deleted, so nothing could be proven by bringing it back"
        );
        ensure!(survivors.is_empty(), "not deleted: {}", survivors.join(", "));
        Ok(())
    }

    fn bring_everything_back(&mut self) -> Result<()> {
        self.screen
            .step("Everything is brought back; what still stands is left alone");
        self.backup(&["restore", BACKUP])?;
        Judge::print_table(&self.screen);
        let (cluster, clean) = (&self.cluster, &self.clean);
        self.judge
            .restored(&self.screen, "in the cluster", &self.before, || {
                judge::added_since(cluster, clean)
            })
    }

    fn bring_one_secret_back(&mut self) -> Result<()> {
        self.screen
            .step("One Secret is lost, and only this one is brought back");
        let key = ObjectKey::namespaced("secrets", "web-shop", "payment-provider");
        let before: Snapshot = self
            .before
            .get_key_value(&key)
            .map(|(key, object)| (key.clone(), object.clone()))
            .into_iter()
            .collect();
        ensure!(before.len() == 1, "{key} was never there");
        self.screen.kubectl(
            &self.cluster,
            &["delete", "secret", "payment-provider", "-n", "web-shop"],
        )?;
        self.backup(&["restore", BACKUP, "secret/payment-provider", "-n", "web-shop"])?;
        let cluster = &self.cluster;
        self.judge.restored(&self.screen, "restored alone", &before, || {
            let mut now = judge::namespace(cluster, "web-shop")?;
            now.retain(|known, _| *known == key);
            Ok(now)
        })
    }

    fn bring_back_under_another_name(&mut self) -> Result<()> {
        self.screen.step("A copy of a namespace beside the original");
        let mapping = ["--namespace-mappings", "operator:operator-test"];
        self.backup(&[&["restore", BACKUP, "-n", "operator"], mapping.as_slice()].concat())?;
        let before = judge::renamed(
            &snapshot::in_namespace(&self.before, "operator"),
            "operator",
            "operator-test",
        );
        let cluster = &self.cluster;
        self.judge.restored(&self.screen, "in the copy", &before, || {
            judge::namespace(cluster, "operator-test")
        })
    }

    fn move_to_another_cluster(&mut self) -> Result<Cluster> {
        self.screen.step("A namespace moves to a second cluster");
        let second = Cluster::builder().name("second").start()?;
        // Beside the user's own files, so that the command stays short.
        let kubeconfig = self.plugin.home().join("second.kubeconfig");
        std::fs::copy(second.kubeconfig(), &kubeconfig)
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        self.backup(&[
            "restore",
            BACKUP,
            "-n",
            "web-shop",
            "--kubeconfig",
            "second.kubeconfig",
        ])?;
        self.screen.kubectl(
            &second,
            &["get", "deployments,services,secrets", "-n", "web-shop"],
        )?;
        let before = snapshot::in_namespace(&self.before, "web-shop");
        self.judge
            .moved(&self.screen, "in the second cluster", &before, || {
                judge::namespace(&second, "web-shop")
            })?;
        Ok(second)
    }

    fn conclude(&self) -> usize {
        let screen = &self.screen;
        let unused = self.judge.unused();
        if !unused.is_empty() {
            screen.line("");
            screen.line("These entries of the table were not needed this time:");
            for entry in unused {
                screen.line(&format!("  {entry}"));
            }
        }
        let (line, differences) = self.judge.verdict();
        screen.line("");
        screen.line(&line);
        differences
    }

    fn wait_for_ctrl_c(&self, second: &Cluster) -> Result<()> {
        let screen = &self.screen;
        let folder = |file: std::path::PathBuf| {
            file.parent()
                .map(|folder| folder.display().to_string())
                .unwrap_or_default()
        };
        let (kubectl, plugin) = (
            folder(servers::binary(Program::Kubectl)?),
            folder(plugin::binary()?),
        );
        screen.line("");
        screen.line("The servers stay up until Ctrl-C:");
        screen.line(&format!("export PATH={kubectl}:{plugin}:$PATH"));
        screen.line(&format!(
            "export KUBECONFIG={}",
            self.cluster.kubeconfig().display()
        ));
        screen.line(&format!(
            "export KUBECTL_BACKUP_LOCATION={}",
            self.store.location_url()
        ));
        screen.line(&format!("second cluster: {}", second.kubeconfig().display()));
        runtime::run(async { Ok(tokio::signal::ctrl_c().await?) })
    }
}
