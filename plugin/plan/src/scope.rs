//! What a backup or a restore was asked to cover, and whether a kind or an object is in it.
//!
//! In comes a [`Scope`], the filter flags with their words still as typed; [`Scope::resolve`] checks it and turns it,
//! with the kinds that exist, into a [`Filter`] that answers for each kind and object: take, or skip by a named [`Rule`].
//! Later code may rely on: a filter cannot fail, and an empty scope takes everything, cluster-scoped kinds included.
//! That is unlike Velero, whose default backup leaves out most cluster-scoped objects and calls itself complete.

mod filter;
mod ordered;
mod stored;

pub use filter::{Extent, Filter, KindDecision, ObjectDecision};
pub use ordered::OrderedResources;
pub use stored::StoredScopeError;

use std::collections::BTreeSet;

use crate::{
    glob::{GlobError, Globs},
    kinds::DiscoveredKind,
    resource_names::{ResourceNames, UnknownResource},
    selector::{OrSelector, Selector},
};

/// Why a scope makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Filters of both generations at once.
    #[error(
        "{old} cannot be combined with {new}: use either --include-resources, --exclude-resources and \
         --include-cluster-resources, or the four flags for cluster-scoped and namespace-scoped resources"
    )]
    MixedGenerations {
        /// A flag of the old generation that was used.
        old: &'static str,
        /// A flag of the new generation that was used.
        new: &'static str,
    },
    /// `--selector` and `--or-selector` at once.
    #[error("--selector and --or-selector exclude each other; write all alternatives into --or-selector")]
    BothSelectors,
    /// A namespace pattern is refused.
    #[error("{flag}: {source}")]
    Namespace {
        /// The flag.
        flag: &'static str,
        /// Why.
        source: GlobError,
    },
    /// The same word is included and excluded.
    #[error("\"{word}\" is both included and excluded; drop one of the two")]
    Contradiction {
        /// The word.
        word: String,
    },
    /// `*` as an exclusion would leave nothing.
    #[error("{flag} \"*\" would exclude everything; name what to exclude")]
    ExcludesEverything {
        /// The flag.
        flag: &'static str,
    },
    /// A word names no kind.
    #[error("{flag}: {source}")]
    Resource {
        /// The flag.
        flag: &'static str,
        /// The word and the nearest name.
        source: UnknownResource,
    },
    /// A kind of the wrong scope in one of the four scoped lists.
    #[error("{flag}: \"{word}\" is {}; use {other}", if *namespaced { "namespace-scoped" } else { "cluster-scoped" })]
    WrongScope {
        /// The flag.
        flag: &'static str,
        /// The word.
        word: String,
        /// What the kind really is.
        namespaced: bool,
        /// The flag to use instead.
        other: &'static str,
    },
    /// `--ordered-resources` cannot be read.
    #[error("--ordered-resources \"{text}\": {problem}; write 'pods=ns1/p1,ns1/p2;persistentvolumes=pv1'")]
    Ordered {
        /// The part that cannot be read.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The filter flags as given. The default covers everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// `--include-namespaces`, patterns; empty or `*` is all.
    pub included_namespaces: Vec<String>,
    /// `--exclude-namespaces`, patterns.
    pub excluded_namespaces: Vec<String>,
    /// `--include-resources`.
    pub included_resources: ResourceNames,
    /// `--exclude-resources`.
    pub excluded_resources: ResourceNames,
    /// `--include-cluster-resources`, if given.
    pub include_cluster_resources: Option<bool>,
    /// `--include-cluster-scoped-resources`.
    pub included_cluster_scoped: ResourceNames,
    /// `--exclude-cluster-scoped-resources`.
    pub excluded_cluster_scoped: ResourceNames,
    /// `--include-namespace-scoped-resources`.
    pub included_namespace_scoped: ResourceNames,
    /// `--exclude-namespace-scoped-resources`.
    pub excluded_namespace_scoped: ResourceNames,
    /// `--selector`.
    pub selector: Selector,
    /// `--or-selector`.
    pub or_selector: OrSelector,
    /// `--ordered-resources`.
    pub ordered: OrderedResources,
}

const INCLUDE_NAMESPACES: &str = "--include-namespaces";
const EXCLUDE_NAMESPACES: &str = "--exclude-namespaces";
const INCLUDE_CLUSTER_SCOPED: &str = "--include-cluster-scoped-resources";
const EXCLUDE_CLUSTER_SCOPED: &str = "--exclude-cluster-scoped-resources";
const INCLUDE_NAMESPACE_SCOPED: &str = "--include-namespace-scoped-resources";
const EXCLUDE_NAMESPACE_SCOPED: &str = "--exclude-namespace-scoped-resources";

impl Scope {
    /// Whether nothing was asked for, so that everything is covered.
    pub fn is_everything(&self) -> bool {
        *self
            == Self {
                ordered: self.ordered.clone(),
                ..Self::default()
            }
    }

    /// Checks everything that can be checked without knowing the kinds.
    ///
    /// # Errors
    /// The first contradiction or refused pattern.
    pub fn check(&self) -> Result<(), ScopeError> {
        self.compile().map(drop)
    }

    /// Checks the scope and resolves its words against the kinds that exist.
    ///
    /// # Errors
    /// As [`Scope::check`], and when a word names no kind or a kind of the wrong scope.
    pub fn resolve(&self, kinds: &[DiscoveredKind]) -> Result<Filter, ScopeError> {
        let (included_namespaces, excluded_namespaces) = self.compile()?;
        let resolve = |flag, names: &ResourceNames| {
            names
                .resolve_all(kinds)
                .map_err(|source| ScopeError::Resource { flag, source })
        };
        for (flag, other, names, namespaced) in self.scoped_lists() {
            check_scope(flag, other, names, namespaced, kinds)?;
        }
        Ok(Filter {
            included_namespaces,
            excluded_namespaces,
            labelled_namespaces: BTreeSet::new(),
            included: resolve("--include-resources", &self.included_resources)?,
            excluded: resolve("--exclude-resources", &self.excluded_resources)?,
            include_cluster_resources: self.include_cluster_resources,
            scoped: self.new_flag().is_some(),
            included_cluster: resolve(INCLUDE_CLUSTER_SCOPED, &self.included_cluster_scoped)?,
            excluded_cluster: resolve(EXCLUDE_CLUSTER_SCOPED, &self.excluded_cluster_scoped)?,
            included_namespaced: resolve(INCLUDE_NAMESPACE_SCOPED, &self.included_namespace_scoped)?,
            excluded_namespaced: resolve(EXCLUDE_NAMESPACE_SCOPED, &self.excluded_namespace_scoped)?,
            selector: self.selector.clone(),
            or_selector: self.or_selector.clone(),
            ordered: self
                .ordered
                .resolve(kinds)
                .map_err(|source| ScopeError::Resource {
                    flag: "--ordered-resources",
                    source,
                })?,
        })
    }

    fn compile(&self) -> Result<(Globs, Globs), ScopeError> {
        if let (Some(old), Some(new)) = (self.old_flag(), self.new_flag()) {
            return Err(ScopeError::MixedGenerations { old, new });
        }
        if !self.selector.is_empty() && !self.or_selector.is_empty() {
            return Err(ScopeError::BothSelectors);
        }
        let globs = |flag, words: &[String]| {
            Globs::parse(words).map_err(|source| ScopeError::Namespace { flag, source })
        };
        let included = globs(INCLUDE_NAMESPACES, &self.included_namespaces)?;
        let excluded = globs(EXCLUDE_NAMESPACES, &self.excluded_namespaces)?;
        if excluded.has_everything() {
            return Err(ScopeError::ExcludesEverything {
                flag: EXCLUDE_NAMESPACES,
            });
        }
        if self.excluded_resources.words().iter().any(|word| word == "*") {
            return Err(ScopeError::ExcludesEverything {
                flag: "--exclude-resources",
            });
        }
        for (include, exclude) in self.pairs() {
            if let Some(word) = include.iter().find(|word| exclude.contains(word)) {
                return Err(ScopeError::Contradiction { word: word.clone() });
            }
        }
        Ok((included, excluded))
    }

    fn pairs(&self) -> [(&[String], &[String]); 4] {
        [
            (&self.included_namespaces, &self.excluded_namespaces),
            (self.included_resources.words(), self.excluded_resources.words()),
            (
                self.included_cluster_scoped.words(),
                self.excluded_cluster_scoped.words(),
            ),
            (
                self.included_namespace_scoped.words(),
                self.excluded_namespace_scoped.words(),
            ),
        ]
    }

    fn scoped_lists(&self) -> [(&'static str, &'static str, &ResourceNames, bool); 4] {
        [
            (
                INCLUDE_CLUSTER_SCOPED,
                INCLUDE_NAMESPACE_SCOPED,
                &self.included_cluster_scoped,
                false,
            ),
            (
                EXCLUDE_CLUSTER_SCOPED,
                EXCLUDE_NAMESPACE_SCOPED,
                &self.excluded_cluster_scoped,
                false,
            ),
            (
                INCLUDE_NAMESPACE_SCOPED,
                INCLUDE_CLUSTER_SCOPED,
                &self.included_namespace_scoped,
                true,
            ),
            (
                EXCLUDE_NAMESPACE_SCOPED,
                EXCLUDE_CLUSTER_SCOPED,
                &self.excluded_namespace_scoped,
                true,
            ),
        ]
    }

    fn old_flag(&self) -> Option<&'static str> {
        if !self.included_resources.is_empty() {
            Some("--include-resources")
        } else if !self.excluded_resources.is_empty() {
            Some("--exclude-resources")
        } else {
            self.include_cluster_resources
                .map(|_| "--include-cluster-resources")
        }
    }

    fn new_flag(&self) -> Option<&'static str> {
        self.scoped_lists()
            .into_iter()
            .find(|(_, _, names, _)| !names.is_empty())
            .map(|(flag, ..)| flag)
    }
}

fn check_scope(
    flag: &'static str,
    other: &'static str,
    names: &ResourceNames,
    namespaced: bool,
    kinds: &[DiscoveredKind],
) -> Result<(), ScopeError> {
    for word in names.words().iter().filter(|word| *word != "*") {
        let found = names
            .resolve(word, kinds)
            .map_err(|source| ScopeError::Resource { flag, source })?;
        if let Some(kind) = found.first()
            && kind.api.namespaced != namespaced
        {
            return Err(ScopeError::WrongScope {
                flag,
                word: word.clone(),
                namespaced: kind.api.namespaced,
                other,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
