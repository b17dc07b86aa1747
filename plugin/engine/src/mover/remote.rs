//! A repository's files through the connection to whoever started the mover, and the other end of that.
//!
//! [`RemoteFiles`] is used inside the pod and calls; [`answer`] is used outside and does what was called for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::wire::{Answer, Listed, Op, Up};
use crate::repository::{File, Files, FilesError};

/// Frames on their way out.
pub(super) type Outbox = mpsc::Sender<(Up, Bytes)>;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<(Answer, Bytes)>>>>;

/// The files at the other end.
#[derive(Clone)]
pub(super) struct RemoteFiles {
    outbox: Outbox,
    waiting: Waiting,
    last: Arc<AtomicU64>,
    place: String,
}

impl RemoteFiles {
    pub(super) fn new(outbox: Outbox, place: String) -> Self {
        Self {
            outbox,
            waiting: Waiting::default(),
            last: Arc::default(),
            place,
        }
    }

    /// Hands an answer to whoever waits for it.
    pub(super) fn arrived(&self, id: u64, answer: Answer, body: Bytes) {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        if let Some(waiting) = waiting {
            // Who waits no more needs no answer.
            let _ = waiting.send((answer, body));
        }
    }

    async fn call(&self, call: Op, body: Bytes) -> Result<(Answer, Bytes), FilesError> {
        let gone = || FilesError("the connection to the mover is gone".to_owned());
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (answered, answer) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, answered);
        self.outbox
            .send((Up::Call { id, call }, body))
            .await
            .map_err(|_| gone())?;
        match answer.await.map_err(|_| gone())? {
            (Answer::Failed { reason }, _) => Err(FilesError(reason)),
            answered => Ok(answered),
        }
    }
}

fn odd(answer: &Answer) -> FilesError {
    FilesError(format!("an answer that fits no question: {answer:?}"))
}

#[async_trait]
impl Files for RemoteFiles {
    fn describe(&self) -> String {
        self.place.clone()
    }

    async fn list(&self, folder: &str) -> Result<Vec<File>, FilesError> {
        let folder = folder.to_owned();
        match self.call(Op::List { folder }, Bytes::new()).await?.0 {
            Answer::Files { files } => Ok(files
                .into_iter()
                .map(|file| File {
                    name: file.name,
                    size: file.size,
                    modified: file.modified,
                })
                .collect()),
            other => Err(odd(&other)),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>, FilesError> {
        let name = name.to_owned();
        match self.call(Op::Read { name }, Bytes::new()).await? {
            (Answer::Bytes, body) => Ok(Some(body)),
            (Answer::Nothing, _) => Ok(None),
            (other, _) => Err(odd(&other)),
        }
    }

    async fn read_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, FilesError> {
        let call = Op::Range {
            name: name.to_owned(),
            offset,
            length,
        };
        match self.call(call, Bytes::new()).await? {
            (Answer::Bytes, body) if body.len() as u64 == length => Ok(body),
            (other, _) => Err(odd(&other)),
        }
    }

    async fn write(&self, name: &str, body: Bytes, if_absent: bool) -> Result<bool, FilesError> {
        let name = name.to_owned();
        match self.call(Op::Write { name, if_absent }, body).await?.0 {
            Answer::Done { is_ours } => Ok(is_ours),
            other => Err(odd(&other)),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), FilesError> {
        let name = name.to_owned();
        match self.call(Op::Remove { name }, Bytes::new()).await?.0 {
            Answer::Done { .. } => Ok(()),
            other => Err(odd(&other)),
        }
    }
}

/// Does what a mover calls for.
pub(super) async fn answer(files: &dyn Files, call: Op, body: Bytes) -> (Answer, Bytes) {
    let done = async {
        Ok::<_, FilesError>(match call {
            Op::List { folder } => {
                let files = files.list(&folder).await?.into_iter().map(|file| Listed {
                    name: file.name,
                    size: file.size,
                    modified: file.modified,
                });
                (
                    Answer::Files {
                        files: files.collect(),
                    },
                    Bytes::new(),
                )
            }
            Op::Read { name } => match files.read(&name).await? {
                Some(bytes) => (Answer::Bytes, bytes),
                None => (Answer::Nothing, Bytes::new()),
            },
            Op::Range { name, offset, length } => {
                (Answer::Bytes, files.read_range(&name, offset, length).await?)
            }
            Op::Write { name, if_absent } => {
                let is_ours = files.write(&name, body, if_absent).await?;
                (Answer::Done { is_ours }, Bytes::new())
            }
            Op::Remove { name } => {
                files.remove(&name).await?;
                (Answer::Done { is_ours: false }, Bytes::new())
            }
        })
    };
    done.await.unwrap_or_else(|error| {
        let reason = error.to_string();
        (Answer::Failed { reason }, Bytes::new())
    })
}
