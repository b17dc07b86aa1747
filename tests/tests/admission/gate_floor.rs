//! The floor: ValidatingAdmissionPolicies that hold protected clusters while our server is not there at all.
//!
//! A cluster of its own, with the policies and without any webhook: whatever is refused here is refused by CEL.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::{Cluster, Person};
use backup_tests::cluster_api::{self, Workload, uid};
use serde_json::{Value, json};
use velero_model::api::{
    ACCEPTED, AT_STAKE, BREAK_GLASS, DELETE_FOR_MOVE, FINALIZER, HOLDS_CLUSTERS, PROTECTED, StorageFacts,
};

/// The policies, as they are shipped.
const POLICIES: [&str; 3] = [
    include_str!("../../../manifests/policies/floor-clusters.yaml"),
    include_str!("../../../manifests/policies/floor-marks.yaml"),
    include_str!("../../../manifests/policies/floor-holders.yaml"),
];

/// One of our own accounts.
const OURS: &str = "system:serviceaccount:kubectl-backup:backup-webhook";

/// A control plane with the kinds and the floor, and nothing else of ours.
pub(crate) fn site() -> Result<&'static Cluster> {
    static SITE: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let made = SITE.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn make() -> Result<Cluster> {
    let cluster = Cluster::start()?;
    cluster_api::install(&cluster)?;
    install(&cluster)?;
    Ok(cluster)
}

/// Applies the floor and waits until it is in force: the API server compiles policies a moment after it has stored them.
pub(crate) fn install(cluster: &Cluster) -> Result<()> {
    for policies in POLICIES {
        cluster.apply(policies)?;
    }
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "floor-probe", "labels": { HOLDS_CLUSTERS: "true" } },
    }))?;
    let path = Workload::Cluster.path("floor-probe", "probe");
    protected(cluster, Workload::Cluster, "floor-probe", "probe")?;
    let begun = Instant::now();
    let admin = cluster.admin()?;
    while begun.elapsed() < Duration::from_secs(30) {
        let dry = json!({ "dryRun": ["All"] });
        let refused = [
            admin.delete_with(&path, &dry)?,
            admin.delete_with("/api/v1/namespaces/floor-probe", &dry)?,
            admin.delete_with(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.cluster.x-k8s.io",
                &dry,
            )?,
            admin.ask(
                http::Method::PATCH,
                &format!("{path}?dryRun=All"),
                "application/merge-patch+json",
                &json!({ "metadata": { "annotations": { ACCEPTED: "x" } } }),
            )?,
        ];
        if refused.iter().all(|answer| answer.code == 403) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("the floor is not in force after 30 s")
}

/// A protected cluster; gives its UID.
fn protected(cluster: &Cluster, kind: Workload, namespace: &str, name: &str) -> Result<String> {
    let mut object = kind.object(namespace, name);
    object["metadata"]["annotations"] = json!({ PROTECTED: format!("main:{namespace}/{name}") });
    object["metadata"]["finalizers"] = json!([FINALIZER]);
    uid(&cluster.create(object)?)
}

/// Somebody who may do everything with clusters, namespaces and CRDs, and nothing about their storage.
fn operator(cluster: &Cluster) -> Result<Person> {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    cluster.person(&format!("operator-{unique}"))?.may(
        cluster,
        &json!([
            { "apiGroups": ["cluster.x-k8s.io", "run.tanzu.vmware.com"], "resources": ["*"], "verbs": ["*"] },
            { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"] },
            { "apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["*"] },
        ]),
    )
}

fn may(person: Person, cluster: &Cluster, verb: &str) -> Result<Person> {
    person.may(
        cluster,
        &json!([{ "apiGroups": ["kubectl-backup.io"], "resources": ["storagedispositions"], "verbs": [verb] }]),
    )
}

#[test]
fn a_protected_cluster_goes_only_with_an_accepted_choice_about_itself() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let operator = operator(cluster)?;
    for kind in [
        Workload::Cluster,
        Workload::OlderCluster,
        Workload::TanzuKubernetesCluster,
    ] {
        let name = format!("{kind:?}").to_lowercase();
        let path = kind.path(namespace.name(), &name);
        let uid = protected(cluster, kind, namespace.name(), &name)?;
        let expected = [
            format!("kubectl backup cluster retain {name} -n {namespace}"),
            format!("kubectl backup cluster delete-storage {name} -n {namespace}"),
        ];
        let words: Vec<&str> = expected.iter().map(String::as_str).collect();
        let first = operator.delete(&path)?.forbidden(&words)?;
        ensure!(
            first == operator.delete(&path)?.forbidden(&words)?,
            "two refusals differ"
        );
        let dry = operator.delete_with(&path, &json!({ "dryRun": ["All"] }))?;
        ensure!(first == dry.forbidden(&words)?, "a dry run is refused otherwise");
        for (value, is_let_go) in [
            ("Retain/00000000-0000-0000-0000-000000000000".to_owned(), false),
            (uid.clone(), false),
            (format!("retain/{uid}"), false),
            (format!("Retain/{uid}/x"), false),
            (format!("Delete/{uid}"), true),
        ] {
            as_ours(cluster)?
                .annotate(&path, ACCEPTED, value.as_str())?
                .ok()?;
            let answer = operator.delete_with(&path, &json!({ "dryRun": ["All"] }))?;
            ensure!(
                answer.code == if is_let_go { 200 } else { 403 },
                "{value}: {answer}"
            );
        }
        operator.delete(&path)?.ok()?;
        // The finalizer holds it, and a repeat is no new question.
        operator.delete(&path)?.ok()?;
        let held = cluster.get(&path)?.context("the finalizer does not hold")?;
        ensure!(held["metadata"]["deletionTimestamp"].is_string());
    }
    Ok(())
}

/// One of our own accounts, who may change clusters.
pub(crate) fn as_ours(cluster: &Cluster) -> Result<Person> {
    static TURN: Mutex<bool> = Mutex::new(false);
    let person = cluster.person(OURS)?;
    let mut is_bound = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if *is_bound {
        return Ok(person);
    }
    *is_bound = true;
    person.may(
        cluster,
        &json!([{ "apiGroups": ["cluster.x-k8s.io", "run.tanzu.vmware.com"], "resources": ["*"], "verbs": ["*"] }]),
    )
}

#[test]
fn what_was_never_protected_goes_and_each_mark_alone_protects() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let operator = operator(cluster)?;
    let kind = Workload::Cluster;
    kind.create(cluster, namespace.name(), "plain")?;
    operator.delete(&kind.path(namespace.name(), "plain"))?.ok()?;
    for (name, annotations, finalizers) in [
        ("annotated", json!({ PROTECTED: "main:x/y" }), json!([])),
        ("held", json!({}), json!([FINALIZER])),
    ] {
        let mut object = kind.object(namespace.name(), name);
        object["metadata"]["annotations"] = annotations;
        object["metadata"]["finalizers"] = finalizers;
        cluster.create(object)?;
        operator
            .delete(&kind.path(namespace.name(), name))?
            .forbidden(&["floor policy", name])?;
    }
    Ok(())
}

#[test]
fn a_collection_delete_spares_the_protected_and_takes_the_others() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let operator = operator(cluster)?;
    let kind = Workload::Cluster;
    protected(cluster, kind, namespace.name(), "b-protected")?;
    for name in ["a-plain", "c-plain"] {
        kind.create(cluster, namespace.name(), name)?;
    }
    let answer = operator.delete(&kind.collection(namespace.name()))?;
    // The request has no name here: the words come from the object.
    answer.forbidden(&["b-protected", "kubectl backup cluster retain b-protected"])?;
    ensure!(
        cluster
            .get(&kind.path(namespace.name(), "b-protected"))?
            .is_some()
    );
    Ok(())
}

#[test]
fn nobody_but_our_account_says_what_was_accepted() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let kind = Workload::TanzuKubernetesCluster;
    let uid = protected(cluster, kind, namespace.name(), "prod")?;
    let path = kind.path(namespace.name(), "prod");
    let admin = cluster.admin()?;
    let decider = may(operator(cluster)?, cluster, "decide")?;
    let forged = format!("Retain/{uid}");
    for person in [&admin, &decider] {
        person
            .annotate(&path, ACCEPTED, forged.as_str())?
            .forbidden(&[ACCEPTED, "admission suite alone"])?;
    }
    as_ours(cluster)?
        .annotate(&path, ACCEPTED, forged.as_str())?
        .ok()?;
    // Others may go on changing the cluster, and may take the acceptance away.
    admin.annotate(&path, "note", "x")?.ok()?;
    admin
        .annotate(&path, ACCEPTED, format!("Delete/{uid}"))?
        .forbidden(&[ACCEPTED])?;
    admin.annotate(&path, ACCEPTED, Value::Null)?.ok()?;
    admin.delete(&path)?.forbidden(&["floor policy"])?;
    Ok(())
}

#[test]
fn protection_is_not_taken_off_to_get_past_the_floor() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let kind = Workload::Cluster;
    protected(cluster, kind, namespace.name(), "prod")?;
    let path = kind.path(namespace.name(), "prod");
    let operator = operator(cluster)?;
    let words = ["may not end the protection of cluster", "verb decide"];
    operator
        .annotate(&path, PROTECTED, Value::Null)?
        .forbidden(&words)?;
    operator
        .patch(&path, &json!({ "metadata": { "finalizers": [] } }))?
        .forbidden(&words)?;
    // clusterctl's patch, by somebody who may not move.
    let moving = json!([{ "op": "add", "path": "/metadata/annotations", "value": { DELETE_FOR_MOVE: "" } }]);
    operator.json_patch(&path, &moving)?.forbidden(&words)?;
    let decider = may(operator, cluster, "decide")?;
    let off = json!({ "metadata": { "annotations": { PROTECTED: null }, "finalizers": [] } });
    decider.patch(&path, &off)?.ok()?;
    decider.delete(&path)?.ok()?;
    Ok(())
}

#[test]
fn clusterctl_moves_for_whoever_may() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let kind = Workload::Cluster;
    protected(cluster, kind, namespace.name(), "prod")?;
    let path = kind.path(namespace.name(), "prod");
    let moving = json!([{ "op": "add", "path": "/metadata/annotations", "value": { DELETE_FOR_MOVE: "" } }]);
    let mover = may(operator(cluster)?, cluster, "move")?;
    mover.json_patch(&path, &moving)?.ok()?;
    operator(cluster)?.delete(&path)?.forbidden(&["prod"])?;
    mover.delete(&path)?.ok()?;
    mover
        .patch(&path, &json!({ "metadata": { "finalizers": [] } }))?
        .ok()?;
    cluster.wait_until_gone(&path)
}

#[test]
fn the_glass_is_broken_with_a_reason_and_by_whoever_may() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let kind = Workload::Cluster;
    protected(cluster, kind, namespace.name(), "prod")?;
    let path = kind.path(namespace.name(), "prod");
    let breaker = may(operator(cluster)?, cluster, "breakglass")?;
    breaker.annotate(&path, BREAK_GLASS, "  ")?.ok()?;
    breaker.delete(&path)?.forbidden(&["prod"])?;
    breaker
        .annotate(&path, BREAK_GLASS, "site lost, incident 4711")?
        .ok()?;
    operator(cluster)?.delete(&path)?.forbidden(&["prod"])?;
    breaker.delete(&path)?.ok()?;
    Ok(())
}

#[test]
fn namespaces_hold_as_long_as_their_label_does() -> Result<()> {
    let cluster = site()?;
    let operator = operator(cluster)?;
    let name = format!("holder-{}", uuid::Uuid::new_v4().simple());
    let path = format!("/api/v1/namespaces/{name}");
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))?;
    let label = |value: Value| json!({ "metadata": { "labels": { HOLDS_CLUSTERS: value } } });
    operator.patch(&path, &label("true".into()))?.ok()?;
    operator.delete(&path)?.forbidden(&[
        "floor policy",
        &format!("kubectl backup cluster status -n {name}"),
    ])?;
    operator
        .patch(&path, &label(Value::Null))?
        .forbidden(&[HOLDS_CLUSTERS])?;
    operator
        .patch(&path, &label("decided".into()))?
        .forbidden(&[HOLDS_CLUSTERS])?;
    operator
        .patch(&path, &json!({ "metadata": { "labels": { "team": "a" } } }))?
        .ok()?;
    let decider = may(operator, cluster, "decide")?;
    decider.patch(&path, &label("decided".into()))?.ok()?;
    decider.delete(&path)?.ok()?;
    cluster.wait_until_gone(&path)
}

#[test]
fn a_namespace_without_a_label_is_emptied_but_for_its_protected_cluster() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let kind = Workload::Cluster;
    let path = kind.path(namespace.name(), "prod");
    let uid = protected(cluster, kind, namespace.name(), "prod")?;
    operator(cluster)?
        .delete(&format!("/api/v1/namespaces/{namespace}"))?
        .ok()?;
    let home = format!("/api/v1/namespaces/{namespace}");
    cluster.wait_until("the namespace to say why it stays", |cluster| {
        let conditions = cluster.get(&home)?.unwrap_or_default()["status"]["conditions"].to_string();
        Ok(conditions.contains("kubectl backup cluster retain prod"))
    })?;
    let still = cluster
        .get(&path)?
        .context("the cluster went with its namespace")?;
    ensure!(still["metadata"]["uid"] == uid.as_str() && still["metadata"]["deletionTimestamp"].is_null());
    // A choice is the way out.
    as_ours(cluster)?
        .annotate(&path, ACCEPTED, format!("Retain/{uid}"))?
        .ok()?;
    cluster.wait_until("the namespace to take the cluster along", |cluster| {
        let object = cluster.get(&path)?;
        Ok(object.is_none_or(|object| object["metadata"]["deletionTimestamp"].is_string()))
    })?;
    as_ours(cluster)?
        .patch(&path, &json!({ "metadata": { "finalizers": [] } }))?
        .ok()?;
    cluster.wait_until_gone(&home)
}

#[test]
fn the_message_says_what_is_at_stake_as_far_as_it_was_counted() -> Result<()> {
    let cluster = site()?;
    let namespace = cluster.namespace()?;
    let kind = Workload::Cluster;
    protected(cluster, kind, namespace.name(), "prod")?;
    let path = kind.path(namespace.name(), "prod");
    let operator = operator(cluster)?;
    operator
        .delete(&path)?
        .forbidden(&["prod has backup storage, not counted yet, and no choice"])?;
    let facts = StorageFacts {
        location: "s3://backups/team-a/prod".to_owned(),
        backups: 214,
        bytes: 310 << 30,
        oldest: Some("2026-08-01T00:00:00Z".parse()?),
        newest: Some("2026-11-25T00:00:00Z".parse()?),
        observed: "2026-11-25T01:00:00Z".parse()?,
    };
    let nothing = StorageFacts {
        backups: 0,
        bytes: 0,
        oldest: None,
        newest: None,
        ..facts.clone()
    };
    let full = "backups: 214 (310GiB) of 2026-08-01T00:00:00Z to 2026-11-25T00:00:00Z in s3://backups/team-a/prod, counted \
                2026-11-25T01:00:00Z,";
    let empty = "backups: 0 (0B) in s3://backups/team-a/prod, counted 2026-11-25T01:00:00Z,";
    for (value, expected) in [
        (serde_json::to_string(&facts)?, full),
        (serde_json::to_string(&nothing)?, empty),
        // Whatever stands there, nothing goes.
        (
            "{".to_owned(),
            "nobody has chosen what becomes of the backup storage",
        ),
    ] {
        cluster.admin()?.annotate(&path, AT_STAKE, value)?.ok()?;
        operator.delete(&path)?.forbidden(&[expected])?;
    }
    Ok(())
}

#[test]
fn the_kinds_themselves_stay() -> Result<()> {
    let cluster = site()?;
    let operator = operator(cluster)?;
    let path = |name: &str| format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    for kind in Workload::KINDS {
        operator
            .delete(&path(&kind.to_string()))?
            .forbidden(&["floor policy", "Delete the clusters first"])?;
    }
    let breaker = may(operator, cluster, "breakglass")?;
    // Other CRDs are nobody's business here.
    let other = path("backupstoragelocations.velero.io");
    breaker.delete_with(&other, &json!({ "dryRun": ["All"] }))?.ok()?;
    let tanzu = path(&Workload::TanzuKubernetesCluster.to_string());
    breaker.annotate(&tanzu, BREAK_GLASS, "uninstalled")?.ok()?;
    breaker.delete_with(&tanzu, &json!({ "dryRun": ["All"] }))?.ok()?;
    breaker.annotate(&tanzu, BREAK_GLASS, Value::Null)?.ok()?;
    Ok(())
}

#[test]
fn no_policy_has_an_expression_that_the_server_warns_about() -> Result<()> {
    let cluster = site()?;
    for policy in cluster.list("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies")? {
        let warnings = policy["status"]["typeChecking"]["expressionWarnings"].clone();
        ensure!(
            warnings.as_array().is_none_or(Vec::is_empty),
            "{}: {warnings}",
            policy["metadata"]["name"]
        );
    }
    Ok(())
}
