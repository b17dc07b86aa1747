//! Every entry of the table is needed and hides nothing else; every other change is found.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kinds::tests::kind;

fn api(name: &str) -> ApiKind {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    kind(&format!("{group}/v1"), plural, "X", true).api
}

fn lines(name: &str, left: &Value, right: &Value, table: &[IgnoredPath]) -> Vec<String> {
    compare(&api(name), left, right, table)
        .differences
        .iter()
        .map(Difference::to_string)
        .collect()
}

#[test]
fn differences_have_paths_and_values() {
    let left = json!({"spec": {"replicas": 1, "ports": [{"port": 80}, {"port": 81}], "a/b": 1, "same": {}},
        "metadata": {"labels": {"x": "1"}}});
    let right = json!({"spec": {"replicas": 2, "ports": [{"port": 80}], "a/b": 2, "same": {}, "more": {"deep": true}},
        "metadata": {"annotations": {}}});
    assert_eq!(
        lines("deployments.apps", &left, &right, LIVE_VS_BACKUP),
        [
            "metadata.labels.x: \"1\" != nothing",
            "spec[\"a/b\"]: 1 != 2",
            "spec.ports[1].port: 81 != nothing",
            "spec.replicas: 1 != 2",
            "spec.more.deep: nothing != true",
        ]
    );
    assert_eq!(
        lines("xs.x.io", &json!({"a": {}}), &json!({}), RESTORED),
        ["a: {} != nothing"]
    );
    assert_eq!(
        lines("xs.x.io", &json!({"a": null}), &json!({}), RESTORED),
        ["a: null != nothing"]
    );
    assert_eq!(lines("xs.x.io", &json!([]), &json!(3), RESTORED), [": [] != 3"]);
}

#[test]
fn values_of_secrets_are_never_shown() {
    let left = json!({"data": {"password": "aHVudGVyMg=="}, "type": "Opaque", "stringData": ["s3cret"], "metadata": {
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"password\":\"aHVudGVyMg==\"}}"},
        "labels": {"app": "a"}}});
    let right =
        json!({"data": {"password": "b3RoZXI="}, "type": "Mine", "metadata": {"labels": {"app": "b"}}});
    for (left, right) in [
        (&left, &right),
        (&right, &left),
        (&left, &json!(null)),
        (&json!({}), &left),
    ] {
        let text = lines("secrets", left, right, RESTORED).join("\n");
        for word in ["aHVudGVyMg", "b3RoZXI", "s3cret"] {
            assert!(!text.contains(word), "{text}");
        }
    }
    let shown = lines("secrets", &left, &right, RESTORED);
    assert!(
        shown
            .iter()
            .any(|line| line.starts_with("data.password: \"<12 characters, sha256 ")),
        "{shown:?}"
    );
    assert!(
        shown.contains(&"type: \"Opaque\" != \"Mine\"".to_owned()),
        "{shown:?}"
    );
    assert!(
        shown.contains(&"metadata.labels.app: \"a\" != \"b\"".to_owned()),
        "{shown:?}"
    );
}

/// An object that has `value` at a path of the table.
fn object_at(path: &str, value: Value) -> Value {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = if let Some(tail) = rest.strip_prefix("[*]") {
            steps.push(None);
            tail
        } else if let Some(tail) = rest.strip_prefix("[\"") {
            let (key, tail) = tail.split_once("\"]").unwrap();
            steps.push(Some(key));
            tail
        } else {
            let tail = rest.strip_prefix('.').unwrap_or(rest);
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            steps.push(Some(&tail[..end]));
            &tail[end..]
        };
    }
    steps.into_iter().rev().fold(value, |inner, step| match step {
        Some(key) => json!({ key: inner }),
        None => json!([inner]),
    })
}

fn kinds_of(kinds: Kinds) -> Vec<ApiKind> {
    match kinds {
        Kinds::All => vec![api("configmaps"), api("xs.x.io")],
        Kinds::BuiltIn => vec![api("deployments.apps")],
        Kinds::These(names) => names.iter().map(|name| api(name)).collect(),
        Kinds::TokenSecrets => vec![api("secrets")],
    }
}

fn typed(mut object: Value, kinds: Kinds) -> Value {
    if kinds == Kinds::TokenSecrets {
        object["type"] = "kubernetes.io/service-account-token".into();
    }
    object
}

#[test]
fn each_entry_hides_its_path_and_reports_its_use() {
    for table in [RESTORED, SAME_OBJECT] {
        each_entry_is_needed(table);
    }
}

fn each_entry_is_needed(whole: &[IgnoredPath]) {
    for (position, entry) in whole.iter().enumerate() {
        for kind in kinds_of(entry.kinds) {
            let left = typed(object_at(entry.path, json!("a")), entry.kinds);
            let right = typed(object_at(entry.path, json!({"b": ["c"]})), entry.kinds);
            let found = compare(&kind, &left, &right, whole);
            assert!(found.is_equal(), "{kind} {}: {:?}", entry.path, found.differences);
            assert_eq!(found.used, BTreeSet::from([position]), "{kind} {}", entry.path);
            assert!(compare(&kind, &left, &left, whole).used.is_empty());

            let mut table = whole.to_vec();
            table.remove(position);
            assert!(
                !compare(&kind, &left, &right, &table).is_equal(),
                "{} is hidden twice",
                entry.path
            );
        }
        assert!(!entry.reason.is_empty() && !entry.kinds.to_string().is_empty());
    }
}

#[test]
fn entries_hold_only_for_their_kinds() {
    for (name, path) in [
        ("configmaps", "spec.clusterIP"),
        ("xs.x.io", "status"),
        ("secrets", "data.token"),
        ("services", "spec.ports[*].port"),
        ("services", "spec.clusterIPx"),
        ("configmaps", "metadata.ownerReferences[*].name"),
    ] {
        let (left, right) = (object_at(path, json!("a")), object_at(path, json!("b")));
        assert!(
            !compare(&api(name), &left, &right, RESTORED).is_equal(),
            "{name} {path}"
        );
    }
}

#[test]
fn labels_of_the_restore_do_not_count_where_there_were_none() {
    let left = json!({"metadata": {"name": "a"}});
    let right = json!({"metadata": {"name": "a", "labels": {"velero.io/restore-name": "r"}}});
    assert!(compare(&api("configmaps"), &left, &right, RESTORED).is_equal());
    for (key, empty) in [
        ("labels", json!({})),
        ("annotations", json!({})),
        ("ownerReferences", json!([])),
    ] {
        let empty = json!({"metadata": {"name": "a", key: empty}});
        assert!(
            compare(&api("configmaps"), &left, &empty, LIVE_VS_BACKUP).is_equal(),
            "{key}"
        );
    }
}

#[test]
fn a_difference_reads_back_with_its_nulls() {
    for (left, right) in [
        (Some(json!(null)), None),
        (None, Some(json!(null))),
        (Some(json!(1)), Some(json!("a"))),
    ] {
        let difference = Difference {
            path: "a".into(),
            left,
            right,
        };
        let text = serde_json::to_string(&difference).unwrap();
        assert_eq!(
            serde_json::from_str::<Difference>(&text).unwrap(),
            difference,
            "{text}"
        );
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab.]{1,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn equal_exactly_when_identical_without_a_table(left in any_json(), right in any_json()) {
        let kind = api("xs.x.io");
        let found = compare(&kind, &left, &right, LIVE_VS_BACKUP);
        prop_assert_eq!(found.is_equal(), left == right);
        let back = compare(&kind, &right, &left, LIVE_VS_BACKUP);
        let paths = |found: &Comparison| found.differences.iter().map(|one| one.path.clone()).collect::<BTreeSet<_>>();
        prop_assert_eq!(paths(&found), paths(&back));
        prop_assert_eq!(paths(&found).len(), found.differences.len());
    }
}
