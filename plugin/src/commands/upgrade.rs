//! `upgrade`: brings the parts that are in a cluster to the version of this program.
//!
//! In comes nothing but an image, if another is wanted; out goes what `enable` says. Which parts there are is seen from what
//! runs. An upgrade that was cut off left its version on the namespace, and the same command finishes it.

use std::collections::BTreeSet;

use backup_engine::{
    lifecycle::{
        RETENTION_LABEL,
        install::Installer,
        shipped::{self, Component, InCluster, Wanted},
    },
    location::url,
    schedule::{Credentials, NAMESPACE, Schedules},
};
use serde_json::Value;

use super::enable;
use crate::{
    exit::{Exit, Failure},
    session::Session,
    view::{self, count},
};

pub(crate) async fn run(session: &Session, image: Option<String>) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let installer = Installer::new(&api, &session.cancel);
    let installed = session.unless_interrupted(installer.installed()).await?;
    enable::may_write(&installed)?;
    let deployment = |name: &str| format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}");
    let webhook = session
        .unless_interrupted(installer.get(&deployment("backup-webhook")))
        .await?;
    let metrics = session
        .unless_interrupted(installer.get(&deployment("backup-metrics")))
        .await?;
    let cron_jobs = if installed.has_namespace {
        session.unless_interrupted(installer.cron_jobs()).await?
    } else {
        Vec::new()
    };
    let retained: BTreeSet<&str> = cron_jobs
        .iter()
        .filter_map(|job| job["metadata"]["labels"][RETENTION_LABEL].as_str())
        .collect();
    let mut components = BTreeSet::new();
    components.extend(webhook.as_ref().map(|_| Component::Admission));
    components.extend(metrics.as_ref().map(|_| Component::Metrics));
    components.extend(retained.first().map(|_| Component::Retention));
    if components.is_empty() && cron_jobs.is_empty() {
        return Err(Failure::NotFound(format!(
            "nothing of kubectl backup runs in namespace {NAMESPACE}; `kubectl backup enable` installs it"
        )));
    }
    let pods: Vec<&Value> = [&webhook, &metrics]
        .into_iter()
        .flatten()
        .filter_map(|deployment| deployment.pointer("/spec/template/spec"))
        .chain(
            cron_jobs
                .iter()
                .filter_map(|job| job.pointer("/spec/jobTemplate/spec/template/spec")),
        )
        .collect();
    let in_use = pods
        .iter()
        .find_map(|pod| pod.pointer("/containers/0/image").and_then(Value::as_str));
    let pull_secret = pods
        .iter()
        .find_map(|pod| pod.pointer("/imagePullSecrets/0/name").and_then(Value::as_str));
    let image = image.unwrap_or_else(|| of_this_version(in_use));
    let locations = session
        .unless_interrupted(Schedules::new(&api).locations())
        .await?;
    let locations = locations
        .into_iter()
        .filter(|(name, _)| retained.contains(name.as_str()))
        .map(|(name, location)| {
            Ok(InCluster {
                name,
                url: url::print(&location?),
                credentials: Credentials::AsTheyAre,
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let wanted = Wanted {
        components,
        image: image.clone(),
        image_pull_secret: pull_secret.map(str::to_owned),
        locations,
    };
    let lines = enable::write(session, &installer, &shipped::objects(&wanted)?).await?;
    let mut moved = 0;
    for cron_job in &cron_jobs {
        // Not dropped on Ctrl-C, but not begun either.
        if session.cancel.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        let is_schedule = cron_job["metadata"]["labels"][RETENTION_LABEL].is_null();
        if is_schedule && installer.move_image(cron_job, &image).await? {
            moved += 1;
        }
    }
    if moved > 0 {
        view::say(&format!("{} run from {image} now", count(moved, "schedule")));
    }
    enable::finish(session.common.output, &lines)?;
    Ok(Exit::Done)
}

/// The image of this version from where the image in use comes.
fn of_this_version(in_use: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let name = in_use.unwrap_or("localhost/kubectl-backup");
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    // A colon before the last slash is the port of a registry.
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    format!("{name}:{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_stays() {
        let version = env!("CARGO_PKG_VERSION");
        for (in_use, expected) in [
            (None, "localhost/kubectl-backup"),
            (Some("localhost/kubectl-backup:0.0.1"), "localhost/kubectl-backup"),
            (
                Some("registry.local:5000/t/kubectl-backup:0.0.1"),
                "registry.local:5000/t/kubectl-backup",
            ),
            (
                Some("registry.local:5000/kubectl-backup"),
                "registry.local:5000/kubectl-backup",
            ),
            (Some("r/kubectl-backup:1@sha256:00"), "r/kubectl-backup"),
        ] {
            assert_eq!(
                of_this_version(in_use),
                format!("{expected}:{version}"),
                "{in_use:?}"
            );
        }
    }
}
