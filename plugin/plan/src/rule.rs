//! The rules that leave a kind or an object out of a backup or a restore's selection.
//!
//! Each has a stable id, written to the outcome file and compared by scripts, and one sentence for a person. Nothing is
//! left out without one of these.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Label by which a user keeps an object, or all of a namespace, out of backups.
pub const EXCLUDE_LABEL: &str = "velero.io/exclude-from-backup";

/// Why something was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Rule {
    /// Its namespace is excluded by name or pattern.
    ExcludedNamespace,
    /// Its namespace is not among the included ones.
    NotInIncludedNamespaces,
    /// Its namespace carries the exclude label.
    NamespaceExcludeLabel,
    /// Its kind is excluded.
    ExcludedResource,
    /// Kinds were listed and this is none of them.
    NotIncludedResource,
    /// Cluster-scoped, and the scope does not ask for those.
    ClusterScopedNotAsked,
    /// Its labels do not match.
    LabelSelector,
    /// It carries the exclude label itself.
    ExcludeLabel,
    /// The API cannot list, get or create it.
    VerbMissing {
        /// The missing verbs.
        verbs: Vec<String>,
    },
    /// The same objects are served by another group and taken from there.
    Cohabiting {
        /// `deployments.apps`.
        taken_as: String,
    },
    /// The same objects are taken in another version of the group.
    OtherVersion {
        /// `apps/v1`.
        taken_as: String,
    },
}

impl Rule {
    /// The stable id, as in JSON.
    pub fn id(&self) -> &'static str {
        match self {
            Self::ExcludedNamespace => "excluded-namespace",
            Self::NotInIncludedNamespaces => "not-in-included-namespaces",
            Self::NamespaceExcludeLabel => "namespace-exclude-label",
            Self::ExcludedResource => "excluded-resource",
            Self::NotIncludedResource => "not-included-resource",
            Self::ClusterScopedNotAsked => "cluster-scoped-not-asked",
            Self::LabelSelector => "label-selector",
            Self::ExcludeLabel => "exclude-label",
            Self::VerbMissing { .. } => "verb-missing",
            Self::Cohabiting { .. } => "cohabiting",
            Self::OtherVersion { .. } => "other-version",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExcludedNamespace => f.write_str("its namespace is excluded"),
            Self::NotInIncludedNamespaces => f.write_str("its namespace is not among the included ones"),
            Self::NamespaceExcludeLabel => write!(f, "its namespace has the label {EXCLUDE_LABEL}=true"),
            Self::ExcludedResource => f.write_str("its kind is excluded"),
            Self::NotIncludedResource => f.write_str("its kind is not among the included ones"),
            Self::ClusterScopedNotAsked => f.write_str(
                "it is cluster-scoped and only namespaces were asked for; --include-cluster-resources takes it too",
            ),
            Self::LabelSelector => f.write_str("its labels do not match the selector"),
            Self::ExcludeLabel => write!(f, "it has the label {EXCLUDE_LABEL}=true"),
            Self::VerbMissing { verbs } => {
                write!(f, "the API has no {} for it, so it could not be brought back", verbs.join(", "))
            }
            Self::Cohabiting { taken_as } => write!(f, "the same objects are taken as {taken_as}"),
            Self::OtherVersion { taken_as } => write!(f, "the same objects are taken in version {taken_as}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_in_code_and_in_json_agree() {
        for rule in [
            Rule::ExcludedNamespace,
            Rule::NotInIncludedNamespaces,
            Rule::NamespaceExcludeLabel,
            Rule::ExcludedResource,
            Rule::NotIncludedResource,
            Rule::ClusterScopedNotAsked,
            Rule::LabelSelector,
            Rule::ExcludeLabel,
            Rule::VerbMissing {
                verbs: vec!["list".into()],
            },
            Rule::Cohabiting {
                taken_as: "a.b".into(),
            },
            Rule::OtherVersion {
                taken_as: "a/v1".into(),
            },
        ] {
            let json = serde_json::to_value(&rule).unwrap();
            assert_eq!(json["rule"], rule.id());
            assert_eq!(serde_json::from_value::<Rule>(json).unwrap(), rule);
            assert!(!rule.to_string().is_empty());
        }
    }
}
