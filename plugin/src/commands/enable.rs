//! `enable`: puts the parts that run in a cluster there.
//!
//! In comes which parts; out goes a line for each object, created, configured or unchanged, and the next step. Where a part
//! or a right is missing afterwards, the same command goes on from there, and that is said.

use std::{collections::BTreeSet, time::Duration};

use backup_engine::{
    api::ApiClient,
    catalog,
    lifecycle::{
        install::{Installed, Installer, Outcome},
        shipped::{self, Component, InCluster, Shipped, Stage, Wanted},
    },
    location::{Location, url},
    schedule::{NAMESPACE, location_secret_name},
};
use backup_plan::versions::{self, Move};
use serde::Serialize;
use serde_json::{Value, json};

use super::schedule;
use crate::{
    arguments::global::{EngineWord, OutputFormat},
    exit::{Exit, Failure},
    request::{Enable, Place},
    session::Session,
    view::{self, count, document},
};

/// Longest wait for pods.
pub(super) const PATIENCE: Duration = Duration::from_mins(5);

/// One line of the result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    object: String,
    outcome: &'static str,
}

pub(crate) async fn run(session: &Session, request: Enable) -> Result<Exit, Failure> {
    if session.common.engine == EngineWord::Velero {
        return Err(Failure::Usage(
            "this version does not install Velero: `velero install` does, and kubectl backup works with a Velero that runs;              leave --engine velero out for all the rest"
                .to_owned(),
        ));
    }
    let api = session.api().await?;
    let location = match &request.place {
        Some(place) => Some(location(session, &api, place, &request).await?),
        None => None,
    };
    let wanted = Wanted {
        components: request.components.clone(),
        image: request.pods.image.clone(),
        image_pull_secret: request.pods.image_pull_secret.clone(),
        locations: location.into_iter().collect(),
    };
    let objects = shipped::objects(&wanted)?;
    if request.dry_run {
        return preview(session, &objects);
    }
    let installer = Installer::new(&api, &session.cancel);
    let installed = session.unless_interrupted(installer.installed()).await?;
    may_write(&installed)?;
    let lines = write(session, &installer, &objects).await?;
    finish(session.common.output, &lines)?;
    say_next(&request.components, wanted.locations.first());
    Ok(Exit::Done)
}

/// The location as it will lie in the cluster. That it cannot be read from here need not mean that pods cannot.
async fn location(
    session: &Session,
    api: &ApiClient,
    place: &Place,
    request: &Enable,
) -> Result<InCluster, Failure> {
    let (Place::Known { name, .. } | Place::Named { name, .. }) = place;
    let location = session.locate(place).await?;
    if let Location::Folder(_) = location {
        return Err(Failure::Refused(format!(
            "a pod cannot see the folder {}; give a bucket as --location",
            location.describe()
        )));
    }
    let credentials = schedule::credentials(session, api, &request.pods.credentials, name, &location).await?;
    if !request.dry_run {
        let looked = async {
            let opened = session.open(place).await?;
            session.unless_interrupted(catalog::list(&opened.bucket)).await
        };
        match looked.await {
            Ok(_) => {}
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => view::warn(&format!(
                "location {name} cannot be read from here; pods may be able to, and `kubectl backup status` says whether: \
                 {failure}"
            )),
        }
    }
    Ok(InCluster {
        name: name.clone(),
        url: url::print(&location),
        credentials,
    })
}

/// Refuses what would take a cluster back, or over a version.
pub(super) fn may_write(installed: &Installed) -> Result<(), Failure> {
    let ours = env!("CARGO_PKG_VERSION");
    for there in [&installed.version, &installed.coming].into_iter().flatten() {
        match versions::between(there, ours) {
            Move::Same | Move::Forward => {}
            Move::Back => {
                return Err(Failure::Refused(format!(
                    "the cluster has version {there}, this is {ours}: parts are never moved back; take a kubectl-backup of \
                     version {there} or newer"
                )));
            }
            Move::TooFar { through } => {
                return Err(Failure::Refused(format!(
                    "the cluster has version {there}, this is {ours}: go through {through} first, with `kubectl backup \
                     upgrade` of that version"
                )));
            }
            Move::Unknown => {
                return Err(Failure::Refused(format!(
                    "namespace {NAMESPACE} says that version {there:?} is installed, which is none; take its annotations \
                     kubectl-backup.io/version and kubectl-backup.io/version-coming off if you know better"
                )));
            }
        }
    }
    Ok(())
}

/// Writes, and says what was written also where it ends early.
pub(super) async fn write(
    session: &Session,
    installer: &Installer<'_>,
    objects: &[Shipped],
) -> Result<Vec<Line>, Failure> {
    let patience = session
        .common
        .wait
        .then(|| session.common.timeout.unwrap_or(PATIENCE));
    if patience.is_none() && objects.iter().any(|shipped| shipped.stage == Stage::Doors) {
        view::warn(
            "--wait=false: the API server asks the admission suite before it is known to run; until it does, clusters cannot be \
             deleted",
        );
    }
    let mut lines = Vec::new();
    let written = installer
        .write(objects, env!("CARGO_PKG_VERSION"), patience, |object, outcome| {
            lines.push(line(session.common.output, object, outcome));
        })
        .await;
    let ended = match written {
        Ok(()) if session.cancel.is_cancelled() => Err(Failure::Interrupted),
        other => other.map_err(Failure::from),
    };
    if ended.is_err() {
        view::warn(&format!(
            "{} of {} are in place; the same command goes on from there",
            lines.len(),
            count(objects.len() as u64, "object")
        ));
    }
    ended.map(|()| lines)
}

fn line(format: OutputFormat, object: &Value, outcome: Outcome) -> Line {
    let line = Line {
        object: shipped::describe(object),
        outcome: outcome.word(),
    };
    if matches!(format, OutputFormat::Table | OutputFormat::Wide) {
        view::say(&format!("{} {}", line.object, line.outcome));
    }
    line
}

pub(super) fn finish(format: OutputFormat, lines: &[Line]) -> Result<(), Failure> {
    let of = |word: &str| lines.iter().filter(|line| line.outcome == word).count();
    match format {
        OutputFormat::Json | OutputFormat::Yaml => {
            let result =
                json!({ "version": env!("CARGO_PKG_VERSION"), "namespace": NAMESPACE, "items": lines });
            document::write(&mut view::out(), format, "Installation", &result)
        }
        OutputFormat::Name => Ok(view::print(&format!("namespace/{NAMESPACE}\n"))?),
        OutputFormat::Table | OutputFormat::Wide => Ok(view::print(&format!(
            "namespace/{NAMESPACE}: version {}, {} created, {} configured, {} unchanged\n",
            env!("CARGO_PKG_VERSION"),
            of("created"),
            of("configured"),
            of("unchanged"),
        ))?),
    }
}

fn say_next(components: &BTreeSet<Component>, location: Option<&InCluster>) {
    match location {
        Some(location) => view::say(&format!(
            "next: `kubectl backup schedule create nightly --schedule '0 1 * * *' --location {}`, and `kubectl backup status` at \
             any time",
            location.name
        )),
        None => view::say(
            "next: `kubectl backup status`; there is no location in the cluster yet, and no retention: run enable again with \
             --location",
        ),
    }
    if components.contains(&Component::Admission) {
        view::say(
            "`kubectl backup cluster protect NAME -n NAMESPACE` guards a cluster; `kubectl backup policy --help` chooses volumes",
        );
    }
}

/// What would be applied, for review or a Git repository. Credentials are nowhere printed.
fn preview(session: &Session, objects: &[Shipped]) -> Result<Exit, Failure> {
    let (secrets, shown): (Vec<&Value>, Vec<&Value>) = objects
        .iter()
        .map(|shipped| &shipped.object)
        .partition(|object| object["kind"] == "Secret");
    for secret in secrets {
        let name = secret["metadata"]["labels"][backup_engine::schedule::LOCATION_LABEL]
            .as_str()
            .unwrap_or_default();
        view::warn(&format!(
            "Secret {NAMESPACE}/{} is left out, since it holds credentials; it has to be there, with its label and key url, \
             before retention and metrics find location {name}",
            location_secret_name(name)
        ));
    }
    let format = session.common.output;
    match format {
        OutputFormat::Json | OutputFormat::Yaml => {
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": shown });
            document::bare(&mut view::out(), format, &list)?;
        }
        OutputFormat::Name | OutputFormat::Table | OutputFormat::Wide => {
            for object in shown {
                view::print(&format!("{} would be applied\n", shipped::describe(object)))?;
            }
        }
    }
    Ok(Exit::Done)
}
