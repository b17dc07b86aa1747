//! Makes `tests/golden` again: backups that real Veleros wrote, for the tests that read them.
//!
//! In come releases (none: all three); out come the files that Velero puts into its bucket for a few small backups,
//! copied as they are but for two things: in logs, the place of the binaries becomes the one they have in Velero's image,
//! and the backup `volumes` gets the side files that would need a node from Velero's own types. Velero and its plugin for
//! S3 are built first where they are not yet. The server runs as a plain process against a throwaway control plane.
//!
//! `cargo run -p backup-tests --bin make-golden [1.16.2 | 1.17.2 | 1.18.3]...`

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::process;
use backup_tests::runtime::progress;
use backup_tests::servers::Program;
use backup_tests::store::Store;
use backup_tests::velero::{self, Velero};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde_json::{Value, json};

const RELEASES: [(&str, Program); 3] = [
    ("1.16.2", Program::Velero116),
    ("1.17.2", Program::Velero117),
    ("1.18.3", Program::Velero),
];

/// A backup to be made.
struct Case {
    name: &'static str,
    /// What it leaves out is filled in by Velero, as for `velero backup create`.
    spec: Value,
    phase: &'static str,
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for word in &wanted {
        let known = RELEASES.iter().any(|(release, _)| release == word);
        ensure!(
            known,
            "no release {word}: give none, or some of 1.16.2, 1.17.2, 1.18.3"
        );
    }
    for (release, program) in RELEASES {
        if wanted.is_empty() || wanted.iter().any(|word| word == release) {
            make(release, program)?;
        }
    }
    Ok(())
}

fn make(release: &str, program: Program) -> Result<()> {
    let bucket = Store::shared_versitygw()?;
    if program == Program::Velero {
        let cluster = Cluster::start()?;
        applications::install_web_shop(&cluster)?;
        back_up(&cluster, &bucket, program, &[], web_shop())?;
    }
    // Without controllers there are no objects but those of the kiosk and the API server's own.
    let cluster = Cluster::builder().controllers(false).start()?;
    applications::install_kiosk(&cluster)?;
    back_up(&cluster, &bucket, program, &[], kiosk())?;
    back_up(
        &cluster,
        &bucket,
        program,
        &["--features=EnableAPIGroupVersions"],
        vec![versions()],
    )?;
    add_volume_data(&bucket.path().join("backups/volumes"), program)?;

    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/golden"));
    let target = folder.join(format!("velero-{release}/backups"));
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    copy(&bucket.path().join("backups"), &target, &machine_paths(program)?)?;
    progress(&format!("stored under {}", target.display()));
    Ok(())
}

fn web_shop() -> Vec<Case> {
    let selector = json!({ "matchLabels": { "app.kubernetes.io/part-of": "web-shop" } });
    vec![
        completed("everything", json!({})),
        completed("shop", json!({ "includedNamespaces": ["web-shop"] })),
        completed(
            "labelled",
            json!({ "includedNamespaces": ["web-shop"], "labelSelector": selector }),
        ),
    ]
}

fn kiosk() -> Vec<Case> {
    let of_kiosk = |more: Value| {
        let mut spec = json!({ "includedNamespaces": ["kiosk"] });
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        spec
    };
    let or_selectors = json!([{ "matchLabels": { "app": "kiosk" } }, { "matchLabels": { "app": "seller" } }]);
    let hook = json!({ "resources": [{ "name": "flush", "pre": [{ "exec": { "command": ["flush"], "onError": "Fail" } }] }] });
    vec![
        completed("default", json!({})),
        completed("selected", of_kiosk(json!({ "orLabelSelectors": or_selectors }))),
        completed(
            "excluded",
            of_kiosk(json!({ "excludedResources": ["secrets", "pods"], "includeClusterResources": false })),
        ),
        completed(
            "scoped",
            of_kiosk(
                json!({ "includedNamespaceScopedResources": ["configmaps", "vouchers.kiosk.example.com"],
                "includedClusterScopedResources": ["clusterroles.rbac.authorization.k8s.io"] }),
            ),
        ),
        completed("volumes", of_kiosk(json!({}))),
        // No kubelet runs the hook's command, so the pod is left out and the backup is PartiallyFailed.
        Case {
            name: "partial",
            spec: of_kiosk(json!({ "hooks": hook })),
            phase: "PartiallyFailed",
        },
    ]
}

/// With every served version of each object.
fn versions() -> Case {
    completed("versions", json!({ "includedNamespaces": ["kiosk"] }))
}

fn completed(name: &'static str, spec: Value) -> Case {
    Case {
        name,
        spec,
        phase: "Completed",
    }
}

fn back_up(
    cluster: &Cluster,
    bucket: &Store,
    program: Program,
    flags: &[&str],
    cases: Vec<Case>,
) -> Result<()> {
    let builder = Velero::builder(cluster, bucket).release(program);
    let velero = flags
        .iter()
        .fold(builder, |builder, flag| builder.flag(flag))
        .start()?;
    for Case { name, spec, phase } in cases {
        progress(&format!("Velero backs up {name}"));
        velero.run("Backup", name, spec, &[phase])?;
    }
    Ok(())
}

/// Velero's own Go types write them; up to 1.16 there were more.
fn add_volume_data(folder: &Path, program: Program) -> Result<()> {
    let go = process::on_path("go").context("go is not installed")?;
    let mut command = process::tied(&go)?;
    command
        .args(["run", "-buildvcs=false", "./sidefiles"])
        .arg(folder)
        .args((program == Program::Velero116).then_some("legacy"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/servers/velero"))
        .stderr(Stdio::piped());
    let output = process::spawn(command)?.wait_with_output()?;
    ensure!(
        output.status.success(),
        "sidefiles: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Paths of this machine that Velero's logs quote, and what they are in its image.
fn machine_paths(program: Program) -> Result<Vec<(String, &'static str)>> {
    Ok(vec![
        (velero::binary_folder(Program::VeleroPluginForAws)?, "/plugins"),
        (velero::binary_folder(program)?, ""),
    ])
}

fn copy(from: &Path, to: &Path, paths: &[(String, &str)]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target, paths)?;
            continue;
        }
        // The bytes alone: the S3 server keeps facts of its own in attributes of the file.
        let mut bytes = fs::read(&source)?;
        if source.to_string_lossy().ends_with("-logs.gz") {
            bytes = with_neutral_paths(&bytes, paths)?;
        }
        fs::write(&target, bytes)?;
    }
    Ok(())
}

fn with_neutral_paths(log: &[u8], paths: &[(String, &str)]) -> Result<Vec<u8>> {
    let mut text = String::new();
    MultiGzDecoder::new(log).read_to_string(&mut text)?;
    for (path, neutral) in paths {
        text = text.replace(path, neutral);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}
