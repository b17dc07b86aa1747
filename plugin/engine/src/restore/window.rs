//! Many writes at once, few in memory.
//!
//! Objects are read ahead of the writes by a task of its own; writes run as tasks on all cores. Two permits limit them: one
//! counts requests, the other counts the bytes of objects from reading to the end of writing, so that objects of a MiB go a
//! few at a time and small ones by the dozen.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinError, JoinSet},
};
use velero_model::index::Entry;

use super::{RestoreError, run::Run, selection::Source};
use crate::catalog::{CatalogError, EntryFilter};

/// Bytes of JSON between the archive and the server. Each costs about five: as read, as parsed, as sent, as answered.
const BYTES: usize = 4 << 20;

/// Objects that are read ahead.
const AHEAD: usize = 64;

/// Part of the objects of some kinds above which their members are read one after another, instead of only the blocks and
/// members that hold selected ones.
const MOST: f64 = 0.5;

/// An object of the backup, or why it cannot be read.
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) json: Result<Bytes, CatalogError>,
    /// Held until the object is written.
    _room: Option<OwnedSemaphorePermit>,
}

/// Runs writes as tasks, not too many at a time.
pub(super) struct Window {
    run: Arc<Run>,
    requests: Arc<Semaphore>,
    tasks: JoinSet<Result<(), RestoreError>>,
    /// What ends the run.
    failed: Option<RestoreError>,
}

impl Window {
    pub(super) fn new(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
            requests: Arc::new(Semaphore::new(run.request.writes_in_flight.max(1))),
            tasks: JoinSet::new(),
            failed: None,
        }
    }

    /// Starts a write as soon as there is room. Gives false once the run is to stop.
    pub(super) async fn start<F>(&mut self, write: impl FnOnce(Arc<Run>) -> F) -> bool
    where
        F: Future<Output = Result<(), RestoreError>> + Send + 'static,
    {
        while let Some(ended) = self.tasks.try_join_next() {
            self.note(ended);
        }
        let permit = tokio::select! {
            biased;
            () = self.run.stop.cancelled() => return false,
            // The semaphore is never closed, so there always is a permit.
            permit = Arc::clone(&self.requests).acquire_owned() => permit,
        };
        let stop = self.run.stop.clone();
        let write = write(Arc::clone(&self.run));
        self.tasks.spawn(async move {
            let _permit = permit;
            let result = write.await;
            if result.is_err() {
                stop.cancel();
            }
            result
        });
        true
    }

    /// An error that says more than "interrupted" is kept: that others stopped is only its consequence.
    fn note(&mut self, ended: Result<Result<(), RestoreError>, JoinError>) {
        let error = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(error) => {
                self.run.stop.cancel();
                RestoreError::Task(error.to_string())
            }
        };
        if matches!(self.failed, None | Some(RestoreError::Interrupted)) {
            self.failed = Some(error);
        }
    }

    /// Waits for all writes that were started.
    pub(super) async fn finish(mut self) -> Result<(), RestoreError> {
        while let Some(ended) = self.tasks.join_next().await {
            self.note(ended);
        }
        self.failed.map_or(Ok(()), Err)
    }
}

/// Sends the selected objects of some kinds, ahead of whoever takes them out of the channel.
struct Reader {
    run: Arc<Run>,
    resource_groups: Vec<String>,
    sender: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
}

/// What reading ahead gives: the objects, and afterwards what ended it.
pub(super) type ReadAhead = (
    mpsc::Receiver<Item>,
    tokio::task::JoinHandle<Result<(), CatalogError>>,
);

/// Reads the selected objects of some kinds. Ends early when nobody takes them any more.
pub(super) fn read_ahead(run: &Arc<Run>, resource_groups: Vec<String>) -> ReadAhead {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let reader = Reader {
        run: Arc::clone(run),
        resource_groups,
        sender,
        room: Arc::new(Semaphore::new(BYTES)),
    };
    (receiver, tokio::spawn(async move { reader.run().await }))
}

impl Reader {
    async fn run(&self) -> Result<(), CatalogError> {
        match &self.run.selection.source {
            Source::Listed(entries) => self.read_listed(entries).await,
            Source::Filter(_) if self.takes_most() => self.read_members().await,
            Source::Filter(_) => self.read_some().await,
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "a ratio of counts; a rough one will do"
    )]
    fn takes_most(&self) -> bool {
        let (mut count, mut all) = (0, 0);
        for chosen in self
            .resource_groups
            .iter()
            .filter_map(|word| self.run.selection.kinds.get(word))
        {
            count += chosen.count;
            all += chosen.all;
        }
        count as f64 >= all as f64 * MOST
    }

    async fn read_listed(&self, entries: &[Entry]) -> Result<(), CatalogError> {
        for entry in entries
            .iter()
            .filter(|entry| self.resource_groups.contains(&entry.resource_group))
        {
            if !self.read(entry.clone()).await? {
                break;
            }
        }
        Ok(())
    }

    /// In the order of the index, which within a kind is nearly that of the archive.
    async fn read_some(&self) -> Result<(), CatalogError> {
        self.read_where(|_| true).await
    }

    async fn read_where(&self, wanted: impl Fn(&Entry) -> bool + Send) -> Result<(), CatalogError> {
        let mut entries = self.run.objects.entries(EntryFilter {
            resource_groups: Some(self.resource_groups.clone()),
            ..EntryFilter::default()
        });
        while let Some(entry) = entries.try_next().await? {
            if wanted(&entry) && self.run.selects(&entry) && !self.read(entry).await? {
                break;
            }
        }
        Ok(())
    }

    /// Each member once. The objects of a damaged member are named one by one at the end.
    async fn read_members(&self) -> Result<(), CatalogError> {
        let mut damaged = BTreeSet::new();
        let mut members = self.run.objects.members_in_order(&self.resource_groups);
        while let Some(member) = members.next().await {
            let member = match member {
                Ok(member) => member,
                Err(CatalogError::Member { offset, .. }) => {
                    damaged.insert(offset);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for entry in member.entries().iter().filter(|entry| self.run.selects(entry)) {
                let json = member.object(entry).map(|json| member.tar().slice_ref(json));
                if !self.send(entry.clone(), json).await {
                    return Ok(());
                }
            }
        }
        if damaged.is_empty() {
            return Ok(());
        }
        self.read_where(|entry| damaged.contains(&entry.member)).await
    }

    async fn read(&self, entry: Entry) -> Result<bool, CatalogError> {
        let json = match self.run.objects.read(&entry).await {
            Err(error) if !error.is_damage() => return Err(error),
            json => json,
        };
        Ok(self.send(entry, json).await)
    }

    /// Gives false when nobody listens any more.
    async fn send(&self, entry: Entry, json: Result<Bytes, CatalogError>) -> bool {
        let size = json.as_ref().map_or(1, Bytes::len).clamp(1, BYTES);
        let share = u32::try_from(size).unwrap_or(u32::MAX);
        let room = tokio::select! {
            biased;
            () = self.sender.closed() => return false,
            room = Arc::clone(&self.room).acquire_many_owned(share) => room.ok(),
        };
        let item = Item {
            entry,
            json,
            _room: room,
        };
        self.sender.send(item).await.is_ok()
    }
}
