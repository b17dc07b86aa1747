//! Tables of pods, labels, policies and claims.
// A method's path is not general enough over the lifetimes of a decision.
#![allow(clippy::redundant_closure_for_method_calls)]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use velero_model::api::VolumeBackupPolicy;

use super::*;

mod random;
mod words;

fn policy(name: &str, spec: &Value) -> Policy {
    Policy::compile(&parsed(name, spec)).unwrap()
}

fn parsed(name: &str, spec: &Value) -> VolumeBackupPolicy {
    serde_json::from_value(
        json!({ "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
        "metadata": { "name": name, "generation": 3 }, "spec": spec }),
    )
    .unwrap()
}

fn claim(name: &str) -> Value {
    json!({ "name": name, "persistentVolumeClaim": { "claimName": format!("claim-{name}") } })
}

/// A pod whose one container mounts all of its volumes.
fn pod(metadata: &Value, volumes: &[Value]) -> Value {
    let mounts: Vec<Value> = volumes
        .iter()
        .map(|volume| json!({ "name": volume["name"], "mountPath": "/x" }))
        .collect();
    json!({ "metadata": metadata, "spec": { "volumes": volumes,
        "containers": [{ "name": "main", "image": "i", "volumeMounts": mounts }] } })
}

/// A place to decide in: labels of the namespace, claims with class, size and whether they are folders of the node.
#[derive(Default)]
struct Place {
    labels: Option<BTreeMap<String, String>>,
    claims: BTreeMap<String, Claim>,
    host_paths: Vec<&'static str>,
}

impl Place {
    fn labelled(pairs: &[(&str, &str)]) -> Self {
        let labels = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            labels: Some(labels.collect()),
            ..Self::default()
        }
    }

    fn claim(mut self, name: &str, class: &str, size: &str) -> Self {
        let claim = Claim::new(Some(class), Quantity::parse(size).ok(), Some(name));
        self.claims.insert(name.to_owned(), claim);
        self
    }

    fn decide<T>(
        &self,
        rules: &Rules,
        pod: &Value,
        namespace: &str,
        see: impl FnOnce(&Decision<'_>) -> T,
    ) -> T {
        let text = pod.to_string();
        let facts = PodFacts::parse(text.as_bytes()).unwrap();
        let namespace = NamespaceFacts {
            name: namespace,
            labels: self.labels.as_ref(),
        };
        let claims = |name: &str| {
            let claim = self.claims.get(name)?;
            Some(claim.facts(Some(self.host_paths.contains(&name))))
        };
        see(&rules.decide(&facts, namespace, &claims))
    }

    /// `name: fate` of each volume.
    fn fates(&self, rules: &Rules, pod: &Value) -> Vec<String> {
        self.decide(rules, pod, "shop", |decision| {
            let lines = decision.volumes.iter();
            lines
                .map(|volume| format!("{}: {}", volume.volume.name, volume.fate()))
                .collect()
        })
    }

    fn annotation(&self, rules: &Rules, pod: &Value) -> Option<String> {
        self.decide(rules, pod, "shop", |decision: &Decision<'_>| {
            decision.annotation()
        })
    }

    fn warnings(&self, rules: &Rules, pod: &Value) -> Vec<String> {
        self.decide(rules, pod, "shop", |decision: &Decision<'_>| decision.warnings())
    }
}

fn everything() -> Rules {
    Rules::new(vec![policy("all", &json!({}))], [])
}

fn annotated(key: &str, value: &str) -> Value {
    json!({ "name": "p", "annotations": { key: value } })
}

#[test]
fn each_kind_of_volume_has_its_fate() {
    let volumes = [
        claim("data"),
        json!({ "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } }),
        json!({ "name": "cache", "emptyDir": {} }),
        json!({ "name": "bare" }),
        json!({ "name": "host", "hostPath": { "path": "/x" } }),
        json!({ "name": "secret", "secret": { "secretName": "s" } }),
        json!({ "name": "config", "configMap": { "name": "c" } }),
        json!({ "name": "token", "projected": { "sources": [] } }),
        json!({ "name": "info", "downwardAPI": { "items": [] } }),
        json!({ "name": "inline", "csi": { "driver": "d" } }),
        json!({ "name": "share", "nfs": { "server": "s", "path": "/" } }),
        json!({ "name": "image", "image": { "reference": "r" } }),
        claim("default-token-x"),
        claim("on-node"),
    ];
    let mut place = Place::labelled(&[]).claim("claim-on-node", "local", "1Gi");
    place.host_paths.push("claim-on-node");
    assert_eq!(
        place.fates(&everything(), &pod(&json!({ "name": "p" }), &volumes)),
        [
            "data: policy \"all\" includes it",
            "scratch: policy \"all\" includes it",
            "cache: no policy, label or annotation chooses it",
            "bare: no policy, label or annotation chooses it",
            "host: Velero skips it: it is a folder of the node (hostPath)",
            "secret: Velero skips it: its files come from a Secret",
            "config: Velero skips it: its files come from a ConfigMap",
            "token: Velero skips it: its files come from other objects (projected)",
            "info: Velero skips it: its files come from the pod itself (downwardAPI)",
            "inline: no policy, label or annotation chooses it",
            "share: no policy, label or annotation chooses it",
            "image: no policy, label or annotation chooses it",
            "default-token-x: Velero skips it: its name begins with default-token",
            "on-node: Velero skips it: its PersistentVolume is a folder of the node",
        ]
    );
}

#[test]
fn other_types_are_chosen_only_when_a_policy_names_them() {
    let volumes = [
        claim("data"),
        json!({ "name": "cache", "emptyDir": {} }),
        json!({ "name": "share", "nfs": {} }),
    ];
    let pod = pod(&json!({ "name": "p" }), &volumes);
    for (types, expected) in [
        (json!([]), Some("data")),
        (json!(["EmptyDir"]), Some("cache")),
        (
            json!(["PersistentVolumeClaim", "EmptyDir", "Nfs"]),
            Some("data,cache,share"),
        ),
        (json!(["Csi"]), None),
    ] {
        let rules = Rules::new(vec![policy("p", &json!({ "volumes": { "types": types } }))], []);
        assert_eq!(
            Place::labelled(&[]).annotation(&rules, &pod).as_deref(),
            expected,
            "{types}"
        );
    }
    let labelled = Place::labelled(&[("kubectl-backup.io/volumes", "include")]);
    assert_eq!(
        labelled.annotation(&Rules::default(), &pod).as_deref(),
        Some("data")
    );
}

#[test]
fn only_what_regular_containers_mount_counts() {
    let spec = |containers: Value, init: Value| {
        json!({ "metadata": { "name": "p" }, "spec": { "volumes": [claim("data")], "containers": containers,
            "initContainers": init } })
    };
    let mounts = json!([{ "name": "c", "volumeMounts": [{ "name": "data", "mountPath": "/x" }] }]);
    let sidecar = json!([{ "name": "s", "restartPolicy": "Always",
        "volumeMounts": [{ "name": "data", "mountPath": "/x" }] }]);
    let device = json!([{ "name": "c", "volumeDevices": [{ "name": "data", "devicePath": "/dev/x" }] }]);
    for (case, pod, expected) in [
        (
            "a regular container",
            spec(mounts.clone(), json!([])),
            Some("data"),
        ),
        (
            "an init container too",
            spec(mounts.clone(), mounts.clone()),
            Some("data"),
        ),
        (
            "an init container alone",
            spec(json!([{ "name": "c" }]), mounts.clone()),
            None,
        ),
        (
            "a native sidecar alone",
            spec(json!([{ "name": "c" }]), sidecar),
            None,
        ),
        ("a block device", spec(device, Value::Null), None),
        (
            "nobody",
            spec(json!([{ "name": "c", "volumeMounts": null }]), Value::Null),
            None,
        ),
    ] {
        assert_eq!(
            Place::labelled(&[]).annotation(&everything(), &pod).as_deref(),
            expected,
            "{case}"
        );
    }
    let pod = spec(json!([{ "name": "c" }]), mounts);
    assert_eq!(
        Place::labelled(&[]).warnings(&everything(), &pod),
        ["volume \"data\" of policy \"all\" is not backed up: only init containers or sidecars mount it"]
    );
}

#[test]
fn the_user_s_list_stays_in_front_and_untouched() {
    let volumes = [claim("b"), claim("a"), claim("logs")];
    for (list, expected) in [
        ("", Some("b,a,logs")),
        ("a", Some("a,b,logs")),
        ("logs,a", Some("logs,a,b")),
        ("logs,a,b", None),
        ("b, a", Some("b, a,a,logs")),
        ("gone", Some("gone,b,a,logs")),
        ("a,", Some("a,,b,logs")),
        ("a,a", Some("a,a,b,logs")),
    ] {
        let pod = pod(&annotated("backup.velero.io/backup-volumes", list), &volumes);
        assert_eq!(
            Place::labelled(&[]).annotation(&everything(), &pod).as_deref(),
            expected,
            "{list:?}"
        );
    }
}

#[test]
fn labels_decide_and_that_of_the_pod_wins() {
    for (namespace, of_pod, expected) in [
        (None, None, None),
        (Some("include"), None, Some("data")),
        (Some("exclude"), None, None),
        (None, Some("include"), Some("data")),
        (Some("exclude"), Some("include"), Some("data")),
        (Some("include"), Some("exclude"), None),
        (Some("include"), Some("maybe"), Some("data")),
        (Some("Include"), None, None),
    ] {
        let labels: Vec<_> = namespace
            .iter()
            .map(|value| ("kubectl-backup.io/volumes", *value))
            .collect();
        let metadata = json!({ "name": "p", "labels": { "kubectl-backup.io/volumes": of_pod } });
        let metadata = if of_pod.is_some() {
            metadata
        } else {
            json!({ "name": "p" })
        };
        let pod = pod(&metadata, &[claim("data")]);
        let found = Place::labelled(&labels).annotation(&Rules::default(), &pod);
        assert_eq!(found.as_deref(), expected, "{namespace:?} {of_pod:?}");
    }
    let pod = pod(
        &json!({ "name": "p", "labels": { "kubectl-backup.io/volumes": "exlude" } }),
        &[claim("data")],
    );
    assert_eq!(
        Place::labelled(&[("kubectl-backup.io/volumes", "yes")]).warnings(&Rules::default(), &pod),
        [
            "label kubectl-backup.io/volumes=exlude of the pod counts as absent: it may be include or exclude",
            "label kubectl-backup.io/volumes=yes of the namespace counts as absent: it may be include or exclude"
        ]
    );
}

#[test]
fn whatever_excludes_wins() {
    let data = pod(
        &json!({ "name": "p", "labels": { "app": "db" } }),
        &[claim("data"), claim("tmp")],
    );
    let exclude = policy(
        "tmp",
        &json!({ "action": "Exclude", "volumes": { "claimNames": ["*-tmp"] } }),
    );
    let rules = Rules::new(vec![policy("all", &json!({})), exclude.clone()], []);
    assert_eq!(
        Place::labelled(&[]).fates(&rules, &data),
        [
            "data: policy \"all\" includes it",
            "tmp: policy \"tmp\" excludes it"
        ]
    );
    let included = Place::labelled(&[("kubectl-backup.io/volumes", "include")]);
    assert_eq!(
        included.fates(&Rules::new(vec![exclude], []), &data),
        [
            "data: the namespace's label kubectl-backup.io/volumes=include includes it",
            "tmp: policy \"tmp\" excludes it"
        ]
    );
    let kept_out = pod(
        &annotated("backup.velero.io/backup-volumes-excludes", "tmp,gone"),
        &[claim("tmp")],
    );
    assert_eq!(Place::labelled(&[]).annotation(&everything(), &kept_out), None);
    assert_eq!(
        Place::labelled(&[]).warnings(&everything(), &kept_out),
        ["volume \"tmp\": policy \"all\" includes it, but the pod's backup-volumes-excludes wins"]
    );
    let listed = pod(
        &annotated("backup.velero.io/backup-volumes", "tmp"),
        &[claim("tmp")],
    );
    assert_eq!(
        Place::labelled(&[]).warnings(&rules, &listed),
        ["volume \"tmp\": policy \"tmp\" excludes it, but the pod's own backup-volumes wins"]
    );
}

#[test]
fn policies_match_by_all_that_they_say() {
    let place = || Place::labelled(&[("team", "a")]).claim("claim-data", "fast", "10Gi");
    let pod = pod(
        &json!({ "name": "p", "labels": { "app": "db", "tier": "back" } }),
        &[claim("data")],
    );
    for (spec, expected) in [
        (json!({}), true),
        (
            json!({ "namespaceSelector": { "matchLabels": { "team": "a" } } }),
            true,
        ),
        (
            json!({ "namespaceSelector": { "matchLabels": { "team": "b" } } }),
            false,
        ),
        (
            json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "shop" } } }),
            true,
        ),
        (
            json!({ "namespaceSelector": { "matchExpressions": [{ "key": "team", "operator": "NotIn", "values": ["a"] }] } }),
            false,
        ),
        (json!({ "podSelector": { "matchLabels": { "app": "db" } } }), true),
        (
            json!({ "podSelector": { "matchExpressions": [{ "key": "tier", "operator": "DoesNotExist" }] } }),
            false,
        ),
        (
            json!({ "podSelector": { "matchLabels": { "app": "db" } },
            "namespaceSelector": { "matchLabels": { "team": "b" } } }),
            false,
        ),
        (json!({ "volumes": { "claimNames": ["claim-*"] } }), true),
        (json!({ "volumes": { "claimNames": ["x", "claim-dat?"] } }), true),
        (json!({ "volumes": { "claimNames": ["data"] } }), false),
        (json!({ "volumes": { "storageClasses": ["slow", "fast"] } }), true),
        (json!({ "volumes": { "storageClasses": ["slow"] } }), false),
        (json!({ "volumes": { "minimumCapacity": "10Gi" } }), true),
        (json!({ "volumes": { "minimumCapacity": "10.1Gi" } }), false),
        (json!({ "volumes": { "maximumCapacity": "10240Mi" } }), true),
        (json!({ "volumes": { "maximumCapacity": "10G" } }), false),
        (
            json!({ "volumes": { "minimumCapacity": "1Gi", "maximumCapacity": "1Ti", "storageClasses": ["fast"],
            "types": ["PersistentVolumeClaim"], "claimNames": ["*"] } }),
            true,
        ),
        (json!({ "volumes": { "types": ["Ephemeral"] } }), false),
    ] {
        let rules = Rules::new(vec![policy("p", &spec)], []);
        assert_eq!(place().annotation(&rules, &pod).is_some(), expected, "{spec}");
    }
}

#[test]
fn an_ephemeral_volume_is_known_by_its_template_and_by_its_claim() {
    let volume = json!({ "name": "work", "ephemeral": { "volumeClaimTemplate": { "spec": {
        "storageClassName": "fast", "resources": { "requests": { "storage": "2Gi" } } } } } });
    let rules = |volumes: Value| Rules::new(vec![policy("p", &json!({ "volumes": volumes }))], []);
    let of_generated = pod(&json!({ "generateName": "p-" }), std::slice::from_ref(&volume));
    let named = pod(&json!({ "name": "p-1" }), std::slice::from_ref(&volume));
    for (rule, pod, expected, unknown) in [
        (
            json!({ "storageClasses": ["fast"], "minimumCapacity": "2Gi" }),
            &of_generated,
            true,
            "",
        ),
        (json!({ "storageClasses": ["slow"] }), &of_generated, false, ""),
        (
            json!({ "claimNames": ["nothing-*"] }),
            &of_generated,
            true,
            "claim name",
        ),
        (json!({ "claimNames": ["p-1-work"] }), &named, true, ""),
        (json!({ "claimNames": ["nothing-*"] }), &named, false, ""),
    ] {
        let rules = rules(rule.clone());
        let place = Place::labelled(&[]);
        assert_eq!(place.annotation(&rules, pod).is_some(), expected, "{rule}");
        let told = place.decide(&rules, pod, "shop", |decision| {
            decision.unknown_facts().to_string()
        });
        assert_eq!(told, unknown, "{rule}");
    }
    let bigger = Place::labelled(&[]).claim("p-1-work", "fast", "9Gi");
    assert!(
        bigger
            .annotation(&rules(json!({ "minimumCapacity": "9Gi" })), &named)
            .is_some()
    );
}

#[test]
fn what_is_not_known_speaks_for_a_backup_and_is_named() {
    let pod = pod(&json!({ "name": "p" }), &[claim("data")]);
    let unknown = |rules: &Rules, place: &Place| {
        place.decide(rules, &pod, "shop", |decision| {
            (decision.annotation(), decision.unknown_facts().to_string())
        })
    };
    let chosen = Some("data".to_owned());
    let by_class = |action: &str| json!({ "action": action, "volumes": { "storageClasses": ["x"], "maximumCapacity": "1Gi" } });
    let include = Rules::new(vec![policy("some", &by_class("Include"))], []);
    let known = Place::labelled(&[]);
    assert_eq!(
        unknown(&include, &known),
        (chosen.clone(), "storage class, capacity".to_owned())
    );
    let exclude = Rules::new(
        vec![policy("all", &json!({})), policy("not", &by_class("Exclude"))],
        [],
    );
    assert_eq!(
        unknown(&exclude, &known),
        (chosen.clone(), "storage class, capacity".to_owned())
    );

    // A namespace that was made a moment ago: its name is known, its labels are not.
    let nothing = Place::default();
    let of_namespace = |key: &str, value: &str| {
        Rules::new(
            vec![policy(
                "p",
                &json!({ "namespaceSelector": { "matchLabels": { key: value } } }),
            )],
            [],
        )
    };
    assert_eq!(
        unknown(&of_namespace("team", "a"), &nothing),
        (chosen.clone(), "namespace labels".to_owned())
    );
    let name = "kubernetes.io/metadata.name";
    assert_eq!(
        unknown(&of_namespace(name, "shop"), &nothing),
        (chosen, "namespace labels".to_owned())
    );
    assert_eq!(
        unknown(&of_namespace(name, "bank"), &nothing),
        (None, "namespace labels".to_owned())
    );
}

#[test]
fn pods_of_the_system_are_left_alone() {
    let rules = Rules::new(
        vec![policy("all", &json!({}))],
        ["velero".to_owned(), "kubectl-backup".to_owned()],
    );
    let plain = pod(&json!({ "name": "p" }), &[claim("data")]);
    let place = Place::labelled(&[("kubectl-backup.io/volumes", "include")]);
    for (namespace, exempt) in [
        ("shop", false),
        ("kube-system", true),
        ("kube-node-lease", true),
        ("velero", true),
        ("kubectl-backup", true),
    ] {
        place.decide(&rules, &plain, namespace, |decision| {
            assert_eq!(decision.exemption.is_some(), exempt, "{namespace}");
            assert_eq!(decision.annotation().is_none(), exempt, "{namespace}");
        });
    }
    let mirror = pod(&annotated("kubernetes.io/config.mirror", "x"), &[claim("data")]);
    place.decide(&rules, &mirror, "shop", |decision| {
        assert_eq!(decision.exemption, Some(Exemption::MirrorPod));
        assert_eq!(decision.annotation(), None);
    });
}

#[test]
fn null_counts_as_absent_and_the_rest_is_passed_over() {
    let text = r#"{"metadata":{"name":null,"labels":null,"annotations":null,"ownerReferences":null,"future":[{}]},
        "spec":{"volumes":[{"persistentVolumeClaim":null,"emptyDir":{},"name":"a"}],"containers":null},"status":null}"#;
    let facts = PodFacts::parse(text.as_bytes()).unwrap();
    assert!(!facts.has_annotations);
    assert_eq!(facts.volumes[0].source, Source::EmptyDir);
    let escaped = PodFacts::parse(br#"{"metadata":{"annotations":{"backup.velero.io\/backup-volumes":"d\u0061ta"},
        "ownerReferences":[{"kind":"X"},{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","controller":true}]}}"#);
    let escaped = escaped.unwrap();
    assert_eq!(escaped.backup_volumes.as_deref(), Some("data"));
    assert_eq!(&*escaped.owner.unwrap().kind, "ReplicaSet");
    for broken in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"metadata":{"name":1}}"#,
        r#"{"metadata":{},"spec":{"volumes":[{}]}}"#,
    ] {
        assert!(PodFacts::parse(broken.as_bytes()).is_err(), "{broken}");
    }
}
