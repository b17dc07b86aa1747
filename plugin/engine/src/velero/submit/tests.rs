//! Tables of requests and what they become.

use backup_plan::{
    scope::OrderedResources,
    selector::{OrSelector, Selector},
};
use serde_json::json;
use velero_model::{duration::GoDuration, resource::ApiKind};

use super::*;

fn kind(group: &str, plural: &str, word: &str, short: &str, namespaced: bool) -> DiscoveredKind {
    DiscoveredKind {
        api: ApiKind {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            kind: word.into(),
            namespaced,
        },
        verbs: ["list", "get", "create"].map(str::to_owned).to_vec(),
        short_names: vec![short.into()],
        singular: word.to_ascii_lowercase(),
        preferred: true,
        categories: Vec::new(),
        is_held: false,
    }
}

fn kinds() -> Vec<DiscoveredKind> {
    vec![
        kind("", "pods", "Pod", "po", true),
        kind("", "namespaces", "Namespace", "ns", false),
        kind("apps", "deployments", "Deployment", "deploy", true),
        kind(
            "scheduling.k8s.io",
            "priorityclasses",
            "PriorityClass",
            "pc",
            false,
        ),
    ]
}

fn words(words: &[&str]) -> ResourceNames {
    ResourceNames::new(words.iter().copied())
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn request(scope: Scope) -> BackupRequest {
    BackupRequest {
        name: BackupName::parse("nightly").unwrap(),
        scope,
        ttl: Some(GoDuration::from_hours(720)),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        schedule: None,
        lock_until: None,
        velero_namespace: "velero".into(),
        storage_location: "default".into(),
        tool_version: "0".into(),
        lists_in_flight: 1,
        volumes: None,
        velero_spec: Map::new(),
    }
}

fn identity() -> ClusterIdentity {
    ClusterIdentity {
        uid: "u".into(),
        name: "prod".into(),
        version: "v1.34.4".into(),
    }
}

fn spec(scope: Scope) -> Value {
    let mut value = backup(&request(scope), &identity(), &kinds()).unwrap();
    value["spec"].take()
}

#[test]
fn everything_asks_for_cluster_scoped_objects_by_name() {
    let mut wanted = request(Scope::default());
    wanted.labels.insert("team".into(), "shop".into());
    assert_eq!(
        backup(&wanted, &identity(), &kinds()).unwrap(),
        json!({
            "apiVersion": "velero.io/v1", "kind": "Backup",
            "metadata": {
                "name": "nightly", "namespace": "velero", "labels": { "team": "shop" },
                "annotations": { CLUSTER_UID: "u", CLUSTER_NAME: "prod" },
            },
            "spec": {
                "includedNamespaces": ["*"], "includedClusterScopedResources": ["*"],
                "storageLocation": "default", "ttl": "720h0m0s",
            },
        })
    );
}

#[test]
fn a_scope_means_the_same_to_velero() {
    let table = [
        (
            Scope {
                included_namespaces: texts(&["shop-{a,b}", "db"]),
                ..Scope::default()
            },
            json!({ "includedNamespaces": ["shop-a", "shop-b", "db"] }),
        ),
        (
            Scope {
                excluded_namespaces: texts(&["kube-*"]),
                selector: Selector::parse("app=web").unwrap(),
                ..Scope::default()
            },
            json!({
                "includedNamespaces": ["*"], "excludedNamespaces": ["kube-*"],
                "includedClusterScopedResources": ["*"], "labelSelector": { "matchLabels": { "app": "web" } },
            }),
        ),
        (
            Scope {
                included_namespaces: texts(&["*", "db"]),
                excluded_resources: words(&["deploy"]),
                ..Scope::default()
            },
            json!({
                "includedNamespaces": ["*"], "excludedResources": ["deployments.apps"],
                "includeClusterResources": true,
            }),
        ),
        (
            Scope {
                include_cluster_resources: Some(false),
                ..Scope::default()
            },
            json!({ "includedNamespaces": ["*"], "includeClusterResources": false }),
        ),
        (
            Scope {
                included_namespaces: texts(&["shop"]),
                included_resources: words(&["po", "deploy"]),
                ..Scope::default()
            },
            json!({ "includedNamespaces": ["shop"], "includedResources": ["deployments.apps", "pods"] }),
        ),
        (
            Scope {
                excluded_cluster_scoped: words(&["pc"]),
                ..Scope::default()
            },
            json!({
                "includedNamespaces": ["*"], "includedClusterScopedResources": ["*"],
                "excludedClusterScopedResources": ["priorityclasses.scheduling.k8s.io"],
            }),
        ),
        (
            Scope {
                included_namespace_scoped: words(&["pods"]),
                ..Scope::default()
            },
            json!({ "includedNamespaces": ["*"], "includedNamespaceScopedResources": ["pods"] }),
        ),
        (
            Scope {
                included_namespaces: texts(&["shop"]),
                or_selector: OrSelector::parse("a=b or c=d").unwrap(),
                ordered: OrderedResources::parse("deploy=shop/db,shop/web").unwrap(),
                ..Scope::default()
            },
            json!({
                "includedNamespaces": ["shop"],
                "orLabelSelectors": [{ "matchLabels": { "a": "b" } }, { "matchLabels": { "c": "d" } }],
                "orderedResources": { "deployments": "shop/db,shop/web" },
            }),
        ),
    ];
    for (scope, mut expected) in table {
        expected["storageLocation"] = "default".into();
        expected["ttl"] = "720h0m0s".into();
        assert_eq!(spec(scope.clone()), expected, "{scope:?}");
    }
}

#[test]
fn what_velero_would_understand_otherwise_is_refused() {
    let refused = |request: &BackupRequest| {
        backup(request, &identity(), &kinds())
            .expect_err("it is refused")
            .to_string()
    };
    let for_ever = BackupRequest {
        ttl: None,
        ..request(Scope::default())
    };
    assert!(refused(&for_ever).contains("--ttl 0: Velero takes 0 for its own default"));
    let locked = BackupRequest {
        lock_until: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        ..request(Scope::default())
    };
    assert!(refused(&locked).contains("--lock-until") && refused(&locked).contains("--engine direct"));
    let unknown = Scope {
        included_resources: words(&["deploymets"]),
        ..Scope::default()
    };
    assert!(refused(&request(unknown)).contains("did you mean \"deployments\""));
    let braces = Scope {
        included_namespaces: texts(&["{a,b,c,d,e}{a,b,c,d,e}{a,b,c,d,e}{a,b,c,d,e}"]),
        ..Scope::default()
    };
    assert!(refused(&request(braces)).contains("500 patterns"));
}

struct Names(BackupName, BackupName, ResourceNames, BTreeMap<String, String>);

impl Names {
    fn new() -> Self {
        let name = |text| BackupName::parse(text).unwrap();
        let mapping = [("shop".to_owned(), "shop-2".to_owned())];
        Self(name("r"), name("b"), ResourceNames::default(), mapping.into())
    }

    fn wish<'a>(&'a self, scope: &'a Scope) -> RestoreWish<'a> {
        RestoreWish {
            name: &self.0,
            backup: &self.1,
            scope,
            namespace_mappings: &self.3,
            existing: "none",
            preserve_node_ports: false,
            status_include: &self.2,
            status_exclude: &self.2,
            restore_volumes: true,
            resource_modifier: None,
            hooks: None,
        }
    }
}

#[test]
fn a_restore_means_the_same_to_velero() {
    let (names, scope) = (
        Names::new(),
        Scope {
            excluded_namespaces: texts(&["kube-{public,system}"]),
            included_resources: words(&["deploy", "widgets.example.org"]),
            ..Scope::default()
        },
    );
    let status = words(&["deploy"]);
    let wish = RestoreWish {
        existing: "update",
        preserve_node_ports: true,
        restore_volumes: false,
        status_include: &status,
        resource_modifier: Some("rules"),
        ..names.wish(&scope)
    };
    let value = serde_json::to_value(restore(&wish, "velero", &kinds()).unwrap()).unwrap();
    assert_eq!(
        value["spec"],
        json!({
            "backupName": "b", "includedNamespaces": ["*"], "excludedNamespaces": ["kube-public", "kube-system"],
            "includedResources": ["deployments.apps", "widgets.example.org"], "includeClusterResources": true,
            "namespaceMapping": { "shop": "shop-2" }, "restorePVs": false, "preserveNodePorts": true,
            "restoreStatus": { "includedResources": ["deployments.apps"] }, "existingResourcePolicy": "update",
            "resourceModifier": { "kind": "configmap", "name": "rules" },
        })
    );
}

#[test]
fn a_restore_that_velero_cannot_do_is_refused() {
    let names = Names::new();
    let scoped = Scope {
        included_cluster_scoped: words(&["pc"]),
        ..Scope::default()
    };
    let unknown = Scope {
        excluded_resources: words(&["widgets"]),
        ..Scope::default()
    };
    let everything = Scope::default();
    let table = [
        (names.wish(&scoped), "--include-resources"),
        (names.wish(&unknown), "no kind is called \"widgets\""),
        (
            RestoreWish {
                existing: "recreate",
                ..names.wish(&everything)
            },
            "--existing-resource-policy recreate",
        ),
    ];
    for (wish, expected) in table {
        let text = restore(&wish, "velero", &kinds())
            .expect_err(expected)
            .to_string();
        assert!(text.contains(expected), "{text}");
    }
}
