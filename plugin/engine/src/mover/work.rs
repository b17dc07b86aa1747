//! What a mover does inside its pod.
//!
//! [`wait`] is the pod's first process: it ends when the work has ended, or when nobody comes. [`run`] is started beside it
//! over the connection: in come frames, out go frames, and a report last. Where the connection ends early, so does the work,
//! before there is a snapshot.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, BufWriter},
    runtime::Handle,
    sync::mpsc,
};
use velero_model::mover::{Report, Request, Work};

use super::{
    remote::RemoteFiles,
    wire::{self, Down, Up},
};
use crate::{
    location::{self, Location, redacted::Redacted, s3::CredentialsFrom, url},
    repository::{BucketFiles, Files, Lock, Mode, Repository, RepositoryError, Source, Target, blocking},
    storage::Bucket,
};

/// The file that says that somebody works: locked as long as they do.
const AT_WORK: &str = "/tmp/at-work";

/// How long the pod waits for somebody.
const PATIENCE: Duration = Duration::from_mins(3);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Between two reports of progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// Frames that wait to be sent.
const OUTBOX: usize = 8;

/// Waits until the work has begun and ended; whether it ever began.
///
/// # Errors
/// When the pod has no folder `/tmp` to write to.
pub async fn wait() -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        match File::open(AT_WORK) {
            Ok(file) => match file.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if begun.elapsed() > PATIENCE {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Does what the first frame asks for; whether it succeeded. All else is said in frames.
///
/// # Errors
/// When the connection breaks.
pub async fn run(
    from: impl AsyncRead + Send + Unpin + 'static,
    to: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<bool> {
    let at_work = File::create(AT_WORK)?;
    at_work.lock()?;
    let mut from = BufReader::with_capacity(1 << 20, from);
    let Some((Down::Request(request), _)) = wire::read(&mut from).await? else {
        return Err(io::Error::other("the first frame is no request"));
    };
    let (outbox, frames) = mpsc::channel::<(Up, Bytes)>(OUTBOX);
    let sent = tokio::spawn(send(frames, to));
    let remote = RemoteFiles::new(outbox.clone(), format!("restic/{}", request.repository));
    let mut answers = tokio::spawn(receive(from, remote.clone()));
    let mut work = tokio::spawn(work(request, remote, outbox.clone()));
    let report = tokio::select! {
        done = &mut work => done.map_err(io::Error::other)?,
        // Nobody is there any more who would hear of it.
        ended = &mut answers => {
            work.abort();
            return Err(ended.map_err(io::Error::other)?.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let has_succeeded = !matches!(report, Report::Failed { .. });
    // If nobody takes it, the sender knows why.
    let _ = outbox.send((Up::Report(report), Bytes::new())).await;
    drop(outbox);
    answers.abort();
    sent.await.map_err(io::Error::other)??;
    Ok(has_succeeded)
}

async fn send(
    mut frames: mpsc::Receiver<(Up, Bytes)>,
    to: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(1 << 20, to);
    while let Some((head, body)) = frames.recv().await {
        let is_last = matches!(
            head,
            Up::Report(Report::Stored(_) | Report::Written(_) | Report::Failed { .. })
        );
        wire::write(&mut to, &head, &body).await?;
        // Files that hold the channel open may outlive the work.
        if is_last {
            break;
        }
    }
    Ok(())
}

async fn receive(mut from: impl AsyncRead + Send + Unpin + 'static, remote: RemoteFiles) -> io::Result<()> {
    while let Some((frame, body)) = wire::read::<Down>(&mut from).await? {
        if let Down::Answer { id, answer } = frame {
            remote.arrived(id, answer, body);
        }
    }
    Ok(())
}

async fn work(request: Request, remote: RemoteFiles, outbox: mpsc::Sender<(Up, Bytes)>) -> Report {
    let files: Arc<dyn Files> = match &request.location {
        None => Arc::new(remote),
        Some(location) => match direct(location, request.credentials.as_deref()).await {
            Ok(bucket) => Arc::new(BucketFiles::of_namespace(bucket, &request.repository)),
            Err(reason) => {
                return Report::Failed {
                    reason,
                    is_unreachable: true,
                };
            }
        },
    };
    match locked(request, files, outbox).await {
        Ok(report) => report,
        Err(error) => Report::Failed {
            reason: error.to_string(),
            is_unreachable: false,
        },
    }
}

/// The location itself, where it can be reached from here.
async fn direct(location: &str, credentials: Option<&str>) -> Result<Arc<dyn Bucket>, String> {
    let mut location = url::parse(location).map_err(|error| error.to_string())?;
    if let (Location::S3(s3), Some(text)) = (&mut location, credentials) {
        s3.credentials = CredentialsFrom::ProfileText(Redacted::new(text.to_owned()));
    }
    let bucket = location::open(&location)
        .await
        .map_err(|error| error.to_string())?;
    // A key that no location refuses; whether there is one does not matter.
    bucket
        .head("restic/config")
        .await
        .map_err(|error| error.to_string())?;
    Ok(bucket)
}

async fn locked(
    request: Request,
    files: Arc<dyn Files>,
    outbox: mpsc::Sender<(Up, Bytes)>,
) -> Result<Report, RepositoryError> {
    let handle = Handle::current();
    let is_writer = matches!(request.work, Work::BackUp { .. });
    let password = request.password.clone();
    let repository = blocking(move || {
        if is_writer {
            Repository::open_or_create(&files, &password, &handle)
        } else {
            Repository::open(files, &password, &handle)
        }
    })
    .await?;
    let lock = Lock::take(&repository, Mode::Shared).await?;
    let meter = repository.meter();
    let ticker = tokio::spawn(async move {
        loop {
            tokio::time::sleep(PROGRESS).await;
            let (done, total) = meter.read();
            let progress = Up::Report(Report::Progress { done, total });
            if outbox.send((progress, Bytes::new())).await.is_err() {
                return;
            }
        }
    });
    let done = blocking(move || match request.work {
        Work::BackUp { folder, tags } => repository
            .back_up(Source {
                folder: Path::new(&folder),
                tags: &tags,
            })
            .map(Report::Stored),
        Work::Restore {
            folder,
            snapshot,
            delete,
        } => repository
            .restore(
                &snapshot,
                Target {
                    folder: Path::new(&folder),
                    delete,
                    with_owners: may_own(Path::new(&folder)),
                },
            )
            .map(Report::Written),
    })
    .await;
    ticker.abort();
    let released = lock.release().await;
    let report = done?;
    released?;
    Ok(report)
}

/// Whether files can be given to others here: root may, with the right capability.
fn may_own(folder: &Path) -> bool {
    let probe = folder.join(format!(".kubectl-backup-{}", uuid::Uuid::new_v4().simple()));
    let may = fs::write(&probe, "")
        .and_then(|()| std::os::unix::fs::chown(&probe, Some(1), Some(1)))
        .is_ok();
    // It may not have been made.
    let _ = fs::remove_file(&probe);
    may
}
