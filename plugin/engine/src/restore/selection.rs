//! Which objects of the backup are restored.
//!
//! In come the request and the backup's index; out goes a [`Selection`]: kinds in the order of the waves with the number of
//! objects of each, the namespaces that are needed, and what refers to whom. Everything is decided from the index, no object
//! is read; one pass over it, and a second where owners are referred to. Named objects are looked up and nothing is passed
//! over, so that one object out of a large backup costs a few reads.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use backup_plan::{
    kinds::DiscoveredKind,
    resource_names::{ResourceNames, resolve},
    restore::{
        never::{Never, kind_never_restored},
        order::{Rank, Wave, rank},
    },
    scope::{Filter, KindDecision, ObjectDecision},
};
use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;
use velero_model::{index::Entry, name::BackupName, resource::ApiKind};

use super::{ObjectRef, RestoreError, RestoreRequest, owners::Owners};
use crate::{
    api::Discovery,
    catalog::{EntryFilter, Objects, kinds_from_directory},
};

/// What is restored.
pub(super) struct Selection {
    /// Kinds of the backup with selected objects.
    pub(super) kinds: BTreeMap<String, Chosen>,
    /// Namespaces of the backup that selected objects live in, or that are selected themselves.
    pub(super) namespaces: BTreeSet<String>,
    /// Namespaces that are selected themselves.
    pub(super) selected_namespaces: HashSet<String>,
    /// Who owns whom.
    pub(super) owners: Owners,
    /// Service accounts among the selected objects.
    pub(super) service_accounts: Names,
    /// Names of the request that the backup does not hold.
    pub(super) missing_namespaces: Vec<String>,
    /// All kinds that have a name: those of the backup, then those of the cluster.
    pub(super) known_kinds: Vec<DiscoveredKind>,
    /// How objects are found.
    pub(super) source: Source,
}

/// A kind with selected objects.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    /// The kind as the backup names it.
    pub(super) kind: ApiKind,
    /// Its place in the order.
    pub(super) rank: Rank,
    /// Selected objects.
    pub(super) count: u64,
    /// All objects of the kind in the backup.
    pub(super) all: u64,
    /// The rule that leaves the whole kind out.
    pub(super) never: Option<Never>,
}

/// How the selected objects of a kind are found again.
pub(super) enum Source {
    /// By the filter.
    Filter(Box<Filter>),
    /// These.
    Listed(Vec<Entry>),
}

/// A set of names in little memory.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<u64>);

impl Names {
    pub(super) fn insert(&mut self, namespace: &str, name: &str) {
        self.0.insert(hash(namespace, name));
    }

    pub(super) fn contains(&self, namespace: &str, name: &str) -> bool {
        self.0.contains(&hash(namespace, name))
    }
}

fn hash(namespace: &str, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (namespace, name).hash(&mut hasher);
    hasher.finish()
}

const NAMESPACES: &str = "namespaces";

impl Source {
    /// Whether an object is selected.
    pub(super) fn takes(&self, kind: &ApiKind, entry: &Entry) -> bool {
        match self {
            Self::Filter(filter) => filter.decide_object(kind, &entry.head()).is_take(),
            Self::Listed(entries) => entries.iter().any(|listed| listed.key() == entry.key()),
        }
    }

    /// Whether an object that a selected one needs may come along.
    pub(super) fn takes_related(&self, kind: &ApiKind) -> bool {
        match self {
            Self::Filter(filter) => filter.decide_related(kind, None) == ObjectDecision::Take,
            Self::Listed(_) => true,
        }
    }
}

impl Selection {
    /// Decides what is restored.
    pub(super) async fn make(
        objects: &Objects,
        backup: &BackupName,
        request: &RestoreRequest,
        discovery: &Discovery,
        cancel: &CancellationToken,
    ) -> Result<Self, RestoreError> {
        let known_kinds = known_kinds(objects, discovery);
        let source = if request.only.is_empty() {
            refuse_kinds_never_restored(request, &known_kinds)?;
            Source::Filter(Box::new(request.scope.resolve(&known_kinds)?))
        } else {
            Source::Listed(look_up(objects, backup, &request.only, &known_kinds).await?)
        };
        let mut selection = Self {
            kinds: chosen_kinds(objects, &source),
            namespaces: BTreeSet::new(),
            selected_namespaces: HashSet::new(),
            owners: Owners::default(),
            service_accounts: Names::default(),
            missing_namespaces: Vec::new(),
            known_kinds,
            source,
        };
        selection.survey(objects, cancel).await?;
        selection.find_missing();
        selection.kinds.retain(|_, chosen| chosen.count > 0);
        if selection.kinds.is_empty() {
            return Err(RestoreError::NothingToRestore {
                backup: backup.to_string(),
                missing: selection.missing_namespaces,
            });
        }
        Ok(selection)
    }

    /// Objects that are to be looked at.
    pub(super) fn total(&self) -> u64 {
        self.kinds.values().map(|chosen| chosen.count).sum()
    }

    /// Kinds to write, by wave and position; namespaces are a matter of their own.
    pub(super) fn steps(&self) -> BTreeMap<Rank, Vec<String>> {
        let mut steps: BTreeMap<Rank, Vec<String>> = BTreeMap::new();
        for (resource_group, chosen) in &self.kinds {
            if chosen.never.is_none() && chosen.rank.wave != Wave::Namespaces {
                steps.entry(chosen.rank).or_default().push(resource_group.clone());
            }
        }
        steps
    }

    async fn survey(&mut self, objects: &Objects, cancel: &CancellationToken) -> Result<(), RestoreError> {
        if let Source::Listed(entries) = &self.source {
            for entry in entries.clone() {
                self.count(&entry);
            }
            for entry in self.listed() {
                self.owners.expect(&entry.uid);
            }
            return Ok(());
        }
        self.pass(objects, cancel, Self::count).await?;
        if !self.owners.is_empty() {
            self.pass(objects, cancel, |selection, entry| {
                let never = selection
                    .kinds
                    .get(&entry.resource_group)
                    .is_none_or(|kind| kind.never.is_some());
                if !never {
                    selection.owners.expect(&entry.uid);
                }
            })
            .await?;
        }
        Ok(())
    }

    /// Shows every selected entry to `see`.
    async fn pass(
        &mut self,
        objects: &Objects,
        cancel: &CancellationToken,
        mut see: impl FnMut(&mut Self, &Entry),
    ) -> Result<(), RestoreError> {
        let filter = EntryFilter {
            resource_groups: Some(self.kinds.keys().cloned().collect()),
            ..EntryFilter::default()
        };
        let mut entries = objects.entries(filter);
        while let Some(entry) = entries.try_next().await? {
            if cancel.is_cancelled() {
                return Err(RestoreError::Interrupted);
            }
            let Some(chosen) = self.kinds.get(&entry.resource_group) else {
                continue;
            };
            if self.source.takes(&chosen.kind, &entry) {
                see(self, &entry);
            }
        }
        Ok(())
    }

    fn count(&mut self, entry: &Entry) {
        let Some(chosen) = self.kinds.get_mut(&entry.resource_group) else {
            return;
        };
        chosen.count += 1;
        if chosen.never.is_some() {
            return;
        }
        if entry.resource_group == NAMESPACES {
            self.namespaces.insert(entry.name.clone());
            self.selected_namespaces.insert(entry.name.clone());
        }
        if let Some(namespace) = &entry.namespace
            && !self.namespaces.contains(namespace)
        {
            self.namespaces.insert(namespace.clone());
        }
        for owner in &entry.owners {
            self.owners.refer(owner);
        }
        if entry.resource_group == "serviceaccounts" {
            let namespace = entry.namespace.as_deref().unwrap_or_default();
            self.service_accounts.insert(namespace, &entry.name);
        }
    }

    fn listed(&self) -> &[Entry] {
        match &self.source {
            Source::Filter(_) => &[],
            Source::Listed(entries) => entries,
        }
    }

    fn find_missing(&mut self) {
        if let Source::Filter(filter) = &self.source {
            let exists = |name: &str| self.namespaces.contains(name);
            self.missing_namespaces = filter.missing_namespaces(&exists).map(str::to_owned).collect();
        }
    }
}

fn known_kinds(objects: &Objects, discovery: &Discovery) -> Vec<DiscoveredKind> {
    let mut kinds = kinds_from_directory(objects.directory());
    let known: BTreeSet<String> = kinds.iter().map(|kind| kind.api.resource_group()).collect();
    for kind in &mut kinds {
        // The cluster knows short names that the backup does not.
        let same = |found: &&DiscoveredKind| {
            found.api.group == kind.api.group && found.api.plural == kind.api.plural
        };
        if let Some(found) = discovery.kinds.iter().find(same) {
            kind.short_names.clone_from(&found.short_names);
            kind.singular.clone_from(&found.singular);
        }
    }
    let others = discovery
        .kinds
        .iter()
        .filter(|kind| !known.contains(&kind.api.resource_group()));
    kinds.extend(others.cloned());
    kinds
}

fn chosen_kinds(objects: &Objects, source: &Source) -> BTreeMap<String, Chosen> {
    let kinds = objects.directory().kinds.iter();
    kinds
        .filter(|counted| match source {
            Source::Filter(filter) => matches!(filter.decide_kind(&counted.kind), KindDecision::List(_)),
            Source::Listed(entries) => {
                let resource_group = counted.kind.resource_group();
                entries.iter().any(|entry| entry.resource_group == resource_group)
            }
        })
        .map(|counted| {
            let chosen = Chosen {
                kind: counted.kind.clone(),
                rank: rank(&counted.kind),
                count: 0,
                all: counted.count,
                never: kind_never_restored(&counted.kind),
            };
            (counted.kind.resource_group(), chosen)
        })
        .collect()
}

/// A kind that is asked for by name and never restored is a mistake, as in Velero.
fn refuse_kinds_never_restored(
    request: &RestoreRequest,
    kinds: &[DiscoveredKind],
) -> Result<(), RestoreError> {
    let scope = &request.scope;
    let lists: [&ResourceNames; 3] = [
        &scope.included_resources,
        &scope.included_cluster_scoped,
        &scope.included_namespace_scoped,
    ];
    for word in lists
        .into_iter()
        .flat_map(ResourceNames::words)
        .filter(|word| *word != "*")
    {
        // A word that names nothing is refused when the scope is resolved, with its flag.
        if let Ok(found) = resolve(word, kinds)
            && let Some(kind) = found.first()
        {
            refuse(&kind.api)?;
        }
    }
    Ok(())
}

fn refuse(kind: &ApiKind) -> Result<(), RestoreError> {
    match kind_never_restored(kind) {
        Some(rule) => Err(RestoreError::NeverRestored {
            kind: kind.resource_group(),
            rule,
        }),
        None => Ok(()),
    }
}

/// Finds the objects that were named.
async fn look_up(
    objects: &Objects,
    backup: &BackupName,
    only: &[ObjectRef],
    kinds: &[DiscoveredKind],
) -> Result<Vec<Entry>, RestoreError> {
    let mut entries: Vec<Entry> = Vec::new();
    for object in only {
        let entry = look_up_one(objects, backup, object, kinds).await?;
        if !entries.iter().any(|known| known.key() == entry.key()) {
            entries.push(entry);
        }
    }
    Ok(entries)
}

async fn look_up_one(
    objects: &Objects,
    backup: &BackupName,
    object: &ObjectRef,
    kinds: &[DiscoveredKind],
) -> Result<Entry, RestoreError> {
    let found = resolve(&object.resource, kinds)?;
    if let Some(kind) = found.first() {
        refuse(&kind.api)?;
    }
    for kind in found {
        let resource_group = kind.api.resource_group();
        let mut candidates = match &object.namespace {
            Some(namespace) if kind.api.namespaced => {
                let found = objects
                    .get(&resource_group, Some(namespace), &object.name)
                    .await?;
                found.into_iter().collect()
            }
            _ => objects.candidates(&resource_group, &object.name).await?,
        };
        match candidates.len() {
            0 => {}
            1 => return Ok(candidates.remove(0)),
            _ => {
                return Err(RestoreError::SeveralInBackup {
                    object: object.to_string(),
                    backup: backup.to_string(),
                    namespaces: candidates
                        .into_iter()
                        .filter_map(|entry| entry.namespace)
                        .collect(),
                });
            }
        }
    }
    Err(RestoreError::NotInBackup {
        object: object.to_string(),
        kind: object.resource.clone(),
        word: format!("{}/{}", object.resource, object.name),
        backup: backup.to_string(),
    })
}
