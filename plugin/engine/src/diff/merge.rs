//! One kind of both sides, merged in the order of the index.
//!
//! In come two sorted lists of entries; out go differences to the recorder, in order. Objects wait in a window until it is
//! full; those of a backup are then read member by member, so that each member is inflated once or twice, however little
//! the order of the archive has to do with that of the index.

use std::fs::File;

use backup_plan::compare::{Drift, drift};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use serde_json::Value;
use velero_model::{index::Entry, resource::ApiKind};

use super::{
    DiffError,
    live::{self, Live, Spooled},
    result::{Change, Recorder},
    wanted::Wanted,
};
use crate::{
    catalog::{CatalogError, EntryFilter, Objects},
    progress::Progress,
};

/// Objects of a window.
const OBJECTS: usize = 512;

/// Bytes of a window, both sides together.
const BYTES: u64 = 4 << 20;

/// Objects that are asked for by name at once.
const GETS: usize = 8;

/// One kind to compare.
pub(super) struct Merge<'a> {
    pub(super) kind: &'a ApiKind,
    pub(super) wanted: &'a Wanted,
    /// The backup, if it holds objects of the kind.
    pub(super) left: Option<&'a Objects>,
    pub(super) right: Right<'a>,
    pub(super) progress: &'a Progress,
}

/// The other side.
pub(super) enum Right<'a> {
    /// It has no objects of the kind.
    Nothing,
    /// Nobody knows.
    Unknown,
    /// Another backup.
    Backup(&'a Objects),
    /// The cluster.
    Cluster {
        live: &'a Live,
        /// The kind as it serves it.
        served: &'a ApiKind,
        listed: Spooled,
    },
}

type Entries = BoxStream<'static, Result<Entry, DiffError>>;

/// An object on its way to being compared.
enum Step {
    Both(Entry, Entry),
    Left(Entry),
    Right(Entry),
}

/// What is known of a side of an object.
type Side = Result<Bytes, String>;

/// What was found about an object.
enum Found {
    /// Its two states.
    Both(Side, Side),
    Left,
    Right,
    Unknown(Option<String>),
}

impl Merge<'_> {
    pub(super) async fn run(mut self, recorder: &mut Recorder) -> Result<(), DiffError> {
        let mut lefts = self.left.map_or_else(nothing, |left| self.stored(left));
        let (mut rights, spooled) = self.rights()?;
        let (mut left, mut right) = (lefts.try_next().await?, rights.try_next().await?);
        let (mut window, mut bytes) = (Vec::new(), 0);
        loop {
            let order = match (&left, &right) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(left), Some(right)) => left.key().cmp(&right.key()),
            };
            let of_left = if order.is_le() { left.take() } else { None };
            let of_right = if order.is_ge() { right.take() } else { None };
            if of_left.is_some() {
                left = lefts.try_next().await?;
            }
            if let Some(taken) = &of_right {
                right = next_after(&mut rights, taken).await?;
            }
            if let Some(step) = self.step(of_left, of_right) {
                bytes += step.size();
                window.push(step);
            }
            if window.len() >= OBJECTS || bytes >= BYTES {
                self.compare(std::mem::take(&mut window), spooled.as_ref(), recorder)
                    .await?;
                bytes = 0;
            }
        }
        self.compare(window, spooled.as_ref(), recorder).await
    }

    fn stored(&self, objects: &Objects) -> Entries {
        let names = self.wanted.names(self.kind);
        let name = match names.as_slice() {
            [one] => Some((*one).to_owned()),
            _ => None,
        };
        let filter = EntryFilter {
            resource_groups: Some(vec![self.kind.resource_group()]),
            name,
            ..EntryFilter::default()
        };
        objects.entries(filter).map_err(DiffError::from).boxed()
    }

    fn rights(&mut self) -> Result<(Entries, Option<File>), DiffError> {
        Ok(match &mut self.right {
            Right::Nothing | Right::Unknown => (nothing(), None),
            Right::Backup(objects) => {
                let objects = *objects;
                (self.stored(objects), None)
            }
            Right::Cluster { listed, .. } => {
                let sorted = std::mem::take(&mut listed.entries).finish()?;
                let entries = stream::iter(sorted.map(|entry| entry.map_err(DiffError::from)));
                (entries.boxed(), listed.objects.take())
            }
        })
    }

    /// What is to be compared of an entry of each side, if anything is.
    fn step(&self, left: Option<Entry>, right: Option<Entry>) -> Option<Step> {
        let takes = |entry: &Option<Entry>| {
            entry
                .as_ref()
                .is_some_and(|entry| self.wanted.takes(self.kind, entry))
        };
        // An object whose labels have changed is still one object.
        if !takes(&left) && !takes(&right) {
            return None;
        }
        match (left, right) {
            (Some(left), Some(right)) => Some(Step::Both(left, right)),
            (Some(left), None) => Some(Step::Left(left)),
            (None, Some(right)) => match &self.right {
                Right::Cluster { live, .. } if !live.would_hold(self.kind, &right) => None,
                _ => Some(Step::Right(right)),
            },
            (None, None) => None,
        }
    }

    async fn compare(
        &self,
        window: Vec<Step>,
        spooled: Option<&File>,
        recorder: &mut Recorder,
    ) -> Result<(), DiffError> {
        let found = self.read(&window, spooled).await?;
        self.progress.add_objects(window.len() as u64);
        for (step, found) in window.iter().zip(found) {
            let entry = step.entry();
            match found {
                Found::Left => recorder.only(entry, Change::OnlyLeft)?,
                Found::Right => recorder.only(entry, Change::OnlyRight)?,
                Found::Unknown(Some(reason)) => recorder.failed(entry, reason),
                Found::Unknown(None) => recorder.uncounted(entry),
                Found::Both(left, right) => match self.drift(left, right) {
                    Ok(drift) => recorder.both(entry, drift)?,
                    Err(reason) => recorder.failed(entry, reason),
                },
            }
        }
        Ok(())
    }

    /// Both sides of every object of a window.
    async fn read(&self, window: &[Step], spooled: Option<&File>) -> Result<Vec<Found>, DiffError> {
        let asked = self.ask(window).await;
        let lefts = self.read_stored(
            self.left,
            window.iter().zip(&asked).map(|(step, asked)| {
                step.left()
                    .filter(|_| step.right().is_some() || matches!(asked, Some(Found::Both(..))))
            }),
        );
        let rights = async {
            match (&self.right, spooled) {
                (Right::Backup(objects), _) => {
                    let both = window
                        .iter()
                        .map(|step| step.right().filter(|_| step.left().is_some()));
                    self.read_stored(Some(objects), both).await
                }
                (_, Some(file)) => window
                    .iter()
                    .map(|step| match (step.left(), step.right()) {
                        (Some(_), Some(right)) => Ok(Some(Ok(live::read(file, right)?))),
                        _ => Ok(None),
                    })
                    .collect(),
                _ => Ok(window.iter().map(|_| None).collect()),
            }
        };
        let (lefts, rights): (Vec<Option<Side>>, Vec<Option<Side>>) = futures::try_join!(lefts, rights)?;
        let sides = lefts.into_iter().zip(rights).zip(asked);
        Ok(window
            .iter()
            .zip(sides)
            .map(|(step, ((left, right), asked))| match (left, right, asked) {
                (Some(left), Some(right), _) | (Some(left), None, Some(Found::Both(_, right))) => {
                    Found::Both(left, right)
                }
                (_, _, Some(found)) => found,
                _ if step.left().is_some() => Found::Left,
                _ => Found::Right,
            })
            .collect())
    }

    /// Asks the cluster for objects that no list would have shown. The left side of what is found is read later.
    async fn ask(&self, window: &[Step]) -> Vec<Option<Found>> {
        let questions = window.iter().map(|step| async move {
            let Step::Left(entry) = step else { return None };
            let (live, served, listed) = match &self.right {
                Right::Cluster { live, served, listed } => (live, served, listed),
                Right::Unknown => return Some(Found::Unknown(None)),
                Right::Nothing | Right::Backup(_) => return None,
            };
            if !listed.faults.is_empty() {
                return Some(Found::Unknown(None));
            }
            if live.was_looked_for(listed, entry) {
                return None;
            }
            Some(match live.get(served, entry).await {
                Ok(None) => Found::Left,
                Ok(Some(json)) => Found::Both(Err(String::new()), Ok(json)),
                Err(error) => Found::Unknown(Some(error.to_string())),
            })
        });
        stream::iter(questions).buffered(GETS).collect().await
    }

    /// Objects of a backup, read in the order of its archive.
    async fn read_stored<'e>(
        &self,
        objects: Option<&Objects>,
        entries: impl Iterator<Item = Option<&'e Entry>>,
    ) -> Result<Vec<Option<Side>>, DiffError> {
        let entries: Vec<Option<&Entry>> = entries.collect();
        let mut sides: Vec<Option<Side>> = entries.iter().map(|_| None).collect();
        let Some(objects) = objects else {
            return Ok(sides);
        };
        let mut order: Vec<(usize, &Entry)> = entries
            .iter()
            .enumerate()
            .filter_map(|(position, entry)| Some((position, (*entry)?)))
            .collect();
        order.sort_unstable_by_key(|(_, entry)| (entry.member, entry.offset));
        for (position, entry) in order {
            let side = match objects.read(entry).await {
                Ok(json) => Ok(json),
                Err(error) if is_of_one_object(&error) => Err(error.to_string()),
                Err(error) => return Err(error.into()),
            };
            if let Some(place) = sides.get_mut(position) {
                *place = Some(side);
            }
        }
        Ok(sides)
    }

    fn drift(&self, left: Side, right: Side) -> Result<Drift, String> {
        let (left, right) = (left?, right?);
        if left == right {
            return Ok(Drift::default());
        }
        // The bytes go as soon as they are parsed.
        let parse = |json: Bytes, side: &str| {
            // The parser's own message could quote the object.
            serde_json::from_slice::<Value>(&json)
                .map_err(|error| format!("it is no JSON on the {side} side (line {})", error.line()))
        };
        let (left, right) = (parse(left, "left")?, parse(right, "right")?);
        Ok(drift(
            self.kind,
            &left,
            &right,
            self.wanted.everything,
            self.wanted.secrets,
        ))
    }
}

fn nothing() -> Entries {
    stream::empty().boxed()
}

/// The next entry that is not the same object again: a list that was taken up anew may show one twice.
async fn next_after(entries: &mut Entries, taken: &Entry) -> Result<Option<Entry>, DiffError> {
    while let Some(next) = entries.try_next().await? {
        if next.key() != taken.key() {
            return Ok(Some(next));
        }
    }
    Ok(None)
}

/// Whether only the objects of one member cannot be read, so that the others can be compared all the same.
fn is_of_one_object(error: &CatalogError) -> bool {
    matches!(error, CatalogError::Member { .. } | CatalogError::Object { .. })
}

impl Step {
    fn left(&self) -> Option<&Entry> {
        match self {
            Self::Both(entry, _) | Self::Left(entry) => Some(entry),
            Self::Right(_) => None,
        }
    }

    fn right(&self) -> Option<&Entry> {
        match self {
            Self::Both(_, entry) | Self::Right(entry) => Some(entry),
            Self::Left(_) => None,
        }
    }

    fn entry(&self) -> &Entry {
        match self {
            Self::Both(entry, _) | Self::Left(entry) | Self::Right(entry) => entry,
        }
    }

    /// Bytes that it will take.
    fn size(&self) -> u64 {
        let sizes = [self.left(), self.right()].map(|entry| entry.map_or(0, |entry| entry.size));
        sizes.iter().sum()
    }
}
