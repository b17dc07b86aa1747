//! Volume data in restic's format: one repository for each namespace of a source cluster, as Velero lays them.
//!
//! In come a place for files ([`Files`]), a password and folders; out go snapshots, and folders as they were. The format is
//! rustic_core's; what it leaves to its callers is here: locks that restic understands ([`lock`]), errors that it only logs
//! ([`source`], [`backend`]), and a race of two first writers. All but [`lock`] is synchronous, since rustic_core is: call it
//! through [`blocking`].
//!
//! Later code may rely on: a snapshot is visible only when every byte that it names is stored; whatever could not be read
//! is counted and named in what comes back; nothing is written without a lock; the real restic reads what was written
//! (a test checks it out with `restic check --read-data`).

mod back_up;
mod backend;
mod check;
mod error;
mod files;
mod hurt;
mod lock;
mod maintain;
mod meter;
mod restore;
mod snapshot;
mod source;

use std::{sync::Arc, time::Duration};

use rustic_core::{
    ConfigOptions, Credentials, KeyOptions, OpenStatus, RepositoryBackends, RepositoryOptions,
    repofile::MasterKey,
};
use tokio::runtime::Handle;

use self::backend::{Backend, Faults};
pub use self::{
    back_up::Source,
    check::{Depth, Findings},
    error::RepositoryError,
    files::{BucketFiles, File, Files, FilesError},
    lock::{Lock, Mode},
    maintain::Pruned,
    meter::Meter,
    restore::Target,
    snapshot::{Root, Snapshot, Tags},
};

/// Biggest pack that is aimed at, in bytes: what a writer holds in memory several times over. It is restic's.
const LARGEST_PACK: u64 = 16 << 20;

/// Looks for the key of a repository whose maker is at it, before it is given up: a pod may get a tenth of a processor, and
/// the key takes it half a second of a whole one, more than once.
const KEY_LOOKS: u32 = 120;

/// Between two of them.
const KEY_LOOK: Duration = Duration::from_millis(500);

/// An opened repository.
pub struct Repository {
    rustic: rustic_core::Repository<OpenStatus>,
    files: Arc<dyn Files>,
    faults: Arc<Faults>,
    handle: Handle,
    meter: Meter,
    is_new: bool,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository")
            .field("place", &self.files.describe())
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Opens what is there.
    ///
    /// # Errors
    /// [`RepositoryError::NotThere`], [`RepositoryError::WrongPassword`], what the place says.
    pub fn open(files: Arc<dyn Files>, password: &str, handle: &Handle) -> Result<Self, RepositoryError> {
        let (unopened, faults, meter) = attach(&files, handle)?;
        let there = unopened
            .config_id()
            .map_err(|error| RepositoryError::of(&files, &faults, &error))?;
        if there.is_none() {
            return Err(RepositoryError::NotThere {
                place: files.describe(),
            });
        }
        let rustic = unopened.open(&Credentials::password(password)).map_err(|error| {
            if error.is_incorrect_password() {
                RepositoryError::WrongPassword {
                    place: files.describe(),
                }
            } else {
                RepositoryError::of(&files, &faults, &error)
            }
        })?;
        Ok(Self {
            rustic,
            files,
            faults,
            handle: handle.clone(),
            meter,
            is_new: false,
        })
    }

    /// Opens what is there, or makes it. Of several who make it at once, one makes it and all open that.
    ///
    /// The config is what decides who does: it is put if absent, and the key only after that. A repository without a key is
    /// one whose maker is at it, or has died; nothing can have been stored in it, so that after a while it is made anew.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_or_create(
        files: &Arc<dyn Files>,
        password: &str,
        handle: &Handle,
    ) -> Result<Self, RepositoryError> {
        let fail = |error: &FilesError| RepositoryError::Files {
            place: files.describe(),
            reason: error.to_string(),
        };
        for _ in 0..KEY_LOOKS {
            match Self::create(files, password, handle)? {
                Some(made) => return Ok(made),
                None => {
                    let keys = handle
                        .block_on(files.list("keys/"))
                        .map_err(|error| fail(&error))?;
                    if !keys.is_empty() {
                        return Self::open(Arc::clone(files), password, handle);
                    }
                    std::thread::sleep(KEY_LOOK);
                }
            }
        }
        handle
            .block_on(files.remove("config"))
            .map_err(|error| fail(&error))?;
        match Self::create(files, password, handle)? {
            Some(made) => Ok(made),
            None => Self::open(Arc::clone(files), password, handle),
        }
    }

    /// Makes it; `None` where there is one.
    fn create(
        files: &Arc<dyn Files>,
        password: &str,
        handle: &Handle,
    ) -> Result<Option<Self>, RepositoryError> {
        let (unopened, faults, meter) = attach(files, handle)?;
        let fail = |error: &rustic_core::RusticError| RepositoryError::of(files, &faults, error);
        if unopened.config_id().map_err(|error| fail(&error))?.is_some() {
            return Ok(None);
        }
        let options = ConfigOptions::default()
            .set_version(2_u32)
            .set_datapack_size(bytesize(LARGEST_PACK))
            .set_datapack_size_limit(bytesize(LARGEST_PACK))
            .set_treepack_size_limit(bytesize(LARGEST_PACK));
        let master = Credentials::Masterkey(MasterKey::new());
        let rustic = match unopened.init(&master, &KeyOptions::default(), &options) {
            Ok(rustic) => rustic,
            Err(_) if faults.was_beaten() => return Ok(None),
            // It looks once more itself, and somebody may have made it since we did.
            Err(_)
                if handle
                    .block_on(files.read("config"))
                    .is_ok_and(|config| config.is_some()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(fail(&error)),
        };
        rustic
            .add_key(password, &KeyOptions::default())
            .map_err(|error| fail(&error))?;
        Ok(Some(Self {
            rustic,
            files: Arc::clone(files),
            faults,
            handle: handle.clone(),
            meter,
            is_new: true,
        }))
    }

    /// Whether it was made just now.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// How far its work is.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        self.files.describe()
    }

    /// What its files are encrypted with; it opens everything.
    pub(crate) fn master_key(&self) -> MasterKey {
        self.rustic.key()
    }

    /// The place of its files.
    pub fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    fn fail(&self, error: &rustic_core::RusticError) -> RepositoryError {
        RepositoryError::of(&self.files, &self.faults, error)
    }
}

/// Does work of a repository where a thread may wait.
///
/// # Errors
/// Those of the work; [`RepositoryError::Folder`] if it panics.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RepositoryError> + Send + 'static,
) -> Result<T, RepositoryError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| {
        Err(RepositoryError::Folder {
            what: "work with a repository".to_owned(),
            reason: stopped.to_string(),
        })
    })
}

/// A password that nobody guesses: 244 random bits as 64 hexadecimal digits.
pub fn new_password() -> String {
    let half = || uuid::Uuid::new_v4().simple().to_string();
    format!("{}{}", half(), half())
}

fn bytesize(bytes: u64) -> bytesize::ByteSize {
    bytesize::ByteSize(bytes)
}

type Unopened = rustic_core::Repository<()>;

fn attach(
    files: &Arc<dyn Files>,
    handle: &Handle,
) -> Result<(Unopened, Arc<Faults>, Meter), RepositoryError> {
    let faults = Arc::new(Faults::default());
    let backend = Backend::new(Arc::clone(files), handle.clone(), Arc::clone(&faults));
    let backends = RepositoryBackends::new(Arc::new(backend), None);
    // A cache on a disk of somebody's would outlive the run.
    let options = RepositoryOptions::default().no_cache(true);
    let meter = Meter::default();
    let unopened = rustic_core::Repository::new_with_progress(&options, &backends, meter.clone())
        .map_err(|error| RepositoryError::of(files, &faults, &error))?;
    Ok((unopened, faults, meter))
}
