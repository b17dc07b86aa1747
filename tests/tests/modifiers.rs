//! Resource modifiers do to an object what Velero's own code does to it.
//!
//! The peer is Velero 1.18.3's package, built as a filter: rules and objects are generated, both sides apply them, and the
//! objects must be equal. Where Velero reports an error for an object we must refuse it, before or while it is restored; the
//! few places where we differ on purpose are told by Velero's own words.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result};
use backup_plan::restore::modifier::Modifiers;
use backup_tests::process;
use backup_tests::servers::{Program, binary, command};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

/// Velero's package behind a pipe.
struct Peer {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start() -> Result<Self> {
        let mut started = command(Program::VeleroModifiers)?;
        started
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = process::spawn(started)?;
        Ok(Self {
            questions: child.stdin.take().context("no stdin")?,
            answers: BufReader::new(child.stdout.take().context("no stdout")?),
            child,
        })
    }

    fn ask(&mut self, rules: &str, group_resource: &str, object: &Value) -> Result<Value> {
        let question = json!({ "rules": rules, "groupResource": group_resource, "object": object });
        writeln!(self.questions, "{question}")?;
        self.questions.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{line:?} to {question}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ours(rules: &str, group_resource: &str, object: &Value) -> Result<Value, String> {
    let modifiers = Modifiers::parse(rules).map_err(|error| error.to_string())?;
    let mut changed: Map<String, Value> = object.as_object().cloned().unwrap_or_default();
    let modified = modifiers.apply(group_resource, &mut changed);
    if modified.problems.is_empty() {
        Ok(Value::Object(changed))
    } else {
        Err(modified.problems.join("; "))
    }
}

/// Compares the two sides; gives what differs.
fn compare(peer: &mut Peer, rules: &str, group_resource: &str, object: &Value) -> Result<(), String> {
    let theirs = peer
        .ask(rules, group_resource, object)
        .map_err(|error| error.to_string())?;
    let ours = ours(rules, group_resource, object);
    let errors: Vec<&str> = theirs["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .chain(theirs.get("invalid"))
        .filter_map(Value::as_str)
        .collect();
    let differs_on_purpose = errors.iter().any(|error| {
        // A condition on a position that a list does not have: no match for us, a fault of the object for Velero.
        error.starts_with("error in test for path")
            // Fields that Velero's Go types do not know, or know as something else.
            || error.contains("unable to find api field")
            || error.contains("expected slice or array type")
            || error.contains("data type is not struct")
    });
    match (&ours, errors.is_empty()) {
        _ if differs_on_purpose => Ok(()),
        (Ok(ours), true) if *ours == theirs["object"] => Ok(()),
        (Err(_), false) => Ok(()),
        // What Velero would find out only when the rule meets an object that it matches; see the test of single faults.
        (Err(_), true) if Modifiers::parse(rules).is_err() => Ok(()),
        _ => Err(format!(
            "ours: {ours:?}\ntheirs: {theirs}\nrules:\n{rules}\nobject: {object}"
        )),
    }
}

fn pod() -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web-1", "namespace": "shop", "labels": { "app": "web", "tier": "front" },
            "finalizers": ["a/one", "b/two"] },
        "spec": { "replicas": 3, "containers": [
                { "name": "web", "image": "repo/web:1", "args": ["a", "b"], "env": [
                    { "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
                  "ports": [{ "containerPort": 80, "protocol": "TCP" }, { "containerPort": 81 }],
                  "resources": { "limits": { "cpu": "1", "memory": "1Gi" } } },
                { "name": "side", "image": "repo/side:1" }],
            "volumes": [{ "name": "data", "emptyDir": {} }, { "name": "config", "configMap": { "name": "c" } }],
            "tolerations": [{ "key": "x", "operator": "Exists" }] } })
}

fn service() -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "bank" },
        "spec": { "type": "ClusterIP", "selector": { "app": "web" }, "ports": [
            { "name": "http", "port": 80, "targetPort": 8080 }, { "name": "tls", "port": 443, "targetPort": "https" }] } })
}

fn custom() -> Value {
    json!({ "apiVersion": "shop.io/v1", "kind": "Order", "metadata": { "name": "o" },
        "spec": { "size": 1.5, "items": [{ "name": "a" }, null, 3], "on": true, "none": null } })
}

fn objects() -> impl Strategy<Value = (&'static str, Value)> {
    prop::sample::select(vec![
        ("pods", pod()),
        ("services", service()),
        ("orders.shop.io", custom()),
    ])
}

fn words(words: &[&str]) -> impl Strategy<Value = String> + use<> {
    prop::sample::select(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

fn paths() -> impl Strategy<Value = String> {
    words(&[
        "/spec/replicas",
        "/spec/containers/0/image",
        "/spec/containers/-1/image",
        "/spec/containers/0",
        "/spec/containers/-",
        "/spec/containers/1/args",
        "/spec/containers/0/args/0",
        "/spec/containers/7",
        "/metadata/labels/app",
        "/metadata/labels/new~1key",
        "/metadata/labels",
        "/metadata/annotations/x",
        "/metadata/finalizers/1",
        "/spec/ports/0/port",
        "/spec/ports/1",
        "/spec/type",
        "/spec/items/0/name",
        "/spec/items/1",
        "/spec/size",
        "/spec/none",
        "/spec/missing/deep",
        "/kind",
        "spec/type",
    ])
}

fn values() -> impl Strategy<Value = String> {
    words(&[
        "text",
        "repo/web:1",
        "5",
        "-3",
        "1.50",
        "1.5",
        "1e3",
        "true",
        "null",
        "\"5\"",
        "\"true\"",
        "{\"a\": 1}",
        "{\"a\": [1.0, null]}",
        "[\"x\", 2]",
        "",
        "web",
        "80",
        "3",
        "a\\nb",
        "10Gi",
        "ClusterIP",
        "~",
        "yes",
    ])
}

/// A scalar of YAML, quoted or not.
fn yaml(text: &str, plain: bool) -> String {
    if plain && !text.is_empty() && !text.starts_with(['{', '[', '"', '~']) {
        text.to_owned()
    } else {
        format!("'{text}'")
    }
}

fn json_patches() -> impl Strategy<Value = String> {
    let operation = words(&[
        "add", "remove", "replace", "test", "move", "copy", "add", "replace",
    ]);
    let patch = (operation, paths(), paths(), values(), any::<bool>()).prop_map(
        |(operation, path, from, value, plain)| {
            format!(
                "  - operation: {operation}\n    path: {path}\n    from: {from}\n    value: {}\n",
                yaml(&value, plain)
            )
        },
    );
    prop::collection::vec(patch, 1..4).prop_map(|patches| format!("  patches:\n{}", patches.concat()))
}

fn merge_data() -> impl Strategy<Value = String> {
    words(&[
        "metadata: {labels: {app: null, extra: \"yes\"}}",
        "metadata: {labels: null, annotations: {a: 'b'}}",
        "metadata: {finalizers: [c/three, a/one]}",
        "metadata: {$deleteFromPrimitiveList/finalizers: [a/one]}",
        "metadata: {$setElementOrder/finalizers: [b/two, a/one]}",
        "metadata: {labels: {$patch: replace, only: one}}",
        "spec: {replicas: 5, containers: [{name: web, image: other, args: [c]}]}",
        "spec: {containers: [{name: web, $patch: delete}]}",
        "spec: {containers: [{$patch: replace}, {name: new, image: x}]}",
        "spec: {containers: [{name: side, env: [{name: B, value: '3'}, {name: C, value: on}]}]}",
        "spec: {containers: [{name: web, env: [{name: B, value: null}, {name: A, $patch: delete}]}]}",
        "spec: {containers: [{name: web, ports: [{containerPort: 81, name: x}, {containerPort: 82}]}]}",
        "spec: {$setElementOrder/containers: [{name: side}, {name: web}], containers: [{name: side, image: y}]}",
        "spec: {$setElementOrder/containers: [{name: new}, {name: side}], containers: [{name: new, image: z}]}",
        "spec: {containers: [{image: no-name}]}",
        "spec: {containers: null}",
        "spec: {volumes: [{name: config, $retainKeys: [name, secret], secret: {secretName: s}}]}",
        "spec: {volumes: [{name: config, $retainKeys: [name], secret: {secretName: s}}]}",
        "spec: {volumes: [{name: data, emptyDir: {medium: Memory}}, {name: config, $patch: delete}]}",
        "spec: {tolerations: [{key: y}]}",
        "spec: {tolerations: []}",
        "spec: {ports: [{port: 443, name: secure}, {port: 8443, targetPort: 0x10}]}",
        "spec: {ports: [{port: 80, $patch: delete}]}",
        "spec: {ports: [{port: '80', name: text}]}",
        "spec: {selector: {app: null}, type: NodePort}",
        "spec: {size: 2.0, items: [{name: null}], on: off, nested: {a: {b: null, c: [{d: null}]}}}",
        "spec: {items: {a: 1}}",
        "spec: {$patch: delete}",
        "spec: {$patch: merge}",
        "spec: [1, 2]",
        "kind: null",
        "spec: {n: 1e3, o: 0o17, p: 0644, q: 1_0, r: 2024-01-01, s: 1:30, t: y}",
        "spec: &a {x: 1}\nstatus: {<<: *a, y: 2}",
        "5: x",
        "'text'",
        "a: [",
    ])
}

fn merge_patches() -> impl Strategy<Value = String> {
    let kind = words(&["mergePatches", "strategicPatches", "strategicPatches"]);
    (kind, prop::collection::vec(merge_data(), 1..3)).prop_map(|(kind, data)| {
        let patches = data
            .iter()
            .map(|data| format!("  - patchData: |\n      {}\n", data.replace('\n', "\n      ")));
        format!("  {kind}:\n{}", patches.collect::<Vec<_>>().concat())
    })
}

fn conditions() -> impl Strategy<Value = String> {
    let groups = words(&[
        "'**'",
        "'**'",
        "'**'",
        "'**'",
        "'**'",
        "'**'",
        "'**'",
        "'**'",
        "'**'",
        "pods",
        "services",
        "'*'",
        "'**'",
        "'*.*'",
        "orders.shop.io",
        "'{pods,services}'",
        "'pod?'",
        "'[ps]*'",
        "'[!p]*'",
        "'*.shop.io'",
    ]);
    let names = words(&[
        "",
        "",
        "",
        "resourceNameRegex: ^web",
        "resourceNameRegex: '[0-9]$'",
    ]);
    let namespaces = words(&[
        "",
        "",
        "",
        "namespaces: [shop]",
        "namespaces: ['sh*', bank]",
        "namespaces: ['*']",
    ]);
    let labels = words(&[
        "",
        "",
        "",
        "labelSelector: {matchLabels: {app: web}}",
        "labelSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [front, 5]}]}",
        "labelSelector: {matchExpressions: [{key: tier, operator: Exists}]}",
    ]);
    let matches = prop::option::weighted(0.25, (paths(), values(), any::<bool>()));
    (groups, names, namespaces, labels, matches).prop_map(|(group, name, namespace, labels, matches)| {
        let matches = matches.map_or_else(String::new, |(path, value, plain)| {
            format!(
                "    matches:\n    - path: {path}\n      value: {}\n",
                yaml(&value, plain)
            )
        });
        let lines: Vec<String> = [name, namespace, labels]
            .iter()
            .filter(|line| !line.is_empty())
            .map(|line| format!("    {line}\n"))
            .collect();
        format!(
            "- conditions:\n    groupResource: {group}\n{}{matches}",
            lines.concat()
        )
    })
}

fn rules() -> impl Strategy<Value = String> {
    let patches = prop_oneof![json_patches(), merge_patches()];
    let rule = (conditions(), patches).prop_map(|(conditions, patches)| conditions + &patches);
    prop::collection::vec(rule, 1..3)
        .prop_map(|rules| format!("version: v1\nresourceModifierRules:\n{}", rules.concat()))
}

/// Cases of a run: about twenty seconds.
const CASES: u32 = 6000;

#[test]
fn generated_rules_change_objects_as_velero_changes_them() -> Result<()> {
    let peer = RefCell::new(Peer::start()?);
    let changed = RefCell::new(0_u32);
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&(rules(), objects()), |(rules, (group_resource, object))| {
        let compared = compare(&mut peer.borrow_mut(), &rules, group_resource, &object);
        prop_assert!(compared.is_ok(), "{}", compared.unwrap_err());
        *changed.borrow_mut() +=
            u32::from(ours(&rules, group_resource, &object).is_ok_and(|ours| ours != object));
        Ok(())
    });
    outcome.map_err(|error| anyhow::anyhow!("{error}"))?;
    let changed = *changed.borrow();
    assert!(changed > CASES / 8, "only {changed} objects were changed at all");
    Ok(())
}

/// Every patch alone on every object, so that none is left to chance.
#[test]
fn every_patch_of_the_corpus_does_what_velero_does() -> Result<()> {
    let mut peer = Peer::start()?;
    let mut runner = TestRunner::deterministic();
    let mut faults = Vec::new();
    for _ in 0..3000 {
        let tree = merge_patches()
            .new_tree(&mut runner)
            .map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let patches = proptest::strategy::ValueTree::current(&tree);
        for (group_resource, object) in [
            ("pods", pod()),
            ("services", service()),
            ("orders.shop.io", custom()),
        ] {
            let rules = format!(
                "version: v1\nresourceModifierRules:\n- conditions: {{groupResource: '**'}}\n{patches}"
            );
            faults.extend(compare(&mut peer, &rules, group_resource, &object).err());
        }
        if faults.len() > 3 {
            break;
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    Ok(())
}

/// A fault that we find before anything is written is one that Velero finds when the rule meets an object.
#[test]
fn values_and_patterns_are_refused_where_velero_refuses_them() -> Result<()> {
    let mut peer = Peer::start()?;
    let values = [
        "text",
        "5",
        "+5",
        "-5",
        "5.",
        ".5",
        "1.5",
        "1e3",
        "1E-2",
        "1e999",
        "1_000",
        "1__0",
        "1_",
        "1_.5",
        "0x10",
        "0x1p4",
        "0x1P-2",
        "0b1",
        "007",
        "Inf",
        "-Inf",
        "+Infinity",
        "NaN",
        "-NaN",
        "nan",
        "infinite",
        "true",
        "True",
        "TRUE",
        "null",
        "Null",
        "\"a\"",
        "\"",
        "\"\"",
        "a\"b",
        "a\\b",
        "a\\nb",
        "{}",
        "{\"a\": 1.0}",
        "{a}",
        "[",
        "[1, 2.50]",
        "10Gi",
        "1.2.3",
        " 5",
        "5 ",
        "-",
        "e5",
        "1e",
    ];
    let globs = [
        "pods",
        "*",
        "**",
        "p?ds",
        "p[a-z]ds",
        "p[!a]ds",
        "p[]ds",
        "p[a-zA]ds",
        "[",
        "]",
        "{pods",
        "{pods,x}",
        "pods}",
        "a,b",
        "\\pods",
        "pods\\",
        "p[z-a]ds",
        "p[o-o]ds",
        "p[-o]ds",
        "{p,q}[a-z]*",
        "p{o,{x,y}}ds",
        "*s",
        "p*s",
        "p**",
        "[p]?*",
        "p[\\]o]ds",
    ];
    let names = [
        "web",
        "^web-[0-9]+$",
        "(",
        "[",
        "a{2,1}",
        "(?i)WEB",
        "\\d",
        "\\bweb\\b",
        "(?P<n>w)",
        "(?<n>w)",
        "w(?=e)",
        "\\pL",
        "[[:alpha:]]",
    ];
    let rule = |group: &str, name: &str, value: &str| {
        json!({ "version": "v1", "resourceModifierRules": [{
            "conditions": { "groupResource": group, "resourceNameRegex": name },
            "patches": [{ "operation": "add", "path": "/metadata/labels/x", "value": value }] }] })
        .to_string()
    };
    let rules = values
        .iter()
        .map(|value| rule("pods", "", value))
        .chain(globs.iter().map(|glob| rule(glob, "", "x")))
        .chain(names.iter().map(|name| rule("pods", name, "x")));
    let mut faults = Vec::new();
    for rules in rules {
        let theirs = peer.ask(&rules, "pods", &pod())?;
        match ours(&rules, "pods", &pod()) {
            Ok(ours) if theirs.get("errors").is_none() && ours == theirs["object"] => {}
            Err(_) if theirs.get("errors").is_some() => {}
            ours => faults.push(format!("{rules}\nours: {ours:?}\ntheirs: {theirs}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    Ok(())
}

#[test]
fn the_table_of_merge_keys_is_that_of_velero_s_scheme() -> Result<()> {
    let printed = std::process::Command::new(binary(Program::VeleroModifiers)?)
        .arg("merge-keys")
        .output()?;
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../plugin/plan/src/restore/modifier/merge_keys.txt"
    );
    assert!(printed.status.success());
    assert_eq!(
        std::fs::read_to_string(file)?,
        String::from_utf8(printed.stdout)?,
        "{file} is not what the scheme says; write the output of `velero-modifiers merge-keys` into it"
    );
    Ok(())
}
