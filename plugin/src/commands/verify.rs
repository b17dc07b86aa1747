//! `verify`: whether a backup is still what was written.

use std::{fmt::Write as _, sync::Arc};

use backup_engine::{
    catalog::{self, Finding, Level, OpenBackup, VerifyReport},
    repository::Depth,
    storage::Bucket,
};
use serde_json::{Value, json};
use velero_model::name::BackupName;

use super::repository_password;
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::{Place, ReadData},
    session::Session,
    view::{self, count, document},
};

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    names: &[BackupName],
    read: Option<&ReadData>,
) -> Result<Exit, Failure> {
    let opened = session.open(place).await?;
    let mut exit = Exit::Done;
    let mut results = Vec::new();
    for name in names {
        let watch = session.watch();
        let report = check(session, &opened.bucket, name, read).await;
        watch.end().await;
        let report = report?;
        if !report.is_sound() {
            exit = exit.and(Exit::Failed);
        }
        match session.common.output {
            OutputFormat::Json | OutputFormat::Yaml => results.push(result(name, &report)),
            _ => view::print(&text(name, &report))?,
        }
    }
    match (session.common.output, results.as_slice()) {
        (format @ (OutputFormat::Json | OutputFormat::Yaml), [one]) => {
            document::write(&mut view::out(), format, "VerifyReport", one)?;
        }
        (format @ (OutputFormat::Json | OutputFormat::Yaml), several) => {
            document::write(&mut view::out(), format, "VerifyReportList", &several)?;
        }
        _ => {}
    }
    Ok(exit)
}

/// A marker that cannot be believed is damage too, found before anything else could be looked at.
async fn check(
    session: &Session,
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    read: Option<&ReadData>,
) -> Result<VerifyReport, Failure> {
    let damaged = |error: &catalog::CatalogError| VerifyReport {
        findings: vec![Finding {
            level: Level::Damage,
            what: name.to_string(),
            problem: error.to_string(),
        }],
        ..VerifyReport::default()
    };
    match session.unless_interrupted(catalog::open(bucket, name)).await {
        Ok(backup) => {
            let mut report = Box::pin(catalog::verify(&backup, &session.progress, &session.cancel)).await?;
            let found = Box::pin(volumes(session, bucket, &backup, read)).await?;
            report.findings.extend(found);
            Ok(report)
        }
        Err(Failure::Catalog(error)) if error.is_damage() => Ok(damaged(&error)),
        Err(failure) => Err(failure),
    }
}

/// The data of volumes: whether it is there, and, where that is asked for, what it is.
async fn volumes(
    session: &Session,
    bucket: &Arc<dyn Bucket>,
    backup: &OpenBackup,
    read: Option<&ReadData>,
) -> Result<Vec<Finding>, Failure> {
    let snapshots = match session.unless_interrupted(catalog::claim_snapshots(backup)).await {
        Ok(snapshots) => snapshots,
        // Its file was looked at with all the others.
        Err(Failure::Catalog(error)) if error.is_damage() => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    let missing = catalog::volumes_are_there(bucket, &snapshots);
    let mut findings = session.unless_interrupted(missing).await?;
    let Some(read) = read.filter(|_| findings.is_empty() && !snapshots.of_claims.is_empty()) else {
        return Ok(findings);
    };
    let api = session.api().await.ok();
    let file = read.password_file.as_deref();
    let password = repository_password::find(session, api.as_ref(), file, bucket, false).await?;
    let depth = if read.percent < 100.0 {
        Depth::Percent(read.percent)
    } else {
        Depth::Data
    };
    let (mut done, total) = (0, snapshots.of_claims.len());
    session.progress.set_step("reading the data of volumes");
    let reading = catalog::read_volumes(bucket, &snapshots, password.reveal(), depth, |_, claim| {
        done += 1;
        session.progress.set_step(&format!(
            "data of volumes: {done} of {total} read (claim {claim})"
        ));
    });
    findings.extend(session.unless_interrupted(reading).await?);
    Ok(findings)
}

fn result(name: &BackupName, report: &VerifyReport) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| json!({ "level": level(finding), "what": finding.what, "problem": finding.problem }))
        .collect();
    json!({
        "name": name,
        "sound": report.is_sound(),
        "writtenByVelero": report.foreign,
        "checkedFiles": report.checked_files,
        "checkedMembers": report.checked_members,
        "checkedObjects": report.checked_objects,
        "findings": findings,
        "moreFindings": report.more_findings,
    })
}

fn level(finding: &Finding) -> &'static str {
    match finding.level {
        Level::Damage => "damage",
        Level::Note => "note",
    }
}

fn text(name: &BackupName, report: &VerifyReport) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let line = format!("{}: {}: {}", level(finding), finding.what, finding.problem);
        text.push_str(&view::plain(&line));
        text.push('\n');
    }
    if report.more_findings > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "and {}", count(report.more_findings, "more finding"));
    }
    let checked = format!(
        "{}, {}",
        count(report.checked_files, "file"),
        count(report.checked_objects, "object")
    );
    let verdict = match (report.is_sound(), report.foreign) {
        (true, false) => format!("backup {name} is sound: {checked}, every digest as written\n"),
        (true, true) => format!(
            "backup {name} is readable: {checked}; Velero stores no digests, so changed bytes that still parse cannot be \
             told\n"
        ),
        (false, _) => format!(
            "backup {name} is damaged: {checked} checked; restore from another copy or an older backup\n"
        ),
    };
    text.push_str(&verdict);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_ends_with_its_verdict() {
        let name = BackupName::parse("nightly").unwrap();
        let mut report = VerifyReport {
            checked_files: 7,
            checked_objects: 1,
            ..VerifyReport::default()
        };
        assert_eq!(
            text(&name, &report),
            "backup nightly is sound: 7 files, 1 object, every digest as written\n"
        );
        report.foreign = true;
        assert!(text(&name, &report).contains("Velero stores no digests"));
        report.findings.push(Finding {
            level: Level::Damage,
            what: "nightly.tar.gz".into(),
            problem: "its SHA-256 differs".into(),
        });
        let text = text(&name, &report);
        assert!(
            text.starts_with("damage: nightly.tar.gz: its SHA-256 differs\n"),
            "{text}"
        );
        assert!(text.contains("is damaged"), "{text}");
    }
}
