//! The manifests: generated where types exist, accepted by an API server that is strict, in step with what the server
//! is called by.
//!
//! `UPDATE_MANIFESTS=1 cargo test -p backup-tests --test suite manifests` writes what is generated.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::image;
use kube::CustomResourceExt;
use serde_json::{Value, json};
use velero_model::api::{self, StorageDisposition, VolumeBackupPolicy};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn read(name: &str) -> Result<String> {
    std::fs::read_to_string(folder().join(name)).with_context(|| format!("manifests/{name}"))
}

/// The documents of what kustomize makes of a folder.
fn built(cluster: &Cluster, name: &str) -> Result<Vec<Value>> {
    let path = folder().join(name);
    let printed = cluster.kubectl_ok(&["kustomize", path.to_str().context("not UTF-8")?])?;
    documents(&printed)
}

fn documents(text: &str) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

fn kinds<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// The CRDs as files: name and text.
fn generated() -> Result<Vec<(String, String)>> {
    [
        serde_json::to_value(StorageDisposition::crd())?,
        serde_json::to_value(VolumeBackupPolicy::crd())?,
    ]
    .into_iter()
    .map(|mut definition| {
        let plural = definition["spec"]["names"]["plural"].as_str().context("no plural")?.to_owned();
        definition["metadata"]["labels"]["app.kubernetes.io/part-of"] = json!("kubectl-backup");
        let head = "# Generated from plugin/model/src/api: UPDATE_MANIFESTS=1 cargo test -p backup-tests --test suite manifests\n";
        Ok((format!("crds/{plural}.yaml"), format!("{head}{}", serde_saphyr::to_string(&definition)?)))
    })
    .collect()
}

#[test]
fn crds_are_what_the_types_say() -> Result<()> {
    let update = std::env::var_os("UPDATE_MANIFESTS").is_some_and(|value| !value.is_empty());
    for (name, text) in generated()? {
        if update {
            std::fs::write(folder().join(&name), &text)?;
        }
        assert!(
            read(&name)? == text,
            "manifests/{name} is not what the types say; UPDATE_MANIFESTS=1 writes it again:\n{text}"
        );
        let definition = &documents(&text)?[0];
        ensure!(definition["spec"]["group"] == api::GROUP);
    }
    let disposition = &documents(&read("crds/storagedispositions.yaml")?)?[0];
    assert!(
        disposition["metadata"]["labels"]
            .get("clusterctl.cluster.x-k8s.io/move")
            .is_some(),
        "clusterctl takes decisions along"
    );
    Ok(())
}

/// Kinds of another product, whose CRDs are not here.
const FOREIGN: [&str; 2] = ["Issuer", "Certificate"];

#[test]
fn a_strict_api_server_accepts_every_manifest() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    cluster.kubectl_ok(&["create", "namespace", "kubectl-backup"])?;
    cluster.kubectl_ok(&["create", "namespace", "team-a"])?;
    cluster.kubectl_ok(&["create", "namespace", "velero"])?;
    let crds = folder().join("crds");
    let crds = crds.to_str().context("not UTF-8")?;
    cluster.kubectl_ok(&["apply", "--validate=strict", "-k", crds])?;
    cluster.kubectl_ok(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd",
        "--all",
    ])?;
    let mut objects = built(&cluster, ".")?;
    objects.extend(built(&cluster, "webhook-cert-manager")?);
    objects.extend(built(&cluster, "metrics")?);
    objects.extend(built(&cluster, "velero")?);
    for sample in [
        "samples/volume-backup-policy.yaml",
        "samples/storage-disposition.yaml",
    ] {
        objects.extend(documents(&read(sample)?)?);
    }
    ensure!(objects.len() > 40, "only {} objects", objects.len());
    for object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        if FOREIGN.contains(&kind) {
            continue;
        }
        let name = object["metadata"]["name"].clone();
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), object.to_string())?;
        let path = file.path().to_str().context("not UTF-8")?;
        cluster
            .kubectl_ok(&[
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "-f",
                path,
            ])
            .with_context(|| format!("{kind} {name}"))?;
    }
    Ok(())
}

#[test]
fn the_server_is_started_with_the_names_that_the_manifests_use() -> Result<()> {
    let cluster = Cluster::shared()?;
    let objects = built(cluster, ".")?;
    let deployment = kinds(&objects, "Deployment").next().context("no Deployment")?;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], json!(image::suite_name()?));
    let arguments: BTreeSet<&str> = container["args"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut permitted = BTreeSet::new();
    for (kind, flag) in [
        ("MutatingWebhookConfiguration", "mutating-webhook-configuration"),
        (
            "ValidatingWebhookConfiguration",
            "validating-webhook-configuration",
        ),
    ] {
        for configuration in kinds(&objects, kind) {
            let name = configuration["metadata"]["name"].as_str().context("no name")?;
            assert!(
                arguments.contains(format!("--{flag}={name}").as_str()),
                "{name} would never trust the server"
            );
            permitted.insert(name.to_owned());
            for webhook in configuration["webhooks"].as_array().into_iter().flatten() {
                let service = &webhook["clientConfig"]["service"];
                let host = format!(
                    "{}.{}.svc",
                    service["name"].as_str().unwrap_or_default(),
                    service["namespace"].as_str().unwrap_or_default()
                );
                assert!(
                    arguments.contains(format!("--certificate-name={host}").as_str()),
                    "{host}"
                );
                let path = service["path"].as_str().unwrap_or_default();
                assert!(["/annotate", "/gate", "/guard"].contains(&path), "{path}");
                let (policy, seconds) = if path == "/annotate" {
                    ("Ignore", 2)
                } else {
                    ("Fail", 5)
                };
                assert_eq!(
                    (&webhook["failurePolicy"], &webhook["timeoutSeconds"]),
                    (&json!(policy), &json!(seconds))
                );
                assert_eq!(webhook["sideEffects"], "None");
            }
        }
    }
    let role =
        kinds(&objects, "ClusterRole").find(|role| role["metadata"]["name"] == "kubectl-backup-webhook");
    let rules = role.context("no ClusterRole of the server")?["rules"].clone();
    let named: BTreeSet<String> = rules
        .as_array()
        .into_iter()
        .flatten()
        .filter(|rule| rule["apiGroups"] == json!(["admissionregistration.k8s.io"]))
        .flat_map(|rule| rule["resourceNames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        named, permitted,
        "the server may write to its own configurations and no other"
    );
    Ok(())
}

#[test]
fn the_keys_in_the_manifests_are_those_of_the_model() -> Result<()> {
    let configurations = read("webhook/configurations.yaml")?;
    for key in [api::VOLUMES_LABEL, api::HOLDS_CLUSTERS, api::FINALIZER] {
        assert!(configurations.contains(key), "{key}");
    }
    let known = [
        api::VOLUMES_LABEL,
        api::CHOSEN_BY,
        api::DISPOSITION,
        api::DECIDED_BY,
        api::ACCEPTED,
        api::PROTECTED,
        api::SOURCE,
        api::AT_STAKE,
        api::BREAK_GLASS,
        api::FINALIZER,
        api::HOLDS_CLUSTERS,
    ];
    for file in [
        "webhook/configurations.yaml",
        "policies/floor-clusters.yaml",
        "policies/floor-holders.yaml",
        "policies/floor-marks.yaml",
    ] {
        let text = read(file)?;
        for (start, _) in text.match_indices("kubectl-backup.io/") {
            let preceded = text.get(..start).is_some_and(|before| {
                before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '.')
            });
            let rest = text.get(start..).unwrap_or_default();
            let end = rest
                .find(|letter: char| !(letter.is_ascii_alphanumeric() || "-./".contains(letter)))
                .unwrap_or(rest.len());
            let key = rest.get(..end).unwrap_or_default().trim_end_matches('.');
            assert!(
                preceded || key == "kubectl-backup.io/" || known.contains(&key),
                "{file} names {key}, which the model does not know"
            );
        }
    }
    Ok(())
}

#[test]
fn only_data_lies_among_the_manifests() -> Result<()> {
    let mut folders = vec![folder()];
    let mut seen = 0;
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            assert!(
                path.extension().is_some_and(|end| end == "yaml"),
                "{} is no manifest",
                path.display()
            );
            documents(&std::fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
            seen += 1;
        }
    }
    ensure!(seen > 15, "only {seen} manifests");
    Ok(())
}
