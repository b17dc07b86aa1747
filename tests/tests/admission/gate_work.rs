//! What was chosen is carried out: orders, Jobs, proof, and the cluster goes. The Job's part is played here, by what it
//! would report; no kubelet runs, so nobody else does.

use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::cluster_api::{self, Workload};
use serde_json::{Value, json};
use velero_model::api::storage_work::{SERVICE_ACCOUNT, WORK_LABEL, work_name};
use velero_model::api::{
    ACCEPTED, BREAK_GLASS, DECIDED_BY, DECIDED_FOR, DELETE_FOR_MOVE, DISPOSITION, FINALIZER, PROTECTED,
};

use super::gate_site::{OURS, Prod, Site, decider, operator, protect, start, until_ok, with};

const IMAGE: &str = "registry.invalid/suite:1";

/// A management cluster whose server has an image for the work.
pub(crate) fn site() -> Result<&'static Site> {
    static SITE: OnceLock<Result<Site, String>> = OnceLock::new();
    let made = SITE.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

fn make() -> Result<Site> {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let started = Cluster::start()?;
    let cluster = CLUSTER.get_or_init(|| started);
    cluster_api::install(cluster)?;
    let webhook = carrier(cluster)?;
    Ok(Site { webhook, cluster })
}

fn carrier(cluster: &Cluster) -> Result<backup_tests::webhook::Webhook> {
    let webhook = start(cluster, &[&format!("--storage-image={IMAGE}")])?;
    let account = format!("/api/v1/namespaces/{OURS}/serviceaccounts/{SERVICE_ACCOUNT}");
    if cluster.get(&account)?.is_none() {
        cluster.create(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": SERVICE_ACCOUNT, "namespace": OURS },
        }))?;
    }
    Ok(webhook)
}

/// The work for one cluster.
pub(crate) struct Work<'a> {
    cluster: &'a Cluster,
    pub(crate) name: String,
    uid: String,
}

impl<'a> Work<'a> {
    pub(crate) fn of(cluster: &'a Cluster, uid: &str) -> Self {
        Self {
            cluster,
            name: work_name(uid),
            uid: uid.to_owned(),
        }
    }

    pub(crate) fn map(&self) -> String {
        format!("/api/v1/namespaces/{OURS}/configmaps/{}", self.name)
    }

    pub(crate) fn job(&self) -> String {
        format!("/apis/batch/v1/namespaces/{OURS}/jobs/{}", self.name)
    }

    fn order(&self) -> Result<Option<Value>> {
        let Some(map) = self.cluster.get(&self.map())? else {
            return Ok(None);
        };
        ensure!(
            map["metadata"]["labels"][WORK_LABEL] == self.uid.as_str(),
            "{map}"
        );
        ensure!(
            map["metadata"]["ownerReferences"].is_null(),
            "nobody owns a receipt"
        );
        map["data"]["order"]
            .as_str()
            .map(serde_json::from_str)
            .transpose()
            .map_err(Into::into)
    }

    /// Waits for a Job, another one than `before`; gives it.
    pub(crate) fn wait_for_job(&self, before: Option<&str>) -> Result<Value> {
        let is_new = |job: &Value| job["metadata"]["uid"].as_str() != before;
        self.cluster
            .wait_until(&format!("a new job {}", self.name), |cluster| {
                Ok(cluster.get(&self.job())?.as_ref().is_some_and(is_new))
            })?;
        self.cluster.get(&self.job())?.context("the job is gone again")
    }

    /// Its pod, which the controller of Jobs makes.
    fn pod(&self) -> Result<String> {
        let path = format!("/api/v1/namespaces/{OURS}/pods");
        let is_ours = |pod: &&Value| pod["metadata"]["labels"][WORK_LABEL] == self.uid.as_str();
        let mut name = None;
        self.cluster.wait_until("the pod of the job", |cluster| {
            let pods = cluster.list(&path)?;
            let ours = pods.iter().find(is_ours);
            name = ours.and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned));
            Ok(name.is_some())
        })?;
        Ok(format!(
            "/api/v1/namespaces/{OURS}/pods/{}",
            name.context("no pod")?
        ))
    }

    /// What the Job would write.
    fn report(&self, revision: u64, phase: &str, reason: &str, receipt: &Value) -> Result<()> {
        let report = json!({
            "format": 1, "revision": revision, "phase": phase, "reason": reason, "message": "As it is.",
            "startedAt": "2026-11-25T01:00:00Z", "finishedAt": "2026-11-25T01:01:00Z", "receipt": receipt,
        });
        self.cluster
            .patch(&self.map(), json!({ "data": { "report": report.to_string() } }))
            .map(drop)
    }

    pub(crate) fn wait_for_event(&self, namespace: &str, reason: &str) -> Result<String> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let mut note = None;
        self.cluster.wait_until(&format!("event {reason}"), |cluster| {
            let events = cluster.list(&path)?;
            let mut ours = events
                .iter()
                .filter(|event| event["reason"] == reason && event["regarding"]["uid"] == self.uid.as_str());
            note = ours
                .next()
                .and_then(|event| event["note"].as_str().map(str::to_owned));
            ensure!(ours.next().is_none(), "{reason} is said twice");
            Ok(note.is_some())
        })?;
        note.context("no note")
    }
}

fn deleted() -> Value {
    json!({ "backups": 2, "keys": 14, "bytes": 2048, "versions": 3, "deleteMarkers": 1, "emptyProven": true })
}

fn retained() -> Value {
    json!({ "backups": 2, "keys": 14, "bytes": 2048, "ticket": "recovery/t.json" })
}

fn condition(cluster: &Cluster, prod: &Prod, kind: &str) -> Result<Value> {
    let object = cluster.get(&prod.choice())?.context("the choice is gone")?;
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    Ok(conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default())
}

fn wait_for_reason(cluster: &Cluster, prod: &Prod, kind: &str, reason: &str) -> Result<String> {
    cluster.wait_until(&format!("{kind} to say {reason}"), |cluster| {
        Ok(condition(cluster, prod, kind)?["reason"] == reason)
    })?;
    Ok(condition(cluster, prod, kind)?["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Chosen by somebody, deleted by somebody else, and held.
fn held(site: &Site, prod: &Prod, word: &str) -> Result<()> {
    prod.choose(&decider(site.cluster)?, word)?.ok()?;
    prod.wait_for_mirror(site.cluster, Some(word))?;
    let operator = operator(site.cluster)?;
    until_ok(|| operator.delete(&prod.path))?;
    Ok(())
}

fn is_held(cluster: &Cluster, prod: &Prod) -> Result<bool> {
    let object = cluster.get(&prod.path)?.context("it has gone")?;
    let finalizers = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    Ok(finalizers.contains(&json!(FINALIZER)))
}

#[test]
fn what_is_chosen_is_ordered_proven_and_then_the_cluster_goes() -> Result<()> {
    let site = site()?;
    for (word, phase, kind, receipt) in [
        ("Delete", "Deleted", "StorageDeleted", deleted()),
        ("Retain", "Retained", "StorageRetained", retained()),
    ] {
        let prod = Prod::protected(site, Workload::Cluster)?;
        held(site, &prod, word)?;
        let work = Work::of(site.cluster, &prod.uid);
        let job = work.wait_for_job(None)?;
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], SERVICE_ACCOUNT);
        assert_eq!(pod["containers"][0]["image"], IMAGE);
        assert_eq!(
            pod["containers"][0]["args"],
            json!(["cluster", "carry-out", work.name])
        );
        let order = work.order()?.context("no order")?;
        assert_eq!((&order["choice"], &order["revision"]), (&json!(word), &json!(1)));
        assert_eq!(order["prefix"], format!("{}/prod", prod.namespace));
        assert_eq!(order["location"], "main");
        wait_for_reason(site.cluster, &prod, kind, "Working")?;
        // What proves nothing lets nothing go.
        work.report(1, phase, kind, &json!({ "keys": 14 }))?;
        wait_for_reason(site.cluster, &prod, kind, kind)?;
        work.report(0, phase, kind, &receipt)?;
        wait_for_reason(site.cluster, &prod, kind, "Working")?;
        ensure!(is_held(site.cluster, &prod)?);
        work.report(1, phase, kind, &receipt)?;
        site.cluster.wait_until_gone(&prod.path)?;
        let done = condition(site.cluster, &prod, kind)?;
        assert_eq!((&done["status"], &done["reason"]), (&json!("True"), &json!(kind)));
        let object = site.cluster.get(&prod.choice())?.context("the choice is gone")?;
        assert_eq!(object["status"]["receipt"]["backups"], 2, "{object}");
        assert!(object["status"]["receipt"]["completed"].is_string(), "{object}");
        let note = work.wait_for_event(prod.namespace.name(), kind)?;
        assert!(note.contains(&work.name) && note.contains("14 keys"), "{note}");
        assert!(
            site.cluster.get(&work.map())?.is_some(),
            "the receipt outlives the cluster"
        );
    }
    Ok(())
}

#[test]
fn a_choice_softened_while_the_job_runs_is_a_new_order_and_a_new_job() -> Result<()> {
    let site = site()?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    held(site, &prod, "Delete")?;
    let work = Work::of(site.cluster, &prod.uid);
    let first = work.wait_for_job(None)?;
    let decider = decider(site.cluster)?;
    decider
        .patch(
            &prod.choice(),
            &json!({ "spec": { "backupStorage": "Retain", "retainFor": "720h" } }),
        )?
        .ok()?;
    let second = work.wait_for_job(first["metadata"]["uid"].as_str())?;
    let order = work.order()?.context("no order")?;
    assert_eq!(
        (&order["choice"], &order["revision"]),
        (&json!("Retain"), &json!(2))
    );
    assert_eq!(order["retainFor"], "720h");
    // What the first Job might still say.
    work.report(1, "Deleted", "StorageDeleted", &deleted())?;
    wait_for_reason(site.cluster, &prod, "StorageRetained", "Working")?;
    ensure!(is_held(site.cluster, &prod)?);
    decider
        .patch(
            &prod.choice(),
            &json!({ "spec": { "backupStorage": "Delete", "retainFor": null } }),
        )?
        .forbidden(&["too late"])?;
    work.report(2, "Retained", "StorageRetained", &retained())?;
    site.cluster.wait_until_gone(&prod.path)?;
    let last = site.cluster.get(&work.job())?.context("no job")?;
    assert_eq!(
        last["metadata"]["uid"], second["metadata"]["uid"],
        "nothing is done twice"
    );
    Ok(())
}

#[test]
fn a_move_and_a_broken_glass_let_go_without_any_work() -> Result<()> {
    let site = site()?;
    let moved = Prod::protected(site, Workload::Cluster)?;
    let mover = with(operator(site.cluster)?, site.cluster, "move")?;
    // As clusterctl does it.
    let mark = json!([{ "op": "add", "path": "/metadata/annotations", "value": { DELETE_FOR_MOVE: "" } }]);
    mover.json_patch(&moved.path, &mark)?.ok()?;
    mover.delete(&moved.path)?.ok()?;
    site.cluster.wait_until_gone(&moved.path)?;
    let work = Work::of(site.cluster, &moved.uid);
    assert_eq!(site.cluster.get(&work.map())?, None);
    assert_eq!(site.cluster.get(&work.job())?, None);

    let broken = Prod::protected(site, Workload::Cluster)?;
    let root = with(operator(site.cluster)?, site.cluster, "breakglass")?;
    root.annotate(&broken.path, BREAK_GLASS, "the store burned")?
        .ok()?;
    until_ok(|| root.delete(&broken.path))?;
    site.cluster.wait_until_gone(&broken.path)?;
    let work = Work::of(site.cluster, &broken.uid);
    let note = work.wait_for_event(broken.namespace.name(), "ReleasedWithoutWork")?;
    assert!(
        note.contains("the store burned") && note.contains(root.name()),
        "{note}"
    );
    let map = site.cluster.get(&work.map())?.context("no record")?;
    assert_eq!(map["data"]["released"], note.as_str());
    assert_eq!(map["data"]["order"], Value::Null);
    assert_eq!(site.cluster.get(&work.job())?, None);
    Ok(())
}

#[test]
fn an_image_that_cannot_be_pulled_and_a_job_that_fails_say_what_to_do() -> Result<()> {
    let site = site()?;
    let prod = Prod::protected(site, Workload::Cluster)?;
    held(site, &prod, "Delete")?;
    let work = Work::of(site.cluster, &prod.uid);
    let first = work.wait_for_job(None)?;
    let pod = work.pod()?;
    let container = |state: Value| json!([{ "name": "backup", "image": IMAGE, "imageID": "", "ready": false, "restartCount": 0, "state": state }]);
    let waiting =
        container(json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such host" } }));
    site.cluster.patch(
        &format!("{pod}/status"),
        json!({ "status": { "containerStatuses": waiting } }),
    )?;
    let message = wait_for_reason(site.cluster, &prod, "StorageDeleted", "ImageCannotBePulled")?;
    assert!(
        message.contains(IMAGE) && message.contains("no such host"),
        "{message}"
    );
    let ended = container(json!({ "terminated": { "exitCode": 2, "reason": "Error" } }));
    site.cluster.patch(
        &format!("{pod}/status"),
        json!({ "status": { "phase": "Failed", "containerStatuses": ended } }),
    )?;
    let message = wait_for_reason(site.cluster, &prod, "StorageDeleted", "JobFailed")?;
    assert!(
        message.contains("kubectl logs") && message.contains("kubectl delete job"),
        "{message}"
    );
    work.wait_for_event(prod.namespace.name(), "JobFailed")?;
    work.report(1, "Blocked", "AccessDenied", &json!({}))?;
    let message = wait_for_reason(site.cluster, &prod, "StorageDeleted", "AccessDenied")?;
    assert!(
        message.starts_with("As it is. It is tried again at "),
        "{message}"
    );
    // As the message says.
    site.cluster.delete(&work.job())?;
    work.wait_for_job(first["metadata"]["uid"].as_str())?;
    work.report(1, "Deleted", "StorageDeleted", &deleted())?;
    site.cluster.wait_until_gone(&prod.path)
}

#[test]
fn orders_of_a_cluster_that_is_no_more_do_not_act() -> Result<()> {
    let site = site()?;
    let namespace = site.cluster.namespace()?;
    // What a restored management cluster has: ConfigMap, Job and annotations of the cluster that was.
    let old = "11111111-2222-3333-4444-555555555555";
    let work = Work::of(site.cluster, old);
    let labels = json!({ WORK_LABEL: old });
    let order = json!({
        "format": 1, "revision": 1, "location": "main", "prefix": format!("{namespace}/prod"), "choice": "Delete",
        "cluster": { "group": "cluster.x-k8s.io", "kind": "Cluster", "namespace": namespace.name(), "name": "prod", "uid": old },
    });
    site.cluster.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": work.name, "namespace": OURS, "labels": labels },
        "data": { "order": order.to_string() },
    }))?;
    site.cluster.create(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": work.name, "namespace": OURS, "labels": labels },
        "spec": { "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "backup", "image": IMAGE }],
        } } },
    }))?;
    let uid = protect(site.cluster, Workload::Cluster, namespace.name(), "prod")?;
    let path = Workload::Cluster.path(namespace.name(), "prod");
    site.cluster.patch(
        &path,
        json!({ "metadata": { "annotations": {
            ACCEPTED: format!("Delete/{old}"), DECIDED_BY: "ann", DECIDED_FOR: format!("{old} 2026-11-25T01:00:00Z"),
        } } }),
    )?;
    site.cluster.wait_until_gone(&work.job())?;
    operator(site.cluster)?
        .delete(&path)?
        .forbidden(&["nobody has chosen"])?;
    let object = site.cluster.get(&path)?.context("it has gone")?;
    assert_eq!(object["metadata"]["uid"], uid.as_str());
    assert!(object["metadata"]["annotations"].get(PROTECTED).is_some());
    assert!(
        site.cluster.get(&work.map())?.is_some(),
        "what was there stays as it was"
    );
    assert_eq!(site.cluster.get(&Work::of(site.cluster, &uid).map())?, None);
    Ok(())
}

#[test]
fn a_leader_that_is_killed_in_the_middle_is_followed_by_one_that_goes_on() -> Result<()> {
    let cluster = Cluster::start()?;
    cluster_api::install(&cluster)?;
    let mut webhook = carrier(&cluster)?;
    let namespace = cluster.namespace()?;
    let (operator, decider) = (operator(&cluster)?, decider(&cluster)?);
    let uid = protect(&cluster, Workload::Cluster, namespace.name(), "prod")?;
    let path = Workload::Cluster.path(namespace.name(), "prod");
    // The short form: there is no object to say anything, so the ConfigMap and the events do.
    decider.annotate(&path, DISPOSITION, "Delete")?.ok()?;
    until_ok(|| operator.delete(&path))?;
    let work = Work::of(&cluster, &uid);
    let job = work.wait_for_job(None)?;
    webhook.kill();
    work.report(1, "Deleted", "StorageDeleted", &deleted())?;
    drop(webhook);
    assert!(cluster.get(&path)?.is_some(), "nobody lets it go meanwhile");
    let _webhook = carrier(&cluster)?;
    cluster.wait_until_gone(&path)?;
    let after = cluster.get(&work.job())?.context("the job is gone")?;
    assert_eq!(
        after["metadata"]["uid"], job["metadata"]["uid"],
        "nothing is done twice"
    );
    work.wait_for_event(namespace.name(), "StorageDeleted")?;
    Ok(())
}
