//! Rows of the annotator's rules: volumes of all sorts, lists of users, excludes, labels, claims.

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::webhook::{Registration, Webhook, annotator};
use serde_json::{Value, json};
use velero_model::api::{BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES, VOLUMES_LABEL};

use super::site::{Case, UNASKED, annotated, chosen_by, claim, ephemeral, list, placed, pod, unasked};

#[test]
fn annotator_chooses_claims_and_nothing_that_velero_skips() -> Result<()> {
    let mut case = Case::new()?;
    case.policy("all", &json!({}))?;
    let mut all = pod(&[
        claim("data"),
        ephemeral("work", "fast", "1Gi"),
        json!({ "name": "cache", "emptyDir": {} }),
        json!({ "name": "host", "hostPath": { "path": "/x" } }),
        json!({ "name": "secret", "secret": { "secretName": "s" } }),
        json!({ "name": "config", "configMap": { "name": "c" } }),
        json!({ "name": "token", "projected": { "sources": [] } }),
        json!({ "name": "info", "downwardAPI": { "items": [] } }),
        json!({ "name": "share", "nfs": { "server": "s", "path": "/" } }),
    ]);
    let more = [
        claim("block"),
        claim("unused"),
        claim("init"),
        claim("sidecar"),
        claim("late"),
    ];
    all["spec"]["volumes"]
        .as_array_mut()
        .context("no list")?
        .extend(more);
    all["spec"]["containers"][0]["volumeDevices"] = json!([{ "name": "block", "devicePath": "/dev/b" }]);
    all["spec"]["initContainers"] = json!([
        { "name": "first", "image": "example.com/i:1", "volumeMounts": [{ "name": "init", "mountPath": "/i" }] },
        { "name": "beside", "image": "example.com/i:1", "restartPolicy": "Always",
          "volumeMounts": [{ "name": "sidecar", "mountPath": "/s" }] },
    ]);
    let second = json!({ "name": "second", "image": "example.com/s:1", "volumeMounts": [{ "name": "late", "mountPath": "/l" }] });
    all["spec"]["containers"]
        .as_array_mut()
        .context("no list")?
        .push(second);
    case.until(&all, Some("data,work,late"))?;
    let admitted = case.admitted(&all)?;
    assert_eq!(
        chosen_by(&admitted),
        Some(format!("{}@1", case.policy_name("all")))
    );
    let answer = case.review(&all)?;
    assert_eq!(
        answer["warnings"],
        json!([
            format!(
                "volume \"init\" of policy \"{}\" is not backed up: only init containers or sidecars mount it",
                case.policy_name("all")
            ),
            format!(
                "volume \"sidecar\" of policy \"{}\" is not backed up: only init containers or sidecars mount it",
                case.policy_name("all")
            ),
        ])
    );
    assert_eq!(answer["auditAnnotations"]["volumes"], "data,work,late");
    // The patched pod asks for nothing more.
    let again = case.review(&admitted)?;
    assert!(again.get("patch").is_none(), "{again}");
    assert_eq!(
        list(&case.admitted(&admitted)?).as_deref(),
        Some("data,work,late")
    );
    Ok(())
}

#[test]
fn annotator_keeps_the_list_of_the_user() -> Result<()> {
    let mut case = Case::new()?;
    case.policy("all", &json!({}))?;
    let volumes = [claim("b"), claim("a"), json!({ "name": "tmp", "emptyDir": {} })];
    case.until(&pod(&volumes), Some("b,a"))?;
    for (written, expected) in [
        ("a", "a,b"),
        ("a,b", "a,b"),
        ("tmp", "tmp,b,a"),
        ("a, b", "a, b,b"),
        ("gone,", "gone,,b,a"),
        ("", "b,a"),
    ] {
        let admitted = case.admitted(&annotated(pod(&volumes), BACKUP_VOLUMES, written))?;
        assert_eq!(list(&admitted).as_deref(), Some(expected), "{written:?}");
        assert_eq!(chosen_by(&admitted).is_some(), written != "a,b", "{written:?}");
    }
    let listed = case.review(&annotated(pod(&volumes), BACKUP_VOLUMES, "a, b"))?;
    assert_eq!(
        listed["warnings"],
        json!([
            "backup-volumes has spaces, which Velero takes as part of the name: no volume \" b\" in the pod"
        ])
    );
    Ok(())
}

#[test]
fn annotator_lets_every_exclude_win() -> Result<()> {
    let mut case = Case::new()?;
    case.policy("all", &json!({}))?;
    case.policy(
        "no-tmp",
        &json!({ "action": "Exclude", "volumes": { "claimNames": ["claim-tmp*"] } }),
    )?;
    let volumes = [claim("data"), claim("tmp"), claim("tmp-2"), claim("logs")];
    case.until(&pod(&volumes), Some("data,logs"))?;
    let kept_out = annotated(pod(&volumes), BACKUP_VOLUMES_EXCLUDES, "logs,gone");
    assert_eq!(case.list(&kept_out)?.as_deref(), Some("data"));
    let all = case.policy_name("all");
    assert_eq!(
        case.review(&kept_out)?["warnings"],
        json!([format!(
            "volume \"logs\": policy \"{all}\" includes it, but the pod's backup-volumes-excludes wins"
        )])
    );
    let mut labelled = pod(&volumes);
    labelled["metadata"]["labels"] = json!({ VOLUMES_LABEL: "exclude" });
    assert_eq!(case.list(&labelled)?, None);
    // What the user lists is Velero's affair: it is neither taken away nor forbidden.
    assert_eq!(
        case.list(&annotated(labelled, BACKUP_VOLUMES, "tmp"))?.as_deref(),
        Some("tmp")
    );
    Ok(())
}

#[test]
fn annotator_follows_labels_of_namespace_and_pod() -> Result<()> {
    let case = Case::new()?;
    let labelled = |value: &str| {
        let mut pod = pod(&[claim("data"), json!({ "name": "tmp", "emptyDir": {} })]);
        pod["metadata"]["labels"] = json!({ VOLUMES_LABEL: value });
        pod
    };
    let plain = pod(&[claim("data"), json!({ "name": "tmp", "emptyDir": {} })]);
    assert_eq!(case.list(&plain)?, None);
    assert_eq!(case.list(&labelled("include"))?.as_deref(), Some("data"));
    case.label("include")?;
    case.until(&plain, Some("data"))?;
    assert_eq!(
        chosen_by(&case.admitted(&plain)?).as_deref(),
        Some("namespace-label")
    );
    assert_eq!(case.list(&labelled("exclude"))?, None);
    assert_eq!(case.list(&labelled("maybe"))?.as_deref(), Some("data"));
    let said = case.review(&labelled("maybe"))?;
    assert_eq!(
        said["warnings"][0],
        format!("label {VOLUMES_LABEL}=maybe of the pod counts as absent: it may be include or exclude")
    );
    case.label("exclude")?;
    case.until(&plain, None)?;
    assert_eq!(case.list(&labelled("include"))?.as_deref(), Some("data"));
    Ok(())
}

#[test]
fn annotator_knows_classes_and_sizes_of_claims() -> Result<()> {
    let mut case = Case::new()?;
    let fast = json!({ "volumes": { "storageClasses": ["fast"], "minimumCapacity": "5Gi", "maximumCapacity": "1Ti" } });
    case.policy("fast", &fast)?;
    for (name, class, size) in [
        ("big", "fast", "5Gi"),
        ("small", "fast", "5G"),
        ("slow", "slow", "10Gi"),
        ("node", "fast", "9Gi"),
    ] {
        case.cluster
            .create(json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": format!("claim-{name}"), "namespace": case.namespace.name() },
            "spec": { "storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "volumeName": if name == "node" { json!(case.policy_name("pv")) } else { Value::Null },
                "resources": { "requests": { "storage": size } } } }))?;
    }
    case.cluster.create(json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": case.policy_name("pv") },
        "spec": { "storageClassName": "fast", "capacity": { "storage": "9Gi" }, "accessModes": ["ReadWriteOnce"],
            "hostPath": { "path": "/x" } } }))?;
    let volumes = [claim("big"), claim("small"), claim("slow"), claim("node")];
    case.until(&pod(&volumes), Some("big"))?;
    assert!(
        case.review(&pod(&volumes))?["auditAnnotations"]
            .get("unknown")
            .is_none()
    );
    // A claim that nobody has made yet: it may be one of those.
    let early = pod(&[claim("big"), claim("not-there-yet")]);
    assert_eq!(case.list(&early)?.as_deref(), Some("big,not-there-yet"));
    assert_eq!(
        case.review(&early)?["auditAnnotations"]["unknown"],
        "storage class, capacity"
    );
    // Of an ephemeral claim the template tells.
    let own = pod(&[
        ephemeral("a", "fast", "8Gi"),
        ephemeral("b", "slow", "8Gi"),
        ephemeral("c", "fast", "1Gi"),
    ]);
    assert_eq!(case.list(&own)?.as_deref(), Some("a"));
    case.cluster
        .delete(&format!("/api/v1/persistentvolumes/{}", case.policy_name("pv")))
}

#[test]
fn annotator_chooses_other_types_only_when_they_are_named() -> Result<()> {
    let mut case = Case::new()?;
    case.policy(
        "folders",
        &json!({ "podSelector": { "matchLabels": { "cache": "keep" } },
        "volumes": { "types": ["EmptyDir", "Nfs"] } }),
    )?;
    let mut folders = pod(&[
        claim("data"),
        json!({ "name": "tmp", "emptyDir": {} }),
        json!({ "name": "share", "nfs": { "server": "s", "path": "/" } }),
    ]);
    assert_eq!(case.list(&folders)?, None);
    folders["metadata"]["labels"] = json!({ "cache": "keep" });
    case.until(&folders, Some("tmp,share"))
}

#[test]
fn annotator_meets_pods_of_controllers_and_leaves_their_templates() -> Result<()> {
    let mut case = Case::new()?;
    case.policy("all", &json!({}))?;
    let template = pod(&[claim("data")]);
    case.until(&template, Some("data"))?;
    let namespace = case.namespace.name();
    case.cluster
        .create(json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": "web", "namespace": namespace },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": template["spec"] } } }))?;
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    case.cluster.wait_until("a pod of the ReplicaSet", |cluster| {
        Ok(!cluster.list(&pods)?.is_empty())
    })?;
    for made in case.cluster.list(&pods)? {
        assert_eq!(list(&made).as_deref(), Some("data"));
    }
    let set = case
        .cluster
        .get(&format!("/apis/apps/v1/namespaces/{namespace}/replicasets/web"))?
        .context("gone")?;
    assert!(set["spec"]["template"]["metadata"].get("annotations").is_none());
    Ok(())
}

#[test]
fn annotator_leaves_updates_static_pods_and_the_system_alone() -> Result<()> {
    let mut case = Case::new()?;
    case.policy("all", &json!({}))?;
    let plain = pod(&[claim("data")]);
    case.until(&plain, Some("data"))?;
    let stored = case.cluster.create(placed(
        &annotated(plain.clone(), BACKUP_VOLUMES, "data"),
        case.namespace.name(),
    ))?;
    let path = format!("/api/v1/namespaces/{}/pods/web-0", case.namespace);
    let removed = case.cluster.patch(
        &path,
        json!({ "metadata": { "annotations": { BACKUP_VOLUMES: null } } }),
    )?;
    assert!(list(&stored).is_some() && list(&removed).is_none());

    assert!(case.review(&plain)?.get("patch").is_some());
    let mirror = annotated(plain.clone(), "kubernetes.io/config.mirror", "x");
    assert!(case.review(&mirror)?.get("patch").is_none());
    let (_, answer) = case.webhook.review(
        "/annotate",
        &json!({ "uid": "u", "operation": "CREATE", "namespace": "kube-system",
        "resource": { "group": "", "version": "v1", "resource": "pods" },
        "object": annotated(placed(&plain, "kube-system"), "x", "y") }),
    )?;
    assert_eq!(answer["response"], json!({ "uid": "u", "allowed": true }));
    Ok(())
}

#[test]
fn annotator_warns_whoever_creates_the_pod() -> Result<()> {
    let case = Case::new()?;
    let text = placed(
        &annotated(pod(&[claim("data")]), BACKUP_VOLUMES, "dta"),
        case.namespace.name(),
    )
    .to_string();
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let output = case
        .cluster
        .kubectl(&["create", "-f", &file.path().display().to_string()])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        said.trim(),
        "Warning: backup-volumes names \"dta\", but the pod has no such volume"
    );
    Ok(())
}

#[test]
fn annotator_that_is_down_holds_up_no_pod() -> Result<()> {
    let cluster = Cluster::shared()?;
    let _alone = unasked(cluster)?;
    let mut only_here = annotator();
    only_here["namespaceSelector"] = json!({ "matchLabels": { "kubernetes.io/metadata.name": UNASKED } });
    let mut webhook = Webhook::builder(cluster)
        .registration(Registration::none().mutating("/annotate", only_here))
        .flag("--velero-namespace=elsewhere")
        .start()?;
    let mut plain = placed(&pod(&[claim("data")]), UNASKED);
    plain["metadata"]["labels"] = json!({ VOLUMES_LABEL: "include" });
    assert_eq!(list(&cluster.create_dry(plain.clone())?).as_deref(), Some("data"));
    webhook.kill();
    assert_eq!(list(&cluster.create(plain)?), None);
    cluster.delete(&format!(
        "/api/v1/namespaces/{UNASKED}/pods/web-0?gracePeriodSeconds=0"
    ))
}
