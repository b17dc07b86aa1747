//! Whole documents, in the forms of Velero's documentation, and what is refused.
//!
//! That objects come out as Velero makes them is shown by the differential test against Velero's own code.

use serde_json::json;

use super::*;

fn apply(rules: &str, resource_group: &str, object: Value) -> (Value, Modified) {
    let modifiers = Modifiers::parse(rules).unwrap();
    let Value::Object(mut object) = object else {
        panic!("no object");
    };
    let modified = modifiers.apply(resource_group, &mut object);
    (Value::Object(object), modified)
}

fn claim(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": "db"}},
        "spec": {"storageClassName": "premium"}})
}

const CLAIMS: &str = r#"
version: v1
resourceModifierRules:
- conditions:
    groupResource: persistentvolumeclaims
    resourceNameRegex: "^mysql.*$"
    namespaces: [bar, foo]
    labelSelector:
      matchLabels: {app: db}
    matches:
    - path: /spec/storageClassName
      value: premium
  patches:
  - operation: test
    path: "/spec/storageClassName"
    value: "premium"
  - operation: replace
    path: "/spec/storageClassName"
    value: "standard"
  - operation: remove
    path: "/metadata/labels/app"
"#;

#[test]
fn a_rule_changes_what_its_conditions_select() {
    let (changed, modified) = apply(CLAIMS, "persistentvolumeclaims", claim("foo", "mysql-1"));
    assert_eq!(changed["spec"]["storageClassName"], "standard");
    assert_eq!(changed["metadata"]["labels"], json!({}));
    assert_eq!(modified.applied, [1]);
    for (kind, object) in [
        ("persistentvolumeclaims", claim("other", "mysql-1")),
        ("persistentvolumeclaims", claim("foo", "my-mysql")),
        ("pods", claim("foo", "mysql-1")),
    ] {
        let (unchanged, modified) = apply(CLAIMS, kind, object.clone());
        assert_eq!((unchanged, modified), (object, Modified::default()));
    }
}

#[test]
fn every_rule_is_matched_against_the_object_as_it_came() {
    let rules = r#"
version: v1
resourceModifierRules:
- conditions: {groupResource: configmaps}
  mergePatches:
  - patchData: |
      data: {step: one}
- conditions:
    groupResource: configmaps
    matches: [{path: /data/step, value: zero}]
  mergePatches:
  - patchData: '{"data": {"second": "yes", "gone": null}}'
- conditions:
    groupResource: configmaps
    matches: [{path: /data/step, value: one}]
  mergePatches:
  - patchData: |
      data: {third: "no"}
"#;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"},
        "data": {"step": "zero", "gone": "x"}});
    let (changed, modified) = apply(rules, "configmaps", object);
    assert_eq!(changed["data"], json!({"step": "one", "second": "yes"}));
    assert_eq!(modified.applied, [1, 2]);
}

#[test]
fn strategic_patches_merge_lists_by_their_keys() {
    let rules = r"
version: v1
resourceModifierRules:
- conditions: {groupResource: pods}
  strategicPatches:
  - patchData: |
      spec:
        containers:
        - name: nginx
          image: repo2/nginx
        - name: sidecar
          image: side
        - name: old
          $patch: delete
";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "old", "image": "x"}, {"name": "nginx", "image": "repo/nginx", "args": ["a"]}]}});
    let (changed, modified) = apply(rules, "pods", pod);
    assert_eq!(modified.problems, Vec::<String>::new());
    assert_eq!(
        changed["spec"]["containers"],
        json!([{"name": "nginx", "image": "repo2/nginx", "args": ["a"]}, {"name": "sidecar", "image": "side"}])
    );
    let custom = json!({"apiVersion": "shop.io/v1", "kind": "Order", "metadata": {"name": "o"}});
    let (unchanged, modified) = apply(rules, "pods", custom.clone());
    assert_eq!(unchanged, custom);
    assert!(
        modified.problems[0]
            .contains("rule 1 of the resource modifiers: there are no strategic merge patches for Order")
    );
}

#[test]
fn a_rule_that_cannot_be_applied_is_named_and_changes_nothing() {
    let rules = r#"
version: v1
resourceModifierRules:
- conditions: {groupResource: persistentvolumeclaims}
  patches:
  - {operation: add, path: /spec/done, value: "1"}
  - {operation: remove, path: /spec/missing}
"#;
    let (unchanged, modified) = apply(rules, "persistentvolumeclaims", claim("a", "b"));
    assert_eq!(unchanged, claim("a", "b"));
    assert_eq!(
        modified.problems,
        ["rule 1 of the resource modifiers: the object has no /spec/missing (path of a patch)"]
    );
}

#[test]
fn faults_are_found_before_anything_is_written() {
    let rule = |conditions: &str, patches: &str| {
        format!("version: v1\nresourceModifierRules:\n- conditions: {{{conditions}}}\n  {patches}\n")
    };
    let good = "patches: [{operation: remove, path: /a}]";
    let pods = "groupResource: pods";
    assert!(Modifiers::parse(&rule(pods, good)).is_ok());
    assert!(
        Modifiers::parse(&rule("GroupResource: pods", good).replace("version: v1", "Version: V1")).is_ok()
    );
    for (text, part) in [
        (String::new(), "version is \"\""),
        ("version: v2".into(), "version is \"v2\""),
        ("version: v1".into(), "resourceModifierRules is empty"),
        ("version: v1\nversion: v1".into(), "set twice"),
        ("version: v1\nrules: []".into(), "no field rules"),
        ("- a".into(), "must be a mapping"),
        ("a: [".into(), "line"),
        (rule("", good), "rule 1: conditions need a groupResource"),
        (rule("groupResource: \"[\"", good), "rule 1: groupResource"),
        (
            rule("groupResource: pods, resourceNameRegex: \"(\"", good),
            "rule 1: resourceNameRegex",
        ),
        (
            rule("groupResource: pods, matches: [{value: x}]", good),
            "a match has no path",
        ),
        (
            rule(
                "groupResource: pods, labelSelector: {matchExpressions: [{key: a, operator: Is}]}",
                good,
            ),
            "labelSelector",
        ),
        (
            rule("groupResource: pods, namespaces: x", good),
            "namespaces of conditions must be a list",
        ),
        (rule(pods, "patches: []"), "rule 1: it has no patch"),
        (
            rule(pods, "patches: [{operation: Add, path: /a}]"),
            "operation \"Add\" is unknown",
        ),
        (rule(pods, "patches: [{operation: add}]"), "has no path"),
        (
            rule(pods, "patches: [{operation: move, path: /a}]"),
            "has no from",
        ),
        (
            rule(pods, "patches: [{operation: add, path: /a, values: 1}]"),
            "no field values",
        ),
        (
            rule(pods, "patches: [{operation: add, path: /a, value: '007'}]"),
            "does not give JSON",
        ),
        (
            rule(pods, "patches: [{operation: add, path: /a, value: {b: c}}]"),
            "must be text",
        ),
        (rule(pods, "mergePatches: [{patchData: 'a: ['}]"), "patchData: "),
        (
            rule(pods, "mergePatches: [{patchData: '5'}]"),
            "patchData must be a mapping",
        ),
        (
            rule(
                pods,
                "patches: [{operation: remove, path: /a}]\n  mergePatches: [{patchData: 'a: 1'}]",
            ),
            "only one of",
        ),
    ] {
        let error = Modifiers::parse(&text).unwrap_err().to_string();
        assert!(error.contains(part), "{error}\n{text}");
    }
    let second = rule(pods, good) + "- conditions: {groupResource: pods}\n";
    assert!(
        Modifiers::parse(&second)
            .unwrap_err()
            .to_string()
            .starts_with("rule 2: ")
    );
}
