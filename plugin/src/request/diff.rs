//! What `diff` compares.
//!
//! In come two names and objects as words; out goes [`Diff`]. A word with a slash is an object, so that the second backup
//! may be left out.

use backup_plan::scope::Scope;
use velero_model::name::BackupName;

use super::{ObjectWord, Place, RequestError, fields, place, scope};
use crate::arguments::{self, environment::Environment, global::Global};

/// A comparison, as meant.
#[derive(Debug, Clone)]
pub(crate) struct Diff {
    pub(crate) place: Place,
    pub(crate) name: BackupName,
    /// The other backup; the live cluster if there is none.
    pub(crate) other: Option<(Place, BackupName)>,
    pub(crate) scope: Scope,
    /// Only these objects.
    pub(crate) only: Vec<ObjectWord>,
    pub(crate) everything: bool,
    /// Whether a difference gives an exit code of its own.
    pub(crate) exit_code: bool,
}

pub(super) fn parse(
    typed: arguments::diff::Diff,
    global: &Global,
    place: Place,
    environment: &Environment,
) -> Result<Diff, RequestError> {
    let mut objects = typed.objects;
    let other = match typed.other {
        Some(word) if is_object(&word) => {
            objects.insert(0, word);
            None
        }
        Some(word) => Some(fields::name(&word)?),
        None => None,
    };
    let other = match (other, typed.other_location.as_deref()) {
        (Some(name), Some(location)) => Some((place::of(Some(location), environment)?, name)),
        (Some(name), None) => Some((place.clone(), name)),
        (None, Some(location)) => {
            return Err(RequestError::flag(
                "--other-location",
                location,
                "it says where OTHER is; name a second backup",
            ));
        }
        (None, None) => None,
    };
    let namespace = if objects.is_empty() {
        None
    } else {
        fields::one_namespace(global)?
    };
    let only = objects
        .iter()
        .map(|word| ObjectWord::parse(word, namespace.clone()))
        .collect::<Result<_, _>>()?;
    Ok(Diff {
        name: fields::name(&typed.backup)?,
        other,
        scope: scope::parse(typed.scope, None, global)?,
        only,
        everything: typed.show_all,
        exit_code: typed.exit_code,
        place,
    })
}

/// Names of backups have no slash, but `backup/NAME` is understood.
fn is_object(word: &str) -> bool {
    word.split_once('/')
        .is_some_and(|(kind, _)| !matches!(kind, "backup" | "backups"))
}
