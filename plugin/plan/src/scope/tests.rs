//! Tables of scopes, and that every decision is made.

use proptest::prelude::*;
use velero_model::{item::Head, resource::ApiKind};

use super::*;
use crate::{kinds::tests::kind, rule::Rule};

fn served() -> Vec<DiscoveredKind> {
    vec![
        kind("v1", "pods", "Pod", true),
        kind("v1", "namespaces", "Namespace", false),
        kind("v1", "persistentvolumes", "PersistentVolume", false),
        kind("apps/v1", "deployments", "Deployment", true),
        kind(
            "rbac.authorization.k8s.io/v1",
            "clusterroles",
            "ClusterRole",
            false,
        ),
    ]
}

fn api(name: &str) -> ApiKind {
    served()
        .into_iter()
        .find(|kind| kind.api.plural == name)
        .unwrap()
        .api
}

fn names(words: &[&str]) -> ResourceNames {
    ResourceNames::new(words.iter().copied())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `+` for a cluster-wide list, `n` for one per namespace, else the rule's id.
fn kinds_of(scope: &Scope) -> Vec<&'static str> {
    let filter = scope.resolve(&served()).unwrap();
    ["pods", "deployments", "persistentvolumes", "clusterroles"]
        .map(|name| match filter.decide_kind(&api(name)) {
            KindDecision::List(Extent::ClusterWide) => "+",
            KindDecision::List(Extent::PerNamespace) => "n",
            KindDecision::Skip(rule) => rule.id(),
        })
        .to_vec()
}

#[test]
fn kinds_by_scope() {
    const NOT_ASKED: &str = "cluster-scoped-not-asked";
    const EXCLUDED: &str = "excluded-resource";
    const NOT_INCLUDED: &str = "not-included-resource";
    let shop = || Scope {
        included_namespaces: strings(&["shop"]),
        ..Scope::default()
    };
    let table = [
        (Scope::default(), ["+", "+", "+", "+"]),
        (shop(), ["n", "n", NOT_ASKED, NOT_ASKED]),
        (
            Scope {
                included_namespaces: strings(&["*"]),
                ..Scope::default()
            },
            ["+", "+", "+", "+"],
        ),
        (
            Scope {
                excluded_namespaces: strings(&["dev-*"]),
                ..Scope::default()
            },
            ["+", "+", "+", "+"],
        ),
        (
            Scope {
                include_cluster_resources: Some(true),
                ..shop()
            },
            ["n", "n", "+", "+"],
        ),
        (
            Scope {
                include_cluster_resources: Some(false),
                ..Scope::default()
            },
            ["+", "+", NOT_ASKED, NOT_ASKED],
        ),
        (
            Scope {
                included_resources: names(&["deploy*"][..0]),
                excluded_resources: names(&["Pod"]),
                ..Scope::default()
            },
            [EXCLUDED, "+", "+", "+"],
        ),
        (
            Scope {
                included_resources: names(&["pods", "clusterroles"]),
                ..Scope::default()
            },
            ["+", NOT_INCLUDED, NOT_INCLUDED, "+"],
        ),
        (
            Scope {
                included_resources: names(&["pods", "clusterroles"]),
                ..shop()
            },
            ["n", NOT_INCLUDED, NOT_INCLUDED, NOT_ASKED],
        ),
        (
            Scope {
                included_cluster_scoped: names(&["clusterroles"]),
                ..shop()
            },
            ["n", "n", NOT_INCLUDED, "+"],
        ),
        (
            Scope {
                included_cluster_scoped: names(&["*"]),
                ..shop()
            },
            ["n", "n", "+", "+"],
        ),
        (
            Scope {
                excluded_cluster_scoped: names(&["clusterroles"]),
                ..Scope::default()
            },
            ["+", "+", "+", EXCLUDED],
        ),
        (
            Scope {
                included_namespace_scoped: names(&["pods"]),
                ..Scope::default()
            },
            ["+", NOT_INCLUDED, NOT_ASKED, NOT_ASKED],
        ),
        (
            Scope {
                excluded_namespace_scoped: names(&["*"]),
                included_cluster_scoped: names(&["*"]),
                ..Scope::default()
            },
            [EXCLUDED, EXCLUDED, "+", "+"],
        ),
    ];
    for (scope, expected) in table {
        assert_eq!(kinds_of(&scope), expected, "{scope:?}");
    }
}

#[test]
fn contradictions_are_refused() {
    let id = |scope: Scope| {
        scope
            .resolve(&served())
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    for (scope, part) in [
        (
            Scope {
                included_resources: names(&["pods"]),
                included_cluster_scoped: names(&["*"]),
                ..Scope::default()
            },
            "--include-resources cannot be combined with --include-cluster-scoped-resources",
        ),
        (
            Scope {
                include_cluster_resources: Some(true),
                excluded_namespace_scoped: names(&["pods"]),
                ..Scope::default()
            },
            "--include-cluster-resources cannot be combined",
        ),
        (
            Scope {
                selector: Selector::parse("a").unwrap(),
                or_selector: OrSelector::parse("a or b").unwrap(),
                ..Scope::default()
            },
            "exclude each other",
        ),
        (
            Scope {
                included_namespaces: strings(&["a**"]),
                ..Scope::default()
            },
            "--include-namespaces: ",
        ),
        (
            Scope {
                excluded_namespaces: strings(&["*"]),
                ..Scope::default()
            },
            "would exclude everything",
        ),
        (
            Scope {
                included_namespaces: strings(&["a"]),
                excluded_namespaces: strings(&["a"]),
                ..Scope::default()
            },
            "both included and excluded",
        ),
        (
            Scope {
                included_resources: names(&["pod", "depolyments"]),
                ..Scope::default()
            },
            "did you mean \"deployments\"",
        ),
        (
            Scope {
                included_cluster_scoped: names(&["pods"]),
                ..Scope::default()
            },
            "use --include-namespace-scoped-resources",
        ),
    ] {
        let text = id(scope);
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
    assert!(Scope::default().check().is_ok() && Scope::default().is_everything());
}

fn object(filter: &Filter, kind: &str, json: &str) -> &'static str {
    match filter.decide_object(&api(kind), &Head::parse(json.as_bytes()).unwrap()) {
        ObjectDecision::Take => "+",
        ObjectDecision::Skip(rule) => rule.id(),
    }
}

#[test]
fn objects_by_namespace_and_label() {
    let scope = Scope {
        included_namespaces: strings(&["shop-*", "bank"]),
        excluded_namespaces: strings(&["shop-dev"]),
        selector: Selector::parse("app=x").unwrap(),
        ..Scope::default()
    };
    let mut filter = scope.resolve(&served()).unwrap();
    filter.exclude_labelled_namespace("shop-hidden");
    for (namespace, labels, expected) in [
        ("shop-1", r#"{"app":"x"}"#, "+"),
        ("bank", r#"{"app":"x"}"#, "+"),
        ("shop-dev", r#"{"app":"x"}"#, "excluded-namespace"),
        ("other", r#"{"app":"x"}"#, "not-in-included-namespaces"),
        ("shop-hidden", r#"{"app":"x"}"#, "namespace-exclude-label"),
        ("bank", r#"{"app":"y"}"#, "label-selector"),
        ("bank", "null", "label-selector"),
        (
            "bank",
            r#"{"app":"x","velero.io/exclude-from-backup":"true"}"#,
            "exclude-label",
        ),
        (
            "bank",
            r#"{"app":"x","velero.io/exclude-from-backup":"false"}"#,
            "+",
        ),
    ] {
        let json = format!(r#"{{"metadata":{{"name":"p","namespace":"{namespace}","labels":{labels}}}}}"#);
        assert_eq!(object(&filter, "pods", &json), expected, "{json}");
    }
    assert_eq!(
        object(&filter, "namespaces", r#"{"metadata":{"name":"bank"}}"#),
        "+"
    );
    assert_eq!(
        object(&filter, "namespaces", r#"{"metadata":{"name":"x"}}"#),
        "not-in-included-namespaces"
    );
    assert_eq!(filter.named_namespaces(), None);
    let named = Scope {
        included_namespaces: strings(&["a", "b"]),
        ..Scope::default()
    };
    assert_eq!(
        named.resolve(&served()).unwrap().named_namespaces(),
        Some(vec!["a", "b"])
    );
    assert_eq!(
        filter.missing_namespaces(&|_| false).collect::<Vec<_>>(),
        ["bank"]
    );

    let labelled = Scope {
        selector: Selector::parse("app=x").unwrap(),
        ..Scope::default()
    };
    let filter = labelled.resolve(&served()).unwrap();
    assert_eq!(
        object(&filter, "namespaces", r#"{"metadata":{"name":"a"}}"#),
        "label-selector"
    );
    assert_eq!(
        object(
            &filter,
            "namespaces",
            r#"{"metadata":{"name":"a","labels":{"app":"x"}}}"#
        ),
        "+"
    );
}

#[test]
fn related_objects_pass_selectors_but_not_exclusions() {
    let volume = api("persistentvolumes");
    let decide = |scope: Scope| match scope.resolve(&served()).unwrap().decide_related(&volume, None) {
        ObjectDecision::Take => "+",
        ObjectDecision::Skip(rule) => rule.id(),
    };
    let shop = || Scope {
        included_namespaces: strings(&["shop"]),
        ..Scope::default()
    };
    assert_eq!(decide(shop()), "+");
    assert_eq!(
        decide(Scope {
            selector: Selector::parse("app=x").unwrap(),
            ..shop()
        }),
        "+"
    );
    assert_eq!(
        decide(Scope {
            include_cluster_resources: Some(false),
            ..shop()
        }),
        "cluster-scoped-not-asked"
    );
    assert_eq!(
        decide(Scope {
            excluded_resources: names(&["persistentvolumes"]),
            ..shop()
        }),
        "excluded-resource"
    );
    assert_eq!(
        decide(Scope {
            included_resources: names(&["pods"]),
            ..shop()
        }),
        "not-included-resource"
    );
    assert_eq!(
        decide(Scope {
            included_cluster_scoped: names(&["clusterroles"]),
            ..shop()
        }),
        "+"
    );
    let filter = shop().resolve(&served()).unwrap();
    assert_eq!(
        filter.decide_related(&api("pods"), Some("bank")),
        ObjectDecision::Skip(Rule::NotInIncludedNamespaces)
    );
    assert_eq!(
        filter.decide_related(&api("namespaces"), None),
        ObjectDecision::Take
    );
}

#[test]
fn ordered_objects_go_first() {
    let ordered = OrderedResources::parse("pod=a/p2, a/p1; persistentvolumes=pv").unwrap();
    let filter = Scope {
        ordered,
        ..Scope::default()
    }
    .resolve(&served())
    .unwrap();
    assert_eq!(filter.position(&api("pods"), Some("a"), "p1"), Some(1));
    assert_eq!(filter.position(&api("pods"), Some("b"), "p1"), None);
    assert_eq!(
        filter.ordered(&api("persistentvolumes")).collect::<Vec<_>>(),
        [(None, "pv")]
    );
    for bad in ["pods", "pods=", "=a", "pods=a/b/c", "pods=a;pods=b"] {
        assert!(OrderedResources::parse(bad).is_err(), "{bad}");
    }
}

fn any_names() -> impl Strategy<Value = ResourceNames> {
    proptest::collection::vec(
        "(pods|deployments|persistentvolumes|clusterroles|namespaces|\\*)",
        0..2,
    )
    .prop_map(ResourceNames::new)
}

proptest! {
    #[test]
    fn every_object_is_decided_and_agrees_with_its_kind(
        included in proptest::collection::vec("(a|b|a\\*|\\*)", 0..3),
        excluded in proptest::collection::vec("(c|b\\?)", 0..2),
        (one, two) in (any_names(), any_names()),
        (three, four) in (any_names(), any_names()),
        cluster in any::<Option<bool>>(),
        namespace in "(a|b|ab|b1|c)",
        generation in any::<bool>(),
    ) {
        let mut scope = Scope { included_namespaces: included, excluded_namespaces: excluded, ..Scope::default() };
        if generation {
            (scope.included_cluster_scoped, scope.excluded_cluster_scoped) = (one, two);
            (scope.included_namespace_scoped, scope.excluded_namespace_scoped) = (three, four);
        } else {
            (scope.included_resources, scope.excluded_resources) = (one, two);
            scope.include_cluster_resources = cluster;
        }
        let Ok(filter) = scope.resolve(&served()) else { return Ok(()); };
        for kind in served() {
            let json = if kind.api.namespaced {
                format!(r#"{{"metadata":{{"name":"x","namespace":"{namespace}"}}}}"#)
            } else {
                format!(r#"{{"metadata":{{"name":"{namespace}"}}}}"#)
            };
            let taken = filter.decide_object(&kind.api, &Head::parse(json.as_bytes()).unwrap()).is_take();
            let listed = matches!(filter.decide_kind(&kind.api), KindDecision::List(_));
            prop_assert!(!taken || listed);
            // What is taken for itself is also taken when something else asks for it.
            let at = kind.api.namespaced.then_some(namespace.as_str());
            prop_assert!(!taken || filter.decide_related(&kind.api, at).is_take());
            if kind.api.namespaced && taken {
                prop_assert!(filter.decide_namespace_name(&namespace).is_take());
            }
        }
    }
}
