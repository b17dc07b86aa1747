//! What an object needs or takes that no dry run checks.
//!
//! In comes the body that would be written; out go the classes it names, which the API server accepts whether they exist or
//! not, and the ports and addresses it takes, which two objects of one restore cannot both have.

use serde_json::Value;
use velero_model::resource::ApiKind;

/// A class that an object names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The class's resource group.
    pub resource: &'static str,
    /// Its name.
    pub name: String,
    /// Where it is named.
    pub path: String,
}

/// Resource groups of classes.
pub const STORAGE_CLASSES: &str = "storageclasses.storage.k8s.io";
/// Priority classes.
pub const PRIORITY_CLASSES: &str = "priorityclasses.scheduling.k8s.io";
/// Runtime classes.
pub const RUNTIME_CLASSES: &str = "runtimeclasses.node.k8s.io";
/// Ingress classes.
pub const INGRESS_CLASSES: &str = "ingressclasses.networking.k8s.io";

/// The classes that an object names.
pub fn needs(kind: &ApiKind, body: &Value) -> Vec<Need> {
    let mut needs = Vec::new();
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod(&mut needs, body, "/spec"),
        ("", "podtemplates") => pod(&mut needs, body, "/template/spec"),
        ("batch", "cronjobs") => pod(&mut needs, body, "/spec/jobTemplate/spec/template/spec"),
        ("apps" | "batch", _) | ("", "replicationcontrollers") => {
            pod(&mut needs, body, "/spec/template/spec");
        }
        // A claim that names its volume is bound to it, whether or not there is a class of that name.
        ("", "persistentvolumeclaims") if body["spec"].get("volumeName").is_none() => {
            take(&mut needs, STORAGE_CLASSES, body, "/spec/storageClassName");
        }
        ("networking.k8s.io", "ingresses") => {
            take(&mut needs, INGRESS_CLASSES, body, "/spec/ingressClassName");
        }
        _ => {}
    }
    if kind.group == "apps" && kind.plural == "statefulsets" {
        for position in 0..length(body, "/spec/volumeClaimTemplates") {
            let pointer = format!("/spec/volumeClaimTemplates/{position}/spec/storageClassName");
            take(&mut needs, STORAGE_CLASSES, body, &pointer);
        }
    }
    needs
}

fn pod(needs: &mut Vec<Need>, body: &Value, spec: &str) {
    take(
        needs,
        PRIORITY_CLASSES,
        body,
        &format!("{spec}/priorityClassName"),
    );
    take(needs, RUNTIME_CLASSES, body, &format!("{spec}/runtimeClassName"));
    for position in 0..length(body, &format!("{spec}/volumes")) {
        let pointer =
            format!("{spec}/volumes/{position}/ephemeral/volumeClaimTemplate/spec/storageClassName");
        take(needs, STORAGE_CLASSES, body, &pointer);
    }
}

fn length(body: &Value, pointer: &str) -> usize {
    body.pointer(pointer)
        .and_then(Value::as_array)
        .map_or(0, Vec::len)
}

fn take(needs: &mut Vec<Need>, resource: &'static str, body: &Value, pointer: &str) {
    if let Some(name) = body.pointer(pointer).and_then(Value::as_str)
        && !name.is_empty()
    {
        needs.push(Need {
            resource,
            name: name.to_owned(),
            path: pointer.trim_start_matches('/').replace('/', "."),
        });
    }
}

/// The ports and addresses of the cluster that an object asks for by number.
pub fn addresses(kind: &ApiKind, body: &Value) -> Vec<String> {
    if !kind.group.is_empty() || kind.plural != "services" {
        return Vec::new();
    }
    let spec = &body["spec"];
    let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|port| {
        let number = port["nodePort"].as_u64().filter(|number| *number > 0)?;
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        Some(format!("node port {number}/{protocol}"))
    });
    let health = spec["healthCheckNodePort"].as_u64().filter(|number| *number > 0);
    let addresses = spec["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .chain(spec.get("clusterIP").filter(|_| spec.get("clusterIPs").is_none()));
    let addresses = addresses
        .filter_map(Value::as_str)
        .filter(|address| !address.is_empty() && *address != "None");
    let mut taken: Vec<String> = ports.collect();
    taken.sort();
    taken.dedup();
    taken.extend(health.map(|port| format!("node port {port}/TCP")));
    taken.extend(addresses.map(|address| format!("cluster IP {address}")));
    taken
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::tests::kind;

    #[test]
    fn classes_are_found_wherever_they_are_named() {
        let pod = json!({"priorityClassName": "high", "runtimeClassName": "kata", "volumes": [{"name": "x"},
            {"ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}}]});
        for (version, plural, body, expected) in [
            ("v1", "pods", json!({"spec": pod}), vec!["high", "kata", "fast"]),
            (
                "apps/v1",
                "deployments",
                json!({"spec": {"template": {"spec": pod}}}),
                vec!["high", "kata", "fast"],
            ),
            (
                "batch/v1",
                "cronjobs",
                json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"priorityClassName": "low"}}}}}}),
                vec!["low"],
            ),
            (
                "apps/v1",
                "statefulsets",
                json!({"spec": {"volumeClaimTemplates": [{"spec": {}}, {"spec": {"storageClassName": "fast"}}]}}),
                vec!["fast"],
            ),
            (
                "v1",
                "persistentvolumeclaims",
                json!({"spec": {"storageClassName": "fast"}}),
                vec!["fast"],
            ),
            (
                "v1",
                "persistentvolumeclaims",
                json!({"spec": {"storageClassName": "manual", "volumeName": "pv"}}),
                vec![],
            ),
            (
                "v1",
                "persistentvolumeclaims",
                json!({"spec": {"storageClassName": ""}}),
                vec![],
            ),
            (
                "networking.k8s.io/v1",
                "ingresses",
                json!({"spec": {"ingressClassName": "nginx"}}),
                vec!["nginx"],
            ),
            ("v1", "configmaps", json!({"spec": pod}), vec![]),
        ] {
            let needs = needs(&kind(version, plural, "X", true).api, &body);
            let names: Vec<_> = needs.iter().map(|need| need.name.as_str()).collect();
            assert_eq!(names, expected, "{plural}");
        }
        let needs = needs(&kind("v1", "pods", "Pod", true).api, &json!({"spec": pod}));
        assert_eq!(needs[0].path, "spec.priorityClassName");
        assert_eq!(needs[1].resource, RUNTIME_CLASSES);
    }

    #[test]
    fn ports_and_addresses_of_services_are_named_once() {
        let kind = kind("v1", "services", "Service", true).api;
        let body = json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "healthCheckNodePort": 31002,
            "ports": [{"port": 80, "nodePort": 31000}, {"port": 53, "protocol": "UDP", "nodePort": 31000}, {"port": 81}]}});
        assert_eq!(
            addresses(&kind, &body),
            [
                "node port 31000/TCP",
                "node port 31000/UDP",
                "node port 31002/TCP",
                "cluster IP 10.0.0.1"
            ]
        );
        assert!(addresses(&kind, &json!({"spec": {"clusterIP": "None"}})).is_empty());
    }
}
