//! clusterctl itself moves a protected cluster from one management cluster to another: for whoever may, without any work on
//! storage, and with a new choice to be made for what arrives.
//!
//! Both sides have all of the suite: guard, gate, floor, and a leader with an image for Jobs, so that work on storage would
//! be seen if there were any.

use std::process::Output;

use anyhow::{Context, Result, anyhow, ensure};
use backup_tests::cluster::{Cluster, Namespace, Person};
use backup_tests::cluster_api::clusterctl::{create_movable, manage, move_namespace};
use backup_tests::cluster_api::{self, Workload, uid};
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use backup_tests::webhook::Webhook;
use serde_json::{Value, json};
use velero_model::api::storage_work::WORK_LABEL;
use velero_model::api::{ACCEPTED, DISPOSITION, FINALIZER, PROTECTED, SOURCE};

use crate::gate_floor;
use crate::gate_site::{self, ACCOUNT, OURS};

/// A management cluster with the suite.
struct Side {
    // Its registration goes before the API server does.
    _webhook: Webhook,
    cluster: Cluster,
    plugin: Plugin,
}

impl Side {
    fn start(store: &Store) -> Result<Self> {
        let cluster = Cluster::start()?;
        cluster_api::install(&cluster)?;
        manage(&cluster)?;
        gate_floor::install(&cluster)?;
        cluster.apply(include_str!("../../../manifests/rbac/personas.yaml"))?;
        let webhook = gate_site::start(&cluster, &["--storage-image=registry.invalid/suite:1"])?;
        Ok(Self {
            _webhook: webhook,
            plugin: Plugin::new(&cluster, store)?,
            cluster,
        })
    }

    /// What clusterctl needs on either side, whatever it moves.
    fn person(&self, name: &str) -> Result<Person> {
        self.cluster.person(name)?.may(
            &self.cluster,
            &json!([
                { "apiGroups": ["cluster.x-k8s.io"], "resources": ["clusters"], "verbs": ["*"] },
                { "apiGroups": ["clusterctl.cluster.x-k8s.io"], "resources": ["providers"], "verbs": ["get", "list"] },
                { "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"],
                  "verbs": ["get", "list"] },
                { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "create"] },
                { "apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["*"] },
            ]),
        )
    }

    /// Somebody who may do the same with choices as with any object, but neither decide nor move.
    fn writer(&self) -> Result<Person> {
        let rules = json!([{
            "apiGroups": ["kubectl-backup.io"], "resources": ["storagedispositions"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
        }]);
        self.person("writer")?.may(&self.cluster, &rules)
    }

    /// Somebody with the shipped role for it.
    fn mover(&self) -> Result<Person> {
        let mover = self.person("mover")?;
        self.cluster.create(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "mover" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "kubectl-backup-mover" },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mover" }],
        }))?;
        self.cluster.wait_until("the mover to have its right", |_| {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": { "resourceAttributes": {
                    "verb": "move", "group": "kubectl-backup.io", "resource": "storagedispositions",
                } },
            });
            let answer = mover.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)?;
            Ok(answer.body["status"]["allowed"] == true)
        })?;
        Ok(mover)
    }

    /// `prod` in this namespace, as a user protects it, with what is chosen for it. Gives its UID.
    fn protect(&self, namespace: &str, choice: Option<&str>) -> Result<String> {
        let path = create_movable(&self.cluster, namespace, "prod")?;
        // Protection reads it from the workload cluster, which is not there.
        self.cluster.patch(
            &path,
            json!({ "metadata": { "annotations": { SOURCE: "6e0c-kube-system" } } }),
        )?;
        self.plugin
            .run(["cluster", "protect", "prod", "-n", namespace])?
            .ok();
        if let Some(verb) = choice {
            self.plugin
                .run(["cluster", verb, "prod", "-n", namespace, "--yes"])?
                .ok();
            self.wait_until_accepted(namespace)?;
        }
        uid(&self.prod(namespace)?)
    }

    fn wait_until_accepted(&self, namespace: &str) -> Result<()> {
        self.cluster.wait_until("the choice to be accepted", |_| {
            Ok(self.prod(namespace)?["metadata"]["annotations"][ACCEPTED].is_string())
        })
    }

    fn prod(&self, namespace: &str) -> Result<Value> {
        let path = Workload::Cluster.path(namespace, "prod");
        self.cluster.get(&path)?.context("the cluster is gone")
    }

    fn choices(&self, namespace: &str) -> Result<Vec<Value>> {
        self.cluster.list(&format!(
            "/apis/kubectl-backup.io/v1alpha1/namespaces/{namespace}/storagedispositions"
        ))
    }

    /// The leader has seen all that has happened so far, since it carries out a choice that is made now, and it has ordered
    /// nothing.
    fn has_done_no_work(&self) -> Result<()> {
        let later = self.cluster.namespace()?;
        self.protect(later.name(), Some("retain"))?;
        for collection in [
            format!("/api/v1/namespaces/{OURS}/configmaps"),
            format!("/apis/batch/v1/namespaces/{OURS}/jobs"),
        ] {
            let of_work = self.cluster.list(&collection)?.into_iter().find(|object| {
                object["metadata"]["labels"].get(WORK_LABEL).is_some()
                    || object["metadata"]["name"]
                        .as_str()
                        .is_some_and(|name| name.starts_with("storage-"))
            });
            ensure!(of_work.is_none(), "{of_work:?}");
        }
        self.release(later.name())
    }

    fn release(&self, namespace: &str) -> Result<()> {
        self.cluster
            .person(ACCOUNT)?
            .patch(
                &Workload::Cluster.path(namespace, "prod"),
                &json!({ "metadata": { "finalizers": [] } }),
            )
            .map(drop)
    }
}

struct Sides {
    source: Side,
    target: Side,
}

impl Sides {
    fn start(store: &Store) -> Result<Self> {
        Ok(Self {
            source: Side::start(store)?,
            target: Side::start(store)?,
        })
    }
}

/// By somebody, with what they may do on either side.
fn move_as(people: &(Person, Person), namespace: &Namespace) -> Result<Output> {
    move_namespace(people.0.kubeconfig(), people.1.kubeconfig(), namespace.name())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Nothing of what protects it has changed.
fn stands(before: &Value, after: &Value) -> Result<()> {
    for field in ["/metadata/uid", "/metadata/annotations", "/metadata/finalizers"] {
        ensure!(before.pointer(field) == after.pointer(field), "{before} {after}");
    }
    ensure!(after["metadata"]["deletionTimestamp"].is_null(), "{after}");
    Ok(())
}

#[test]
fn clusterctl_itself_moves_for_whoever_may_and_nothing_happens_to_the_storage() -> Result<()> {
    let store = Store::folder()?;
    let sides = Sides::start(&store)?;
    let writers = (sides.source.writer()?, sides.target.writer()?);
    let movers = (sides.source.mover()?, sides.target.mover()?);
    let decided = sides.source.cluster.namespace()?;
    let annotated = sides.source.cluster.namespace()?;
    let fresh = sides.source.cluster.namespace()?;
    for namespace in [&decided, &fresh] {
        sides.source.protect(namespace.name(), Some("delete-storage"))?;
    }
    sides.source.protect(annotated.name(), None)?;
    sides.source.cluster.patch(
        &Workload::Cluster.path(annotated.name(), "prod"),
        json!({ "metadata": { "annotations": { DISPOSITION: "Delete" } } }),
    )?;
    sides.source.wait_until_accepted(annotated.name())?;

    // clusterctl tries for most of a minute before it gives up.
    std::thread::scope(|scope| -> Result<()> {
        let refusals = [
            (&decided, "choose what becomes of"),
            (&annotated, "as moved (verb move"),
        ]
        .map(|(namespace, words)| {
            let (sides, writers) = (&sides, &writers);
            scope.spawn(move || refuses(sides, writers, namespace, words))
        });
        for refusal in refusals {
            refusal.join().map_err(|_| anyhow!("a refusal panicked"))??;
        }
        Ok(())
    })?;
    // Two of these go on where somebody else's attempt has stopped half way.
    for namespace in [&fresh, &decided, &annotated] {
        moves(&sides, &movers, namespace)?;
    }
    for side in [&sides.source, &sides.target] {
        side.has_done_no_work()?;
    }
    Ok(())
}

/// By somebody who may not move: the source keeps its cluster as it was.
fn refuses(sides: &Sides, people: &(Person, Person), namespace: &Namespace, words: &str) -> Result<()> {
    let source = &sides.source;
    let (before, choices) = (source.prod(namespace.name())?, source.choices(namespace.name())?);
    let output = move_as(people, namespace)?;
    let said = said(&output);
    ensure!(!output.status.success(), "{said}");
    ensure!(said.contains("writer may not") && said.contains(words), "{said}");
    stands(&before, &source.prod(namespace.name())?)?;
    ensure!(source.choices(namespace.name())? == choices);
    // clusterctl has paused it, and would not begin with a paused cluster.
    source.cluster.patch(
        &Workload::Cluster.path(namespace.name(), "prod"),
        json!({ "spec": { "paused": null } }),
    )?;
    Ok(())
}

fn moves(sides: &Sides, people: &(Person, Person), namespace: &Namespace) -> Result<()> {
    let (source, target, name) = (&sides.source, &sides.target, namespace.name());
    let before = source.prod(name)?;
    let choices = source.choices(name)?.len();
    let output = move_as(people, namespace)?;
    ensure!(output.status.success(), "{}", said(&output));
    source
        .cluster
        .wait_until_gone(&Workload::Cluster.path(name, "prod"))?;
    ensure!(source.choices(name)?.is_empty());

    let arrived = target.prod(name)?;
    ensure!(uid(&arrived)? != uid(&before)?);
    let annotations = &arrived["metadata"]["annotations"];
    ensure!(
        annotations[PROTECTED] == before["metadata"]["annotations"][PROTECTED],
        "{arrived}"
    );
    ensure!(
        [ACCEPTED, DISPOSITION, SOURCE]
            .iter()
            .all(|key| annotations[*key].is_null()),
        "{arrived}"
    );
    ensure!(
        arrived["metadata"]["finalizers"] == json!([FINALIZER]),
        "{arrived}"
    );
    // The choices have come along and name the cluster that was: they decide nothing.
    ensure!(target.choices(name)?.len() == choices);
    let path = Workload::Cluster.path(name, "prod");
    let [retain, delete] =
        ["retain", "delete-storage"].map(|verb| format!("kubectl backup cluster {verb} prod -n {name}"));
    target
        .cluster
        .admin()?
        .delete(&path)?
        .forbidden(&[&retain, &delete])?;
    // A new choice is made as anywhere.
    target
        .plugin
        .run(["cluster", "retain", "prod", "-n", name, "--yes"])?
        .ok();
    let chosen = format!("Retain/{}", uid(&arrived)?);
    target.cluster.wait_until("the new choice to be accepted", |_| {
        Ok(target.prod(name)?["metadata"]["annotations"][ACCEPTED] == chosen.as_str())
    })?;
    target.release(name)
}
