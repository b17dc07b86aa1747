//! What may become of an object that exists and differs, as `--existing-resource-policy` says it.
//!
//! In come words such as `update,jobs.batch=recreate`; out goes, for each kind, the [`Ruling`] that holds for it. What would
//! take other objects' content with it is never deleted by a default: definitions and namespaces not at all, volumes and
//! claims only when their kind is named. Later code may rely on a resolved policy never asking for such a deletion.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use velero_model::resource::ApiKind;

use crate::{
    kinds::DiscoveredKind,
    resource_names::{UnknownResource, resolve},
};

/// What becomes of an object that exists and differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// It is left alone and the difference reported.
    #[default]
    None,
    /// The fields of the backup are applied; what only the cluster has stays.
    Update,
    /// The whole object becomes what the backup holds; its UID stays.
    Replace,
    /// It is deleted and made anew.
    Recreate,
    /// It counts as a failure, and nothing is written to it.
    Fail,
}

const WORDS: [(&str, Policy); 5] = [
    ("none", Policy::None),
    ("update", Policy::Update),
    ("replace", Policy::Replace),
    ("recreate", Policy::Recreate),
    ("fail", Policy::Fail),
];

impl Policy {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        WORDS
            .iter()
            .find(|(_, policy)| *policy == self)
            .map_or("none", |(word, _)| word)
    }

    fn parse(word: &str) -> Option<Self> {
        WORDS
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, policy)| *policy)
    }
}

/// Why a policy cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not one of the words.
    #[error(
        "\"{0}\" is no policy for existing objects; write none, update, replace, recreate or fail, and KIND=POLICY for a \
         kind of its own, such as update,jobs.batch=recreate"
    )]
    Word(String),
    /// Two defaults, or two policies for a kind.
    #[error("\"{0}\" gives a second policy where one is given already; leave one of the two out")]
    Twice(String),
    /// The word for a kind names none.
    #[error("the policy for existing objects: {0}")]
    Kind(#[from] UnknownResource),
    /// Deleting it would delete what lives in it.
    #[error(
        "{kind} are never deleted by a restore, because everything in them would go with them; write {kind}=update or \
         {kind}=replace, or delete the object by hand before the restore"
    )]
    NeverRecreated {
        /// The resource group.
        kind: String,
    },
}

/// Deleting one of these deletes what lives in it.
const NEVER_RECREATED: [&str; 2] = ["namespaces", "customresourcedefinitions.apiextensions.k8s.io"];

/// Deleting one of these may delete data.
const RECREATED_WHEN_NAMED: [&str; 2] = ["persistentvolumes", "persistentvolumeclaims"];

/// The policies of a restore, as given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    default: Policy,
    kinds: Vec<(String, Policy)>,
}

impl From<Policy> for Policies {
    fn from(default: Policy) -> Self {
        Self {
            default,
            kinds: Vec::new(),
        }
    }
}

impl Policies {
    /// Reads words such as `update` and `jobs.batch=recreate`. Without a default it is `none`.
    ///
    /// # Errors
    /// On a word that is no policy, and on a second default.
    pub fn parse<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Result<Self, PolicyError> {
        let mut default = None;
        let mut kinds: Vec<(String, Policy)> = Vec::new();
        for word in words {
            let word = word.as_ref().trim();
            let policy = |text: &str| Policy::parse(text).ok_or_else(|| PolicyError::Word(word.to_owned()));
            match word.split_once('=') {
                None if default.is_some() => return Err(PolicyError::Twice(word.to_owned())),
                None => default = Some(policy(word)?),
                Some(("", _)) => return Err(PolicyError::Word(word.to_owned())),
                Some((kind, _)) if kinds.iter().any(|(known, _)| known == kind) => {
                    return Err(PolicyError::Twice(word.to_owned()));
                }
                Some((kind, text)) => kinds.push((kind.to_owned(), policy(text)?)),
            }
        }
        Ok(Self {
            default: default.unwrap_or_default(),
            kinds,
        })
    }

    /// Whether objects may be deleted, so that a person has to agree.
    pub fn may_delete(&self) -> bool {
        self.default == Policy::Recreate || self.kinds.iter().any(|(_, policy)| *policy == Policy::Recreate)
    }

    /// Gives the words for kinds their meaning.
    ///
    /// # Errors
    /// On a word that names no kind, a kind that is named twice, and one that is never recreated.
    pub fn resolve(&self, kinds: &[DiscoveredKind]) -> Result<ResolvedPolicies, PolicyError> {
        let mut resolved = ResolvedPolicies {
            default: self.default,
            kinds: BTreeMap::new(),
        };
        for (word, policy) in &self.kinds {
            for kind in resolve(word, kinds)? {
                let group = kind.api.resource_group();
                if *policy == Policy::Recreate && NEVER_RECREATED.contains(&group.as_str()) {
                    return Err(PolicyError::NeverRecreated { kind: group });
                }
                if resolved
                    .kinds
                    .insert(group, *policy)
                    .is_some_and(|known| known != *policy)
                {
                    return Err(PolicyError::Twice(format!("{word}={}", policy.word())));
                }
            }
        }
        Ok(resolved)
    }
}

impl fmt::Display for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.default.word())?;
        for (kind, policy) in &self.kinds {
            write!(f, ",{kind}={}", policy.word())?;
        }
        Ok(())
    }
}

/// The policies of a restore by resource group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedPolicies {
    default: Policy,
    kinds: BTreeMap<String, Policy>,
}

/// What holds for a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// What is done.
    pub policy: Policy,
    /// Whether the kind was named, so that the policy is meant for it.
    pub is_named: bool,
    /// Whether the default would be `recreate`, which this kind is spared.
    pub is_spared: bool,
}

impl ResolvedPolicies {
    /// What holds for a kind.
    pub fn of(&self, kind: &ApiKind) -> Ruling {
        let group = kind.resource_group();
        if let Some(policy) = self.kinds.get(&group) {
            return Ruling {
                policy: *policy,
                is_named: true,
                is_spared: false,
            };
        }
        let is_spared = self.default == Policy::Recreate
            && (NEVER_RECREATED.contains(&group.as_str()) || RECREATED_WHEN_NAMED.contains(&group.as_str()));
        Ruling {
            policy: if is_spared { Policy::Update } else { self.default },
            is_named: false,
            is_spared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::tests::kind;

    fn served() -> Vec<DiscoveredKind> {
        vec![
            kind("batch/v1", "jobs", "Job", true),
            kind("v1", "secrets", "Secret", true),
            kind("v1", "namespaces", "Namespace", false),
            kind("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
            kind(
                "apiextensions.k8s.io/v1",
                "customresourcedefinitions",
                "CustomResourceDefinition",
                false,
            ),
            kind("v1", "events", "Event", true),
            kind("events.k8s.io/v1", "events", "Event", true),
        ]
    }

    fn words(text: &str) -> Vec<&str> {
        text.split(',').filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn words_become_policies_by_kind() {
        for (text, jobs, secrets, claims) in [
            ("", Policy::None, Policy::None, Policy::None),
            ("update", Policy::Update, Policy::Update, Policy::Update),
            (
                "update,jobs.batch=recreate,Secret=fail",
                Policy::Recreate,
                Policy::Fail,
                Policy::Update,
            ),
            ("job=replace", Policy::Replace, Policy::None, Policy::None),
            // The default spares claims.
            ("recreate", Policy::Recreate, Policy::Recreate, Policy::Update),
            (
                "persistentvolumeclaims=recreate,recreate",
                Policy::Recreate,
                Policy::Recreate,
                Policy::Recreate,
            ),
        ] {
            let policies = Policies::parse(words(text)).unwrap();
            let resolved = policies.resolve(&served()).unwrap();
            let of = |position: usize| resolved.of(&served()[position].api).policy;
            assert_eq!((of(0), of(1), of(3)), (jobs, secrets, claims), "{text}");
            assert_eq!(
                policies.may_delete(),
                text.contains("recreate"),
                "a person is asked: {text}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, part) in [
            ("updat", "\"updat\" is no policy"),
            ("jobs=", "\"jobs=\" is no policy"),
            ("=update", "\"=update\" is no policy"),
            ("update,none", "\"none\" gives a second policy"),
            ("jobs=update,jobs=none", "\"jobs=none\" gives a second policy"),
            (
                "jobs=update,jobs.batch=none",
                "\"jobs.batch=none\" gives a second policy",
            ),
            ("jbos=update", "did you mean \"jobs\"?"),
            ("namespaces=recreate", "namespaces are never deleted by a restore"),
            (
                "customresourcedefinitions=recreate",
                "are never deleted by a restore",
            ),
        ] {
            let error = Policies::parse(words(text))
                .and_then(|policies| policies.resolve(&served()).map(drop))
                .expect_err(text)
                .to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_default_never_deletes_what_holds_other_objects_and_says_so() {
        let resolved = Policies::from(Policy::Recreate).resolve(&served()).unwrap();
        for (position, spared) in [(0, false), (1, false), (2, true), (3, true), (4, true)] {
            let ruling = resolved.of(&served()[position].api);
            assert_eq!(ruling.is_spared, spared);
            assert_eq!(ruling.policy == Policy::Update, spared);
            assert!(!ruling.is_named);
        }
    }

    #[test]
    fn policies_are_written_as_they_are_read() {
        let text = "update,jobs.batch=recreate";
        let policies = Policies::parse(words(text)).unwrap();
        assert_eq!(policies.to_string(), text);
        assert_eq!(Policies::default().to_string(), "none");
    }
}
