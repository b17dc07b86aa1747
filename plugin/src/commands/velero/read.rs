//! Looking at a backup: in the bucket, and where that cannot be reached, or knows nothing of it, through Velero's API.
//!
//! In come a place, a name and the files that the command reads; out goes an [`OpenBackup`], whichever way it came. The
//! bucket is always tried first: it has everything, and asks nothing of Velero.

use std::{sync::Arc, time::Duration};

use backup_engine::{
    catalog::{self, CatalogError, OpenBackup},
    location::LocationError,
    storage::Bucket,
    velero::fetch::{self, Fetched},
};
use velero_model::{
    api_object::{DownloadTargetKind as File, Run},
    name::BackupName,
};

use crate::{
    engine::{self, Cluster, Driven, Engine},
    exit::Failure,
    request::Place,
    session::Session,
    view,
};

/// How long a cluster may take to say whether it has a Velero, where the bucket has answered already.
const ASKED_WITHIN: Duration = Duration::from_secs(3);

/// A backup that can be read, and the temporary folder that may hold it.
pub(crate) struct Readable {
    pub(crate) backup: OpenBackup,
    _fetched: Option<Fetched>,
}

/// Files of a restore, and the temporary folder that may hold them.
pub(crate) struct ReadableRestore {
    pub(crate) bucket: Arc<dyn Bucket>,
    fetched: Fetched,
}

impl ReadableRestore {
    /// The Restore object.
    pub(crate) fn run(&self) -> &Run {
        self.fetched.run()
    }
}

/// Opens a backup for reading `files` of it.
pub(crate) async fn backup(
    session: &Session,
    place: &Place,
    name: &BackupName,
    files: &[File],
) -> Result<Readable, Failure> {
    let failure = match stored(session, place, name).await {
        Ok(backup) => {
            return Ok(Readable {
                backup,
                _fetched: None,
            });
        }
        Err(failure) => failure,
    };
    let is_unknown = matches!(failure, Failure::Catalog(CatalogError::NotFound { .. }));
    if !is_unknown && !is_out_of_reach(&failure) {
        return Err(failure);
    }
    let Some(driven) = velero(session, place, is_unknown).await else {
        return Err(failure);
    };
    // What the bucket does not have, Velero cannot hand out: then only the object is of interest.
    let files = if is_unknown { &[] } else { files };
    let fetched = session
        .unless_interrupted(fetch::backup(
            &driven.velero,
            &driven.location,
            name,
            files,
            &session.cancel,
        ))
        .await?;
    let Some(fetched) = fetched else {
        return Err(failure);
    };
    if !is_unknown {
        through_velero(&failure);
    }
    let backup = session
        .unless_interrupted(catalog::open(fetched.bucket(), name))
        .await?;
    Ok(Readable {
        backup,
        _fetched: Some(fetched),
    })
}

/// Files of a restore by way of Velero, for a bucket that failed with `failure`; `None` where that is no way.
pub(crate) async fn restore(
    session: &Session,
    place: &Place,
    name: &BackupName,
    files: &[File],
    failure: &Failure,
) -> Result<Option<ReadableRestore>, Failure> {
    let is_unknown = matches!(failure, Failure::NotFound(_));
    if !is_unknown && !is_out_of_reach(failure) {
        return Ok(None);
    }
    let Some(driven) = velero(session, place, is_unknown).await else {
        return Ok(None);
    };
    let files = if is_unknown { &[] } else { files };
    let fetched = session
        .unless_interrupted(fetch::restore(
            &driven.velero,
            &driven.location,
            name,
            files,
            &session.cancel,
        ))
        .await?;
    let Some(fetched) = fetched else {
        return Ok(None);
    };
    if !is_unknown {
        through_velero(failure);
    }
    Ok(Some(ReadableRestore {
        bucket: Arc::clone(fetched.bucket()),
        fetched,
    }))
}

/// Says where this comes from.
pub(crate) fn through_velero(failure: &Failure) {
    view::warn(&format!(
        "the bucket cannot be read from here, so this comes through Velero's API, and sizes are of what was fetched: {failure}"
    ));
}

async fn stored(session: &Session, place: &Place, name: &BackupName) -> Result<OpenBackup, Failure> {
    let opened = session.open(place).await?;
    session
        .unless_interrupted(catalog::open(&opened.bucket, name))
        .await
}

/// Whether the location could not be used at all: then Velero, which can, may help.
pub(crate) fn is_out_of_reach(failure: &Failure) -> bool {
    match failure {
        Failure::Storage(_)
        | Failure::Catalog(CatalogError::Storage(_))
        | Failure::Location(LocationError::BackupStorageLocation { .. })
        // The Secret with the credentials, or the right to read it.
        | Failure::NotFound(_) => true,
        Failure::Api(error) => error.is_forbidden(),
        _ => false,
    }
}

/// The Velero that has the place as its own. Whether there is one is only asked briefly where the bucket has answered.
pub(crate) async fn velero(session: &Session, place: &Place, briefly: bool) -> Option<Box<Driven>> {
    let limit = if briefly { ASKED_WITHIN } else { Duration::MAX };
    match tokio::time::timeout(limit, engine::choose(session, place, Cluster::IfThere)).await {
        Ok(Ok(chosen)) => match chosen.engine {
            Engine::Velero(driven) => Some(driven),
            Engine::Direct => {
                if !briefly {
                    view::say(&format!("not through Velero either: {}", chosen.words));
                }
                None
            }
        },
        Ok(Err(failure)) if !briefly => {
            view::warn(&failure.to_string());
            None
        }
        _ => None,
    }
}
