//! Numbers and names by kind, without keeping the names.
//!
//! For each kind a count and the sum of hashes of all names: two lists of the same names in any order give the same
//! tally. It is taken from the archive and compared with the outcome and with Velero's resource list, however long.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::Arc,
};

use flate2::bufread::MultiGzDecoder;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use tokio_util::sync::CancellationToken;
use velero_model::{index::Entry, item::Head};

use super::{
    super::{
        error::CatalogError,
        open::OpenBackup,
        stream::{ChannelReader, chunks, with_reader},
    },
    Findings,
};
use crate::progress::Progress;

/// Objects of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Names {
    count: u64,
    hashes: u64,
}

impl Names {
    fn add(&mut self, name: &str) {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(hasher.finish());
    }
}

/// Objects by the key of Velero's resource list (`apps/v1/Deployment`) and by resource (`deployments.apps`).
#[derive(Debug, Default)]
pub(super) struct Tally {
    by_list_key: BTreeMap<String, Names>,
    by_resource: BTreeMap<String, u64>,
    objects: u64,
}

impl Tally {
    pub(super) fn count(&mut self, entry: &Entry, head: &Head<'_>) {
        let version = head.api_version.as_deref().unwrap_or_default();
        let key = format!("{version}/{}", head.kind.as_deref().unwrap_or_default());
        let name = match &entry.namespace {
            Some(namespace) => format!("{namespace}/{}", entry.name),
            None => entry.name.clone(),
        };
        self.by_list_key.entry(key).or_default().add(&name);
        *self.by_resource.entry(entry.resource_group.clone()).or_default() += 1;
        self.objects += 1;
    }

    pub(super) fn objects(&self) -> u64 {
        self.objects
    }

    /// Objects by resource.
    pub(super) fn by_resource(&self) -> &BTreeMap<String, u64> {
        &self.by_resource
    }
}

/// Compares outcome and resource list with the archive. In a foreign backup a difference is only noted: Velero's list
/// names what was tried, not what was stored.
pub(super) async fn compare(
    open: &OpenBackup,
    archive: &Tally,
    foreign: bool,
    findings: &mut Findings,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<(), CatalogError> {
    let outcome = match open.outcome().await {
        Ok(outcome) => outcome,
        // It was found when its form was checked.
        Err(error) if error.is_damage() => None,
        Err(error) => return Err(error),
    };
    if let Some(outcome) = outcome {
        let stored = outcome.kinds.iter().filter(|kind| kind.stored > 0);
        let stored = stored
            .map(|kind| (kind.kind.resource_group(), kind.stored))
            .collect();
        for (resource, (said, held)) in differences(&stored, archive.by_resource()) {
            findings.damage(
                open.keys().outcome(),
                format!("it says {said} {resource} were stored, the archive holds {held}"),
            );
        }
    }
    let key = open.keys().resource_list();
    if open.file(&key).is_none() {
        return Ok(());
    }
    let (size, chunks) = chunks(open.bucket(), &key).await?;
    let named = key.clone();
    let list = with_reader(size, chunks, progress, cancel, move |reader| {
        read_list(reader, &named)
    })
    .await;
    let Some(list) = findings.catch(&key, list)? else {
        return Ok(());
    };
    for (kind, (said, held)) in differences(&list, &archive.by_list_key) {
        let problem = if said.count == held.count {
            format!(
                "it names other objects of {kind} than the archive holds ({} each)",
                held.count
            )
        } else {
            format!(
                "it names {} objects of {kind}, the archive holds {}",
                said.count, held.count
            )
        };
        if foreign {
            findings.note(&key, problem);
        } else {
            findings.damage(&key, problem);
        }
    }
    Ok(())
}

/// Keys whose values differ, with both values.
pub(super) fn differences<V: Copy + Default + PartialEq>(
    left: &BTreeMap<String, V>,
    right: &BTreeMap<String, V>,
) -> BTreeMap<String, (V, V)> {
    left.keys()
        .chain(right.keys())
        .map(|key| {
            let of = |map: &BTreeMap<String, V>| map.get(key).copied().unwrap_or_default();
            (key.clone(), (of(left), of(right)))
        })
        .filter(|(_, (left, right))| left != right)
        .collect()
}

fn read_list(reader: ChannelReader, key: &str) -> Result<BTreeMap<String, Names>, CatalogError> {
    let damaged = |detail: String| CatalogError::File {
        key: key.to_owned(),
        detail,
    };
    let mut text = io::BufReader::new(MultiGzDecoder::new(reader));
    let mut json = serde_json::Deserializer::from_reader(&mut text);
    let list = json
        .deserialize_option(List)
        .map_err(|error| damaged(error.to_string()))?;
    json.end().map_err(|error| damaged(error.to_string()))?;
    Ok(list)
}

/// Folds the list while it is parsed.
struct List;

impl<'de> Visitor<'de> for List {
    type Value = BTreeMap<String, Names>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lists of names by kind")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut list: Self::Value = BTreeMap::new();
        while let Some(kind) = map.next_key::<String>()? {
            let names = map.next_value_seed(NameList)?;
            if names.count > 0 {
                list.insert(kind, names);
            }
        }
        Ok(list)
    }
}

struct NameList;

impl<'de> DeserializeSeed<'de> for NameList {
    type Value = Names;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Names, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for NameList {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_none<E>(self) -> Result<Names, E> {
        Ok(Names::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Names, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Names, A::Error> {
        let mut names = Names::default();
        while let Some(name) = seq.next_element::<String>()? {
            names.add(&name);
        }
        Ok(names)
    }
}
