//! The `cluster` commands, as meant.

use std::{path::PathBuf, time::Duration};

use backup_engine::{clusters::Wish, location::LocationError};
use backup_plan::disposition::{Kind, Settings};
use velero_model::{
    api::{BackupStorage, WhenLocked},
    duration::GoDuration,
    name::BackupName,
};

use super::{Credentials, Place, RequestError, fields, in_cluster, place};
use crate::arguments::{
    cluster::{Choice, ClusterCommand, KindWord, Target},
    environment::Environment,
    global::Global,
};

/// What to do about clusters.
#[derive(Debug, Clone)]
pub(crate) enum ClusterRequest {
    Protect {
        cluster: ClusterWord,
        /// Where its backups are; without one only what is missing of a protection can be repaired.
        place: Option<Place>,
    },
    Unprotect {
        cluster: ClusterWord,
    },
    Status {
        /// One, or all.
        name: Option<String>,
        kinds: Vec<Kind>,
        /// `None`: the context's, or with `is_everywhere` all.
        namespace: Option<String>,
        is_everywhere: bool,
    },
    Choose {
        cluster: ClusterWord,
        wish: Wish,
    },
    Recover(Box<Recovery>),
    /// The Job of the admission suite.
    CarryOut {
        /// Name of its ConfigMap.
        name: String,
    },
}

/// What to recover from, and how far.
#[derive(Debug, Clone)]
pub(crate) struct Recovery {
    pub(crate) from: RecoverFrom,
    /// Name, and namespace if it was given.
    pub(crate) which: Option<(Option<String>, BackupName)>,
    pub(crate) backup: Option<BackupName>,
    pub(crate) attach_as: Option<BackupName>,
    pub(crate) plan: bool,
    pub(crate) attach_only: bool,
    pub(crate) credentials: Credentials,
}

/// Where the ticket is.
#[derive(Debug, Clone)]
pub(crate) enum RecoverFrom {
    File(PathBuf),
    Place(Place),
}

/// A cluster as typed.
#[derive(Debug, Clone)]
pub(crate) struct ClusterWord {
    pub(crate) name: String,
    /// The kinds that it may be of.
    pub(crate) kinds: Vec<Kind>,
    /// `None`: the context's.
    pub(crate) namespace: Option<String>,
}

pub(super) fn parse(
    command: ClusterCommand,
    global: &Global,
    environment: &Environment,
) -> Result<ClusterRequest, RequestError> {
    Ok(match command {
        ClusterCommand::Protect { target } => ClusterRequest::Protect {
            cluster: word(target, global)?,
            place: match place::of(global.location.as_deref(), environment) {
                Ok(place) => Some(place),
                Err(RequestError::Location(LocationError::Nothing)) => None,
                Err(error) => return Err(error),
            },
        },
        ClusterCommand::Recover {
            from,
            which,
            backup,
            attach_as,
            plan,
            attach_only,
            credentials,
        } => ClusterRequest::Recover(Box::new(Recovery {
            from: recover_from(&from, environment)?,
            which: which.as_deref().map(cluster_name).transpose()?,
            backup: backup.as_deref().map(BackupName::parse).transpose()?,
            attach_as: attach_as.as_deref().map(BackupName::parse).transpose()?,
            plan,
            attach_only,
            credentials: in_cluster::credentials(credentials, environment),
        })),
        ClusterCommand::CarryOut { name } => ClusterRequest::CarryOut {
            name: BackupName::parse(&name)?.to_string(),
        },
        ClusterCommand::Unprotect { target } => ClusterRequest::Unprotect {
            cluster: word(target, global)?,
        },
        ClusterCommand::Status { name, kind } => {
            let (name, kinds) = match name {
                Some(name) => {
                    let (name, kinds) = name_and_kinds(name, kind)?;
                    (Some(name), kinds)
                }
                None => (None, kinds(kind)),
            };
            ClusterRequest::Status {
                name,
                kinds,
                namespace: fields::one_namespace(global)?,
                is_everywhere: global.all_namespaces,
            }
        }
        ClusterCommand::Retain {
            target,
            retain_for,
            choice,
        } => ClusterRequest::Choose {
            cluster: word(target, global)?,
            wish: Wish {
                retain_for: span("--for", retain_for.as_deref())?,
                ..wish(BackupStorage::Retain, &choice)?
            },
        },
        ClusterCommand::DeleteStorage {
            target,
            release_when_locked,
            choice,
        } => ClusterRequest::Choose {
            cluster: word(target, global)?,
            wish: Wish {
                when_locked: if release_when_locked {
                    WhenLocked::Release
                } else {
                    WhenLocked::Wait
                },
                ..wish(BackupStorage::Delete, &choice)?
            },
        },
    })
}

/// A file is one that is there; everything else is a location.
fn recover_from(text: &str, environment: &Environment) -> Result<RecoverFrom, RequestError> {
    let file = environment.working_folder.join(text);
    if !text.contains("://") && file.is_file() {
        return Ok(RecoverFrom::File(file));
    }
    Ok(RecoverFrom::Place(place::of(Some(text), environment)?))
}

fn cluster_name(text: &str) -> Result<(Option<String>, BackupName), RequestError> {
    Ok(match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), BackupName::parse(name)?),
        None => (None, BackupName::parse(text)?),
    })
}

fn word(target: Target, global: &Global) -> Result<ClusterWord, RequestError> {
    if global.all_namespaces {
        return Err(RequestError::NotTaken {
            command: "cluster",
            flag: "--all-namespaces for one cluster",
        });
    }
    let (name, kinds) = name_and_kinds(target.name, target.kind)?;
    Ok(ClusterWord {
        name,
        kinds,
        namespace: fields::one_namespace(global)?,
    })
}

/// `cluster/prod` and `tkc/prod` are understood too.
fn name_and_kinds(typed: String, kind: Option<KindWord>) -> Result<(String, Vec<Kind>), RequestError> {
    let (name, kind) = match typed.split_once('/') {
        None => (typed, kind),
        Some((word, name)) => {
            let known = <KindWord as clap::ValueEnum>::from_str(word, true);
            let known = known.ok().filter(|known| kind.is_none_or(|kind| kind == *known));
            let Some(known) = known else {
                let problem = "write cluster/NAME or tanzukubernetescluster/NAME, and no other --kind";
                return Err(RequestError::flag("NAME", &typed, problem));
            };
            (name.to_owned(), Some(known))
        }
    };
    Ok((BackupName::parse(&name)?.to_string(), kinds(kind)))
}

fn kinds(word: Option<KindWord>) -> Vec<Kind> {
    let all = Settings::default().kinds;
    let wanted = match word {
        None => return all,
        Some(KindWord::Cluster) => "Cluster",
        Some(KindWord::TanzuKubernetesCluster) => "TanzuKubernetesCluster",
    };
    all.into_iter().filter(|kind| kind.kind == wanted).collect()
}

fn wish(storage: BackupStorage, choice: &Choice) -> Result<Wish, RequestError> {
    Ok(Wish {
        storage,
        retain_for: None,
        final_backup: choice.final_backup,
        when_locked: WhenLocked::Wait,
        expires_after: span("--expires-after", choice.expires_after.as_deref())?,
    })
}

/// A Go duration that is not zero, as Go prints it; days are understood too: `90d`, `1d12h`.
fn span(flag: &'static str, text: Option<&str>) -> Result<Option<String>, RequestError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let days = text.split_once('d').and_then(|(days, rest)| {
        let days = Duration::from_secs(days.parse::<u32>().ok()?.checked_mul(24 * 3600)?.into());
        let rest = if rest.is_empty() {
            Duration::ZERO
        } else {
            GoDuration::parse(rest).ok()?.0
        };
        days.checked_add(rest).map(GoDuration)
    });
    let duration = match days {
        Some(duration) => duration,
        None => fields::duration(flag, text)?,
    };
    if duration.0.is_zero() {
        return Err(RequestError::flag(flag, text, "write a time such as 90d or 24h"));
    }
    Ok(Some(duration.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_have_days() {
        let table = [
            ("90d", "2160h0m0s"),
            ("1d12h", "36h0m0s"),
            ("24h", "24h0m0s"),
            ("1h30m", "1h30m0s"),
        ];
        for (text, expected) in table {
            assert_eq!(
                span("--for", Some(text)).unwrap().as_deref(),
                Some(expected),
                "{text}"
            );
        }
        for text in ["", "0", "0d", "d", "-1d", "1d-2h", "soon", "1.5d", "99999999d"] {
            let error = span("--for", Some(text)).expect_err(text).to_string();
            assert!(error.starts_with("--for"), "{error}");
        }
        assert_eq!(span("--for", None).unwrap(), None);
    }

    #[test]
    fn a_name_may_carry_its_kind() {
        let only = |text: &str, kind| {
            let (name, kinds) = name_and_kinds(text.to_owned(), kind).unwrap();
            (name, kinds.into_iter().map(|kind| kind.kind).collect::<Vec<_>>())
        };
        assert_eq!(only("prod", None).1, ["Cluster", "TanzuKubernetesCluster"]);
        assert_eq!(only("tkc/prod", None).1, ["TanzuKubernetesCluster"]);
        assert_eq!(only("cluster/prod", Some(KindWord::Cluster)).0, "prod");
        assert_eq!(only("prod", Some(KindWord::Cluster)).1, ["Cluster"]);
        for (text, kind) in [
            ("pod/prod", None),
            ("tkc/prod", Some(KindWord::Cluster)),
            ("cluster/", None),
            ("../x", None),
        ] {
            assert!(name_and_kinds(text.to_owned(), kind).is_err(), "{text}");
        }
    }
}
