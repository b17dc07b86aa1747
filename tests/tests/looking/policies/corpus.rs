//! Pods of every shape that decides about volumes, made from a seed.
//!
//! A pod is valid for the API server and otherwise as odd as users make them: lists with blanks and unknown names, labels
//! with words that nobody knows, volumes that nobody mounts, devices, native sidecars.

use serde_json::{Map, Value, json};

/// Random numbers that are the same for the same seed (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}

const VOLUME_NAMES: [&str; 8] = ["data", "logs", "cache", "config", "wal", "tmp", "data-0", "certs"];

/// Labels of pods that the policies of the test ask for.
const LABELS: [(&str, &[&str]); 3] = [
    ("app", &["web", "db", "cache"]),
    ("tier", &["front", "back"]),
    (
        "kubectl-backup.io/volumes",
        &["include", "exclude", "exclude", "maybe"],
    ),
];

/// A pod in one of the namespaces.
pub(crate) fn pod(dice: &mut Dice, number: usize, namespace: &str) -> Value {
    let names: Vec<&str> = VOLUME_NAMES.iter().copied().filter(|_| dice.one_in(2)).collect();
    let mut devices = Vec::new();
    let mut volumes = Vec::new();
    for name in &names {
        let (volume, is_device) = volume(dice, name);
        volumes.push(volume);
        if is_device {
            devices.push(*name);
        }
    }
    let mut spec = Map::new();
    // Without controllers there are no service accounts.
    spec.insert("automountServiceAccountToken".into(), false.into());
    let count = 1 + dice.below(3);
    let containers = (0..count).map(|at| container(dice, &format!("main-{at}"), &names, &devices));
    spec.insert("containers".into(), Value::Array(containers.collect()));
    if dice.one_in(3) {
        let mut init = container(dice, "before", &names, &devices);
        if dice.one_in(2) {
            init["restartPolicy"] = "Always".into();
        }
        spec.insert("initContainers".into(), json!([init]));
    }
    if !volumes.is_empty() || dice.one_in(2) {
        spec.insert("volumes".into(), Value::Array(volumes));
    }
    let metadata = metadata(dice, number, namespace, &names);
    if metadata["annotations"]["kubernetes.io/config.mirror"].is_string() {
        // The image of a static pod is on a node already.
        spec.insert("nodeName".into(), "node-0".into());
    }
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

fn metadata(dice: &mut Dice, number: usize, namespace: &str, names: &[&str]) -> Value {
    let mut metadata = Map::new();
    let name = format!("{}-{number}", dice.pick(&["web", "db", "job"]));
    if dice.one_in(3) {
        metadata.insert("generateName".into(), format!("{name}-").into());
    } else {
        metadata.insert("name".into(), name.into());
    }
    metadata.insert("namespace".into(), namespace.into());
    let mut labels = Map::new();
    for (key, values) in LABELS {
        if dice.one_in(2) {
            labels.insert(key.into(), (*dice.pick(values)).into());
        }
    }
    if !labels.is_empty() || dice.one_in(2) {
        metadata.insert("labels".into(), labels.into());
    }
    let mut annotations = Map::new();
    if dice.one_in(3) {
        annotations.insert("note".into(), "a, b".into());
    }
    for key in ["backup-volumes", "backup-volumes-excludes"] {
        if dice.one_in(3) {
            annotations.insert(format!("backup.velero.io/{key}"), list(dice, names).into());
        }
    }
    if dice.one_in(25) {
        annotations.insert("kubernetes.io/config.mirror".into(), "0123456789".into());
    }
    if !annotations.is_empty() || dice.one_in(3) {
        metadata.insert("annotations".into(), annotations.into());
    }
    metadata.into()
}

/// A list as people write them.
fn list(dice: &mut Dice, names: &[&str]) -> String {
    let mut list: Vec<String> = names
        .iter()
        .filter(|_| dice.one_in(2))
        .map(|name| (*name).to_owned())
        .collect();
    if dice.one_in(5) {
        list.push("unknown".to_owned());
    }
    if dice.one_in(8)
        && let Some(first) = list.first().cloned()
    {
        list.push(first);
    }
    let separator = *dice.pick(&[",", ",", ",", ", ", " ,"]);
    let text = list.join(separator);
    match dice.below(12) {
        0 => format!("{text},"),
        1 => format!(",{text}"),
        2 => format!(" {text} "),
        _ => text,
    }
}

/// A volume, and whether it is used as a device.
fn volume(dice: &mut Dice, name: &str) -> (Value, bool) {
    let claim = format!("{}-{name}", dice.pick(&["data", "scratch", "pg"]));
    let source = match dice.below(14) {
        0..=4 => json!({ "persistentVolumeClaim": { "claimName": claim } }),
        5 | 6 => json!({ "ephemeral": { "volumeClaimTemplate": { "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": { "requests": { "storage": "1Gi" } }
        } } } }),
        7 => json!({ "emptyDir": {} }),
        8 => json!({ "hostPath": { "path": "/srv" } }),
        9 => json!({ "secret": { "secretName": "login" } }),
        10 => json!({ "configMap": { "name": "settings" } }),
        11 => json!({ "csi": { "driver": "inline.example.org" } }),
        12 => json!({ "nfs": { "server": "nfs.example.org", "path": "/" } }),
        _ => match dice.below(3) {
            0 => {
                json!({ "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } })
            }
            1 => json!({ "projected": { "sources": [{ "configMap": { "name": "settings" } }] } }),
            // No source at all is an emptyDir.
            _ => json!({}),
        },
    };
    let is_device = source.get("persistentVolumeClaim").is_some() && dice.one_in(6);
    let mut volume = source;
    volume["name"] = name.into();
    (volume, is_device)
}

fn container(dice: &mut Dice, name: &str, names: &[&str], devices: &[&str]) -> Value {
    let mut container = json!({ "name": name, "image": "registry.example.org/app:1" });
    let mut mounts = Vec::new();
    let mut used = Vec::new();
    for volume in names.iter().filter(|_| !dice.one_in(3)) {
        if devices.contains(volume) {
            used.push(json!({ "name": volume, "devicePath": format!("/dev/{volume}") }));
        } else {
            mounts.push(json!({ "name": volume, "mountPath": format!("/mnt/{volume}") }));
        }
    }
    if !mounts.is_empty() {
        container["volumeMounts"] = mounts.into();
    }
    if !used.is_empty() {
        container["volumeDevices"] = used.into();
    }
    container
}
