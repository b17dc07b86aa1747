//! `enable`: puts the parts that run in a cluster there.
//!
//! In comes which parts; out goes a line for each object, created, configured or unchanged, and the next step. Where a part
//! or a right is missing afterwards, the same command goes on from there, and that is said.

pub(super) mod velero;

use std::{collections::BTreeSet, time::Duration};

use backup_engine::{
    api::ApiClient,
    catalog,
    lifecycle::{
        in_use,
        install::{Installed, Installer, Outcome, Release},
        shipped::{self, Component, InCluster, Shipped, Stage, Wanted},
        velero::{VERSION as VELERO, objects::CLOUD_CREDENTIALS, with_version},
    },
    location::{Location, url},
    schedule::NAMESPACE,
};
use backup_plan::versions::{self, Move};
use serde::Serialize;
use serde_json::{Value, json};

use super::schedule;
use crate::{
    arguments::global::OutputFormat,
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

/// What one release came to.
#[derive(Debug)]
pub(super) struct Written {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its version; none of a Velero that is not ours.
    pub(super) version: Option<&'static str>,
    pub(super) lines: Vec<Line>,
}

/// The location that is meant.
struct Meant {
    location: Location,
    in_cluster: InCluster,
    image_pull_secret: Option<String>,
}

pub(crate) async fn run(session: &Session, request: Enable) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let meant = match &request.place {
        Some(place) => Some(location(session, &api, place, &request).await?),
        None => None,
    };
    let velero = match &request.velero {
        Some(wanted) => Some(velero::plan(session, &api, wanted, meant.as_ref()).await?),
        None => None,
    };
    let installer = Installer::new(&api, &session.cancel);
    let installed = session.unless_interrupted(installer.installed(NAMESPACE)).await?;
    let in_use = in_use::look(&installer, installed.has_namespace);
    let in_use = session.unless_interrupted(in_use).await?;
    let wanted = Wanted {
        components: request.components.clone(),
        image: match &request.image {
            Some(image) => image.clone(),
            None => image_of_this_version(in_use.image.as_deref()),
        },
        image_pull_secret: request
            .pods
            .image_pull_secret
            .clone()
            .or(in_use.image_pull_secret),
        locations: meant.into_iter().map(|meant| meant.in_cluster).collect(),
    };
    let objects = shipped::objects(&wanted)?;
    if request.dry_run {
        let of_velero = velero.iter().flat_map(|plan| &plan.objects);
        return preview(session, &of_velero.chain(&objects).collect::<Vec<_>>());
    }
    may_write(&installed)?;
    let mut written = Vec::new();
    if let Some(plan) = &velero {
        written.push(write_velero(session, &installer, plan).await?);
    }
    written.push(write(session, &installer, &objects).await?);
    finish(session.common.output, &written)?;
    say_next(&request.components, wanted.locations.first(), velero.is_some());
    Ok(Exit::Done)
}

/// The image of this version, from where the image in use comes.
pub(super) fn image_of_this_version(in_use: Option<&str>) -> String {
    with_version(
        in_use.unwrap_or("localhost/kubectl-backup"),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The location as it will lie in the cluster. That it cannot be read from here need not mean that pods cannot.
async fn location(
    session: &Session,
    api: &ApiClient,
    place: &Place,
    request: &Enable,
) -> Result<Meant, Failure> {
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
    Ok(Meant {
        in_cluster: InCluster {
            name: name.clone(),
            url: url::print(&location),
            credentials,
        },
        location: velero::effective(&location).await,
        image_pull_secret: request.pods.image_pull_secret.clone(),
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

/// Writes our parts, and says what was written also where it ends early.
pub(super) async fn write(
    session: &Session,
    installer: &Installer<'_>,
    objects: &[Shipped],
) -> Result<Written, Failure> {
    if !session.common.wait && objects.iter().any(|shipped| shipped.stage == Stage::Doors) {
        view::warn(
            "--wait=false: the API server asks the admission suite before it is known to run; until it does, clusters cannot be \
             deleted",
        );
    }
    let release = Release {
        namespace: NAMESPACE,
        version: env!("CARGO_PKG_VERSION"),
    };
    Ok(Written {
        namespace: NAMESPACE.to_owned(),
        version: Some(env!("CARGO_PKG_VERSION")),
        lines: write_all(session, installer, objects, release).await?,
    })
}

/// Writes Velero, or what a Velero of somebody else's gets.
pub(super) async fn write_velero(
    session: &Session,
    installer: &Installer<'_>,
    plan: &velero::Plan,
) -> Result<Written, Failure> {
    // Without its Namespace object among them nothing is said on the namespace.
    let release = Release {
        namespace: &plan.namespace,
        version: VELERO,
    };
    Ok(Written {
        namespace: plan.namespace.clone(),
        version: plan.is_ours.then_some(VELERO),
        lines: write_all(session, installer, &plan.objects, release).await?,
    })
}

async fn write_all(
    session: &Session,
    installer: &Installer<'_>,
    objects: &[Shipped],
    release: Release<'_>,
) -> Result<Vec<Line>, Failure> {
    let patience = session
        .common
        .wait
        .then(|| session.common.timeout.unwrap_or(PATIENCE));
    let mut lines = Vec::new();
    let written = installer
        .write(objects, release, patience, |object, outcome| {
            lines.push(line(session.common.output, object, outcome));
        })
        .await;
    let ended = match written {
        Ok(()) if session.cancel.is_cancelled() => Err(Failure::Interrupted),
        other => other.map_err(Failure::from),
    };
    if ended.is_err() {
        view::warn(&format!(
            "namespace {}: {} of {} are in place; the same command goes on from there",
            release.namespace,
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

pub(super) fn finish(format: OutputFormat, written: &[Written]) -> Result<(), Failure> {
    match format {
        OutputFormat::Json | OutputFormat::Yaml => {
            let lines: Vec<&Line> = written.iter().flat_map(|written| &written.lines).collect();
            let velero = written.iter().find(|written| written.namespace != NAMESPACE);
            let result = json!({
                "version": env!("CARGO_PKG_VERSION"), "namespace": NAMESPACE,
                "velero": velero.map(|velero| json!({ "namespace": velero.namespace, "version": velero.version })),
                "items": lines,
            });
            document::write(&mut view::out(), format, "Installation", &result)
        }
        OutputFormat::Name => {
            for written in written {
                view::print(&format!("namespace/{}\n", written.namespace))?;
            }
            Ok(())
        }
        OutputFormat::Table | OutputFormat::Wide => {
            for written in written {
                let of = |word: &str| written.lines.iter().filter(|line| line.outcome == word).count();
                let version = match written.version {
                    Some(version) => format!("version {version}"),
                    None => "its version is its owner's".to_owned(),
                };
                view::print(&format!(
                    "namespace/{}: {version}, {} created, {} configured, {} unchanged\n",
                    written.namespace,
                    of("created"),
                    of("configured"),
                    of("unchanged"),
                ))?;
            }
            Ok(())
        }
    }
}

fn say_next(components: &BTreeSet<Component>, location: Option<&InCluster>, with_velero: bool) {
    match location {
        Some(location) => view::say(&format!(
            "next: `kubectl backup schedule create nightly --schedule '0 1 * * *' --location {}`, and `kubectl backup status` at \
             any time",
            location.name
        )),
        None if with_velero => view::say(
            "next: `kubectl backup status`; run enable again with --location, and Velero knows where backups go",
        ),
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
fn preview(session: &Session, objects: &[&Shipped]) -> Result<Exit, Failure> {
    let (secrets, shown): (Vec<&Value>, Vec<&Value>) = objects
        .iter()
        .map(|shipped| &shipped.object)
        .partition(|object| object["kind"] == "Secret");
    for secret in secrets {
        let what = shipped::describe(secret);
        view::warn(
            &match secret["metadata"]["labels"][backup_engine::schedule::LOCATION_LABEL].as_str() {
                Some(name) => format!(
                    "{what} is left out, since it holds credentials; it has to be there, with its label and key url, before retention \
                 and metrics find location {name}"
                ),
                None => format!(
                    "{what} is left out, since it holds credentials; it has to be there, with an AWS credentials file under key {}, \
                 before Velero can use its location",
                    CLOUD_CREDENTIALS.1
                ),
            },
        );
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
