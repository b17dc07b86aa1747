//! What `volumes` and `policy` look at.
//!
//! In come namespaces, a pod and names of policies as words; out go [`ExplainVolumes`] and [`PolicyWork`]. Without `-n` everything
//! is looked at; a pod without `-n` must be the only one of its name.

use backup_engine::volumes::Within;
use velero_model::name::BackupName;

use super::{Place, RequestError, fields, place};
use crate::arguments::{
    self,
    environment::Environment,
    global::{DryRun, EngineWord, Global},
    policy::CelVersion,
};

/// `volumes explain`, as meant.
#[derive(Debug, Clone)]
pub(crate) struct ExplainVolumes {
    pub(crate) within: Within,
    pub(crate) pod: Option<String>,
    /// Where backups go, for the choice of the engine; none where nobody said it.
    pub(crate) place: Option<Place>,
}

/// `policy explain` and `policy apply`, as meant.
#[derive(Debug, Clone)]
pub(crate) struct PolicyWork {
    pub(crate) names: Vec<String>,
    pub(crate) within: Within,
    pub(crate) kind: PolicyWorkKind,
}

/// What is done with policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyWorkKind {
    Explain,
    /// Rendered in this version, or the newest that the cluster serves.
    Render(Option<CelVersion>),
    Apply(DryRun),
}

pub(super) fn explain(
    pod: Option<&str>,
    global: &Global,
    environment: &Environment,
) -> Result<ExplainVolumes, RequestError> {
    let place = match place::of(global.location.as_deref(), environment) {
        Ok(place) => Some(place),
        // Without a location there is no backup to choose an engine for; whoever names an engine has chosen.
        Err(_) if global.location.is_none() => None,
        Err(error) => return Err(error),
    };
    if place.is_none() && global.engine == Some(EngineWord::Velero) {
        return Err(place::of(None, environment)
            .err()
            .unwrap_or(RequestError::OtherEngine {
                command: "volumes explain",
            }));
    }
    Ok(ExplainVolumes {
        within: within(global)?,
        pod: pod.map(|word| object_name("pod", word)).transpose()?,
        place,
    })
}

pub(super) fn policies(
    words: &[String],
    kind: PolicyWorkKind,
    global: &Global,
) -> Result<PolicyWork, RequestError> {
    let mut names = Vec::with_capacity(words.len());
    for word in words {
        let name = object_name("policy", word)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if let PolicyWorkKind::Render(_) = kind
        && !global.namespace.is_empty()
    {
        return Err(RequestError::NotTaken {
            command: "policy explain --as-cel",
            flag: "--namespace",
        });
    }
    Ok(PolicyWork {
        names,
        within: within(global)?,
        kind,
    })
}

/// `explain` with its flags.
pub(super) fn explain_kind(as_cel: bool, version: Option<CelVersion>) -> PolicyWorkKind {
    if as_cel {
        PolicyWorkKind::Render(version)
    } else {
        PolicyWorkKind::Explain
    }
}

fn within(global: &Global) -> Result<Within, RequestError> {
    let mut names = Vec::with_capacity(global.namespace.len());
    for name in &global.namespace {
        if !fields::is_namespace_name(name) {
            return Err(RequestError::flag(
                "--namespace",
                name,
                "it is no name of a namespace",
            ));
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(if names.is_empty() {
        Within::Everywhere
    } else {
        Within::Namespaces(names)
    })
}

/// `NAME` or `KIND/NAME`, plurals and short names of the kind included.
fn object_name(kind: &'static str, word: &str) -> Result<String, RequestError> {
    let kinds: &[&str] = match kind {
        "pod" => &["pod", "pods", "po"],
        _ => &[
            "policy",
            "volumebackuppolicy",
            "volumebackuppolicies",
            "volumebackuppolicy.kubectl-backup.io",
            "volumebackuppolicies.kubectl-backup.io",
            "vbp",
        ],
    };
    let name = match word.split_once('/') {
        Some((typed, name)) if kinds.contains(&typed) => name,
        Some(_) => {
            return Err(RequestError::flag(
                kind,
                word,
                format!("write NAME or {kind}/NAME"),
            ));
        }
        None => word,
    };
    Ok(BackupName::parse(name)?.to_string())
}

/// What `arguments::policy` says, as meant.
pub(super) fn of_policy(
    command: &arguments::policy::PolicyCommand,
    global: &Global,
) -> Result<super::Command, RequestError> {
    use arguments::policy::PolicyCommand as Typed;
    let work = |names: &[String], kind| Ok(super::Command::Policy(Box::new(policies(names, kind, global)?)));
    match command {
        Typed::List => Ok(super::Command::ListPolicies),
        Typed::Explain {
            names,
            as_cel,
            cel_version,
        } => work(names, explain_kind(*as_cel, *cel_version)),
        Typed::Apply { names } => work(
            names,
            PolicyWorkKind::Apply(global.dry_run.unwrap_or(DryRun::None)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_carry_their_kind() {
        for (kind, word, expected) in [
            ("pod", "web-0", Some("web-0")),
            ("pod", "po/web-0", Some("web-0")),
            ("pod", "service/web", None),
            (
                "policy",
                "volumebackuppolicies.kubectl-backup.io/databases",
                Some("databases"),
            ),
            ("policy", "../databases", None),
        ] {
            assert_eq!(object_name(kind, word).ok().as_deref(), expected, "{word}");
        }
    }
}
