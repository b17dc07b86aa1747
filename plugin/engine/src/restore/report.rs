//! What became of each object, in the forms that a person, the record and Velero's tools read.
//!
//! In comes one outcome per object, from any task; out go counts by kind, the first failures and differences in words, and
//! three files: names with what was done to each, errors and warnings, and a log of one line per object. Files grow on
//! disk, lists in memory are bounded, and what they leave out is counted.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use flate2::{Compression, write::GzEncoder};
use velero_model::{
    index::Entry,
    resource::ApiKind,
    resource_list,
    restore_record::{KindResult, RestoreRecord},
    results::Results,
    time,
};

use crate::{clock, spool::SortedSpool};

/// What a restore did.
#[derive(Debug, Clone)]
pub struct RestoreSummary {
    /// The record as it was stored: counts by kind, phase, times.
    pub record: RestoreRecord,
    /// Objects that exist and differ, the first 200.
    pub differs: Vec<Difference>,
    /// Objects that could not be restored, the first 1,000.
    pub failures: Vec<Failure>,
    /// What else a person should know, the first 1,000.
    pub warnings: Vec<String>,
    /// Where the record lies, for a person.
    pub record_stored_at: String,
}

/// An object that exists and is not what the backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `configmaps shop/settings`.
    pub object: String,
    /// The paths that differ.
    pub paths: Vec<String>,
}

/// An object that could not be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `configmaps shop/settings`.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// An object of the restore, for messages: its names in the cluster.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// The kind.
    pub(super) kind: ApiKind,
    /// Its resource group.
    pub(super) resource_group: String,
    /// Namespace in the cluster.
    pub(super) namespace: Option<String>,
    /// Name.
    pub(super) name: String,
}

impl Subject {
    /// `configmaps shop/settings`.
    pub(super) fn text(&self) -> String {
        object_text(&self.resource_group, self.namespace.as_deref(), &self.name)
    }
}

/// `configmaps shop/settings`, `namespaces shop`.
pub(super) fn object_text(resource_group: &str, namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{resource_group} {namespace}/{name}"),
        None => format!("{resource_group} {name}"),
    }
}

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Made anew.
    Created,
    /// There already, made by this very restore: its answer was lost, or the run was repeated.
    Made,
    /// Changed to what the backup holds, in this way.
    Updated(Change),
    /// There already, and the same.
    Unchanged,
    /// There already, different at these paths, and left alone.
    Differs(Vec<String>),
    /// Left out by the rule of this id.
    Skipped(&'static str),
    /// Not restored, for this reason.
    Failed(String),
}

/// How an object that existed was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// By server-side apply.
    Applied,
    /// As a whole.
    Replaced,
    /// Deleted and made anew.
    Recreated,
    /// A service account got what it lacked.
    Completed,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Applied => "updated",
            Self::Replaced => "replaced",
            Self::Recreated => "recreated",
            Self::Completed => "completed",
        }
    }
}

impl Outcome {
    /// Velero's word in the resource list.
    fn velero_word(&self) -> &'static str {
        match self {
            Self::Created | Self::Made => "created",
            Self::Updated(_) => "updated",
            Self::Failed(_) => "failed",
            Self::Unchanged | Self::Differs(_) | Self::Skipped(_) => "skipped",
        }
    }
}

/// Most differences, failures and warnings that a summary lists, and most messages in Velero's results file.
const DIFFERENCES: usize = 200;
const FAILURES: usize = 1000;
const WARNINGS: usize = 1000;
const MESSAGES: u64 = 2000;

/// Most characters of one message: some servers quote whole objects.
const MESSAGE: usize = 2000;

/// Most paths of a difference.
const PATHS: usize = 20;

/// Collects outcomes.
#[derive(Debug)]
pub(super) struct Report {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    kinds: BTreeMap<String, KindResult>,
    results: Results,
    differs: Vec<Difference>,
    failures: Vec<Failure>,
    warnings: Vec<String>,
    error_count: u64,
    warning_count: u64,
    names: SortedSpool,
    /// Until it is finished.
    log: Option<GzEncoder<BufWriter<File>>>,
    /// The first fault of a temporary file.
    fault: Option<io::Error>,
}

/// Everything that was collected.
pub(super) struct Collected {
    pub(super) kinds: BTreeMap<String, KindResult>,
    pub(super) errors: u64,
    pub(super) warning_count: u64,
    pub(super) differs: Vec<Difference>,
    pub(super) failures: Vec<Failure>,
    pub(super) warnings: Vec<String>,
    /// `results.gz`.
    pub(super) results: Vec<u8>,
    /// `resource-list.json.gz`, at its beginning.
    pub(super) names: File,
    /// `logs.gz`, at its beginning.
    pub(super) log: File,
}

impl Report {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            inner: Mutex::new(Inner {
                kinds: BTreeMap::new(),
                results: Results::default(),
                differs: Vec::new(),
                failures: Vec::new(),
                warnings: Vec::new(),
                error_count: 0,
                warning_count: 0,
                names: SortedSpool::new(),
                log: Some(GzEncoder::new(
                    BufWriter::new(tempfile::tempfile()?),
                    Compression::fast(),
                )),
                fault: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what became of an object.
    pub(super) fn record(&self, subject: &Subject, outcome: Outcome) {
        self.lock().record(subject, outcome);
    }

    /// Counts objects that a rule leaves out as a whole kind.
    pub(super) fn skip_kind(&self, resource_group: &str, rule: &'static str, count: u64) {
        let mut inner = self.lock();
        *inner
            .kind(resource_group)
            .skipped
            .entry(rule.to_owned())
            .or_default() += count;
        inner.line("info", &format!("left out {count} {resource_group}: {rule}"));
    }

    /// Notes that something about an object went wrong although the object itself is there.
    pub(super) fn error(&self, object: &str, namespace: Option<&str>, reason: &str) {
        self.lock().error(object, namespace, reason);
    }

    /// Notes objects of a kind that cannot be told apart any more.
    pub(super) fn lose(&self, resource_group: &str, count: u64, reason: &str) {
        let mut inner = self.lock();
        inner.kind(resource_group).failed += count;
        inner.error(&format!("{count} {resource_group}"), None, reason);
    }

    /// Notes something that a person should know about an object of a namespace, or about a cluster-scoped one.
    pub(super) fn warn(&self, namespace: Option<&str>, message: &str) {
        self.lock().warn(namespace, message);
    }

    /// Leaves a line in the log alone.
    pub(super) fn log(&self, message: &str) {
        self.lock().line("info", message);
    }

    /// Objects of a kind so far.
    pub(super) fn count(&self, resource_group: &str) -> u64 {
        self.lock().kinds.get(resource_group).map_or(0, KindResult::total)
    }

    /// Ends the files and gives everything out. What is noted afterwards is lost.
    pub(super) fn finish(&self) -> io::Result<Collected> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(fault) = inner.fault.take() {
            return Err(fault);
        }
        let shown = inner.results.errors.len() + inner.results.warnings.len();
        let left_out = (inner.error_count + inner.warning_count).saturating_sub(shown as u64);
        if left_out > 0 {
            let line = format!("{left_out} more messages stand in the log only");
            inner.results.warnings.velero.push(line);
        }
        let mut results = GzEncoder::new(Vec::new(), Compression::default());
        serde_json::to_writer(&mut results, &inner.results)?;
        let log = inner.log.take().ok_or(io::ErrorKind::BrokenPipe)?.finish()?;
        let mut log = log.into_inner().map_err(io::IntoInnerError::into_error)?;
        log.seek(SeekFrom::Start(0))?;
        Ok(Collected {
            kinds: mem::take(&mut inner.kinds),
            errors: inner.error_count,
            warning_count: inner.warning_count,
            differs: mem::take(&mut inner.differs),
            failures: mem::take(&mut inner.failures),
            warnings: mem::take(&mut inner.warnings),
            results: results.finish()?,
            names: write_names(mem::take(&mut inner.names))?,
            log,
        })
    }
}

impl Inner {
    fn kind(&mut self, resource_group: &str) -> &mut KindResult {
        self.kinds.entry(resource_group.to_owned()).or_default()
    }

    fn record(&mut self, subject: &Subject, outcome: Outcome) {
        let text = subject.text();
        let namespace = subject.namespace.as_deref();
        if let Err(error) = self.names.push(&list_entry(subject, outcome.velero_word())) {
            self.fault.get_or_insert(error);
        }
        let kind = self.kind(&subject.resource_group);
        match outcome {
            Outcome::Created | Outcome::Made => {
                kind.created += 1;
                self.line("info", &format!("created {text}"));
            }
            Outcome::Updated(change) => {
                kind.updated += 1;
                self.line("info", &format!("{} {text}", change.word()));
            }
            Outcome::Unchanged => {
                kind.unchanged += 1;
                self.line("info", &format!("unchanged {text}"));
            }
            Outcome::Skipped(rule) => {
                *kind.skipped.entry(rule.to_owned()).or_default() += 1;
                self.line("info", &format!("left out {text}: {rule}"));
            }
            Outcome::Differs(paths) => {
                kind.differs += 1;
                let shown = shown_paths(&paths);
                self.warn_with(
                    namespace,
                    &format!("{text} exists and differs, left alone: {shown}"),
                    false,
                );
                if self.differs.len() < DIFFERENCES {
                    self.differs.push(Difference { object: text, paths });
                }
            }
            Outcome::Failed(reason) => {
                kind.failed += 1;
                self.error(&text, namespace, &reason);
            }
        }
    }

    fn error(&mut self, object: &str, namespace: Option<&str>, reason: &str) {
        let reason = shortened(reason);
        let message = format!("{object}: {reason}");
        self.line("error", &message);
        self.error_count += 1;
        if self.error_count <= MESSAGES {
            self.results.errors.push(namespace, message);
        }
        if self.failures.len() < FAILURES {
            let object = object.to_owned();
            self.failures.push(Failure { object, reason });
        }
    }

    fn warn(&mut self, namespace: Option<&str>, message: &str) {
        self.warn_with(namespace, message, true);
    }

    fn warn_with(&mut self, namespace: Option<&str>, message: &str, in_summary: bool) {
        let message = shortened(message);
        self.line("warning", &message);
        self.warning_count += 1;
        if in_summary && self.warnings.len() < WARNINGS {
            self.warnings.push(message.clone());
        }
        if self.warning_count <= MESSAGES {
            self.results.warnings.push(namespace, message);
        }
    }

    fn line(&mut self, level: &str, message: &str) {
        let time = time::format(clock::now());
        if let Some(log) = &mut self.log
            && let Err(error) = writeln!(log, "{time} {level} {message}")
        {
            self.fault.get_or_insert(error);
        }
    }
}

/// An entry that sorts by Velero's key for the kind, with what was done behind the name.
fn list_entry(subject: &Subject, word: &str) -> Entry {
    Entry {
        resource_group: subject.kind.list_key(),
        namespace: subject.namespace.clone(),
        name: format!("{}({word})", subject.name),
        member: 0,
        member_length: 0,
        offset: 0,
        size: 0,
        uid: String::new(),
        owners: Vec::new(),
        labels: BTreeMap::new(),
    }
}

fn write_names(names: SortedSpool) -> io::Result<File> {
    let out = GzEncoder::new(BufWriter::new(tempfile::tempfile()?), Compression::default());
    let mut writer = resource_list::Writer::new(out)?;
    for entry in names.finish()? {
        let entry = entry?;
        writer.push(&entry.resource_group, entry.namespace.as_deref(), &entry.name)?;
    }
    let out = writer.finish()?.finish()?;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn shown_paths(paths: &[String]) -> String {
    let mut text = paths.iter().take(PATHS).cloned().collect::<Vec<_>>().join(", ");
    if paths.len() > PATHS {
        // Writing to a string cannot fail.
        let _ = write!(text, " and {} more", paths.len() - PATHS);
    }
    text
}

/// One line of bounded length.
fn shortened(message: &str) -> String {
    let mut line: String = message
        .chars()
        .take(MESSAGE)
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    if message.chars().nth(MESSAGE).is_some() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    fn subject(name: &str, namespace: Option<&str>) -> Subject {
        let kind = ApiKind {
            group: "apps".into(),
            version: "v1".into(),
            plural: "deployments".into(),
            kind: "Deployment".into(),
            namespaced: namespace.is_some(),
        };
        Subject {
            resource_group: kind.resource_group(),
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.into(),
        }
    }

    fn inflated(bytes: impl Read) -> String {
        let mut text = String::new();
        MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn every_outcome_is_counted_listed_and_logged() {
        let report = Report::new().unwrap();
        let outcomes = [
            ("f", Outcome::Failed("no\nquota".into())),
            ("e", Outcome::Skipped("finished")),
            ("d", Outcome::Differs(vec!["spec.replicas".into()])),
            ("c", Outcome::Unchanged),
            ("b", Outcome::Updated(Change::Replaced)),
            ("a", Outcome::Created),
        ];
        for (name, outcome) in outcomes {
            report.record(&subject(name, Some("shop")), outcome);
        }
        report.warn(None, "claims: manifests only, no data");
        assert_eq!(report.count("deployments.apps"), 6);
        let collected = report.finish().unwrap();
        let kind = &collected.kinds["deployments.apps"];
        assert_eq!(
            (
                kind.created,
                kind.updated,
                kind.unchanged,
                kind.differs,
                kind.skipped_count(),
                kind.failed
            ),
            (1, 1, 1, 1, 1, 1)
        );
        assert_eq!((collected.errors, collected.warning_count), (1, 2));
        assert_eq!(collected.warnings, ["claims: manifests only, no data"]);
        assert_eq!(
            collected.failures,
            [Failure {
                object: "deployments.apps shop/f".into(),
                reason: "no quota".into()
            }]
        );
        assert_eq!(collected.differs[0].paths, ["spec.replicas"]);
        let names: resource_list::ResourceList = serde_json::from_str(&inflated(collected.names)).unwrap();
        assert_eq!(
            names["apps/v1/Deployment"],
            [
                "shop/a(created)",
                "shop/b(updated)",
                "shop/c(skipped)",
                "shop/d(skipped)",
                "shop/e(skipped)",
                "shop/f(failed)"
            ]
        );
        let results: Results = serde_json::from_str(&inflated(&collected.results[..])).unwrap();
        assert_eq!(results.errors.namespaces["shop"].len(), 1);
        assert_eq!(results.warnings.len(), 2);
        let log = inflated(collected.log);
        assert_eq!(log.lines().count(), 7, "{log}");
        assert!(log.contains("error deployments.apps shop/f: no quota"), "{log}");
        assert!(log.contains("info replaced deployments.apps shop/b"), "{log}");
    }

    #[test]
    fn lists_are_bounded_and_say_so() {
        let report = Report::new().unwrap();
        for number in 0..MESSAGES + 10 {
            report.record(
                &subject(&number.to_string(), None),
                Outcome::Failed("x".repeat(3000)),
            );
        }
        let collected = report.finish().unwrap();
        assert_eq!(collected.errors, MESSAGES + 10);
        assert_eq!(collected.failures.len(), FAILURES);
        assert_eq!(collected.failures[0].reason.len(), MESSAGE + 3);
        let results: Results = serde_json::from_str(&inflated(&collected.results[..])).unwrap();
        assert_eq!(results.errors.len() as u64, MESSAGES);
        assert_eq!(
            results.warnings.velero,
            ["10 more messages stand in the log only"]
        );
    }
}
