//! What is done to hostile bytes: one function for each parser that reads what others wrote.
//!
//! In come any bytes; a body panics when a promise is broken and otherwise returns. The fuzz targets in `tests/fuzz` call
//! these, and so does `tests/tests/corpus.rs` on the stable toolchain, over a committed corpus. Each body checks more than
//! that nothing panics: what is read can be written and read again, and limits hold.

#![allow(clippy::panic)]

use backup_engine::location::url;
use backup_plan::glob::Globs;
use backup_plan::restore::modifier::Modifiers;
use backup_plan::selector::{OrSelector, Selector};
use backup_webhook::review::{Answer, Request};
use velero_model::archive::{self, ArchiveError, ItemPath, Limits};
use velero_model::backup::Backup;
use velero_model::digests::Digests;
use velero_model::duration::GoDuration;
use velero_model::index::{self, Directory, FOOTER, Writer};
use velero_model::name::BackupName;

/// A target: its name, which is its folder in the corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 13] = [
    ("archive_walk", archive_walk),
    ("item_path", item_path),
    ("index_block", index_block),
    ("index_directory", index_directory),
    ("index_footer", index_footer),
    ("backup_json", backup_json),
    ("digests", digests),
    ("selector", selector),
    ("glob", glob),
    ("duration", duration),
    ("location_url", location_url),
    ("review", review),
    ("modifiers", modifiers),
];

/// A tarball: no object beyond the limits, no path that leaves its folder, the count is true.
pub fn archive_walk(bytes: &[u8]) {
    const LIMITS: Limits = Limits {
        total: 1 << 20,
        object: 1 << 16,
    };
    for with_versions in [false, true] {
        let mut seen = 0;
        let walked = archive::walk(
            bytes,
            LIMITS,
            with_versions,
            |path, object| -> Result<bool, ArchiveError> {
                seen += 1;
                assert!(object.len() as u64 <= LIMITS.object, "an object beyond the limit");
                let parts = [
                    Some(&path.resource_group),
                    path.version_folder.as_ref(),
                    path.namespace.as_ref(),
                    Some(&path.name),
                ];
                for part in parts.into_iter().flatten() {
                    assert!(
                        !part.is_empty() && !part.contains(['/', '\\', '\0']) && part != "..",
                        "{path:?}"
                    );
                }
                Ok(true)
            },
        );
        if let Ok(count) = walked {
            assert_eq!(count, seen, "the count is not what was visited");
        }
    }
}

/// A path in a tarball: what is understood has one way to be written.
pub fn item_path(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(Some(item)) = ItemPath::parse(text)
        && item.version_folder.is_none()
    {
        assert_eq!(
            ItemPath::format(&item.resource_group, item.namespace.as_deref(), &item.name),
            text
        );
    }
}

/// A block of an index: entries ascend, and a block written from them holds the same.
pub fn index_block(bytes: &[u8]) {
    let Ok(entries) = index::parse_block(bytes) else {
        return;
    };
    assert!(
        entries.is_sorted_by(|left, right| left.key() < right.key()),
        "entries do not ascend"
    );
    let mut writer = Writer::new(Vec::new(), Vec::new());
    for entry in &entries {
        assert!(writer.push(entry).is_ok(), "what was read cannot be written");
    }
    let Ok((written, directory)) = writer.finish() else {
        panic!("writing to memory failed")
    };
    let mut again = Vec::new();
    for block in &directory.blocks {
        let range = usize::try_from(block.offset).unwrap_or(usize::MAX)..;
        let member = written
            .get(range)
            .and_then(|rest| rest.get(..usize::try_from(block.length).ok()?));
        match member.map(index::parse_block) {
            Some(Ok(entries)) => again.extend(entries),
            other => panic!("a block just written cannot be read: {other:?}"),
        }
    }
    assert_eq!(again, entries);
}

/// The directory of an index: any question about it is answered.
pub fn index_directory(bytes: &[u8]) {
    let Ok(directory) = Directory::parse(bytes) else {
        return;
    };
    for block in directory.blocks.iter().take(100) {
        let [resource_group, namespace, name] = &block.first;
        let _ = directory.block_of((resource_group, namespace, name));
        let _ = directory.blocks_of(resource_group).count();
        let _ = directory.kind(resource_group);
    }
}

/// The last bytes of an index.
pub fn index_footer(bytes: &[u8]) {
    let end = bytes
        .get(bytes.len().saturating_sub(FOOTER)..)
        .unwrap_or_default();
    if index::parse_footer(end).is_ok() {
        assert_eq!(end.len(), FOOTER, "a footer of another length was believed");
    }
}

/// `velero-backup.json`: what is read is written back without a loss.
pub fn backup_json(bytes: &[u8]) {
    let Ok(name) = BackupName::parse("nightly") else {
        panic!("nightly is a name")
    };
    let Ok(backup) = Backup::parse(bytes, &name, "backups/nightly/velero-backup.json") else {
        return;
    };
    let Ok(written) = backup.to_bytes() else {
        panic!("what was read cannot be written")
    };
    match Backup::parse(&written, &name, "backups/nightly/velero-backup.json") {
        // Times lose what is below a second, which Kubernetes does not keep either.
        Ok(again) => assert_eq!(again.to_bytes().ok().as_ref(), Some(&written)),
        Err(error) => panic!("what was written cannot be read: {error}"),
    }
}

/// A digests file: only the bytes that were sealed are believed.
pub fn digests(bytes: &[u8]) {
    let Ok(document) = Digests::parse(bytes) else {
        return;
    };
    assert_eq!(
        document.seal().ok().as_deref(),
        Some(bytes),
        "bytes that were not sealed are believed"
    );
}

/// Label selectors: their printed form means the same.
pub fn selector(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(selector) = Selector::parse(text) {
        let printed = selector.to_string();
        match Selector::parse(&printed) {
            Ok(again) => assert_eq!(again, selector, "{printed}"),
            Err(error) => panic!("{printed:?} cannot be read again: {error}"),
        }
        let _ = selector.matches(&|_| Some("value"));
    }
    if let Ok(selector) = OrSelector::parse(text) {
        let _ = selector.matches(&|_| None);
    }
}

/// Globs: the first line is the pattern, the others are names.
pub fn glob(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let Some(pattern) = lines.next() else { return };
    let Ok(globs) = Globs::parse(&[pattern]) else {
        return;
    };
    assert_eq!(globs.len(), 1);
    for name in lines.take(20) {
        let matches = globs.matches(name);
        assert!(
            matches || !globs.has_everything(),
            "{pattern} stands for everything but not for {name}"
        );
    }
}

/// Durations in Go's form: printing and reading is a round trip.
pub fn duration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(duration) = GoDuration::parse(text) {
        assert_eq!(GoDuration::parse(&duration.to_string()).ok(), Some(duration));
    }
}

/// Locations: the printed form names the same place.
pub fn location_url(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(location) = url::parse(text) else { return };
    let printed = url::print(&location);
    match url::parse(&printed) {
        Ok(again) => assert_eq!(url::print(&again), printed, "{text:?}"),
        Err(error) => panic!("{printed:?}, printed from {text:?}, cannot be read: {error}"),
    }
}

/// An AdmissionReview: what is taken has a UID, the answer carries it and is JSON, objects are JSON as they came.
pub fn review(bytes: &[u8]) {
    let Ok(request) = Request::parse(bytes) else {
        return;
    };
    assert!(!request.uid.is_empty(), "a request without a UID was taken");
    for object in [&request.object, &request.old_object].into_iter().flatten() {
        assert!(
            bytes
                .windows(object.get().len())
                .any(|window| window == object.get().as_bytes()),
            "an object is not as it came"
        );
    }
    for answer in [Answer::allow().warned(&request.name), Answer::deny(&request.name)] {
        let rendered: serde_json::Value = match serde_json::from_slice(&answer.render(&request.uid)) {
            Ok(rendered) => rendered,
            Err(error) => panic!("an answer is not JSON: {error}"),
        };
        assert_eq!(rendered["response"]["uid"], request.uid.as_str());
        assert_eq!(rendered["response"]["allowed"], answer.is_allowed());
    }
}

/// Resource modifiers: what is read once is read again, a rule that was applied exists, an object keeps a kind, and one
/// whose rules have a fault does not lose it.
pub fn modifiers(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(modifiers) = Modifiers::parse(text) else {
        return;
    };
    assert!(modifiers.len() > 0, "modifiers without a rule");
    assert!(
        Modifiers::parse(modifiers.source()).is_ok_and(|again| again.len() == modifiers.len()),
        "what was read cannot be read again"
    );
    let objects = [
        (
            "deployments.apps",
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop","labels":{"app":"web"}},
                "spec":{"replicas":2,"template":{"spec":{"containers":[{"name":"web","image":"web:1","env":[{"name":"A","value":"1"}]}]}}}}"#,
        ),
        (
            "configmaps",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"web","namespace":"shop"},"data":{"mode":"live"}}"#,
        ),
    ];
    for (resource_group, json) in objects {
        let Ok(mut object) = serde_json::from_str::<serde_json::Map<_, _>>(json) else {
            panic!("the fixed objects are JSON")
        };
        let modified = modifiers.apply(resource_group, &mut object);
        assert!(
            modified
                .applied
                .iter()
                .all(|rule| (1..=modifiers.len()).contains(rule)),
            "a rule that is not there was applied"
        );
        assert!(modified.problems.len() <= modified.applied.len());
        assert!(
            object
                .get("kind")
                .and_then(serde_json::Value::as_str)
                .is_some_and(|kind| !kind.is_empty()),
            "an object without a kind is left"
        );
    }
}
