//! Which location is meant.
//!
//! A URL is read at once; a name is looked up in the user's file. A name that is not there may still be a
//! BackupStorageLocation, which only the cluster knows: it is kept with the error to give if the cluster does not know it
//! either.

use backup_engine::location::{Location, LocationError, LocationsFile, url};

use super::RequestError;
use crate::arguments::environment::Environment;

/// A location, as far as it can be known without asking a cluster.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// It is known.
    Known {
        /// Its name if it has one, else `default`, for fields that need a name.
        name: String,
        location: Location,
    },
    /// Perhaps a BackupStorageLocation.
    Named {
        name: String,
        /// What to say if it is none.
        otherwise: LocationError,
    },
}

/// What Velero calls a location that nobody named.
const UNNAMED: &str = "default";

pub(crate) fn of(word: Option<&str>, environment: &Environment) -> Result<Place, RequestError> {
    let word = word.filter(|word| !word.is_empty());
    if let Some(url) = word.filter(|word| url::is_url(word)) {
        // A URL is enough: a broken file of locations must not stand in its way.
        return Ok(Place::Known {
            name: UNNAMED.to_owned(),
            location: url::parse(url)?,
        });
    }
    let file = match &environment.locations_file {
        Some(path) => LocationsFile::load(path)?,
        None => LocationsFile::default(),
    };
    let Some(name) = word.or(file.default.as_deref()).map(str::to_owned) else {
        return Err(LocationError::Nothing.into());
    };
    match file.get(&name) {
        Ok(location) => Ok(Place::Known { name, location }),
        Err(otherwise @ LocationError::UnknownName { .. }) => Ok(Place::Named { name, otherwise }),
        Err(error) => Err(error.into()),
    }
}

/// A URL that gets a name.
pub(super) fn of_url(name: &str, url: &str) -> Result<Place, RequestError> {
    Ok(Place::Known {
        name: name.to_owned(),
        location: url::parse(url)?,
    })
}
