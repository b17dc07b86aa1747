//! The cluster as one side of a comparison.
//!
//! In come discovery and what is wanted; out goes each kind as [`Spooled`]: its objects in the order of an index, their JSON
//! in an unnamed temporary file in the form that a backup has. A kind is listed where both the backup's scope and the
//! user's may hold objects of it, and nowhere else; an object of the backup that lies elsewhere is asked for by name. A list
//! that fails leaves a fault, so that what it would have shown is not taken for gone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
};

use backup_plan::{
    kinds::{self, DiscoveredKind},
    rule::EXCLUDE_LABEL,
    scope::Filter,
};
use bytes::Bytes;
use velero_model::{
    index::Entry,
    item::{Head, splice},
    resource::ApiKind,
};

use super::{
    DiffError,
    result::Recorder,
    wanted::{Own, Wanted, is_namespace},
};
use crate::{
    api::{ApiClient, ApiError, Discovery, FailedGroup, ListRequest, object_path},
    progress::Progress,
    spool::SortedSpool,
};

/// Namespaces up to which a kind is listed once in each instead of once over the whole cluster.
const LIST_EACH_MAX: usize = 24;

/// What is known of the cluster.
pub(super) struct Live {
    api: ApiClient,
    own: Own,
    /// Kinds that a backup would take.
    taken: Vec<DiscoveredKind>,
    all: Vec<DiscoveredKind>,
    dead: Vec<FailedGroup>,
    /// Names of all namespaces; `None` when they may not be listed.
    namespaces: Option<BTreeSet<String>>,
    /// Those that both scopes cover.
    covered: BTreeSet<String>,
}

/// Where the objects of a kind were listed.
#[derive(Debug, Default)]
enum Covered {
    #[default]
    Nowhere,
    Everywhere,
    Namespaces(BTreeSet<String>),
}

/// The objects of one kind, sorted.
#[derive(Default)]
pub(super) struct Spooled {
    pub(super) entries: SortedSpool,
    pub(super) objects: Option<File>,
    /// Lists that failed: what is not there may only not have been shown.
    pub(super) faults: Vec<String>,
    covered: Covered,
}

impl Live {
    /// Looks at the namespaces.
    pub(super) async fn look(
        api: &ApiClient,
        discovery: Discovery,
        mut own: Own,
        wanted: &Wanted,
    ) -> Result<Self, DiffError> {
        let namespaces = match namespaces(api, &mut own).await {
            Ok(namespaces) => Some(namespaces),
            Err(error) if error.is_forbidden() => None,
            Err(error) => return Err(error.into()),
        };
        let named = || {
            let filters = [Some(wanted.filter()), own.filter.as_ref()];
            let named = filters.into_iter().flatten().find_map(Filter::named_namespaces);
            named.into_iter().flatten().map(str::to_owned).collect()
        };
        let mut covered: BTreeSet<String> = namespaces.clone().unwrap_or_else(named);
        covered.retain(|namespace| own.takes_namespace(namespace) && wanted.takes_namespace(namespace));
        Ok(Self {
            api: api.clone(),
            own,
            taken: kinds::choose(&discovery.kinds).taken,
            all: discovery.kinds,
            dead: discovery.failed_groups,
            namespaces,
            covered,
        })
    }

    /// The kinds to compare, each as the cluster serves it: those of the backup, and those that its scope covers.
    pub(super) fn kinds(
        &self,
        of_backup: &BTreeMap<String, ApiKind>,
        wanted: &Wanted,
        recorder: &mut Recorder,
    ) -> BTreeMap<String, Option<ApiKind>> {
        let mut kinds = BTreeMap::new();
        for (resource, kind) in of_backup {
            let served = self.served(kind);
            match &served {
                Some(served) if served.version != kind.version => recorder.warnings.push(format!(
                    "{resource}: the backup holds version {}, the cluster serves {}; fields may differ by that alone",
                    kind.version, served.version
                )),
                None if !self.is_dead(kind) => recorder
                    .warnings
                    .push(format!("the cluster does not serve {resource}")),
                _ => {}
            }
            kinds.insert(resource.clone(), served);
        }
        for kind in &self.taken {
            if wanted.takes_kind(&kind.api) && self.own.takes_kind(&kind.api) {
                kinds
                    .entry(kind.api.resource_group())
                    .or_insert_with(|| Some(kind.api.clone()));
            }
        }
        for group in &self.dead {
            let is_meant = !wanted.is_by_kind() && !self.own.names_kinds;
            if is_meant || of_backup.values().any(|kind| is_in(kind, group)) {
                recorder.not_compared(format!("group {}", group.group_version), group.reason.clone());
            }
        }
        kinds
    }

    /// The kind in the version of the backup if the cluster serves it, else in the one that it prefers.
    fn served(&self, kind: &ApiKind) -> Option<ApiKind> {
        let is_same = |found: &&DiscoveredKind| {
            found.api.group == kind.group
                && found.api.plural == kind.plural
                && found.api.namespaced == kind.namespaced
                && found.verbs.iter().any(|verb| verb == "list")
        };
        let found = self
            .all
            .iter()
            .filter(is_same)
            .min_by_key(|found| (found.api.version != kind.version, !found.preferred))?;
        Some(found.api.clone())
    }

    /// Whether the kind's group does not answer, so that nothing is known about its objects.
    pub(super) fn is_dead(&self, kind: &ApiKind) -> bool {
        self.dead.iter().any(|group| is_in(kind, group))
    }

    /// Whether the backup would hold an object of the cluster.
    pub(super) fn would_hold(&self, kind: &ApiKind, entry: &Entry) -> bool {
        self.own.takes(kind, entry)
    }

    /// Whether an object would have been listed if it were there.
    pub(super) fn was_looked_for(&self, listed: &Spooled, entry: &Entry) -> bool {
        match (&listed.covered, &entry.namespace) {
            (Covered::Everywhere, _) => true,
            (Covered::Nowhere, _) | (Covered::Namespaces(_), None) => false,
            (Covered::Namespaces(listed), Some(namespace)) => {
                listed.contains(namespace) || self.is_gone(namespace)
            }
        }
    }

    fn is_gone(&self, namespace: &str) -> bool {
        self.namespaces
            .as_ref()
            .is_some_and(|names| !names.contains(namespace))
    }

    /// One object by name, in the form that a backup has.
    pub(super) async fn get(&self, served: &ApiKind, entry: &Entry) -> Result<Option<Bytes>, ApiError> {
        if entry
            .namespace
            .as_deref()
            .is_some_and(|namespace| self.is_gone(namespace))
        {
            return Ok(None);
        }
        self.api
            .get(&object_path(served, entry.namespace.as_deref(), &entry.name))
            .await
    }

    /// Where a kind is listed: everywhere (one `None`), or in these namespaces; and where if that is forbidden.
    fn places(&self, kind: &ApiKind, wanted: &Wanted) -> (VecDeque<Option<String>>, Vec<String>) {
        if !self.own.takes_kind(kind) {
            return (VecDeque::new(), Vec::new());
        }
        if !kind.namespaced || (self.own.is_cluster_wide(kind) && wanted.is_cluster_wide(kind)) {
            return ([None].into(), Vec::new());
        }
        if self.covered.len() <= LIST_EACH_MAX || !wanted.names(kind).is_empty() {
            return (self.covered.iter().cloned().map(Some).collect(), Vec::new());
        }
        ([None].into(), self.covered.iter().cloned().collect())
    }

    /// Lists a kind.
    pub(super) async fn list(
        &self,
        kind: &ApiKind,
        wanted: &Wanted,
        progress: &Progress,
    ) -> Result<Spooled, DiffError> {
        let mut spool = Spool::new(kind.clone())?;
        let (mut places, mut otherwise) = self.places(kind, wanted);
        let mut covered = match (places.front(), kind.namespaced) {
            (None, _) if !self.own.takes_kind(kind) => Covered::Nowhere,
            (Some(None), _) => Covered::Everywhere,
            _ => Covered::Namespaces(places.iter().flatten().cloned().collect()),
        };
        while let Some(place) = places.pop_front() {
            progress.set_step(&format!("listing {kind}"));
            match self.list_in(&mut spool, place.as_deref(), wanted).await? {
                Ok(()) => {}
                // The kind or the namespace was deleted since we looked.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_forbidden() && place.is_none() && !otherwise.is_empty() => {
                    let each = std::mem::take(&mut otherwise);
                    covered = Covered::Namespaces(each.iter().cloned().collect());
                    places.extend(each.into_iter().map(Some));
                }
                // Who may not list namespaces may still read those of the backup.
                Err(error) if error.is_forbidden() && is_namespace(kind) => covered = Covered::Nowhere,
                Err(error) => spool.faults.push(fault(place.as_deref(), &error)),
            }
        }
        Ok(spool.finish(covered)?)
    }

    async fn list_in(
        &self,
        spool: &mut Spool,
        namespace: Option<&str>,
        wanted: &Wanted,
    ) -> Result<Result<(), ApiError>, DiffError> {
        let names = wanted.names(&spool.kind);
        let names: Vec<Option<&str>> = if names.is_empty() {
            vec![None]
        } else {
            names.into_iter().map(Some).collect()
        };
        for name in names {
            let mut pager = self.api.list(ListRequest {
                kind: spool.kind.clone(),
                namespace: namespace.map(str::to_owned),
                selector: String::new(),
                metadata_only: false,
            });
            if let Some(name) = name {
                pager = pager.named(name);
            }
            loop {
                match pager.next().await {
                    Ok(None) => break,
                    Err(error) => return Ok(Err(error)),
                    Ok(Some(page)) => {
                        for (raw, head) in page.objects() {
                            spool.push(raw, head)?;
                        }
                    }
                }
            }
        }
        Ok(Ok(()))
    }
}

fn is_in(kind: &ApiKind, group: &FailedGroup) -> bool {
    group
        .group_version
        .rsplit_once('/')
        .map_or("", |(group, _)| group)
        == kind.group
}

fn fault(namespace: Option<&str>, error: &ApiError) -> String {
    let place = namespace.map_or_else(String::new, |namespace| format!("namespace {namespace}: "));
    if error.is_forbidden() {
        format!(
            "{place}it may not be listed: {}; grant the user `list` on it, or exclude it",
            error.server_message()
        )
    } else {
        format!("{place}the list broke off: {error}")
    }
}

/// All namespaces. Those with the exclude label are outside every backup's scope.
async fn namespaces(api: &ApiClient, own: &mut Own) -> Result<BTreeSet<String>, ApiError> {
    let mut names = BTreeSet::new();
    let mut pager = api.list(ListRequest {
        kind: ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: "namespaces".into(),
            kind: "Namespace".into(),
            namespaced: false,
        },
        namespace: None,
        selector: String::new(),
        metadata_only: true,
    });
    while let Some(page) = pager.next().await? {
        for head in page.objects().filter_map(|(_, head)| head.ok()) {
            if head.label(EXCLUDE_LABEL) == Some("true")
                && let Some(filter) = &mut own.filter
            {
                filter.exclude_labelled_namespace(&head.metadata.name);
            }
            names.insert(head.metadata.name.into_owned());
        }
    }
    Ok(names)
}

/// Objects on their way into the temporary file.
struct Spool {
    kind: ApiKind,
    resource_group: String,
    api_version: String,
    out: BufWriter<File>,
    written: u64,
    entries: SortedSpool,
    faults: Vec<String>,
    json: Vec<u8>,
}

impl Spool {
    fn new(kind: ApiKind) -> io::Result<Self> {
        Ok(Self {
            resource_group: kind.resource_group(),
            api_version: kind.api_version(),
            kind,
            out: BufWriter::new(tempfile::tempfile()?),
            written: 0,
            entries: SortedSpool::new(),
            faults: Vec::new(),
            json: Vec::new(),
        })
    }

    fn push(&mut self, raw: &[u8], head: Result<Head<'_>, serde_json::Error>) -> io::Result<()> {
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                // The parser's own message could quote the object.
                self.faults.push(format!(
                    "an object of the list cannot be read (column {})",
                    error.column()
                ));
                return Ok(());
            }
        };
        self.json.clear();
        splice(raw, &head, &self.api_version, &self.kind.kind, &mut self.json);
        self.out.write_all(&self.json)?;
        let size = self.json.len() as u64;
        self.entries.push(&Entry {
            resource_group: self.resource_group.clone(),
            namespace: head.metadata.namespace.as_deref().map(str::to_owned),
            labels: head.owned_labels(),
            name: head.metadata.name.into_owned(),
            member: self.written,
            member_length: size,
            offset: 0,
            size,
            uid: String::new(),
            owners: Vec::new(),
        })?;
        self.written += size;
        Ok(())
    }

    fn finish(self, covered: Covered) -> io::Result<Spooled> {
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Spooled {
            entries: self.entries,
            objects: Some(file),
            faults: self.faults,
            covered,
        })
    }
}

/// The JSON of a spooled object.
pub(super) fn read(objects: &File, entry: &Entry) -> io::Result<Bytes> {
    let mut json = vec![0; usize::try_from(entry.member_length).map_err(io::Error::other)?];
    objects.read_exact_at(&mut json, entry.member)?;
    Ok(json.into())
}
