//! What is put in place of an object that exists.
//!
//! In come the body that the restore would create and the object of the cluster; out goes the body of the PUT. It is what
//! the backup holds, except where the cluster's word counts: the fields that a comparison does not count, if the backup's
//! form does not carry them (addresses, ports and volumes that were assigned, UIDs of controllers, the status), and
//! finalizers, whose removal would say that somebody has cleaned up. With the UID and resource version of the object that
//! was compared, the PUT meets that very object or none.

use serde_json::{Map, Value};
use velero_model::resource::ApiKind;

use crate::compare::RESTORED;

/// Fields that the restore leaves to the cluster and that the comparison sees all the same.
const ALSO_LIVE: &[(&str, &str)] = &[
    ("pods", "spec.priority"),
    ("pods", "spec.ephemeralContainers"),
    ("persistentvolumes", "spec.claimRef"),
];

/// The body of the PUT.
pub fn replacement(kind: &ApiKind, restored: &Value, live: &Value) -> Value {
    let mut body = restored.clone();
    let group = kind.resource_group();
    let also = ALSO_LIVE
        .iter()
        .filter(|(kind, _)| *kind == group)
        .map(|(_, path)| *path);
    let ignored = RESTORED
        .iter()
        .filter(|entry| entry.kinds.contains(kind, restored) && !entry.path.starts_with("metadata.labels"))
        .map(|entry| entry.path);
    for path in also.chain(ignored) {
        // Inside a claim's reference the UID belongs to that claim alone.
        if path.starts_with("spec.claimRef.") && !same_claim(restored, live) {
            continue;
        }
        if let Some(keys) = keys(path) {
            carry(&mut body, live, &keys);
        }
    }
    carry(&mut body, live, &["status".to_owned()]);
    // Owners of the backup that do not live are no reason to orphan it.
    carry(
        &mut body,
        live,
        &["metadata".to_owned(), "ownerReferences".to_owned()],
    );
    keep_finalizers(&mut body, live);
    if group == "services" {
        keep_ports(&mut body, live);
    }
    body
}

fn same_claim(restored: &Value, live: &Value) -> bool {
    ["namespace", "name"]
        .iter()
        .all(|key| restored["spec"]["claimRef"][key] == live["spec"]["claimRef"][key])
}

/// The keys of a path of the table; `None` where it goes through a list.
fn keys(path: &str) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[\"") {
            let (key, after) = after.split_once("\"]")?;
            keys.push(key.to_owned());
            rest = after;
        } else if rest.starts_with('[') {
            return None;
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (key, after) = name.split_at(end);
            keys.push(key.to_owned());
            rest = after;
        }
    }
    Some(keys)
}

/// Takes a field from the live object unless the body has it.
fn carry(body: &mut Value, live: &Value, keys: &[String]) {
    let Some((last, parents)) = keys.split_last() else {
        return;
    };
    let found = keys.iter().try_fold(live, |value, key| value.get(key));
    let Some(value) = found.filter(|value| !value.is_null()) else {
        return;
    };
    let mut at = body;
    for key in parents {
        let Some(fields) = at.as_object_mut() else { return };
        let next = fields
            .entry(key.clone())
            .or_insert_with(|| Value::Object(Map::new()));
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        at = next;
    }
    if let Some(fields) = at.as_object_mut() {
        fields.entry(last.clone()).or_insert_with(|| value.clone());
    }
}

fn keep_finalizers(body: &mut Value, live: &Value) {
    let kept = live["metadata"]["finalizers"].as_array();
    let mut finalizers = body["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for finalizer in kept.into_iter().flatten() {
        if !finalizers.contains(finalizer) {
            finalizers.push(finalizer.clone());
        }
    }
    if let Some(metadata) = body["metadata"].as_object_mut()
        && !finalizers.is_empty()
    {
        metadata.insert("finalizers".to_owned(), Value::Array(finalizers));
    }
}

/// Ports are told apart by number and protocol: their places in the list may have changed.
fn keep_ports(body: &mut Value, live: &Value) {
    let key = |port: &Value| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        (port["port"].clone(), protocol)
    };
    let Some(ports) = body.pointer_mut("/spec/ports").and_then(Value::as_array_mut) else {
        return;
    };
    for port in ports {
        let same = live["spec"]["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|there| key(there) == key(port));
        if let Some(assigned) = same.and_then(|there| there.get("nodePort"))
            && let Some(port) = port.as_object_mut()
        {
            port.entry("nodePort").or_insert_with(|| assigned.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::tests::kind;

    fn replaced(api_version: &str, plural: &str, restored: &Value, live: &Value) -> Value {
        replacement(&kind(api_version, plural, "X", true).api, restored, live)
    }

    #[test]
    fn paths_of_the_table_have_keys() {
        for (path, expected) in [
            ("status", Some(vec!["status"])),
            ("spec.clusterIP", Some(vec!["spec", "clusterIP"])),
            (
                r#"metadata.annotations["a.b/c"]"#,
                Some(vec!["metadata", "annotations", "a.b/c"]),
            ),
            (r#"data["ca.crt"]"#, Some(vec!["data", "ca.crt"])),
            ("spec.ports[*].nodePort", None),
        ] {
            let expected = expected.map(|keys| keys.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(keys(path), expected, "{path}");
        }
    }

    #[test]
    fn what_the_cluster_assigned_stays_and_the_rest_is_the_backup() {
        let restored = json!({"metadata": {"name": "web", "labels": {"velero.io/restore-name": "r"}, "finalizers": ["a"]},
            "spec": {"type": "NodePort", "ports": [{"port": 443, "nodePort": 31000}, {"port": 80}]}});
        let live = json!({"metadata": {"name": "web", "uid": "u", "resourceVersion": "7", "finalizers": ["b", "a"],
                "labels": {"gone": "x", "velero.io/restore-name": "old"}},
            "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "sessionAffinity": "ClientIP",
                "ports": [{"port": 80, "protocol": "TCP", "nodePort": 32000}, {"port": 443, "nodePort": 32001}]},
            "status": {"loadBalancer": {}}});
        assert_eq!(
            replaced("v1", "services", &restored, &live),
            json!({"metadata": {"name": "web", "uid": "u", "resourceVersion": "7", "finalizers": ["a", "b"],
                    "labels": {"velero.io/restore-name": "r"}},
                "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                    "ports": [{"port": 443, "nodePort": 31000}, {"port": 80, "nodePort": 32000}]},
                "status": {"loadBalancer": {}}})
        );
    }

    #[test]
    fn fields_that_the_api_fixes_come_from_the_live_object() {
        for (version, plural, restored, live, pointer, expected) in [
            (
                "v1",
                "persistentvolumeclaims",
                json!({"spec": {}}),
                json!({"spec": {"volumeName": "pv-1"}}),
                "/spec/volumeName",
                json!("pv-1"),
            ),
            (
                "batch/v1",
                "jobs",
                json!({"spec": {"template": {}}}),
                json!({"spec": {"selector": {"matchLabels": {"controller-uid": "u"}}}}),
                "/spec/selector/matchLabels/controller-uid",
                json!("u"),
            ),
            (
                "v1",
                "pods",
                json!({"spec": {}}),
                json!({"spec": {"nodeName": "n", "priority": 3}}),
                "/spec",
                json!({"nodeName": "n", "priority": 3}),
            ),
            (
                "v1",
                "persistentvolumes",
                json!({"spec": {"claimRef": {"namespace": "a", "name": "b"}}}),
                json!({"spec": {"claimRef": {"namespace": "a", "name": "b", "uid": "u"}}}),
                "/spec/claimRef/uid",
                json!("u"),
            ),
            (
                "v1",
                "persistentvolumes",
                json!({"spec": {"claimRef": {"namespace": "a", "name": "c"}}}),
                json!({"spec": {"claimRef": {"namespace": "a", "name": "b", "uid": "u"}}}),
                "/spec/claimRef",
                json!({"namespace": "a", "name": "c"}),
            ),
            (
                "v1",
                "persistentvolumes",
                json!({"spec": {}}),
                json!({"spec": {"claimRef": {"namespace": "a", "name": "b", "uid": "u"}}}),
                "/spec/claimRef/name",
                json!("b"),
            ),
            (
                "v1",
                "serviceaccounts",
                json!({}),
                json!({"secrets": [{"name": "token"}]}),
                "/secrets/0/name",
                json!("token"),
            ),
            // A headless service stays headless.
            (
                "v1",
                "services",
                json!({"spec": {"clusterIP": "None"}}),
                json!({"spec": {"clusterIP": "10.0.0.1"}}),
                "/spec/clusterIP",
                json!("None"),
            ),
            (
                "shop.io/v1",
                "orders",
                json!({"metadata": null, "spec": 1}),
                json!({"metadata": {"uid": "u"}, "spec": 2, "status": {"ready": true}}),
                "/status/ready",
                json!(true),
            ),
        ] {
            let body = replaced(version, plural, &restored, &live);
            assert_eq!(body.pointer(pointer), Some(&expected), "{plural}: {body}");
        }
    }

    #[test]
    fn owners_are_those_of_the_restore_or_stay() {
        let owners = |name: &str| json!({"metadata": {"ownerReferences": [{"name": name}]}});
        let of = |restored: &Value| {
            replaced("v1", "configmaps", restored, &owners("live"))["metadata"]["ownerReferences"][0]["name"]
                .clone()
        };
        assert_eq!(of(&owners("new")), "new");
        assert_eq!(of(&json!({"metadata": {}})), "live");
    }
}
