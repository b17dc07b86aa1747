//! The locations that cases run on, each empty and gone afterwards.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use backup_engine::location::redacted::Redacted;
use backup_engine::location::s3::CredentialsFrom;
use backup_engine::location::{Location, S3Location, open_tuned};
use backup_engine::storage::Bucket;
use backup_engine::storage::folder::Folder;
use backup_engine::storage::memory::Memory;
use backup_engine::storage::s3::Tuning;
use backup_tests::scratch::Scratch;
use backup_tests::store::Store;
use backup_tests::store::in_process::{ACCESS_KEY, InProcess, SECRET_KEY};

/// Name of the bucket on servers that belong to one case.
pub(crate) const BUCKET: &str = "backups";

/// A location and what keeps it alive.
pub(crate) struct Subject {
    pub(crate) bucket: Arc<dyn Bucket>,
    /// Lists unfinished uploads.
    pub(crate) knows_uploads: bool,
    /// Decides between concurrent writers atomically.
    pub(crate) decides_races: bool,
    /// Does not mistake a folder on the way to a key for a key.
    pub(crate) knows_folders: bool,
    /// Stores in parts of one size.
    pub(crate) is_s3: bool,
    _alive: Box<dyn Any>,
}

/// Patience for tests: faults are met in milliseconds.
pub(crate) fn tuning() -> Tuning {
    Tuning {
        connect: Duration::from_secs(2),
        attempt: Duration::from_secs(20),
        stall: Duration::from_millis(600),
        attempts: 4,
        backoff: Duration::from_millis(20),
        part_size: 5 * 1024 * 1024,
        ..Tuning::default()
    }
}

/// A location on a server, with its credentials.
pub(crate) fn s3_location(
    address: SocketAddr,
    bucket: &str,
    access_key: &str,
    secret_key: &str,
) -> S3Location {
    S3Location {
        prefix: "team/prefix".into(),
        endpoint: Some(format!("http://{address}")),
        region: Some("us-east-1".into()),
        credentials: CredentialsFrom::Keys {
            access_key: access_key.into(),
            secret_key: Redacted::new(secret_key),
            session_token: None,
        },
        ..S3Location::new(bucket)
    }
}

/// The in-process server with its bucket.
pub(crate) fn in_process_server() -> Result<InProcess> {
    let server = InProcess::start()?;
    server.create_bucket(BUCKET)?;
    Ok(server)
}

/// A location on the in-process server, at this address (the server's own or a proxy's).
pub(crate) async fn in_process_at(address: SocketAddr, tuning: Tuning) -> Result<Arc<dyn Bucket>> {
    let location = s3_location(address, BUCKET, ACCESS_KEY, SECRET_KEY);
    Ok(open_tuned(&Location::S3(Box::new(location)), tuning).await?)
}

/// A bucket of versitygw as a location.
pub(crate) fn versitygw_location(store: &Store) -> Result<S3Location> {
    let env = store.env();
    let value = |name: &str| {
        env.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    let endpoint = store.endpoint().context("versitygw has an endpoint")?;
    let address: SocketAddr = endpoint.trim_start_matches("http://").parse()?;
    Ok(s3_location(
        address,
        store.bucket().context("versitygw has a bucket")?,
        &value("AWS_ACCESS_KEY_ID").context("an access key")?,
        &value("AWS_SECRET_ACCESS_KEY").context("a secret key")?,
    ))
}

impl Subject {
    #[expect(clippy::unused_async, reason = "cases await every kind alike")]
    pub(crate) async fn memory() -> Result<Self> {
        Ok(Self {
            bucket: Arc::new(Memory::new()),
            knows_uploads: true,
            decides_races: true,
            knows_folders: true,
            is_s3: false,
            _alive: Box::new(()),
        })
    }

    #[expect(clippy::unused_async, reason = "cases await every kind alike")]
    pub(crate) async fn folder() -> Result<Self> {
        let scratch = Scratch::new("folder-")?;
        Ok(Self {
            bucket: Arc::new(Folder::new(scratch.path(), false)),
            knows_uploads: true,
            decides_races: true,
            knows_folders: true,
            is_s3: false,
            _alive: Box::new(scratch),
        })
    }

    pub(crate) async fn in_process() -> Result<Self> {
        let server = in_process_server()?;
        Ok(Self {
            bucket: in_process_at(server.address(), tuning()).await?,
            knows_uploads: false,
            decides_races: false,
            knows_folders: false,
            is_s3: true,
            _alive: Box::new(server),
        })
    }

    pub(crate) async fn versitygw() -> Result<Self> {
        let store = Store::shared_versitygw()?;
        let location = versitygw_location(&store)?;
        Ok(Self {
            bucket: open_tuned(&Location::S3(Box::new(location)), tuning()).await?,
            knows_uploads: true,
            decides_races: true,
            knows_folders: true,
            is_s3: true,
            _alive: Box::new(store),
        })
    }
}
