//! Services: addresses and ports that the old cluster assigned are given up, those that a person chose are kept.
//!
//! What a person chose shows in the annotation of `kubectl apply`, and without it in `managedFields`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Options, at, list, remove};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn transform(fields: &mut Map<String, Value>, options: &Options) {
    let spec = |key: &str| {
        fields
            .get("spec")
            .and_then(|spec| spec.get(key))
            .and_then(Value::as_str)
    };
    let headless = spec("clusterIP") == Some("None");
    let external_name = spec("type") == Some("ExternalName");
    let checks_health =
        spec("type") == Some("LoadBalancer") && spec("externalTrafficPolicy") == Some("Local");
    let chosen = (!options.preserve_node_ports).then(|| Chosen::read(fields));
    if !headless && !options.preserve_cluster_ips {
        remove(fields, &["spec"], &["clusterIP", "clusterIPs"]);
    }
    let Some(chosen) = chosen else { return };
    if !external_name {
        for port in list(fields, &["spec"], "ports") {
            if !chosen.has(port)
                && let Some(port) = port.as_object_mut()
            {
                port.remove("nodePort");
            }
        }
    }
    if checks_health && !chosen.health_check {
        remove(fields, &["spec"], &["healthCheckNodePort"]);
    }
}

/// The ports that a person chose.
#[derive(Default)]
struct Chosen {
    /// Whether `kubectl apply` left its annotation; it then speaks alone about node ports.
    applied: bool,
    names: BTreeSet<String>,
    unnamed: BTreeSet<u64>,
    keys: BTreeSet<String>,
    health_check: bool,
}

impl Chosen {
    fn read(fields: &mut Map<String, Value>) -> Self {
        let mut chosen = Self::default();
        let applied = at(fields, &["metadata", "annotations"]).and_then(|annotations| {
            serde_json::from_str::<Value>(annotations.get(LAST_APPLIED)?.as_str()?).ok()
        });
        if let Some(applied) = applied {
            chosen.applied = true;
            chosen.read_applied(&applied);
        }
        for entry in list(fields, &["metadata"], "managedFields") {
            let spec = &entry["fieldsV1"]["f:spec"];
            chosen.health_check |= spec["f:healthCheckNodePort"].is_object();
            for (key, port) in spec["f:ports"].as_object().into_iter().flatten() {
                if port.get("f:nodePort").is_some() {
                    chosen.keys.insert(key.clone());
                }
            }
        }
        chosen
    }

    fn read_applied(&mut self, applied: &Value) {
        let spec = &applied["spec"];
        self.health_check = spec["healthCheckNodePort"].as_u64().is_some_and(|port| port != 0);
        for port in spec["ports"].as_array().into_iter().flatten() {
            let number = match &port["nodePort"] {
                Value::String(text) => text.parse().unwrap_or(0),
                number => number.as_u64().unwrap_or(0),
            };
            match port["name"].as_str() {
                _ if number == 0 => {}
                Some(name) if !name.is_empty() => _ = self.names.insert(name.to_owned()),
                _ => _ = self.unnamed.insert(number),
            }
        }
    }

    fn has(&self, port: &Value) -> bool {
        if !self.applied {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            return self.keys.contains(&format!(
                r#"k:{{"port":{},"protocol":"{protocol}"}}"#,
                port["port"]
            ));
        }
        match port["name"].as_str() {
            Some(name) if !name.is_empty() => self.names.contains(name),
            _ => port["nodePort"]
                .as_u64()
                .is_some_and(|number| self.unnamed.contains(&number)),
        }
    }
}
