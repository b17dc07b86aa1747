//! Which engine does the work of one command, and why: the first line of a run says it.
//!
//! In come the flags and the location; out goes [`Chosen`]. `auto` takes Velero only where a BackupStorageLocation of the
//! very place was validated lately; whatever keeps it from knowing that (no cluster, no right, no Velero) means `direct`
//! and is said. `--engine velero` where none fits is an error with what was looked at.

use std::borrow::Cow;

use backup_engine::{
    api::ApiError,
    clock,
    location::{self, Location},
    velero::{Choice, Kind, Velero, VeleroError, Wanted, choice},
};
use velero_model::api_object::BackupStorageLocation;

use crate::{arguments::global::EngineWord, exit::Failure, request::Place, session::Session, view};

/// An engine and why it.
pub(crate) struct Chosen {
    pub(crate) engine: Engine,
    /// `engine direct (auto: ...)`.
    pub(crate) words: String,
}

/// Who does the work.
pub(crate) enum Engine {
    Direct,
    Velero(Box<Driven>),
}

/// A running Velero and the location of its own that was asked for.
pub(crate) struct Driven {
    pub(crate) velero: Velero,
    pub(crate) location: BackupStorageLocation,
}

impl Driven {
    /// The location by name: `velero/default`.
    pub(crate) fn place(&self) -> String {
        format!("{}/{}", self.velero.namespace(), self.location.metadata.name)
    }
}

/// Whether a command can do its work without a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cluster {
    /// Without it there is nothing to do.
    Needed,
    /// The location is enough.
    IfThere,
}

/// Chooses the engine for a location.
pub(crate) async fn choose(session: &Session, place: &Place, cluster: Cluster) -> Result<Chosen, Failure> {
    let word = session.common.engine;
    if word == EngineWord::Direct {
        return Ok(direct("asked for"));
    }
    if let Place::Known {
        location: folder @ Location::Folder(_),
        ..
    } = place
    {
        return match word {
            EngineWord::Velero => Err(none(&Wanted::Place(folder), "Velero keeps no backups in folders")),
            _ => Ok(direct("auto: Velero keeps no backups in folders")),
        };
    }
    let namespace = &session.common.velero_namespace;
    let place = effective(place).await;
    let wanted = match place.as_ref() {
        Place::Known { location, .. } => Wanted::Place(location),
        Place::Named { name, .. } => Wanted::Name(name),
    };
    let velero = match session.api().await {
        Ok(api) => Velero::new(api, namespace),
        Err(Failure::Api(error)) if word == EngineWord::Auto && cluster == Cluster::IfThere => {
            return Ok(unasked(namespace, &error));
        }
        Err(failure) => return Err(failure),
    };
    let found = match session.unless_interrupted(locations(&velero, wanted)).await {
        Ok(found) => found,
        // A server that answers serves whoever may not ask it this; one that does not answer fails the work too.
        Err(Failure::Velero(VeleroError::Api(error)))
            if word == EngineWord::Auto && (cluster == Cluster::IfThere || error.code().is_some()) =>
        {
            return Ok(unasked(namespace, &error));
        }
        Err(Failure::Velero(VeleroError::Api(error))) if error.is_not_found() => {
            return Err(none(&wanted, "the cluster has no Velero"));
        }
        Err(failure) => return Err(failure),
    };
    let is_asked_for = word == EngineWord::Velero;
    match choice::choose(wanted, namespace, &found, is_asked_for, clock::now()) {
        Choice::Velero {
            location,
            because,
            doubt,
        } => {
            if let Some(doubt) = doubt {
                view::warn(&doubt);
            }
            let why = if is_asked_for { "asked for" } else { "auto" };
            Ok(Chosen {
                engine: Engine::Velero(Box::new(Driven {
                    velero,
                    location: *location,
                })),
                words: format!("engine velero ({why}: {because})"),
            })
        }
        Choice::None { because } if is_asked_for => Err(none(&wanted, &because)),
        Choice::None { because } => Ok(direct(&format!("auto: {because}"))),
    }
}

fn direct(why: &str) -> Chosen {
    Chosen {
        engine: Engine::Direct,
        words: format!("engine direct ({why})"),
    }
}

fn none(wanted: &Wanted<'_>, looked_at: &str) -> Failure {
    Failure::Velero(VeleroError::NoLocation {
        wanted: wanted.to_string(),
        looked_at: looked_at.to_owned(),
    })
}

/// Why nothing is known of a Velero.
fn unasked(namespace: &str, error: &ApiError) -> Chosen {
    match error {
        error if error.is_not_found() => direct("auto: the cluster has no Velero"),
        error if error.is_forbidden() => direct(&format!(
            "auto: BackupStorageLocations in namespace {namespace} may not be read"
        )),
        ApiError::Config { .. } => direct("auto: no cluster to ask for a Velero"),
        _ => direct("auto: the cluster cannot be asked for a Velero"),
    }
}

/// The place with the server that the AWS configuration may name.
async fn effective(place: &Place) -> Cow<'_, Place> {
    match place {
        Place::Known { name, location } => Cow::Owned(Place::Known {
            name: name.clone(),
            location: location::effective(location).await,
        }),
        named @ Place::Named { .. } => Cow::Borrowed(named),
    }
}

async fn locations(velero: &Velero, wanted: Wanted<'_>) -> Result<Vec<BackupStorageLocation>, VeleroError> {
    match wanted {
        // The right to read one need not be the right to list all.
        Wanted::Name(name) => Ok(velero.location(name).await?.into_iter().collect()),
        Wanted::Place(_) => Ok(velero.list(Kind::BackupStorageLocation).await?),
    }
}

/// Work that goes on without us is Velero's alone.
pub(crate) fn must_wait(session: &Session) -> Result<(), Failure> {
    if session.common.wait {
        return Ok(());
    }
    Err(Failure::Usage(
        "--wait=false: engine direct does the work itself, so it always waits; leave it out, or use --engine velero"
            .to_owned(),
    ))
}
