//! Lines of an index, written before it is known where their objects will lie.
//!
//! In come the heads of the objects of one archive member while it is filled; out go, once the member's place in the
//! archive is known, the very bytes that [`Entry`](super::Entry) would become, each with its key. No entry is ever made:
//! a backup writes tens of thousands of lines a second beside everything else.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Serialize, Serializer};

use super::Key;
use crate::{
    item::{Head, OwnerReference},
    member::Place,
};

/// Lines of one member, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// Resource, namespace, name, and the line before and behind the member's place, one line after another.
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

/// Lengths of the parts of one line.
#[derive(Debug, Clone, Copy)]
struct Line {
    key: [usize; 3],
    before: usize,
    behind: usize,
}

/// What stands before the member's place. Fields as in [`super::Entry`].
#[derive(Serialize)]
struct Before<'a> {
    r: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'a str>,
    n: &'a str,
}

/// What stands behind it.
#[derive(Serialize)]
struct Behind<'a> {
    o: u64,
    b: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    u: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "uids")]
    w: &'a [OwnerReference<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    l: Option<&'a BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn uids<S: Serializer>(owners: &&[OwnerReference<'_>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(owners.iter().map(|owner| &*owner.uid))
}

impl Lines {
    /// Adds the line of an object that lies at `place` in the member.
    ///
    /// # Errors
    /// Never in practice: strings and numbers can always be written into memory.
    pub fn push(
        &mut self,
        resource_group: &str,
        head: &Head<'_>,
        place: Place,
    ) -> Result<(), serde_json::Error> {
        let metadata = &head.metadata;
        let namespace = metadata.namespace.as_deref();
        let key = [resource_group, namespace.unwrap_or_default(), &metadata.name];
        for part in key {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        let begin = self.bytes.len();
        let before = Before {
            r: resource_group,
            s: namespace,
            n: &metadata.name,
        };
        serde_json::to_writer(&mut self.bytes, &before)?;
        // The object goes on behind the member's place: its closing brace goes, the next opening one becomes a comma.
        self.bytes.pop();
        let middle = self.bytes.len();
        let behind = Behind {
            o: place.offset,
            b: place.size,
            u: &metadata.uid,
            w: metadata.owner_references.as_deref().unwrap_or_default(),
            l: metadata.labels.as_ref().filter(|labels| !labels.is_empty()),
        };
        serde_json::to_writer(&mut self.bytes, &behind)?;
        if let Some(brace) = self.bytes.get_mut(middle) {
            *brace = b',';
        }
        self.lines.push(Line {
            key: key.map(str::len),
            before: middle - begin,
            behind: self.bytes.len() - middle,
        });
        Ok(())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Hands every key and line, without its end of line, to `each`: the member begins at byte `member` of the archive
    /// and has `length` compressed bytes.
    ///
    /// # Errors
    /// What `each` returns.
    pub fn placed<E>(
        &self,
        member: u64,
        length: u64,
        mut each: impl FnMut(Key<'_>, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let place = format!(r#","m":{member},"c":{length}"#);
        let mut rest = self.bytes.as_slice();
        let mut cut = |length: usize| {
            let (part, others) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = others;
            part
        };
        let mut line = Vec::new();
        for lengths in &self.lines {
            // What went in as text comes out as text.
            let [resource_group, namespace, name] = lengths
                .key
                .map(|length| str::from_utf8(cut(length)).unwrap_or_default());
            line.clear();
            line.extend_from_slice(cut(lengths.before));
            line.extend_from_slice(place.as_bytes());
            line.extend_from_slice(cut(lengths.behind));
            each((resource_group, namespace, name), &line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Entry, *};
    use crate::item::HeadMetadata;

    fn owned(text: &str) -> Cow<'_, str> {
        Cow::Borrowed(text)
    }

    fn line_of(entry: &Entry) -> Vec<(String, Vec<u8>)> {
        let owners = entry.owners.iter().map(|uid| OwnerReference {
            uid: owned(uid),
            ..OwnerReference::default()
        });
        let labels = entry.labels.iter().map(|(key, value)| (owned(key), owned(value)));
        let head = Head {
            metadata: HeadMetadata {
                name: owned(&entry.name),
                namespace: entry.namespace.as_deref().map(owned),
                uid: owned(&entry.uid),
                labels: Some(labels.collect()),
                owner_references: Some(owners.collect()),
                ..HeadMetadata::default()
            },
            ..Head::default()
        };
        let mut lines = Lines::default();
        for _ in 0..2 {
            lines.push(&entry.resource_group, &head, entry.place()).unwrap();
        }
        let mut found = Vec::new();
        lines
            .placed(
                entry.member,
                entry.member_length,
                |(group, namespace, name), line| {
                    found.push((format!("{group}|{namespace}|{name}"), line.to_vec()));
                    Ok::<(), ()>(())
                },
            )
            .unwrap();
        found
    }

    proptest! {
        #[test]
        fn a_line_is_what_its_entry_would_be(
            names in ("[a-z.]{1,9}", proptest::option::of("\\PC{0,9}"), "\\PC{1,9}", "[0-9a-f-]{0,9}"),
            numbers in any::<[u64; 4]>(),
            owners in proptest::collection::vec("\\PC{0,5}", 0..3),
            labels in proptest::collection::btree_map("\\PC{0,5}", "\\PC{0,5}", 0..3),
        ) {
            let (resource_group, namespace, name, uid) = names;
            let [member, member_length, offset, size] = numbers;
            let entry = Entry { resource_group, namespace, name, member, member_length, offset, size, uid, owners, labels };
            let (group, namespace, name) = entry.key();
            let expected = (format!("{group}|{namespace}|{name}"), serde_json::to_vec(&entry).unwrap());
            prop_assert_eq!(line_of(&entry), [expected.clone(), expected]);
        }
    }
}
