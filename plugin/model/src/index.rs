//! Our index: from an object's name to its place in the archive, however large the backup.
//!
//! A file of gzip members: blocks of at most 64 KiB with one JSON line an object, sorted by resource, namespace and name;
//! then the directory of blocks; then an empty member of fixed length whose header says where the directory lies. A
//! reader fetches the footer and directory with one range request, a block with another, the object's archive member
//! with a third. The whole file is a legal `.gz`: `zcat` shows the lines and the directory.

mod lines;

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use flate2::{Compression, GzBuilder, bufread::MultiGzDecoder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::lines::Lines;
use crate::{
    item::{Head, HeadMetadata},
    member::Place,
    resource::ApiKind,
};

/// Version of the format.
const VERSION: u32 = 1;

/// Most bytes of lines in a block, unless one line alone is longer.
const BLOCK: usize = 64 << 10;

/// Level of compression: half of a line are random digits of UIDs, which no level makes shorter; the highest saves 1 %
/// and takes half as long again.
const LEVEL: u32 = 3;

/// Most bytes that a block or directory may inflate to.
const INFLATED_MAX: u64 = 256 << 20;

/// Length of the footer: gzip header, extra field, an empty deflate stream, checksum and length.
pub const FOOTER: usize = 10 + 2 + EXTRA + 2 + 8;

/// Extra field: two bytes of id, two of length, two numbers of eight bytes and one of four.
const EXTRA: usize = 4 + 20;

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `deployments.apps`.
    #[serde(rename = "r")]
    pub resource_group: String,
    /// Namespace.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    #[serde(rename = "n")]
    pub name: String,
    /// First byte of the gzip member in the archive.
    #[serde(rename = "m")]
    pub member: u64,
    /// Compressed bytes of the member.
    #[serde(rename = "c")]
    pub member_length: u64,
    /// First byte of the JSON in the inflated member.
    #[serde(rename = "o")]
    pub offset: u64,
    /// Bytes of JSON.
    #[serde(rename = "b")]
    pub size: u64,
    /// UID.
    #[serde(rename = "u", default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// UIDs of the owners.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<String>,
    /// Labels.
    #[serde(rename = "l", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What an index is sorted by.
pub type Key<'a> = (&'a str, &'a str, &'a str);

impl Entry {
    /// Resource, namespace (empty for cluster-scoped), name.
    pub fn key(&self) -> Key<'_> {
        (
            &self.resource_group,
            self.namespace.as_deref().unwrap_or_default(),
            &self.name,
        )
    }

    /// The head of the object as far as the index knows it.
    pub fn head(&self) -> Head<'_> {
        let labels = (!self.labels.is_empty()).then(|| {
            let pairs = self.labels.iter();
            pairs
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect()
        });
        Head {
            metadata: HeadMetadata {
                name: self.name.as_str().into(),
                namespace: self.namespace.as_deref().map(Into::into),
                uid: self.uid.as_str().into(),
                labels,
                ..HeadMetadata::default()
            },
            ..Head::default()
        }
    }

    /// Where the JSON lies in the inflated member.
    pub fn place(&self) -> Place {
        Place {
            offset: self.offset,
            size: self.size,
        }
    }
}

/// The directory at the end of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// Version of the format, 1.
    pub version: u32,
    /// Objects in the backup.
    pub objects: u64,
    /// Kinds in the backup with the number of objects of each, sorted by resource.
    pub kinds: Vec<KindCount>,
    /// Blocks in order.
    pub blocks: Vec<Block>,
}

/// A kind and how many objects of it there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCount {
    /// The kind.
    #[serde(flatten)]
    pub kind: ApiKind,
    /// Objects.
    pub count: u64,
}

/// Place and range of one block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Key of its first object: resource, namespace, name.
    pub first: [String; 3],
    /// Key of its last object.
    pub last: [String; 3],
    /// First byte in the index file.
    pub offset: u64,
    /// Compressed bytes.
    pub length: u64,
}

impl Block {
    fn first_key(&self) -> Key<'_> {
        (&self.first[0], &self.first[1], &self.first[2])
    }

    fn last_key(&self) -> Key<'_> {
        (&self.last[0], &self.last[1], &self.last[2])
    }
}

/// Why an index cannot be used.
#[derive(Debug, Error)]
pub enum IndexError {
    /// Gzip or JSON damage.
    #[error("the index is damaged: {0}")]
    Damaged(String),
    /// A later format.
    #[error("the index has format version {0}, this tool knows {VERSION}; use a newer kubectl-backup")]
    Version(u32),
    /// Entries that do not ascend: the writer's input was wrong, or the file was tampered with.
    #[error("the index is out of order at `{0}`")]
    Order(String),
    /// Writing failed.
    #[error("the index cannot be written")]
    Write(#[from] io::Error),
}

/// Writes an index from entries in ascending order.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    written: u64,
    lines: Vec<u8>,
    first: Option<[String; 3]>,
    last: Option<[String; 3]>,
    directory: Directory,
    /// Resource words of the directory's kinds, and the one that the last entry had.
    resource_groups: Vec<String>,
    current: usize,
}

impl<W: Write> Writer<W> {
    /// Begins an index. `kinds` are those of the backup; counts are filled in as entries come.
    pub fn new(out: W, mut kinds: Vec<ApiKind>) -> Self {
        kinds.sort_by_key(ApiKind::resource_group);
        let resource_groups = kinds.iter().map(ApiKind::resource_group).collect();
        let kinds = kinds
            .into_iter()
            .map(|kind| KindCount { kind, count: 0 })
            .collect();
        let directory = Directory {
            version: VERSION,
            kinds,
            ..Directory::default()
        };
        Self {
            out,
            written: 0,
            lines: Vec::with_capacity(BLOCK),
            first: None,
            last: None,
            directory,
            resource_groups,
            current: 0,
        }
    }

    /// Adds the next object.
    ///
    /// # Errors
    /// [`IndexError::Order`] when it does not come after the one before.
    pub fn push(&mut self, entry: &Entry) -> Result<(), IndexError> {
        let line = serde_json::to_vec(entry).map_err(|error| IndexError::Damaged(error.to_string()))?;
        self.push_line(entry.key(), &line)
    }

    /// Adds the next object as a line that was written already, without its end of line.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn push_line(&mut self, key: Key<'_>, line: &[u8]) -> Result<(), IndexError> {
        let (resource_group, namespace, name) = key;
        if let Some([last_group, last_namespace, last_name]) = &self.last
            && (last_group.as_str(), last_namespace.as_str(), last_name.as_str()) >= key
        {
            return Err(IndexError::Order(format!("{resource_group}/{namespace}/{name}")));
        }
        if !self.lines.is_empty() && self.lines.len() + line.len() + 1 > BLOCK {
            self.flush()?;
        }
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        let parts = [resource_group, namespace, name];
        self.first.get_or_insert_with(|| parts.map(str::to_owned));
        for (last, part) in self.last.get_or_insert_default().iter_mut().zip(parts) {
            part.clone_into(last);
        }
        self.directory.objects += 1;
        while self
            .resource_groups
            .get(self.current)
            .is_some_and(|word| word.as_str() < resource_group)
        {
            self.current += 1;
        }
        if self
            .resource_groups
            .get(self.current)
            .is_some_and(|word| word == resource_group)
            && let Some(kind) = self.directory.kinds.get_mut(self.current)
        {
            kind.count += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        let (Some(first), Some(last)) = (self.first.take(), self.last.clone()) else {
            return Ok(());
        };
        let member = gzip(&self.lines, None)?;
        self.out.write_all(&member)?;
        self.directory.blocks.push(Block {
            first,
            last,
            offset: self.written,
            length: member.len() as u64,
        });
        self.written += member.len() as u64;
        self.lines.clear();
        Ok(())
    }

    /// Writes the last block, the directory and the footer; gives the directory back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> Result<(W, Directory), IndexError> {
        self.flush()?;
        self.directory.kinds.retain(|kind| kind.count > 0);
        let directory =
            serde_json::to_vec(&self.directory).map_err(|error| IndexError::Damaged(error.to_string()))?;
        let member = gzip(&directory, None)?;
        self.out.write_all(&member)?;
        let mut extra = Vec::with_capacity(EXTRA);
        extra.extend_from_slice(b"KB");
        extra.extend_from_slice(&20u16.to_le_bytes());
        extra.extend_from_slice(&self.written.to_le_bytes());
        extra.extend_from_slice(&(member.len() as u64).to_le_bytes());
        extra.extend_from_slice(&VERSION.to_le_bytes());
        self.out.write_all(&gzip(&[], Some(extra))?)?;
        self.out.flush()?;
        Ok((self.out, self.directory))
    }
}

fn gzip(data: &[u8], extra: Option<Vec<u8>>) -> io::Result<Vec<u8>> {
    let mut builder = GzBuilder::new();
    if let Some(extra) = extra {
        builder = builder.extra(extra);
    }
    let mut encoder = builder.write(Vec::new(), Compression::new(LEVEL));
    encoder.write_all(data)?;
    encoder.finish()
}

/// Where the directory lies, read from the last [`FOOTER`] bytes of an index: offset and length.
///
/// # Errors
/// [`IndexError`] when the bytes are no footer, or of a later version.
pub fn parse_footer(footer: &[u8]) -> Result<(u64, u64), IndexError> {
    let damaged = || IndexError::Damaged("its last bytes are no footer; the file may be cut".into());
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        Some(u64::from_le_bytes(footer.get(range)?.try_into().ok()?))
    };
    if footer.len() != FOOTER
        || footer.get(..4) != Some(&[0x1f, 0x8b, 8, 4])
        || footer.get(12..14) != Some(b"KB")
    {
        return Err(damaged());
    }
    let (offset, length) = number(16..24).zip(number(24..32)).ok_or_else(damaged)?;
    let version = footer
        .get(32..36)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes);
    match version {
        Some(VERSION) => Ok((offset, length)),
        Some(other) => Err(IndexError::Version(other)),
        None => Err(damaged()),
    }
}

impl Directory {
    /// Reads the directory's gzip member.
    ///
    /// # Errors
    /// [`IndexError`] on damage or a later version.
    pub fn parse(member: &[u8]) -> Result<Self, IndexError> {
        let json = inflate(member)?;
        let directory: Self = serde_json::from_slice(&json)
            .map_err(|error| IndexError::Damaged(format!("its directory: {error}")))?;
        if directory.version == VERSION {
            Ok(directory)
        } else {
            Err(IndexError::Version(directory.version))
        }
    }

    /// The kind that a resource word of the index stands for.
    pub fn kind(&self, resource_group: &str) -> Option<&ApiKind> {
        self.kinds
            .iter()
            .map(|count| &count.kind)
            .find(|kind| kind.resource_group() == resource_group)
    }

    /// The block that holds a key, if any can.
    pub fn block_of(&self, key: Key<'_>) -> Option<&Block> {
        let position = self.blocks.partition_point(|block| block.last_key() < key);
        self.blocks.get(position).filter(|block| block.first_key() <= key)
    }

    /// All blocks that may hold objects of a resource.
    pub fn blocks_of<'a>(&'a self, resource_group: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| {
            block.first[0].as_str() <= resource_group && resource_group <= block.last[0].as_str()
        })
    }
}

/// Reads the entries of one block.
///
/// # Errors
/// [`IndexError`] on damage, or when entries do not ascend.
pub fn parse_block(member: &[u8]) -> Result<Vec<Entry>, IndexError> {
    let lines = inflate(member)?;
    let entries: Vec<Entry> = serde_json::Deserializer::from_slice(&lines)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| IndexError::Damaged(format!("a block: {error}")))?;
    for pair in entries.windows(2) {
        if let [before, after] = pair
            && before.key() >= after.key()
        {
            return Err(IndexError::Order(format!(
                "{}/{}",
                after.resource_group, after.name
            )));
        }
    }
    Ok(entries)
}

fn inflate(member: &[u8]) -> Result<Vec<u8>, IndexError> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(member)
        .take(INFLATED_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| IndexError::Damaged(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(plural: &str) -> ApiKind {
        ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: plural.into(),
            kind: plural.to_uppercase(),
            namespaced: true,
        }
    }

    fn entry(resource_group: &str, namespace: &str, name: &str, member: u64) -> Entry {
        Entry {
            resource_group: resource_group.into(),
            namespace: (!namespace.is_empty()).then(|| namespace.into()),
            name: name.into(),
            member,
            member_length: 1000,
            offset: 512,
            size: 700,
            uid: "0b9f9a40".into(),
            owners: vec![],
            labels: [("app".to_owned(), name.to_owned())].into(),
        }
    }

    fn write(entries: &[Entry]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), vec![kind("secrets"), kind("pods")]);
        for entry in entries {
            writer.push(entry).unwrap();
        }
        writer.finish().unwrap().0
    }

    fn cut(index: &[u8], offset: u64, length: u64) -> &[u8] {
        &index[usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap()]
    }

    fn directory(index: &[u8]) -> Directory {
        let (offset, length) = parse_footer(&index[index.len() - FOOTER..]).unwrap();
        assert_eq!(usize::try_from(offset + length).unwrap() + FOOTER, index.len());
        Directory::parse(cut(index, offset, length)).unwrap()
    }

    #[test]
    fn every_object_is_found_through_its_block() {
        let entries: Vec<Entry> = (0..5000)
            .map(|n| {
                entry(
                    if n < 2500 { "pods" } else { "secrets" },
                    "shop",
                    &format!("x{n:05}"),
                    n,
                )
            })
            .collect();
        let index = write(&entries);
        let directory = directory(&index);
        assert_eq!(directory.objects, 5000);
        assert_eq!(
            directory.kinds.iter().map(|k| k.count).collect::<Vec<_>>(),
            [2500, 2500]
        );
        assert!(directory.blocks.len() > 5);
        for wanted in &entries {
            let block = directory.block_of(wanted.key()).unwrap();
            let found = parse_block(cut(&index, block.offset, block.length)).unwrap();
            assert!(found.contains(wanted));
        }
        assert!(directory.block_of(("pods", "shop", "x")).is_none());
        assert!(directory.block_of(("zebras", "", "x")).is_none());
        let pods: usize = directory.blocks_of("pods").count();
        assert!(pods >= 2 && pods < directory.blocks.len());
    }

    #[test]
    fn unsorted_and_doubled_entries_are_refused() {
        let mut writer = Writer::new(Vec::new(), vec![]);
        writer.push(&entry("pods", "b", "a", 0)).unwrap();
        assert!(writer.push(&entry("pods", "b", "a", 0)).is_err());
        assert!(writer.push(&entry("pods", "a", "z", 0)).is_err());
    }

    #[test]
    fn the_file_is_one_legal_gzip_stream() {
        let index = write(&[entry("pods", "a", "b", 0)]);
        let mut text = String::new();
        MultiGzDecoder::new(index.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        assert!(
            text.starts_with(r#"{"r":"pods","s":"a","n":"b","m":0,"#),
            "{text}"
        );
    }

    #[test]
    fn an_empty_index_is_legal() {
        assert_eq!(directory(&write(&[])).objects, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_footer(&bytes);
            let _ = Directory::parse(&bytes);
            let _ = parse_block(&bytes);
        }
    }
}
