//! The fates that we foretell are those that Velero's own code gives to volumes.
//!
//! The peer is Velero 1.18.3: its volume helper and its pod volume backupper, all checks included, behind a pipe
//! (`tests/servers/velero/volumes.go`). Pods, claims and volumes are generated; both ways of choosing are compared: what
//! pods opt in, and everything that pods do not opt out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use backup_plan::volumes::{Claim, NamespaceFacts, PodFacts, Rules, Source, is_host_path_volume};
use backup_tests::process;
use backup_tests::runtime::progress;
use backup_tests::servers::{Program, command};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use velero_model::api::{BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES};

/// Pods that are compared, each in both ways.
const PODS: usize = 4000;

/// The seed of a run: `ANNOTATOR_SEED`, else a new one, printed.
pub(crate) fn seed() -> Result<[u8; 32]> {
    let number = match std::env::var("ANNOTATOR_SEED") {
        Ok(seed) => seed.parse().context("ANNOTATOR_SEED is no number")?,
        Err(_) => u64::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..8].try_into()?),
    };
    progress(&format!("ANNOTATOR_SEED={number}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Ok(bytes)
}

fn volume(number: usize) -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        format!("v{number}"),
        format!("v{number}"),
        format!("default-token-{number}"),
    ]);
    let source = prop::sample::select(vec![
        json!({ "persistentVolumeClaim": { "claimName": format!("c{number}") } }),
        json!({ "persistentVolumeClaim": { "claimName": format!("c{number}") } }),
        json!({ "persistentVolumeClaim": { "claimName": "shared" } }),
        json!({ "ephemeral": { "volumeClaimTemplate": { "spec": { "accessModes": ["ReadWriteOnce"] } } } }),
        json!({ "emptyDir": {} }),
        json!({ "hostPath": { "path": "/x" } }),
        json!({ "secret": { "secretName": "s" } }),
        json!({ "configMap": { "name": "c" } }),
        json!({ "projected": { "sources": [] } }),
        json!({ "downwardAPI": { "items": [] } }),
        json!({ "nfs": { "server": "s", "path": "/" } }),
        json!({ "csi": { "driver": "d" } }),
        json!({ "image": { "reference": "r" } }),
        json!({ "gitRepo": { "repository": "r" } }),
        json!({ "rbd": { "monitors": [], "image": "i" } }),
    ]);
    (names, source).prop_map(|(name, mut source)| {
        source["name"] = json!(name);
        source
    })
}

/// What uses a volume: regular containers, init containers, sidecars, as files or as a device.
fn uses() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(
        vec![
            "main",
            "main",
            "second",
            "device",
            "init",
            "sidecar",
            "init-device",
        ],
        1..4,
    )
}

fn lists() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(
        0.8,
        "(v[0-4]|default-token-[0-4]| ?v[0-3] ?|x|)(,(v[0-4]|v[0-4]|default-token-[0-4]| v1|y|)){0,6}",
    )
}

fn questions() -> impl Strategy<Value = Value> {
    let volumes: Vec<_> = (0..5).map(volume).collect();
    let phase = prop::sample::select(vec![
        "Running",
        "Running",
        "Running",
        "Running",
        "Pending",
        "Succeeded",
    ]);
    let backing = prop::collection::vec(prop::sample::select(vec!["csi", "hostPath", "unbound"]), 6);
    (
        volumes,
        prop::collection::vec(uses(), 5),
        3..6_usize,
        lists(),
        lists(),
        phase,
        backing,
    )
        .prop_map(|(volumes, uses, count, list, excludes, phase, backing)| {
            let mut containers: BTreeMap<&str, Value> = ["main", "second", "init", "sidecar"]
                .map(|name| {
                    (
                        name,
                        json!({ "name": name, "image": "i", "volumeMounts": [], "volumeDevices": [] }),
                    )
                })
                .into();
            for (volume, uses) in volumes.iter().zip(&uses).take(count) {
                for used_by in uses {
                    let (container, field, path) = match *used_by {
                        "device" => ("second", "volumeDevices", "devicePath"),
                        "init-device" => ("init", "volumeDevices", "devicePath"),
                        name => (name, "volumeMounts", "mountPath"),
                    };
                    let entry = json!({ "name": volume["name"], path: "/x" });
                    if let Some(list) = containers
                        .get_mut(container)
                        .and_then(|one| one[field].as_array_mut())
                    {
                        list.push(entry);
                    }
                }
            }
            containers
                .entry("sidecar")
                .and_modify(|sidecar| sidecar["restartPolicy"] = json!("Always"));
            let mut annotations = json!({});
            for (key, value) in [(BACKUP_VOLUMES, list), (BACKUP_VOLUMES_EXCLUDES, excludes)] {
                if let Some(value) = value {
                    annotations[key] = json!(value);
                }
            }
            let names = ["c0", "c1", "c2", "c3", "c4", "shared"];
            let (claims, bound) = claims(&names, &backing);
            json!({ "claims": claims, "volumes": bound, "pod": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": "p", "namespace": "shop", "annotations": annotations },
                "spec": { "nodeName": "n", "volumes": &volumes[..count.min(volumes.len())],
                    "containers": [containers["main"], containers["second"]],
                    "initContainers": [containers["init"], containers["sidecar"]] },
                "status": { "phase": phase } } })
        })
}

/// Claims with their volumes.
fn claims(names: &[&str], backing: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let (mut claims, mut volumes) = (Vec::new(), Vec::new());
    for (name, backing) in names.iter().zip(backing) {
        let volume = format!("pv-{name}");
        let spec = if *backing == "unbound" {
            json!({})
        } else {
            json!({ "volumeName": volume })
        };
        claims.push(json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": name, "namespace": "shop" }, "spec": spec }));
        if *backing != "unbound" {
            let source = match *backing {
                "hostPath" => json!({ "hostPath": { "path": "/x" } }),
                _ => json!({ "csi": { "driver": "d", "volumeHandle": "h" } }),
            };
            volumes.push(json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": volume }, "spec": source }));
        }
    }
    (claims, volumes)
}

/// The volumes that are backed up, as we foretell it.
fn ours(question: &Value, opt_out: bool) -> Result<BTreeSet<String>> {
    let text = question["pod"].to_string();
    let pod = PodFacts::parse(text.as_bytes())?;
    let objects = |field: &str| question[field].as_array().cloned().unwrap_or_default();
    let mut claims = BTreeMap::new();
    for claim in objects("claims") {
        let name = claim["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        claims.insert(name, Claim::parse(claim.to_string().as_bytes())?);
    }
    let mut host_paths = BTreeMap::new();
    for volume in objects("volumes") {
        let name = volume["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        host_paths.insert(name, is_host_path_volume(volume.to_string().as_bytes())?);
    }
    let rules = Rules::default();
    let labels = BTreeMap::new();
    let namespace = NamespaceFacts {
        name: "shop",
        labels: Some(&labels),
    };
    let decision = rules.decide(&pod, namespace, &|name| {
        let claim = claims.get(name)?;
        Some(
            claim.facts(
                claim
                    .volume_name
                    .as_deref()
                    .and_then(|volume| host_paths.get(volume).copied()),
            ),
        )
    });
    if !pod.is_running() {
        return Ok(BTreeSet::new());
    }
    let taken = decision.volumes.iter().filter(|volume| {
        if opt_out {
            volume.is_taken_by_default()
        } else {
            volume.fate().is_backed_up()
        }
    });
    Ok(taken.map(|volume| volume.volume.name.to_string()).collect())
}

#[test]
fn annotator_foretells_what_velero_s_own_code_does() -> Result<()> {
    let mut started = command(Program::VeleroVolumes)?;
    started
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = process::spawn(started)?;
    let mut ask = child.stdin.take().context("no stdin")?;
    let mut answers = BufReader::new(child.stdout.take().context("no stdout")?);
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed()?));
    let (mut taken, mut passed_over, mut claims) = (0, 0, 0);
    for _ in 0..PODS {
        let mut question = questions()
            .new_tree(&mut runner)
            .map_err(anyhow::Error::msg)?
            .current();
        for opt_out in [false, true] {
            question["optOut"] = json!(opt_out);
            writeln!(ask, "{question}")?;
            let mut line = String::new();
            answers.read_line(&mut line)?;
            let answer: Value =
                serde_json::from_str(&line).with_context(|| format!("{line:?} to {question}"))?;
            ensure!(answer.get("errors").is_none(), "{answer} to {question}");
            let names = answer["backedUp"].as_array().cloned().unwrap_or_default();
            let theirs: BTreeSet<String> = names
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            let ours = ours(&question, opt_out)?;
            ensure!(
                ours == theirs,
                "ours: {ours:?}, theirs: {theirs:?}, of {question}"
            );
            taken += theirs.len();
        }
        let text = question["pod"].to_string();
        let pod = PodFacts::parse(text.as_bytes())?;
        passed_over += usize::from(pod.volumes.len() > 2);
        claims += pod
            .volumes
            .iter()
            .filter(|volume| matches!(volume.source, Source::PersistentVolumeClaim { .. }))
            .count();
    }
    let _ = child.kill();
    let _ = child.wait();
    progress(&format!(
        "{PODS} pods in both ways, {taken} volumes backed up, {claims} claims"
    ));
    ensure!(
        taken > PODS / 3 && passed_over > PODS / 4 && claims > PODS / 2,
        "the corpus is too tame"
    );
    Ok(())
}
