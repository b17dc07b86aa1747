//! What a comparison found.
//!
//! In come objects in the order of kind, namespace and name; out goes a [`Diff`] with counts, read back in the same order.
//! Differences lie in an unnamed temporary file from the beginning, so that a result is shown whole or not at all, and
//! memory holds counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
};

use backup_plan::compare::{Difference, Drift};
use serde::{Deserialize, Serialize};
use velero_model::index::Entry;

use crate::api::ClusterIdentity;

/// Most objects and kinds that are named because they could not be compared; the rest is counted.
const NOT_COMPARED: usize = 1000;

/// How an object differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is on the left side only.
    OnlyLeft,
    /// It is on the right side only.
    OnlyRight,
    /// It is on both sides and differs.
    Changed,
}

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectDifference {
    /// `deployments.apps`.
    pub resource: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// How it differs.
    pub change: Change,
    /// Whether the right one is another object of the same name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recreated: bool,
    /// Where it differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// Objects by what was found about them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiffCounts {
    /// On both sides, without a difference that counts.
    pub same: u64,
    /// On both sides, different.
    pub changed: u64,
    /// On the left side only.
    pub only_left: u64,
    /// On the right side only.
    pub only_right: u64,
    /// On both sides with another UID; counted as the same or changed as well.
    pub recreated: u64,
    /// Objects that could not be compared.
    pub not_compared: u64,
}

impl DiffCounts {
    /// Objects that differ.
    pub fn differing(&self) -> u64 {
        self.changed + self.only_left + self.only_right
    }

    /// All objects that were looked at.
    pub fn objects(&self) -> u64 {
        self.same + self.differing() + self.not_compared
    }
}

/// Something that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCompared {
    /// A kind or an object.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// The result of a comparison.
#[derive(Debug)]
pub struct Diff {
    /// Name of the backup on the left side.
    pub left: String,
    /// Name of the backup on the right side, if it is one.
    pub right: Option<String>,
    /// The cluster on the right side, if it is one.
    pub cluster: Option<ClusterIdentity>,
    /// All objects.
    pub counts: DiffCounts,
    /// Objects by kind; kinds without any are missing.
    pub kinds: BTreeMap<String, DiffCounts>,
    /// Kinds and objects that could not be compared, the first 1,000: the result is incomplete.
    pub not_compared: Vec<NotCompared>,
    /// Kinds that change by themselves and were not looked at.
    pub passed_over: BTreeSet<String>,
    /// What a person should know about the sides.
    pub warnings: Vec<String>,
    objects: File,
}

impl Diff {
    /// The objects that differ, in order.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn objects(&self) -> io::Result<impl Iterator<Item = io::Result<ObjectDifference>> + use<>> {
        let mut file = self.objects.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        Ok(std::iter::from_fn(move || {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => None,
                Ok(_) => Some(serde_json::from_slice(&line).map_err(io::Error::from)),
                Err(error) => Some(Err(error)),
            }
        }))
    }

    /// The right side for a person: `backup b`, `the cluster`.
    pub fn right_name(&self) -> String {
        match &self.right {
            Some(name) => format!("backup {name}"),
            None => "the cluster".to_owned(),
        }
    }
}

/// Takes a result down.
pub(super) struct Recorder {
    out: BufWriter<File>,
    diff: Diff,
    pub(super) warnings: Vec<String>,
    /// Namespaces that an object of either side lives in, or is.
    namespaces: BTreeSet<String>,
}

impl Recorder {
    pub(super) fn new(left: String) -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        Ok(Self {
            out: BufWriter::new(file.try_clone()?),
            diff: Diff {
                left,
                right: None,
                cluster: None,
                counts: DiffCounts::default(),
                kinds: BTreeMap::new(),
                not_compared: Vec::new(),
                passed_over: BTreeSet::new(),
                warnings: Vec::new(),
                objects: file,
            },
            warnings: Vec::new(),
            namespaces: BTreeSet::new(),
        })
    }

    pub(super) fn against_backup(&mut self, name: String) {
        self.diff.right = Some(name);
    }

    pub(super) fn against_cluster(&mut self, identity: ClusterIdentity) {
        self.diff.cluster = Some(identity);
    }

    /// An object that is on one side only.
    pub(super) fn only(&mut self, entry: &Entry, change: Change) -> io::Result<()> {
        self.count(entry, |counts| match change {
            Change::OnlyLeft => counts.only_left += 1,
            _ => counts.only_right += 1,
        });
        self.write(entry, change, false, Vec::new())
    }

    /// An object that is on both.
    pub(super) fn both(&mut self, entry: &Entry, drift: Drift) -> io::Result<()> {
        let is_changed = !drift.differences.is_empty();
        self.count(entry, |counts| {
            counts.recreated += u64::from(drift.recreated);
            if is_changed {
                counts.changed += 1;
            } else {
                counts.same += 1;
            }
        });
        if is_changed {
            self.write(entry, Change::Changed, drift.recreated, drift.differences)?;
        }
        Ok(())
    }

    /// An object that could not be compared, for a reason of its own.
    pub(super) fn failed(&mut self, entry: &Entry, reason: String) {
        self.uncounted(entry);
        let place = entry.namespace.as_ref().map(|namespace| format!("{namespace}/"));
        let what = format!(
            "{} {}{}",
            entry.resource_group,
            place.unwrap_or_default(),
            entry.name
        );
        self.not_compared(what, reason);
    }

    /// An object that could not be compared, for a reason that was given with its kind.
    pub(super) fn uncounted(&mut self, entry: &Entry) {
        self.count(entry, |counts| counts.not_compared += 1);
    }

    /// A kind that could not be compared, or not wholly.
    pub(super) fn not_compared(&mut self, what: String, reason: String) {
        if self.diff.not_compared.len() < NOT_COMPARED {
            self.diff.not_compared.push(NotCompared { what, reason });
        }
    }

    pub(super) fn pass_over(&mut self, resource: String) {
        self.diff.passed_over.insert(resource);
    }

    /// Whether either side has something in a namespace.
    pub(super) fn has_seen(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    pub(super) fn finish(mut self) -> io::Result<Diff> {
        self.out.flush()?;
        self.diff.warnings = self.warnings;
        Ok(self.diff)
    }

    fn count(&mut self, entry: &Entry, add: impl Fn(&mut DiffCounts)) {
        add(&mut self.diff.counts);
        let namespace = match entry.resource_group.as_str() {
            "namespaces" => Some(&entry.name),
            _ => entry.namespace.as_ref(),
        };
        if let Some(namespace) = namespace
            && !self.namespaces.contains(namespace)
        {
            self.namespaces.insert(namespace.clone());
        }
        match self.diff.kinds.get_mut(&entry.resource_group) {
            Some(counts) => add(counts),
            None => add(self.diff.kinds.entry(entry.resource_group.clone()).or_default()),
        }
    }

    fn write(
        &mut self,
        entry: &Entry,
        change: Change,
        recreated: bool,
        differences: Vec<Difference>,
    ) -> io::Result<()> {
        let object = ObjectDifference {
            resource: entry.resource_group.clone(),
            namespace: entry.namespace.clone(),
            name: entry.name.clone(),
            change,
            recreated,
            differences,
        };
        serde_json::to_writer(&mut self.out, &object)?;
        self.out.write_all(b"\n")
    }
}
