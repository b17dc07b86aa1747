//! Which objects count in a comparison.
//!
//! In come the request and the scope of the backup; out go two filters. [`Wanted`] says what the user wants to see of both
//! sides. [`Own`] says what the backup would hold if it were made now: an object of the cluster that its scope never
//! covered is no difference. Neither fails because a kind that was named then is gone now.

use backup_plan::{
    kinds::{DiscoveredKind, NEEDED_VERBS, is_restless},
    resource_names::{ResourceNames, resolve},
    scope::{Extent, Filter, KindDecision, Scope},
};
use velero_model::{
    index::Entry,
    resource::{ApiKind, split_resource_group},
};

use super::{DiffError, DiffRequest};
use crate::catalog::OpenBackup;

/// What the user wants to see.
pub(super) struct Wanted {
    filter: Filter,
    only: Vec<Named>,
    /// Whether kinds were named, so that those were meant and no others.
    names_kinds: bool,
    takes_namespaces: bool,
    /// Whether kinds that change by themselves are compared.
    takes_restless: bool,
    pub(super) everything: bool,
    pub(super) secrets: backup_plan::compare::Secrets,
    is_narrowed: Option<String>,
}

/// An object by name, whatever its namespace unless that is given.
struct Named {
    groups: Vec<String>,
    namespace: Option<String>,
    name: String,
}

pub(super) fn is_namespace(kind: &ApiKind) -> bool {
    kind.group.is_empty() && kind.plural == "namespaces"
}

impl Wanted {
    pub(super) fn new(request: &DiffRequest, kinds: &[DiscoveredKind]) -> Result<Self, DiffError> {
        let scope = &request.scope;
        let mut only = Vec::with_capacity(request.only.len());
        for object in &request.only {
            let found = resolve(&object.resource, kinds)?;
            only.push(Named {
                groups: found.into_iter().map(|kind| kind.api.resource_group()).collect(),
                namespace: object.namespace.clone(),
                name: object.name.clone(),
            });
        }
        let names_kinds = names_kinds(scope);
        Ok(Self {
            filter: scope.resolve(kinds)?,
            takes_namespaces: takes_namespaces(scope, kinds),
            takes_restless: request.everything || names_kinds || !only.is_empty(),
            only,
            names_kinds,
            everything: request.everything,
            secrets: request.secrets,
            is_narrowed: describe(request),
        })
    }

    /// What was asked for, unless it was everything.
    pub(super) fn describe(&self) -> Option<String> {
        self.is_narrowed.clone()
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether kinds or objects were named.
    pub(super) fn is_by_kind(&self) -> bool {
        self.names_kinds || !self.only.is_empty()
    }

    /// Whether objects of the kind are compared.
    pub(super) fn takes_kind(&self, kind: &ApiKind) -> bool {
        self.would_take(kind) && (self.takes_restless || !is_restless(kind))
    }

    /// Whether objects of the kind are left aside only because they change by themselves.
    pub(super) fn passes_over(&self, kind: &ApiKind) -> bool {
        self.would_take(kind) && !self.takes_kind(kind)
    }

    fn would_take(&self, kind: &ApiKind) -> bool {
        if !self.only.is_empty() {
            let group = kind.resource_group();
            return self.only.iter().any(|named| named.groups.contains(&group));
        }
        if is_namespace(kind) {
            return self.takes_namespaces;
        }
        matches!(self.filter.decide_kind(kind), KindDecision::List(_))
    }

    /// The names that are wanted of a kind; none means all.
    pub(super) fn names(&self, kind: &ApiKind) -> Vec<&str> {
        let group = kind.resource_group();
        let named = self.only.iter().filter(|named| named.groups.contains(&group));
        named.map(|named| named.name.as_str()).collect()
    }

    /// Whether an object of a wanted kind is compared.
    pub(super) fn takes(&self, kind: &ApiKind, entry: &Entry) -> bool {
        if self.only.is_empty() {
            return self.filter.decide_object(kind, &entry.head()).is_take();
        }
        self.only.iter().any(|named| {
            named.name == entry.name
                && named.groups.contains(&entry.resource_group)
                && (entry.namespace.is_none()
                    || named.namespace.is_none()
                    || named.namespace == entry.namespace)
        })
    }

    /// Whether objects of the kind may be wanted wherever they are.
    pub(super) fn is_cluster_wide(&self, kind: &ApiKind) -> bool {
        if self.only.is_empty() {
            return is_cluster_wide(&self.filter, kind);
        }
        self.only.iter().all(|named| named.namespace.is_none())
    }

    /// Whether anything in a namespace may be wanted.
    pub(super) fn takes_namespace(&self, namespace: &str) -> bool {
        if self.only.is_empty() {
            return self.filter.decide_namespace_name(namespace).is_take();
        }
        self.only
            .iter()
            .any(|named| named.namespace.as_deref().is_none_or(|name| name == namespace))
    }
}

fn is_cluster_wide(filter: &Filter, kind: &ApiKind) -> bool {
    filter.decide_kind(kind) == KindDecision::List(Extent::ClusterWide)
}

fn describe(request: &DiffRequest) -> Option<String> {
    if !request.only.is_empty() {
        let objects = request.only.iter().map(ToString::to_string);
        return Some(objects.collect::<Vec<_>>().join(", "));
    }
    if request.scope.is_everything() {
        return None;
    }
    let namespaces = &request.scope.included_namespaces;
    Some(if namespaces.is_empty() {
        "the given scope".to_owned()
    } else {
        format!("namespaces {}", namespaces.join(","))
    })
}

fn included(scope: &Scope) -> [&ResourceNames; 3] {
    [
        &scope.included_resources,
        &scope.included_cluster_scoped,
        &scope.included_namespace_scoped,
    ]
}

fn names_kinds(scope: &Scope) -> bool {
    let words = included(scope).into_iter().flat_map(ResourceNames::words);
    words.into_iter().any(|word| word != "*")
}

/// A backup holds the namespaces of its objects whatever kinds were named; who names kinds to look at wants those.
fn takes_namespaces(scope: &Scope, kinds: &[DiscoveredKind]) -> bool {
    let names = |words: &ResourceNames| {
        words.words().iter().any(|word| {
            word == "*"
                || resolve(word, kinds).is_ok_and(|found| found.iter().any(|kind| is_namespace(&kind.api)))
        })
    };
    let is_excluded = [&scope.excluded_resources, &scope.excluded_cluster_scoped]
        .into_iter()
        .any(names);
    !is_excluded && (!names_kinds(scope) || included(scope).into_iter().any(names))
}

/// What the backup would hold.
pub(super) struct Own {
    /// Nothing but what it holds, if its scope cannot be told.
    pub(super) filter: Option<Filter>,
    /// Whether its kinds were named.
    pub(super) names_kinds: bool,
    /// Whether cluster-scoped objects are there because of the scope, and not only because others need them.
    takes_cluster_scoped: bool,
}

impl Own {
    /// The scope of a backup, and a warning if it cannot be told.
    pub(super) fn of(backup: &OpenBackup, kinds: &[DiscoveredKind]) -> (Self, Option<String>) {
        let spec = &backup.backup().spec;
        let scope = Scope::of_backup(spec).map_err(|error| error.to_string());
        let filter = scope.as_ref().map_err(Clone::clone).and_then(|scope| {
            let kinds = with_gone_kinds(scope, kinds);
            scope.resolve(&kinds).map_err(|error| error.to_string())
        });
        let warning = filter.as_ref().err().map(|error| {
            format!(
                "the scope of backup {} cannot be told ({error}), so that new objects of the cluster are not shown",
                backup.name()
            )
        });
        // What Velero calls everything leaves most cluster-scoped objects out.
        let takes_cluster_scoped = backup.was_written_by_us()
            || spec.include_cluster_resources == Some(true)
            || spec
                .included_cluster_scoped_resources
                .as_ref()
                .is_some_and(|words| !words.is_empty());
        let own = Self {
            filter: filter.ok(),
            names_kinds: scope.is_ok_and(|scope| names_kinds(&scope)),
            takes_cluster_scoped,
        };
        (own, warning)
    }

    pub(super) fn takes_kind(&self, kind: &ApiKind) -> bool {
        let is_covered = kind.namespaced || is_namespace(kind) || self.takes_cluster_scoped;
        is_covered
            && self
                .filter
                .as_ref()
                .is_some_and(|filter| matches!(filter.decide_kind(kind), KindDecision::List(_)))
    }

    pub(super) fn is_cluster_wide(&self, kind: &ApiKind) -> bool {
        self.filter
            .as_ref()
            .is_some_and(|filter| is_cluster_wide(filter, kind))
    }

    pub(super) fn takes(&self, kind: &ApiKind, entry: &Entry) -> bool {
        self.takes_kind(kind)
            && self
                .filter
                .as_ref()
                .is_some_and(|filter| filter.decide_object(kind, &entry.head()).is_take())
    }

    pub(super) fn takes_namespace(&self, namespace: &str) -> bool {
        self.filter
            .as_ref()
            .is_some_and(|filter| filter.decide_namespace_name(namespace).is_take())
    }
}

/// Kinds that were named and are neither in the backup nor in the cluster any more: the words must not change their
/// meaning, least of all to "everything".
fn with_gone_kinds(scope: &Scope, kinds: &[DiscoveredKind]) -> Vec<DiscoveredKind> {
    let lists = [
        (&scope.included_resources, true),
        (&scope.excluded_resources, true),
        (&scope.included_namespace_scoped, true),
        (&scope.excluded_namespace_scoped, true),
        (&scope.included_cluster_scoped, false),
        (&scope.excluded_cluster_scoped, false),
    ];
    // The words are the user's of then: they meant the cluster's kinds, whatever of them came into the backup.
    let mut all = kinds.to_vec();
    for kind in &mut all {
        kind.is_held = false;
    }
    for (names, namespaced) in lists {
        for word in names.words().iter().filter(|word| *word != "*") {
            if resolve(word, &all).is_ok() {
                continue;
            }
            let word = word.to_ascii_lowercase();
            let (plural, group) = split_resource_group(&word);
            all.push(DiscoveredKind {
                api: ApiKind {
                    group: group.to_owned(),
                    version: String::new(),
                    plural: plural.to_owned(),
                    kind: plural.to_owned(),
                    namespaced,
                },
                verbs: NEEDED_VERBS.map(String::from).to_vec(),
                short_names: Vec::new(),
                singular: String::new(),
                preferred: true,
                categories: Vec::new(),
                is_held: false,
            });
        }
    }
    all
}
