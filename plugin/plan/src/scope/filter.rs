//! The decisions of a checked scope.

use std::collections::BTreeSet;

use velero_model::{item::Head, resource::ApiKind};

use super::OrderedResources;
use crate::{
    glob::Globs,
    resource_names::ResourceSet,
    rule::{EXCLUDE_LABEL, Rule},
    selector::{OrSelector, Selector},
};

/// A scope that was checked and resolved; it answers and cannot fail.
#[derive(Debug, Clone)]
pub struct Filter {
    pub(super) included_namespaces: Globs,
    pub(super) excluded_namespaces: Globs,
    pub(super) labelled_namespaces: BTreeSet<String>,
    pub(super) included: ResourceSet,
    pub(super) excluded: ResourceSet,
    pub(super) include_cluster_resources: Option<bool>,
    /// Whether the filters are of the new generation.
    pub(super) scoped: bool,
    pub(super) included_cluster: ResourceSet,
    pub(super) excluded_cluster: ResourceSet,
    pub(super) included_namespaced: ResourceSet,
    pub(super) excluded_namespaced: ResourceSet,
    pub(super) selector: Selector,
    pub(super) or_selector: OrSelector,
    pub(super) ordered: OrderedResources,
}

/// How far a kind is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One list over the whole cluster.
    ClusterWide,
    /// One list in each included namespace: the caller may have no right to list elsewhere.
    PerNamespace,
}

/// Whether a kind is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindDecision {
    /// List it.
    List(Extent),
    /// Leave it out; related objects of the kind may still come in.
    Skip(Rule),
}

/// Whether an object is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectDecision {
    /// It is in the scope.
    Take,
    /// It is not.
    Skip(Rule),
}

impl ObjectDecision {
    /// Whether it is in the scope.
    pub fn is_take(&self) -> bool {
        *self == Self::Take
    }
}

fn is_namespace(kind: &ApiKind) -> bool {
    kind.group.is_empty() && kind.plural == "namespaces"
}

fn skip_unless(rule: Option<Rule>) -> ObjectDecision {
    rule.map_or(ObjectDecision::Take, ObjectDecision::Skip)
}

impl Filter {
    /// Adds a namespace that carries the exclude label: nothing in it is taken.
    pub fn exclude_labelled_namespace(&mut self, namespace: &str) {
        self.labelled_namespaces.insert(namespace.to_owned());
    }

    /// The label selector to send to the API server, where one list request can carry it.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// The alternatives, of which one must match; the API server takes them one request each.
    pub fn or_selector(&self) -> &OrSelector {
        &self.or_selector
    }

    /// Whether no namespaces were picked, so that cluster-scoped kinds are covered unless flags say otherwise. Leaving a
    /// namespace out says nothing about cluster-scoped objects: unlike Velero, such a backup still holds them.
    fn includes_all_namespaces(&self) -> bool {
        self.included_namespaces.is_empty() || self.included_namespaces.has_everything()
    }

    /// Namespaces included by name that are not among the existing ones: a misspelt name would give an empty backup.
    pub fn missing_namespaces<'a>(
        &'a self,
        exists: &'a dyn Fn(&str) -> bool,
    ) -> impl Iterator<Item = &'a str> {
        self.included_namespaces.literals().filter(|name| !exists(name))
    }

    /// The included namespaces if all of them are given by name: a caller without the right to list namespaces can then
    /// get them one by one.
    pub fn named_namespaces(&self) -> Option<Vec<&str>> {
        let names = self.included_namespaces.literals().collect::<Vec<_>>();
        (!names.is_empty() && names.len() == self.included_namespaces.len()).then_some(names)
    }

    /// Whether a namespace is covered, by name alone.
    pub fn decide_namespace_name(&self, namespace: &str) -> ObjectDecision {
        skip_unless(self.namespace_rule(namespace))
    }

    fn namespace_rule(&self, namespace: &str) -> Option<Rule> {
        if self.excluded_namespaces.matches(namespace) {
            Some(Rule::ExcludedNamespace)
        } else if self.labelled_namespaces.contains(namespace) {
            Some(Rule::NamespaceExcludeLabel)
        } else if self.includes_all_namespaces() || self.included_namespaces.matches(namespace) {
            None
        } else {
            Some(Rule::NotInIncludedNamespaces)
        }
    }

    /// Whether and how far a kind is listed. Namespaces are always listed: what is in scope depends on them.
    pub fn decide_kind(&self, kind: &ApiKind) -> KindDecision {
        if is_namespace(kind) {
            return KindDecision::List(Extent::ClusterWide);
        }
        match self.kind_rule(kind) {
            Some(rule) => KindDecision::Skip(rule),
            None if !kind.namespaced || self.includes_all_namespaces() => {
                KindDecision::List(Extent::ClusterWide)
            }
            None => KindDecision::List(Extent::PerNamespace),
        }
    }

    fn kind_rule(&self, kind: &ApiKind) -> Option<Rule> {
        let (included, excluded) = self.lists(kind);
        if excluded.contains(kind) {
            return Some(Rule::ExcludedResource);
        }
        if !included.is_empty() {
            if !included.contains(kind) {
                return Some(Rule::NotIncludedResource);
            }
            // A list of its own names cluster-scoped kinds whatever the namespaces are.
            if self.scoped {
                return None;
            }
        }
        if kind.namespaced {
            return None;
        }
        let asked = if self.scoped {
            self.includes_all_namespaces()
                && (self.included_namespaced.is_empty() || self.included_namespaced.has_everything())
        } else {
            self.include_cluster_resources
                .unwrap_or_else(|| self.includes_all_namespaces())
        };
        (!asked).then_some(Rule::ClusterScopedNotAsked)
    }

    fn lists(&self, kind: &ApiKind) -> (&ResourceSet, &ResourceSet) {
        match (self.scoped, kind.namespaced) {
            (false, _) => (&self.included, &self.excluded),
            (true, true) => (&self.included_namespaced, &self.excluded_namespaced),
            (true, false) => (&self.included_cluster, &self.excluded_cluster),
        }
    }

    /// Whether an object of a listed kind is taken. A namespace that is skipped for any reason but the exclude label is
    /// still taken when something in it is ([`Filter::decide_used_namespace`]).
    pub fn decide_object(&self, kind: &ApiKind, head: &Head<'_>) -> ObjectDecision {
        if is_namespace(kind) {
            return self.decide_namespace(head);
        }
        match self.decide_kind(kind) {
            KindDecision::Skip(rule) => ObjectDecision::Skip(rule),
            KindDecision::List(_) => self.decide_listed(head),
        }
    }

    /// As [`Filter::decide_object`] for a kind that is known to be listed and is not `namespaces`: what is asked for each
    /// of many objects of one list, without a copy.
    pub fn decide_listed(&self, head: &Head<'_>) -> ObjectDecision {
        let place = || {
            head.metadata
                .namespace
                .as_deref()
                .and_then(|namespace| self.namespace_rule(namespace))
        };
        skip_unless(
            exclude_label(head)
                .or_else(place)
                .or_else(|| self.selector_rule(head)),
        )
    }

    fn selector_rule(&self, head: &Head<'_>) -> Option<Rule> {
        let label = |key: &str| head.label(key);
        let matches = self.selector.matches(&label) && self.or_selector.matches(&label);
        (!matches).then_some(Rule::LabelSelector)
    }

    /// As Velero: a namespace is in scope when the namespace filter names it, or when its labels match; a filter that
    /// names all namespaces together with a selector names none.
    fn decide_namespace(&self, head: &Head<'_>) -> ObjectDecision {
        let by_label = self.selector_rule(head);
        skip_unless(
            exclude_label(head)
                .or_else(|| self.namespace_rule(&head.metadata.name))
                .or_else(|| {
                    if self.includes_all_namespaces() {
                        by_label
                    } else {
                        None
                    }
                }),
        )
    }

    /// Whether the namespace of an object that was taken is taken with it: always, unless its label forbids it.
    pub fn decide_used_namespace(&self, head: &Head<'_>) -> ObjectDecision {
        skip_unless(exclude_label(head))
    }

    /// Whether an object that another one pulled in is taken. Selectors do not count here, nor does the choice of
    /// namespaces keep a cluster-scoped object out; explicit exclusions do.
    pub fn decide_related(&self, kind: &ApiKind, namespace: Option<&str>) -> ObjectDecision {
        if is_namespace(kind) {
            return ObjectDecision::Take;
        }
        let (included, excluded) = self.lists(kind);
        if excluded.contains(kind) {
            return ObjectDecision::Skip(Rule::ExcludedResource);
        }
        if kind.namespaced {
            let rule = namespace.and_then(|namespace| self.namespace_rule(namespace));
            return skip_unless(rule.or_else(|| self.kind_rule(kind)));
        }
        if self.include_cluster_resources == Some(false) {
            return ObjectDecision::Skip(Rule::ClusterScopedNotAsked);
        }
        let left_out = !self.scoped
            && self.include_cluster_resources.is_none()
            && !included.is_empty()
            && !included.contains(kind);
        skip_unless(left_out.then_some(Rule::NotIncludedResource))
    }

    /// As [`Filter::decide_related`], also looking at the object's own exclude label once it has been read.
    pub fn decide_related_object(&self, kind: &ApiKind, head: &Head<'_>) -> ObjectDecision {
        match self.decide_related(kind, head.metadata.namespace.as_deref()) {
            ObjectDecision::Take => skip_unless(exclude_label(head)),
            skip @ ObjectDecision::Skip(_) => skip,
        }
    }

    /// The objects of a kind that go first, in order, each as namespace (if any) and name.
    pub fn ordered(&self, kind: &ApiKind) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.ordered.of(kind)
    }

    /// The place of an object among those that go first.
    pub fn position(&self, kind: &ApiKind, namespace: Option<&str>, name: &str) -> Option<usize> {
        self.ordered
            .of(kind)
            .position(|object| object == (namespace, name))
    }
}

/// The exclude label on the object itself.
fn exclude_label(head: &Head<'_>) -> Option<Rule> {
    (head.label(EXCLUDE_LABEL) == Some("true")).then_some(Rule::ExcludeLabel)
}
