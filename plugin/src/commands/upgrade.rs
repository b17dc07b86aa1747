//! `upgrade`: brings the parts that are in a cluster to the version of this program.
//!
//! In comes nothing but an image, if another is wanted; out goes what `enable` says. Which parts there are is seen from what
//! runs. A Velero of ours goes first, one of somebody else's is left to them. An upgrade that was cut off left its version on
//! the namespace, and the same command finishes it.

use backup_engine::{
    lifecycle::{
        RETENTION_LABEL, in_use,
        install::Installer,
        shipped::{self, InCluster, Wanted},
    },
    location::url,
    schedule::{Credentials, NAMESPACE, Schedules},
};

use super::enable;
use crate::{
    exit::{Exit, Failure},
    session::Session,
    view::{self, count},
};

pub(crate) async fn run(session: &Session, image: Option<String>) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let installer = Installer::new(&api, &session.cancel);
    let installed = session.unless_interrupted(installer.installed(NAMESPACE)).await?;
    enable::may_write(&installed)?;
    let in_use = in_use::look(&installer, installed.has_namespace);
    let in_use = session.unless_interrupted(in_use).await?;
    let velero = enable::velero::upgrade(session, &api).await?;
    let is_nothing_of_ours = in_use.components.is_empty() && in_use.cron_jobs.is_empty();
    if is_nothing_of_ours && velero.is_none() {
        return Err(Failure::NotFound(format!(
            "nothing of kubectl backup runs in namespace {NAMESPACE}; `kubectl backup enable` installs it"
        )));
    }
    let image = image.unwrap_or_else(|| enable::image_of_this_version(in_use.image.as_deref()));
    let locations = session
        .unless_interrupted(Schedules::new(&api).locations())
        .await?;
    let locations = locations
        .into_iter()
        .filter(|(name, _)| in_use.retained.contains(name))
        .map(|(name, location)| {
            Ok(InCluster {
                name,
                url: url::print(&location?),
                credentials: Credentials::AsTheyAre,
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let wanted = Wanted {
        components: in_use.components,
        image: image.clone(),
        image_pull_secret: in_use.image_pull_secret,
        locations,
    };
    let mut written = Vec::new();
    if let Some(plan) = &velero {
        written.push(enable::write_velero(session, &installer, plan).await?);
    }
    if !is_nothing_of_ours {
        written.push(enable::write(session, &installer, &shipped::objects(&wanted)?).await?);
    }
    let mut moved = 0;
    for cron_job in &in_use.cron_jobs {
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
    enable::finish(session.common.output, &written)?;
    Ok(Exit::Done)
}
