//! The words by which users name kinds: `deployments`, `deploy`, `Deployment`, `deployments.apps`, `deployments.v1.apps`.
//!
//! In come the words of a filter flag and the kinds that exist; out go resource groups (`deployments.apps`). A word that
//! names nothing is an error with the nearest name: a filter that silently matches nothing is how backups turn out empty.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use velero_model::resource::ApiKind;

use crate::kinds::{DiscoveredKind, cohabitant, is_built_in_group};

/// A word names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no kind is called \"{word}\"{}",
    nearest.as_ref().map_or_else(|| "; see kubectl api-resources".to_owned(), |name| format!("; did you mean \"{name}\"?"))
)]
pub struct UnknownResource {
    /// The word.
    pub word: String,
    /// The name that is closest to it.
    pub nearest: Option<String>,
}

/// Words for kinds as a user gave them. `*` stands for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceNames {
    words: Vec<String>,
}

impl ResourceNames {
    /// Keeps the words as given.
    pub fn new<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Self {
        Self {
            words: words.into_iter().map(Into::into).collect(),
        }
    }

    /// The words as given.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether no word was given.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The kinds that one word names: the best match first, then a group that serves the same objects.
    ///
    /// # Errors
    /// When no kind has that name.
    pub fn resolve<'k>(
        &self,
        word: &str,
        kinds: &'k [DiscoveredKind],
    ) -> Result<Vec<&'k DiscoveredKind>, UnknownResource> {
        resolve(word, kinds)
    }

    /// Resolves all words.
    ///
    /// # Errors
    /// Names the first word that names no kind.
    pub fn resolve_all(&self, kinds: &[DiscoveredKind]) -> Result<ResourceSet, UnknownResource> {
        let mut set = ResourceSet {
            given: !self.is_empty(),
            ..ResourceSet::default()
        };
        for word in &self.words {
            if word == "*" {
                set.everything = true;
                continue;
            }
            set.groups.extend(
                resolve(word, kinds)?
                    .into_iter()
                    .map(|kind| kind.api.resource_group()),
            );
        }
        Ok(set)
    }
}

/// A resolved filter: a set of resource groups, or everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceSet {
    given: bool,
    everything: bool,
    groups: BTreeSet<String>,
}

impl ResourceSet {
    /// Whether the user gave no word at all.
    pub fn is_empty(&self) -> bool {
        !self.given
    }

    /// Whether `*` was given.
    pub fn has_everything(&self) -> bool {
        self.everything
    }

    /// Whether the kind is named, by itself or by `*`.
    pub fn contains(&self, kind: &ApiKind) -> bool {
        self.everything || (!self.groups.is_empty() && self.groups.contains(&kind.resource_group()))
    }

    /// The resource groups named, sorted.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str)
    }
}

/// The kinds that one word names: the best match first, then a group that serves the same objects.
///
/// A bare word means what a backup holds, where one is looked at ([`DiscoveredKind::is_held`]), and otherwise what it means
/// to kubectl: the core kind, then a built-in one, then custom ones by group name.
///
/// # Errors
/// When no kind has that name.
pub fn resolve<'k>(
    word: &str,
    kinds: &'k [DiscoveredKind],
) -> Result<Vec<&'k DiscoveredKind>, UnknownResource> {
    let lower = word.to_ascii_lowercase();
    let best = kinds
        .iter()
        .filter(|kind| !kind.api.plural.contains('/'))
        .filter_map(|kind| match_class(&lower, kind).map(|class| (class, kind)))
        .min_by_key(|(class, kind)| {
            let group = kind.api.group.as_str();
            (
                !kind.is_held,
                *class,
                !group.is_empty(),
                !is_built_in_group(group),
                group == "extensions",
                group,
                !kind.preferred,
            )
        })
        .map(|(_, kind)| kind);
    let Some(best) = best else {
        return Err(UnknownResource {
            word: word.to_owned(),
            nearest: nearest(&lower, kinds),
        });
    };
    let mut found = vec![best];
    if !lower.contains('.')
        && let Some(partner) = cohabitant(&best.api)
    {
        found.extend(kinds.iter().find(|kind| kind.api.resource_group() == partner));
    }
    Ok(found)
}

/// How well a lower-case word names a kind: 0 is a plural, 3 a short name.
fn match_class(word: &str, kind: &DiscoveredKind) -> Option<u8> {
    let (name, group) = word
        .split_once('.')
        .map_or((word, None), |(name, group)| (name, Some(group)));
    if let Some(group) = group
        && group != kind.api.group
    {
        let versioned = if kind.api.group.is_empty() {
            kind.api.version.clone()
        } else {
            format!("{}.{}", kind.api.version, kind.api.group)
        };
        if group.trim_end_matches('.') != versioned {
            return None;
        }
    }
    if name == kind.api.plural {
        Some(0)
    } else if !kind.singular.is_empty() && name == kind.singular {
        Some(1)
    } else if name == kind.api.kind.to_ascii_lowercase() {
        Some(2)
    } else if kind.short_names.iter().any(|short| short == name) {
        Some(3)
    } else {
        None
    }
}

fn nearest(word: &str, kinds: &[DiscoveredKind]) -> Option<String> {
    let (name, group) = word
        .split_once('.')
        .map_or((word, None), |(name, group)| (name, Some(group)));
    let limit = name.len() / 3 + 1;
    kinds
        .iter()
        .filter(|kind| !kind.api.plural.contains('/'))
        .map(|kind| {
            let distance = distance(name, &kind.api.plural).min(distance(name, &kind.singular));
            let other_group = group.is_some_and(|group| group != kind.api.group);
            (distance, other_group, !kind.api.group.is_empty(), kind)
        })
        .filter(|(distance, ..)| *distance <= limit)
        .min_by(|a, b| (a.0, a.1, a.2, &a.3.api.plural).cmp(&(b.0, b.1, b.2, &b.3.api.plural)))
        .map(|(.., kind)| {
            if group.is_some() {
                kind.api.resource_group()
            } else {
                kind.api.plural.clone()
            }
        })
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.bytes().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(left + 1).min(above + 1);
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kinds::tests::kind;

    fn served() -> Vec<DiscoveredKind> {
        let mut deployments = kind("apps/v1", "deployments", "Deployment", true);
        deployments.short_names = vec!["deploy".into()];
        let mut crds = kind(
            "apiextensions.k8s.io/v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            false,
        );
        crds.short_names = vec!["crd".into(), "crds".into()];
        vec![
            kind("serving.knative.dev/v1", "services", "Service", true),
            kind("v1", "services", "Service", true),
            deployments,
            kind("extensions/v1beta1", "deployments", "Deployment", true),
            kind("events.k8s.io/v1", "events", "Event", true),
            kind("v1", "events", "Event", true),
            crds,
            kind("shop.example.com/v1", "orders", "Order", true),
        ]
    }

    #[test]
    fn words_name_kinds() {
        let kinds = served();
        for (word, expected) in [
            ("deployments", vec!["deployments.apps", "deployments.extensions"]),
            ("deploy", vec!["deployments.apps", "deployments.extensions"]),
            ("Deployment", vec!["deployments.apps", "deployments.extensions"]),
            ("deployments.apps", vec!["deployments.apps"]),
            ("deployments.v1.apps", vec!["deployments.apps"]),
            ("services", vec!["services"]),
            (
                "services.serving.knative.dev",
                vec!["services.serving.knative.dev"],
            ),
            ("services.v1.", vec!["services"]),
            ("events", vec!["events", "events.events.k8s.io"]),
            ("CRD", vec!["customresourcedefinitions.apiextensions.k8s.io"]),
            ("order", vec!["orders.shop.example.com"]),
        ] {
            let found: Vec<_> = resolve(word, &kinds)
                .unwrap()
                .iter()
                .map(|kind| kind.api.resource_group())
                .collect();
            assert_eq!(found, expected, "{word}");
        }
    }

    #[test]
    fn a_word_means_what_the_backup_holds() {
        let mut kinds = served();
        kinds.push(kind("another.example.com/v1", "orders", "Order", true));
        let first =
            |kinds: &[DiscoveredKind], word: &str| resolve(word, kinds).unwrap()[0].api.resource_group();
        assert_eq!(first(&kinds, "orders"), "orders.another.example.com");
        for kind in &mut kinds {
            kind.is_held =
                ["serving.knative.dev", "shop.example.com", "extensions"].contains(&kind.api.group.as_str());
        }
        for (word, expected) in [
            ("orders", "orders.shop.example.com"),
            ("order", "orders.shop.example.com"),
            ("orders.another.example.com", "orders.another.example.com"),
            ("services", "services.serving.knative.dev"),
            ("services.v1.", "services"),
            ("deployments", "deployments.extensions"),
            ("events", "events"),
        ] {
            assert_eq!(first(&kinds, word), expected, "{word}");
        }
    }

    #[test]
    fn an_unknown_word_gets_the_nearest_name() {
        let kinds = served();
        for (word, nearest) in [
            ("deploymets", Some("deployments")),
            ("ordres", Some("orders")),
            ("deployments.app", Some("deployments.apps")),
            ("widgets", None),
            ("", None),
        ] {
            let error = resolve(word, &kinds).unwrap_err();
            assert_eq!(error.nearest.as_deref(), nearest, "{word}");
        }
        let text = resolve("ordres", &kinds).unwrap_err().to_string();
        assert_eq!(text, "no kind is called \"ordres\"; did you mean \"orders\"?");
    }

    #[test]
    fn sets_tell_nothing_from_everything() {
        let kinds = served();
        let none = ResourceNames::default().resolve_all(&kinds).unwrap();
        assert!(none.is_empty() && !none.contains(&kinds[0].api));
        let all = ResourceNames::new(["*"]).resolve_all(&kinds).unwrap();
        assert!(!all.is_empty() && all.has_everything() && all.contains(&kinds[0].api));
        let some = ResourceNames::new(["svc", "orders"]).resolve_all(&kinds);
        assert_eq!(some.unwrap_err().word, "svc");
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[abc]{0,6}", b in "[abc]{0,6}", c in "[abc]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }
    }
}
