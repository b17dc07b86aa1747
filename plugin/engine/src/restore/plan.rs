//! The plan of a restore: what the same run would do, and does not.
//!
//! In come the objects as the run comes to them, with what is to be done about each; out goes a [`RestorePlan`], read back
//! in the order of waves, steps and names. What would be made is remembered as far as later objects need it: their
//! namespace, their kind, their class. Entries lie in an unnamed temporary file from the beginning, memory holds counts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use backup_plan::{
    compare::Difference,
    kinds::DiscoveredKind,
    restore::{
        order::{Rank, rank},
        planned::{Checked, PlannedAction, PlannedDifference, PlannedObject},
    },
};
use serde_json::Value;
use velero_model::{index::Entry, resource::ApiKind};

use super::{
    definitions::DEFINITIONS,
    report::{Change, Outcome, Subject},
};
use crate::{
    api::{ClusterIdentity, Discovery},
    spool::SortedSpool,
};

/// The decision about a whole restore.
#[derive(Debug)]
pub struct RestorePlan {
    /// Name of the restore.
    pub restore: String,
    /// Name of the backup.
    pub backup: String,
    /// The cluster.
    pub cluster: ClusterIdentity,
    /// The policies for existing objects.
    pub policies: String,
    /// What is done with the objects of each kind, in the order of the restore.
    pub kinds: Vec<PlannedKind>,
    /// Objects that a rule leaves out, by rule and kind.
    pub left_out: BTreeMap<String, BTreeMap<String, u64>>,
    /// What a person should know about the restore as a whole, the first 1,000.
    pub warnings: Vec<String>,
    objects: Objects,
}

/// What is done with the objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedKind {
    /// Its place.
    pub rank: Rank,
    /// `deployments.apps`.
    pub resource: String,
    /// Objects by what is done with them.
    pub actions: BTreeMap<PlannedAction, u64>,
}

impl RestorePlan {
    /// The objects in the order of waves, steps, kinds, namespaces and names. Whole kinds that a rule leaves out are only
    /// counted.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn objects(&self) -> io::Result<impl Iterator<Item = io::Result<PlannedObject>> + use<'_>> {
        self.objects.in_order()
    }

    /// How many objects something is done with.
    pub fn count(&self, action: PlannedAction) -> u64 {
        self.kinds
            .iter()
            .filter_map(|kind| kind.actions.get(&action))
            .sum()
    }
}

/// Entries in a file, and another file with their places in order.
#[derive(Debug)]
struct Objects {
    entries: File,
    places: File,
}

/// Offset and length of an entry.
const PLACE: usize = 16;

impl Objects {
    fn in_order(&self) -> io::Result<impl Iterator<Item = io::Result<PlannedObject>> + use<'_>> {
        let mut places = self.places.try_clone()?;
        places.seek(SeekFrom::Start(0))?;
        let mut places = BufReader::new(places);
        Ok(std::iter::from_fn(move || {
            let mut place = [0; PLACE];
            match places.read_exact(&mut place) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => Some(Err(error)),
                Ok(()) => Some(self.read(u128::from_le_bytes(place))),
            }
        }))
    }

    #[allow(clippy::cast_possible_truncation, reason = "the two halves of the number")]
    fn read(&self, place: u128) -> io::Result<PlannedObject> {
        let (offset, length) = ((place >> 64) as u64, place as u64);
        let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.entries.read_exact_at(&mut text, offset)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// What is known while a plan is made.
pub(super) struct Planner {
    inner: Mutex<Inner>,
}

struct Inner {
    out: BufWriter<File>,
    written: u64,
    order: SortedSpool,
    kinds: BTreeMap<(Rank, String), BTreeMap<PlannedAction, u64>>,
    left_out: BTreeMap<String, BTreeMap<String, u64>>,
    /// Notes about objects that have not been recorded yet.
    notes: HashMap<String, Vec<String>>,
    /// Objects that would be made and that others may need.
    coming: HashSet<(String, String)>,
    /// Kinds that definitions of the restore bring.
    kinds_coming: Vec<DiscoveredKind>,
    /// Kinds of those that the cluster does not serve yet.
    kinds_missing: HashSet<(String, String)>,
    /// Ports and addresses, with the first object that takes each.
    taken: HashMap<String, String>,
    /// Objects to be made by namespace and a quota's word.
    wanted: BTreeMap<String, BTreeMap<String, u64>>,
    fault: Option<io::Error>,
}

/// Kinds whose objects others cannot be admitted, or bound, without.
const NEEDED: [&str; 9] = [
    "namespaces",
    "serviceaccounts",
    "persistentvolumes",
    "storageclasses.storage.k8s.io",
    "priorityclasses.scheduling.k8s.io",
    "runtimeclasses.node.k8s.io",
    "ingressclasses.networking.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
];

fn coming_key(resource: &str, namespace: Option<&str>, name: &str) -> (String, String) {
    (
        resource.to_owned(),
        format!("{}/{name}", namespace.unwrap_or_default()),
    )
}

/// What is to be done with one object.
pub(super) struct Planned<'a> {
    pub(super) subject: &'a Subject,
    pub(super) outcome: &'a Outcome,
    pub(super) differences: Vec<Difference>,
    pub(super) checked: Checked,
}

impl Planner {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            inner: Mutex::new(Inner {
                out: BufWriter::new(tempfile::tempfile()?),
                written: 0,
                order: SortedSpool::new(),
                kinds: BTreeMap::new(),
                left_out: BTreeMap::new(),
                notes: HashMap::new(),
                coming: HashSet::new(),
                kinds_coming: Vec::new(),
                kinds_missing: HashSet::new(),
                taken: HashMap::new(),
                wanted: BTreeMap::new(),
                fault: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a note until its object is recorded.
    pub(super) fn note(&self, subject: &Subject, message: String) {
        self.lock().notes.entry(subject.text()).or_default().push(message);
    }

    /// Takes an object into the plan.
    pub(super) fn record(&self, planned: Planned<'_>) {
        let mut inner = self.lock();
        if let Err(error) = inner.record(planned) {
            inner.fault.get_or_insert(error);
        }
    }

    /// Counts a kind that a rule leaves out as a whole.
    pub(super) fn leave_out(&self, kind: &ApiKind, rule: &str, count: u64) {
        let mut inner = self.lock();
        inner.count(rank(kind), &kind.resource_group(), PlannedAction::Skip, count);
        inner.count_left_out(rule, &kind.resource_group(), count);
    }

    /// Whether an object would be made by this restore.
    pub(super) fn comes(&self, resource: &str, namespace: Option<&str>, name: &str) -> bool {
        self.lock()
            .coming
            .contains(&coming_key(resource, namespace, name))
    }

    /// Why the server cannot be asked about an object yet.
    pub(super) fn not_yet_there(&self, kind: &ApiKind, subject: &Subject) -> Option<String> {
        let inner = self.lock();
        if inner
            .kinds_missing
            .contains(&(kind.api_version(), kind.plural.clone()))
        {
            return Some(format!("the definition of {kind} comes with the restore"));
        }
        let namespace = subject.namespace.as_deref()?;
        let comes = inner.coming.contains(&coming_key("namespaces", None, namespace));
        comes.then(|| format!("namespace {namespace} comes with the restore"))
    }

    /// Learns what a definition that would be written is going to serve.
    pub(super) fn expect_kinds(&self, definition: &Value) {
        self.lock().kinds_coming.extend(kinds_of(definition));
    }

    /// What the cluster will serve once the definitions are there.
    pub(super) fn with_coming_kinds(&self, mut discovery: Discovery) -> Discovery {
        let mut inner = self.lock();
        let served: HashSet<(String, String)> = discovery
            .kinds
            .iter()
            .map(|kind| (kind.api.api_version(), kind.api.plural.clone()))
            .collect();
        let coming: Vec<DiscoveredKind> = std::mem::take(&mut inner.kinds_coming)
            .into_iter()
            .filter(|kind| !served.contains(&(kind.api.api_version(), kind.api.plural.clone())))
            .collect();
        inner.kinds_missing.extend(
            coming
                .iter()
                .map(|kind| (kind.api.api_version(), kind.api.plural.clone())),
        );
        discovery.kinds.extend(coming);
        discovery
    }

    /// Takes a port or an address for an object; gives the other object that has asked for it.
    pub(super) fn take(&self, address: String, subject: &Subject) -> Option<String> {
        let text = subject.text();
        let mut inner = self.lock();
        let first = inner.taken.entry(address).or_insert_with(|| text.clone());
        (*first != text).then(|| first.clone())
    }

    /// Counts an object to be made in a namespace that is there.
    pub(super) fn want(&self, namespace: &str, words: Vec<String>) {
        let mut inner = self.lock();
        let wanted = inner.wanted.entry(namespace.to_owned()).or_default();
        for word in words {
            *wanted.entry(word).or_default() += 1;
        }
    }

    /// What is wanted, by namespace and a quota's word.
    pub(super) fn wanted(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        std::mem::take(&mut self.lock().wanted)
    }

    /// Ends the plan.
    pub(super) fn finish(
        &self,
        restore: String,
        backup: String,
        cluster: ClusterIdentity,
        policies: String,
        warnings: Vec<String>,
    ) -> io::Result<RestorePlan> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(fault) = inner.fault.take() {
            return Err(fault);
        }
        inner.out.flush()?;
        let mut places = BufWriter::new(tempfile::tempfile()?);
        for entry in std::mem::take(&mut inner.order).finish()? {
            let entry = entry?;
            let place = (u128::from(entry.member) << 64) | u128::from(entry.member_length);
            places.write_all(&place.to_le_bytes())?;
        }
        let kinds = std::mem::take(&mut inner.kinds).into_iter();
        Ok(RestorePlan {
            restore,
            backup,
            cluster,
            policies,
            kinds: kinds
                .map(|((rank, resource), actions)| PlannedKind {
                    rank,
                    resource,
                    actions,
                })
                .collect(),
            left_out: std::mem::take(&mut inner.left_out),
            warnings,
            objects: Objects {
                entries: inner.out.get_ref().try_clone()?,
                places: places.into_inner().map_err(io::IntoInnerError::into_error)?,
            },
        })
    }
}

impl Inner {
    fn count(&mut self, rank: Rank, resource: &str, action: PlannedAction, count: u64) {
        let kind = self.kinds.entry((rank, resource.to_owned())).or_default();
        *kind.entry(action).or_default() += count;
    }

    fn count_left_out(&mut self, rule: &str, resource: &str, count: u64) {
        let kinds = self.left_out.entry(rule.to_owned()).or_default();
        *kinds.entry(resource.to_owned()).or_default() += count;
    }

    fn record(&mut self, planned: Planned<'_>) -> io::Result<()> {
        let subject = planned.subject;
        let (action, reason) = action(planned.outcome);
        let rank = rank(&subject.kind);
        let makes = matches!(action, PlannedAction::Create);
        if makes && NEEDED.contains(&subject.resource_group.as_str()) {
            let key = coming_key(
                &subject.resource_group,
                subject.namespace.as_deref(),
                &subject.name,
            );
            self.coming.insert(key);
        }
        self.count(rank, &subject.resource_group, action, 1);
        if let (PlannedAction::Skip, Some(rule)) = (action, &reason) {
            self.count_left_out(rule, &subject.resource_group, 1);
        }
        let object = PlannedObject {
            wave: rank.wave,
            step: rank.position,
            api_version: subject.kind.api_version(),
            kind: subject.kind.kind.clone(),
            resource: subject.resource_group.clone(),
            namespace: subject.namespace.clone(),
            name: subject.name.clone(),
            action,
            reason,
            differences: planned
                .differences
                .into_iter()
                .map(PlannedDifference::from)
                .collect(),
            notes: self.notes.remove(&subject.text()).unwrap_or_default(),
            checked: if action.writes() {
                planned.checked
            } else {
                Checked::NotNeeded
            },
        };
        self.write(&object, rank)
    }

    fn write(&mut self, object: &PlannedObject, rank: Rank) -> io::Result<()> {
        let text = serde_json::to_vec(object)?;
        self.out.write_all(&text)?;
        let length = text.len() as u64;
        self.order.push(&Entry {
            resource_group: format!("{} {:03} {}", rank.wave as u8, rank.position, object.resource),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            member: self.written,
            member_length: length,
            offset: 0,
            size: 0,
            uid: String::new(),
            owners: Vec::new(),
            labels: BTreeMap::new(),
        })?;
        self.written += length;
        Ok(())
    }
}

/// What an outcome is in a plan, and its reason.
fn action(outcome: &Outcome) -> (PlannedAction, Option<String>) {
    match outcome {
        Outcome::Created => (PlannedAction::Create, None),
        Outcome::Made => (
            PlannedAction::Unchanged,
            Some("a restore of this name has made it".to_owned()),
        ),
        Outcome::Updated(Change::Applied) => (PlannedAction::Update, None),
        Outcome::Updated(Change::Replaced) => (PlannedAction::Replace, None),
        Outcome::Updated(Change::Recreated) => (PlannedAction::Recreate, None),
        Outcome::Updated(Change::Completed) => (PlannedAction::Complete, None),
        Outcome::Unchanged => (PlannedAction::Unchanged, None),
        Outcome::Differs(_) => (PlannedAction::Leave, None),
        Outcome::Skipped(rule) => (PlannedAction::Skip, Some((*rule).to_owned())),
        Outcome::Failed(reason) => (PlannedAction::Refuse, Some(reason.clone())),
    }
}

/// The kinds that a definition serves.
fn kinds_of(definition: &Value) -> Vec<DiscoveredKind> {
    let text = |pointer: &str| {
        definition
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let versions = definition["spec"]["versions"].as_array();
    versions
        .into_iter()
        .flatten()
        .filter(|version| version["served"] == true)
        .filter_map(|version| version["name"].as_str())
        .map(|version| DiscoveredKind {
            api: ApiKind {
                group: text("/spec/group"),
                version: version.to_owned(),
                plural: text("/spec/names/plural"),
                kind: text("/spec/names/kind"),
                namespaced: text("/spec/scope") == "Namespaced",
            },
            verbs: vec!["create".to_owned()],
            short_names: Vec::new(),
            singular: text("/spec/names/singular"),
            preferred: true,
            categories: Vec::new(),
            is_held: false,
        })
        .collect()
}

/// Whether an object is a definition of kinds.
pub(super) fn is_definition(subject: &Subject) -> bool {
    subject.resource_group == DEFINITIONS
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subject(group: &str, plural: &str, namespace: Option<&str>, name: &str) -> Subject {
        let kind = ApiKind {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            kind: "X".into(),
            namespaced: namespace.is_some(),
        };
        Subject {
            resource_group: kind.resource_group(),
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.into(),
        }
    }

    fn record(planner: &Planner, subject: &Subject, outcome: &Outcome) {
        planner.record(Planned {
            subject,
            outcome,
            differences: Vec::new(),
            checked: Checked::DryRun,
        });
    }

    fn finish(planner: &Planner) -> RestorePlan {
        let cluster = ClusterIdentity {
            uid: "u".into(),
            name: "c".into(),
            version: "v".into(),
        };
        planner
            .finish("r".into(), "b".into(), cluster, "none".into(), vec![])
            .unwrap()
    }

    #[test]
    fn objects_come_back_in_the_order_of_the_restore_as_often_as_asked() {
        let planner = Planner::new().unwrap();
        for number in (0..5000).rev() {
            let name = format!("m-{number:04}");
            record(
                &planner,
                &subject("", "configmaps", Some("shop"), &name),
                &Outcome::Created,
            );
        }
        record(
            &planner,
            &subject("apps", "deployments", Some("shop"), "web"),
            &Outcome::Unchanged,
        );
        record(
            &planner,
            &subject("", "namespaces", None, "shop"),
            &Outcome::Created,
        );
        let failed = Outcome::Failed("no".into());
        record(&planner, &subject("", "configmaps", Some("a"), "x"), &failed);
        let plan = finish(&planner);
        for _ in 0..2 {
            let objects: Vec<PlannedObject> = plan.objects().unwrap().map(Result::unwrap).collect();
            assert_eq!(objects.len(), 5003);
            let names: Vec<_> = objects.iter().map(|object| object.name.as_str()).collect();
            assert_eq!(names[..3], ["shop", "x", "m-0000"]);
            assert_eq!(names.last(), Some(&"web"));
            assert_eq!(objects[1].reason.as_deref(), Some("no"));
        }
        assert_eq!(plan.count(PlannedAction::Create), 5001);
        assert_eq!(plan.count(PlannedAction::Refuse), 1);
        let order: Vec<_> = plan.kinds.iter().map(|kind| kind.resource.as_str()).collect();
        assert_eq!(order, ["namespaces", "configmaps", "deployments.apps"]);
    }

    #[test]
    fn what_comes_with_the_restore_is_known_to_what_needs_it() {
        let planner = Planner::new().unwrap();
        let map = subject("", "configmaps", Some("shop"), "x");
        assert_eq!(planner.not_yet_there(&map.kind, &map), None);
        record(
            &planner,
            &subject("", "namespaces", None, "shop"),
            &Outcome::Created,
        );
        let reason = planner.not_yet_there(&map.kind, &map);
        assert_eq!(reason.as_deref(), Some("namespace shop comes with the restore"));

        planner.expect_kinds(&json!({"spec": {"group": "shop.io", "scope": "Namespaced",
            "names": {"plural": "orders", "kind": "Order"}, "versions": [
                {"name": "v1", "served": true}, {"name": "v0", "served": false}]}}));
        let discovery = planner.with_coming_kinds(Discovery::default());
        assert_eq!(discovery.kinds.len(), 1);
        let order = subject("shop.io", "orders", Some("other"), "x");
        assert!(planner.not_yet_there(&order.kind, &order).is_some());
    }

    #[test]
    fn notes_stay_with_their_object_and_ports_are_taken_once() {
        let planner = Planner::new().unwrap();
        let (one, two) = (
            subject("", "services", Some("a"), "one"),
            subject("", "services", Some("a"), "two"),
        );
        planner.note(&one, "empty volume".into());
        assert_eq!(planner.take("node port 1".into(), &one), None);
        assert_eq!(planner.take("node port 1".into(), &one), None);
        assert_eq!(
            planner.take("node port 1".into(), &two).as_deref(),
            Some("services a/one")
        );
        record(&planner, &one, &Outcome::Created);
        record(&planner, &two, &Outcome::Skipped("finished"));
        let plan = finish(&planner);
        let objects: Vec<PlannedObject> = plan.objects().unwrap().map(Result::unwrap).collect();
        assert_eq!(objects[0].notes, ["empty volume"]);
        assert!(objects[1].notes.is_empty());
        assert_eq!(objects[1].checked, Checked::NotNeeded);
        assert_eq!(plan.left_out["finished"]["services"], 1);
    }
}
