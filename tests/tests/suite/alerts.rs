//! Alerting rules: Prometheus reads them, and both forms say the same. That what they ask for is served is seen where it is
//! served (`tests/tests/velero/metrics.rs`).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use backup_tests::process;
use backup_tests::servers::{self, Program};
use serde_json::Value;

fn read(name: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../manifests/alerts")
        .join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[test]
fn prometheus_takes_the_rules_in_both_forms() -> Result<()> {
    let text = read("rules.yaml")?;
    let mut command = servers::command(Program::PrometheusRules)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut reader = process::spawn(command)?;
    reader.stdin.take().context("stdin")?.write_all(text.as_bytes())?;
    let output = reader.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let alerts: BTreeSet<String> = String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect();
    for alert in [
        "BackupScheduleMissed",
        "BackupScheduleFailing",
        "BackupTooOld",
        "BackupRetentionFailing",
        "BackupVolumesUnprotected",
    ] {
        ensure!(alerts.contains(alert), "{alert}: {alerts:?}");
    }
    let plain: Value = serde_saphyr::from_str(&text)?;
    let wrapped: Value = serde_saphyr::from_str(&read("prometheus-rule.yaml")?)?;
    assert_eq!(plain["groups"], wrapped["spec"]["groups"]);
    Ok(())
}
