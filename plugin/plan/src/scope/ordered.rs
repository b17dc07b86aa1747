//! `--ordered-resources`: objects that go first among their kind.
//!
//! In comes `pods=ns1/p1,ns1/p2;persistentvolumes=pv1`; out goes the place of an object in the order asked for.

use std::collections::BTreeMap;

use velero_model::resource::ApiKind;

use super::ScopeError;
use crate::{
    kinds::DiscoveredKind,
    resource_names::{self, UnknownResource},
};

/// Per kind, the objects that go first, `namespace/name` or `name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderedResources {
    kinds: BTreeMap<String, Vec<String>>,
}

impl OrderedResources {
    /// Reads the flag's text.
    ///
    /// # Errors
    /// Names the part that cannot be read.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let mut kinds = BTreeMap::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let refuse = |problem| ScopeError::Ordered {
                text: part.to_owned(),
                problem,
            };
            let (kind, objects) = part
                .split_once('=')
                .ok_or_else(|| refuse("no \"=\" after the kind"))?;
            let objects: Vec<String> = objects
                .split(',')
                .map(|object| object.trim().to_owned())
                .collect();
            if objects
                .iter()
                .any(|object| object.is_empty() || object.matches('/').count() > 1)
            {
                return Err(refuse("an object is neither NAME nor NAMESPACE/NAME"));
            }
            if kind.trim().is_empty() || kinds.insert(kind.trim().to_owned(), objects).is_some() {
                return Err(refuse("the kind is empty or given twice"));
            }
        }
        Ok(Self { kinds })
    }

    /// From kinds and their objects, as `velero-backup.json` lists them (`spec.orderedResources`, comma-separated).
    pub fn new(kinds: BTreeMap<String, Vec<String>>) -> Self {
        Self { kinds }
    }

    /// Kinds and their objects, as given.
    pub fn kinds(&self) -> &BTreeMap<String, Vec<String>> {
        &self.kinds
    }

    /// Whether nothing goes first.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    pub(super) fn resolve(&self, kinds: &[DiscoveredKind]) -> Result<Self, UnknownResource> {
        let mut resolved = BTreeMap::new();
        for (word, objects) in &self.kinds {
            for kind in resource_names::resolve(word, kinds)? {
                resolved.insert(kind.api.resource_group(), objects.clone());
            }
        }
        Ok(Self { kinds: resolved })
    }

    /// The objects of a kind that go first, in order, each as namespace (if any) and name.
    pub(super) fn of(&self, kind: &ApiKind) -> impl Iterator<Item = (Option<&str>, &str)> {
        let objects = if self.kinds.is_empty() {
            None
        } else {
            self.kinds.get(&kind.resource_group())
        };
        objects.into_iter().flatten().map(|object| {
            object
                .split_once('/')
                .map_or((None, object.as_str()), |(ns, name)| (Some(ns), name))
        })
    }
}
