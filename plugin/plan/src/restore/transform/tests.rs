//! One case per rule, and what holds for any JSON.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kinds::tests::kind;

mod moving;

fn api(api_version: &str, plural: &str) -> ApiKind {
    let cluster = [
        "namespaces",
        "persistentvolumes",
        "clusterrolebindings",
        "customresourcedefinitions",
    ];
    kind(api_version, plural, "X", !cluster.contains(&plural)).api
}

fn options() -> Options {
    Options {
        namespace_mapping: BTreeMap::from([("shop".to_owned(), "shop2".to_owned())]),
        ..Options::default()
    }
}

fn run(api_version: &str, plural: &str, object: Value) -> Transformed {
    transform(
        &api(api_version, plural),
        object,
        &options(),
        &|name| match name {
            "kept" => VolumeFate::Kept,
            "lost" => VolumeFate::Missing,
            _ => VolumeFate::ProvisionedAnew,
        },
    )
}

#[test]
fn metadata_is_stripped_and_labelled() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "status": {"x": 1}, "metadata": {
        "name": "c", "namespace": "shop", "generateName": "c-", "selfLink": "/x", "uid": "u", "resourceVersion": "1",
        "generation": 2, "creationTimestamp": "t", "deletionTimestamp": "t", "deletionGracePeriodSeconds": 0,
        "managedFields": [{}], "annotations": {"k": "v"}, "labels": {"app": "x"},
        "finalizers": ["mine", "foregroundDeletion"],
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u2", "controller": true}]}});
    let options = Options {
        backup_name: "b1".into(),
        restore_name: "r".repeat(70),
        ..options()
    };
    let done = transform(&api("v1", "configmaps"), object, &options, &|_| VolumeFate::Kept);
    assert_eq!(
        done.body,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "metadata": {
            "name": "c", "namespace": "shop2", "annotations": {"k": "v"}, "finalizers": ["mine"],
            "labels": {"app": "x", BACKUP_LABEL: "b1", RESTORE_LABEL: label_value(&"r".repeat(70))}}})
    );
    assert_eq!(done.owners.len(), 1);
    assert_eq!(
        (done.owners[0].uid.as_str(), done.owners[0].controller),
        ("u2", Some(true))
    );
    assert_eq!((done.status, done.notes), (None, vec![]));
}

#[test]
fn long_names_are_shortened_as_velero_does() {
    assert_eq!(label_value("short"), "short");
    let name = "a".repeat(64);
    // printf 'a%.0s' {1..64} | sha256sum
    assert_eq!(label_value(&name), format!("{}ffe054", "a".repeat(57)));
    assert!(label_value(&"\u{e4}".repeat(40)).len() <= 63);
}

#[test]
fn status_is_kept_when_asked_for() {
    let object = |annotation: Option<&str>| {
        let annotations = annotation.map(|value| json!({RESTORE_STATUS: value}));
        json!({"metadata": {"name": "x", "annotations": annotations}, "status": {"a": 1}})
    };
    let kind = api("x.io/v1", "xs");
    let asked = Options {
        status_kinds: BTreeSet::from(["xs.x.io".to_owned()]),
        ..Options::default()
    };
    for (annotation, options, kept) in [
        (None, Options::default(), false),
        (Some("true"), Options::default(), true),
        (None, asked.clone(), true),
        (Some("false"), asked, false),
    ] {
        let done = transform(&kind, object(annotation), &options, &|_| VolumeFate::Kept);
        assert_eq!(done.status.is_some(), kept, "{annotation:?}");
        assert!(done.body.get("status").is_none());
    }
}

#[test]
fn namespaces_are_renamed_and_not_labelled() {
    let options = Options {
        backup_name: "b".into(),
        restore_name: "r".into(),
        ..options()
    };
    let object = json!({"metadata": {"name": "shop", "labels": {"kubernetes.io/metadata.name": "shop"}}});
    let done = transform(&api("v1", "namespaces"), object, &options, &|_| VolumeFate::Kept);
    assert_eq!(
        done.body,
        json!({"metadata": {"name": "shop2", "labels": {"kubernetes.io/metadata.name": "shop2"}}})
    );
}

#[test]
fn services_give_up_what_the_cluster_assigned() {
    let applied = |ports: Value| json!({"kubectl.kubernetes.io/last-applied-configuration": json!({"spec": {"ports": ports}}).to_string()});
    let ports = |first: Value, second: Value| json!([first, second]);
    let (web, db) = (
        json!({"name": "web", "port": 80, "nodePort": 30080}),
        json!({"name": "db", "port": 90, "nodePort": 30090}),
    );
    let bare = |name: &str, port: u16| json!({"name": name, "port": port});
    let managed = json!([{"fieldsV1": {"f:spec": {"f:ports": {r#"k:{"port":90,"protocol":"TCP"}"#: {"f:nodePort": {}}}}}}]);
    for (annotations, managed, expected) in [
        (json!({}), json!([]), ports(bare("web", 80), bare("db", 90))),
        (
            applied(json!([{"name": "web", "nodePort": 30080}])),
            managed.clone(),
            ports(web.clone(), bare("db", 90)),
        ),
        (
            applied(json!([{"name": "web", "nodePort": "30080"}])),
            json!([]),
            ports(web.clone(), bare("db", 90)),
        ),
        (json!({}), managed, ports(bare("web", 80), db.clone())),
    ] {
        let object = json!({"metadata": {"annotations": annotations, "managedFields": managed}, "spec": {
            "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "type": "NodePort", "ports": [web, db]}});
        let done = run("v1", "services", object.clone());
        assert_eq!(done.body["spec"], json!({"type": "NodePort", "ports": expected}));
        let kept = Options {
            preserve_node_ports: true,
            ..Options::default()
        };
        let done = transform(&api("v1", "services"), object, &kept, &|_| VolumeFate::Kept);
        assert_eq!(done.body["spec"]["ports"], json!([web, db]));
    }
    let headless = json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
    assert_eq!(run("v1", "services", headless.clone()).body, headless);
}

#[test]
fn health_check_ports_are_kept_only_if_chosen() {
    let object = |applied: &str| {
        json!({"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}}, "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}})
    };
    let port = |applied: &str| {
        run("v1", "services", object(applied)).body["spec"]
            .get("healthCheckNodePort")
            .cloned()
    };
    assert_eq!(port("{}"), None);
    assert_eq!(port("no json"), None);
    assert_eq!(
        port(r#"{"spec":{"healthCheckNodePort":31000}}"#),
        Some(json!(31000))
    );
}

#[test]
fn jobs_and_pods_lose_what_controllers_filled_in() {
    let job = json!({"spec": {
        "selector": {"matchLabels": {"controller-uid": "u", "batch.kubernetes.io/controller-uid": "u"}},
        "template": {"metadata": {"labels": {"controller-uid": "u", "app": "x"}}}}});
    assert_eq!(
        run("batch/v1", "jobs", job).body,
        json!({"spec": {"template": {"metadata": {"labels": {"app": "x"}}}}})
    );
    let manual = json!({"spec": {"manualSelector": true, "selector": {"matchLabels": {"app": "x"}}}});
    assert_eq!(run("batch/v1", "jobs", manual.clone()).body, manual);

    let mounts = json!([{"name": "sa-token-abc"}, {"name": "kube-api-access-x"}]);
    let pod = json!({"spec": {"nodeName": "n", "priority": 5, "serviceAccountName": "sa", "volumes": mounts,
        "containers": [{"name": "c", "volumeMounts": mounts}], "initContainers": [{"volumeMounts": mounts}],
        "ephemeralContainers": [{"name": "debug"}]}});
    let done = run("v1", "pods", pod);
    let kept = json!([{"name": "kube-api-access-x"}]);
    assert_eq!(
        done.body,
        json!({"spec": {"serviceAccountName": "sa", "volumes": kept,
            "containers": [{"name": "c", "volumeMounts": kept}], "initContainers": [{"volumeMounts": kept}]}})
    );
    assert_eq!(done.notes, [Note::EphemeralContainersDropped]);
}

#[test]
fn claims_follow_the_fate_of_their_volume() {
    let claim = |volume: &str| {
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes", "mine": "x",
            "volume.kubernetes.io/selected-node": "n"}}, "spec": {"volumeName": volume, "storageClassName": "fast",
            "selector": {}, "dataSource": {"kind": "VolumeSnapshot"}}, "status": {"phase": "Bound"}})
    };
    for (volume, spec, notes) in [
        (
            "kept",
            json!({"volumeName": "kept", "storageClassName": "fast", "selector": {}}),
            vec!["data-source-dropped"],
        ),
        (
            "gone",
            json!({"storageClassName": "fast"}),
            vec!["data-source-dropped", "empty-volume"],
        ),
        (
            "lost",
            json!({"storageClassName": "fast"}),
            vec!["data-source-dropped", "volume-missing"],
        ),
    ] {
        let done = run("v1", "persistentvolumeclaims", claim(volume));
        assert_eq!(done.body["spec"], spec);
        assert_eq!(done.body["metadata"]["annotations"], json!({"mine": "x"}));
        assert_eq!(done.notes.iter().map(Note::id).collect::<Vec<_>>(), notes);
        assert!(notes.len() == 1 || done.notes[1].to_string().contains("empty volume"));
    }
    let unbound = json!({"spec": {"dataSource": {"kind": "VolumeSnapshot"}, "selector": {}}});
    assert_eq!(run("v1", "persistentvolumeclaims", unbound.clone()).body, unbound);

    let volume = json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}, "spec": {
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"name": "c", "namespace": "shop", "uid": "u", "resourceVersion": "1"}}});
    assert_eq!(volume_fate(&volume), VolumeFate::Kept);
    assert_eq!(
        volume_fate(&json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}})),
        VolumeFate::ProvisionedAnew
    );
    let done = run("v1", "persistentvolumes", volume);
    assert_eq!(
        done.body["spec"]["claimRef"],
        json!({"name": "c", "namespace": "shop2"})
    );
    assert_eq!(done.body["metadata"]["annotations"], json!({}));
}

#[test]
fn accounts_tokens_and_bindings() {
    let token = json!({"type": "kubernetes.io/service-account-token", "data": {"token": "t", "ca.crt": "c", "mine": "m"},
        "metadata": {"annotations": {"kubernetes.io/service-account.uid": "u", "kubernetes.io/service-account.name": "sa"}}});
    let done = run("v1", "secrets", token);
    assert_eq!(done.body["data"], json!({"mine": "m"}));
    assert_eq!(
        done.body["metadata"]["annotations"],
        json!({"kubernetes.io/service-account.name": "sa"})
    );
    let opaque = json!({"type": "Opaque", "data": {"token": "t"}});
    assert_eq!(run("v1", "secrets", opaque.clone()).body, opaque);

    let account = json!({"metadata": {"name": "sa"}, "secrets": [{"name": "sa-token-x"}, {"name": "other"}]});
    assert_eq!(
        run("v1", "serviceaccounts", account).body["secrets"],
        json!([{"name": "other"}])
    );

    let binding = json!({"subjects": [{"name": "sa", "namespace": "shop"}, {"name": "u"}, {"namespace": "bank"},
            {"name": "system:serviceaccount:shop:sa"}, {"name": "system:serviceaccounts:shop"},
            {"name": "system:serviceaccount:shopping:sa"}, {"name": "system:serviceaccounts"}]});
    for plural in ["rolebindings", "clusterrolebindings"] {
        let done = run("rbac.authorization.k8s.io/v1", plural, binding.clone());
        assert_eq!(
            done.body["subjects"],
            json!([{"name": "sa", "namespace": "shop2"}, {"name": "u"}, {"namespace": "bank"},
                {"name": "system:serviceaccount:shop2:sa"}, {"name": "system:serviceaccounts:shop2"},
                {"name": "system:serviceaccount:shopping:sa"}, {"name": "system:serviceaccounts"}])
        );
    }
}

#[test]
fn service_accounts_are_merged_and_the_cluster_wins() {
    let live = json!({"metadata": {"labels": {"a": "live"}}, "secrets": [{"name": "s1"}]});
    let restored = json!({"metadata": {"labels": {"a": "backup", "b": "2"}}, "secrets": [{"name": "s1"}, {"name": "s2"}]});
    assert_eq!(
        merge_service_account(&live, &restored),
        Some(json!({"metadata": {"labels": {"b": "2"}}, "secrets": [{"name": "s1"}, {"name": "s2"}]}))
    );
    assert_eq!(merge_service_account(&restored, &live), None);
}

#[test]
fn registrations() {
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "spec": {"preserveUnknownFields": true,
        "conversion": {"webhook": {"clientConfig": {"service": {"namespace": "shop"}}}},
        "versions": [{"schema": {"openAPIV3Schema": {"type": "object"}}}, {"name": "v1"}]}});
    let done = run("apiextensions.k8s.io/v1", "customresourcedefinitions", crd);
    let spec = &done.body["spec"];
    assert_eq!(spec["preserveUnknownFields"], false);
    assert_eq!(
        spec["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"],
        true
    );
    assert_eq!(spec["versions"][1], json!({"name": "v1"}));
    assert_eq!(
        spec["conversion"]["webhook"]["clientConfig"]["service"]["namespace"],
        "shop2"
    );
    assert_eq!(done.notes, [Note::PreserveUnknownFieldsMoved]);

    let hooks = json!({"apiVersion": "admissionregistration.k8s.io/v1", "webhooks": [
        {"sideEffects": "Unknown", "clientConfig": {"service": {"namespace": "shop"}}}, {"sideEffects": "NoneOnDryRun"}]});
    let done = run(
        "admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        hooks,
    );
    assert_eq!(
        done.body["webhooks"],
        json!([{"sideEffects": "None", "clientConfig": {"service": {"namespace": "shop2"}}}, {"sideEffects": "NoneOnDryRun"}])
    );
    assert_eq!(done.notes, [Note::SideEffectsReset]);
    let service = json!({"spec": {"service": {"namespace": "shop"}}});
    assert_eq!(
        run("apiregistration.k8s.io/v1", "apiservices", service).body,
        json!({"spec": {"service": {"namespace": "shop2"}}})
    );
}

const KINDS: [(&str, &str); 13] = [
    ("v1", "services"),
    ("v1", "pods"),
    ("batch/v1", "jobs"),
    ("v1", "persistentvolumeclaims"),
    ("v1", "persistentvolumes"),
    ("v1", "secrets"),
    ("v1", "serviceaccounts"),
    ("v1", "namespaces"),
    ("rbac.authorization.k8s.io/v1", "rolebindings"),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
    ("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations"),
    ("apiregistration.k8s.io/v1", "apiservices"),
    ("x.io/v1", "xs"),
];

/// JSON whose keys are those that the rules look at, with values of any type. `managedFields` is left out: node ports
/// that only it proves are forgotten with it.
fn any_object() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "data",
        "type",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "name",
        "namespace",
        "uid",
        "deletionTimestamp",
        "clusterIP",
        "ports",
        "nodePort",
        "port",
        "selector",
        "matchLabels",
        "controller-uid",
        "template",
        "volumes",
        "containers",
        "volumeMounts",
        "serviceAccountName",
        "claimRef",
        "volumeName",
        "dataSource",
        "storageClassName",
        "subjects",
        "secrets",
        "webhooks",
        "sideEffects",
        "clientConfig",
        "service",
        "versions",
        "schema",
        "openAPIV3Schema",
        "preserveUnknownFields",
        "apiVersion",
        RESTORE_STATUS,
        "kubectl.kubernetes.io/last-applied-configuration",
        "ephemeralContainers",
        "token",
        "externalTrafficPolicy",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "x",
            "shop",
            "true",
            "None",
            "NodePort",
            "LoadBalancer",
            "Local",
            "default-token-x",
            "foregroundDeletion",
            "apiextensions.k8s.io/v1",
            "admissionregistration.k8s.io/v1",
            "kubernetes.io/service-account-token",
            r#"{"spec":{"ports":[{"nodePort":1}]}}"#,
        ])
        .prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    let part = || prop_oneof![9 => value.clone(), 1 => Just(json!({"labels": {}, "annotations": {}}))];
    (part(), part(), part(), value.clone()).prop_map(|(metadata, spec, data, other)| {
        let mut object =
            json!({"metadata": metadata, "spec": spec, "data": data, "status": {"phase": "Bound"}});
        if let (Some(object), Value::Object(other)) = (object.as_object_mut(), other) {
            object.extend(other);
        }
        object
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn transforming_twice_changes_nothing_more(object in any_object(), which in 0..KINDS.len()) {
        let (version, plural) = KINDS[which];
        let options = Options { backup_name: "b".into(), restore_name: "r".into(), ..options() };
        let fate = |name: &str| if name == "x" { VolumeFate::Kept } else { VolumeFate::ProvisionedAnew };
        let once = transform(&api(version, plural), object, &options, &fate);
        let twice = transform(&api(version, plural), once.body.clone(), &options, &fate);
        prop_assert_eq!(&twice.body, &once.body);
        prop_assert!(twice.owners.is_empty() && twice.status.is_none());
        prop_assert!(once.body.get("status").is_none());
        if let Some(metadata) = once.body["metadata"].as_object() {
            prop_assert!(!metadata.contains_key("uid") && !metadata.contains_key("ownerReferences"));
        }
    }

    #[test]
    fn never_rules_do_not_panic(object in any_object(), which in 0..KINDS.len()) {
        let (version, plural) = KINDS[which];
        let _ = crate::restore::never::object_never_restored(
            &api(version, plural), &object, &crate::restore::never::Nothing,
        );
    }
}
