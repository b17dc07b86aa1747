//! Places to keep backups in: a folder, a strict S3 server as a process, an S3 server inside the test.
//!
//! Each store is empty and belongs to one case; it goes away when dropped. It tells the plugin where it is
//! ([`Store::location_url`]) and how to get in ([`Store::env`]), and lets a case look at, or damage, what really lies
//! there ([`Store::path`], [`Store::keys`]).

pub mod in_process;
mod versitygw;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow};

use self::versitygw::Versitygw;
use crate::scratch::Scratch;

/// An empty place for backups.
#[derive(Debug)]
pub struct Store {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder(Scratch),
    Versitygw { server: Arc<Versitygw>, bucket: String },
}

impl Store {
    /// A folder.
    pub fn folder() -> Result<Self> {
        Ok(Self {
            kind: Kind::Folder(Scratch::new("store-")?),
        })
    }

    /// A bucket on a versitygw of its own, for cases that stop or damage the server.
    pub fn versitygw() -> Result<Self> {
        Self::bucket_on(Arc::new(Versitygw::start()?), false)
    }

    /// A fresh bucket on the versitygw that all cases of this test binary share.
    pub fn shared_versitygw() -> Result<Self> {
        Self::bucket_on(shared_versitygw()?, false)
    }

    /// A fresh bucket with object lock (and so with versions) on the shared versitygw.
    pub fn shared_versitygw_with_object_lock() -> Result<Self> {
        Self::bucket_on(shared_versitygw()?, true)
    }

    fn bucket_on(server: Arc<Versitygw>, object_lock: bool) -> Result<Self> {
        let bucket = format!("bucket-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        server.create_bucket(&bucket, object_lock)?;
        Ok(Self {
            kind: Kind::Versitygw { server, bucket },
        })
    }

    /// The store as the plugin's `--location`.
    pub fn location_url(&self) -> String {
        match &self.kind {
            Kind::Folder(folder) => format!("file://{}", folder.path().display()),
            Kind::Versitygw { .. } => self.location_url_with_prefix(""),
        }
    }

    /// As [`Store::location_url`], below a prefix of the bucket or in a sub-folder.
    pub fn location_url_with_prefix(&self, prefix: &str) -> String {
        let below = if prefix.is_empty() {
            String::new()
        } else {
            format!("/{prefix}")
        };
        match &self.kind {
            Kind::Folder(folder) => format!("file://{}{below}", folder.path().display()),
            Kind::Versitygw { server, bucket } => {
                format!(
                    "s3://{bucket}{below}?endpoint={}&region={}&path-style=true",
                    server.endpoint(),
                    versitygw::REGION
                )
            }
        }
    }

    /// The environment that gives the plugin its credentials.
    pub fn env(&self) -> Vec<(String, String)> {
        let pairs: &[(&str, &str)] = match &self.kind {
            Kind::Folder(_) => &[],
            Kind::Versitygw { .. } => &[
                ("AWS_ACCESS_KEY_ID", versitygw::ACCESS_KEY),
                ("AWS_SECRET_ACCESS_KEY", versitygw::SECRET_KEY),
                // Without it the credentials chain asks an address that a test machine may route anywhere.
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ],
        };
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// The address of the S3 server, if it is one.
    pub fn endpoint(&self) -> Option<String> {
        match &self.kind {
            Kind::Folder(_) => None,
            Kind::Versitygw { server, .. } => Some(server.endpoint()),
        }
    }

    /// The bucket, if it is one.
    pub fn bucket(&self) -> Option<&str> {
        match &self.kind {
            Kind::Folder(_) => None,
            Kind::Versitygw { bucket, .. } => Some(bucket),
        }
    }

    /// The folder where the files really lie: keys are paths below it.
    pub fn path(&self) -> PathBuf {
        match &self.kind {
            Kind::Folder(folder) => folder.path().to_owned(),
            Kind::Versitygw { server, bucket } => server.folder().join(bucket),
        }
    }

    /// All keys, sorted: what is visible to anybody who lists the store.
    pub fn keys(&self) -> Result<Vec<String>> {
        let root = self.path();
        let mut keys = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in
                std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
            {
                let path = entry?.path();
                if path
                    .file_name()
                    .is_some_and(|name| name == versitygw::OPEN_UPLOADS)
                {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    keys.push(key_of(&root, &path)?);
                }
            }
        }
        keys.sort();
        Ok(keys)
    }
}

fn key_of(root: &Path, path: &Path) -> Result<String> {
    let key = path.strip_prefix(root)?.to_str();
    Ok(key
        .with_context(|| format!("{} is not UTF-8", path.display()))?
        .to_owned())
}

fn shared_versitygw() -> Result<Arc<Versitygw>> {
    static SHARED: OnceLock<Result<Arc<Versitygw>, String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        Versitygw::start()
            .map(Arc::new)
            .map_err(|error| format!("{error:#}"))
    });
    shared
        .clone()
        .map_err(|error| anyhow!("the shared versitygw did not start: {error}"))
}
