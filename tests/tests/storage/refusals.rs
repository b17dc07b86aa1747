//! What a person has to be told: missing buckets, wrong credentials, full disks, locks, servers that are not there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use backup_engine::location::s3::CredentialsFrom;
use backup_engine::location::{FolderLocation, Location, S3Location, open, open_tuned};
use backup_engine::storage::folder::Folder;
use backup_engine::storage::probe::{self, Outcome};
use backup_engine::storage::{Bucket, Put, PutOutcome, StorageError};
use backup_tests::scratch::Scratch;
use backup_tests::store::Store;
use backup_tests::store::in_process::{ACCESS_KEY, SECRET_KEY};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use crate::subjects::{BUCKET, in_process_server, s3_location, tuning, versitygw_location};

async fn s3(location: S3Location) -> Result<Arc<dyn Bucket>> {
    Ok(open_tuned(&Location::S3(Box::new(location)), tuning()).await?)
}

/// The error of each operation on a location.
async fn errors(bucket: &dyn Bucket) -> Vec<StorageError> {
    let body = Bytes::from_static(b"x");
    let results = [
        bucket.put("k", body.clone(), Put::default()).await.map(drop),
        bucket.put("k", body, Put::if_absent()).await.map(drop),
        bucket.get("k", 10).await.map(drop),
        bucket.stream("k").await.map(drop),
        bucket.get_range("k", 0, 1).await.map(drop),
        bucket.head("k").await.map(drop),
        bucket.list_all("").await.map(drop),
        bucket.list_folders("").await.map(drop),
        bucket.delete("k").await,
    ];
    let count = results.len();
    let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), count, "{errors:?}");
    errors
}

#[tokio::test]
async fn a_missing_bucket_is_named_by_every_operation() -> Result<()> {
    let store = Store::shared_versitygw()?;
    let gone = |location: S3Location| S3Location {
        bucket: "no-such-bucket".into(),
        ..location
    };
    let folder = Scratch::new("gone-")?;
    let buckets = [
        s3(gone(versitygw_location(&store)?)).await?,
        open(&Location::Folder(FolderLocation {
            path: folder.join("unmounted"),
            read_only: false,
        }))
        .await?,
    ];
    for bucket in buckets {
        for error in errors(&*bucket).await {
            assert!(matches!(error, StorageError::NoSuchBucket { .. }), "{error}");
            assert!(error.to_string().contains(&bucket.describe()), "{error}");
        }
        let checks = probe::check(&*bucket).await;
        assert!(matches!(checks[0].outcome, Outcome::Failed(_)), "{checks:?}");
    }
    Ok(())
}

#[tokio::test]
async fn wrong_credentials_are_told_from_missing_rights() -> Result<()> {
    let server = in_process_server()?;
    let store = Store::shared_versitygw()?;
    let good = [
        s3_location(server.address(), BUCKET, ACCESS_KEY, SECRET_KEY),
        versitygw_location(&store)?,
    ];
    for location in good {
        let CredentialsFrom::Keys {
            access_key,
            secret_key,
            ..
        } = location.credentials.clone()
        else {
            anyhow::bail!("these locations have keys");
        };
        for (access_key, secret_key) in [("nobody", secret_key.reveal()), (&*access_key, "hunter2-hunter2")] {
            let address = location
                .endpoint
                .as_deref()
                .context("an endpoint")?
                .trim_start_matches("http://")
                .parse()?;
            let bucket = s3(s3_location(address, &location.bucket, access_key, secret_key)).await?;
            for error in [
                bucket.list_all("").await.map(drop).expect_err("refused"),
                bucket
                    .put("k", Bytes::new(), Put::if_absent())
                    .await
                    .map(drop)
                    .expect_err("refused"),
                bucket.get("k", 1).await.map(drop).expect_err("refused"),
            ] {
                assert!(
                    matches!(error, StorageError::WrongCredentials { .. }),
                    "{error:?}"
                );
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() -> Result<()> {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let bucket = s3(s3_location(address, BUCKET, ACCESS_KEY, SECRET_KEY)).await?;
    for error in errors(&*bucket).await {
        assert!(matches!(error, StorageError::Unreachable { .. }), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_named() -> Result<()> {
    let scratch = Scratch::new("ca-")?;
    let broken = scratch.join("ca.pem");
    std::fs::write(&broken, "not a certificate")?;
    let table = [
        (
            S3Location {
                ca_file: Some("/no/such/ca.pem".into()),
                ..S3Location::new("b")
            },
            "/no/such/ca.pem",
        ),
        (
            S3Location {
                ca_file: Some(broken),
                ..S3Location::new("b")
            },
            "no certificate",
        ),
        (
            S3Location {
                insecure_skip_tls_verify: true,
                ..S3Location::new("b")
            },
            "ca-file",
        ),
    ];
    for (location, expected) in table {
        let error = s3(location).await.err().context("refused")?.to_string();
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_read_only_location_is_never_written_to() -> Result<()> {
    let scratch = Scratch::new("read-only-")?;
    std::fs::write(scratch.join("k"), "x")?;
    let server = in_process_server()?;
    let location = s3_location(server.address(), BUCKET, ACCESS_KEY, SECRET_KEY);
    let buckets: [Arc<dyn Bucket>; 2] = [
        Arc::new(Folder::new(scratch.path(), true)),
        s3(S3Location {
            read_only: true,
            ..location
        })
        .await?,
    ];
    for bucket in buckets {
        assert!(bucket.read_only());
        for error in [
            bucket
                .put("new", Bytes::new(), Put::default())
                .await
                .map(drop)
                .expect_err("read-only"),
            bucket
                .upload("new", Put::default())
                .await
                .map(drop)
                .expect_err("read-only"),
            bucket.delete("k").await.expect_err("read-only"),
        ] {
            assert!(matches!(error, StorageError::ReadOnly { .. }), "{error}");
        }
    }
    assert_eq!(std::fs::read_dir(scratch.path())?.count(), 1);
    Ok(())
}

#[tokio::test]
async fn keys_outside_a_folder_are_refused() -> Result<()> {
    let scratch = Scratch::new("inside-")?;
    std::fs::create_dir(scratch.join("location"))?;
    std::fs::write(scratch.join("secret"), "x")?;
    let folder = Folder::new(scratch.join("location"), false);
    for key in ["../secret", "a/../../secret", "/etc/passwd", "a//b", "./a"] {
        let write = folder.put(key, Bytes::new(), Put::default()).await.map(drop);
        for result in [
            write,
            folder.get(key, 10).await.map(drop),
            folder.delete(key).await,
        ] {
            let error = result.expect_err(key);
            assert!(matches!(error, StorageError::BadKey { .. }), "{key}: {error}");
        }
    }
    assert!(folder.list_all("../").await?.is_empty());
    assert!(folder.list_folders("../").await?.is_empty());
    assert!(scratch.join("secret").exists());
    Ok(())
}

#[tokio::test]
async fn a_file_where_a_folder_should_be_is_named() -> Result<()> {
    let scratch = Scratch::new("file-")?;
    let folder = Folder::new(scratch.path(), false);
    let _ = folder.put("a", Bytes::from_static(b"x"), Put::default()).await?;
    let error = folder
        .put("a/b", Bytes::new(), Put::default())
        .await
        .expect_err("a is a file");
    assert!(matches!(error, StorageError::BadKey { .. }), "{error}");
    assert!(folder.get("a/b", 10).await?.is_none());
    Ok(())
}

/// A file system of its own, so that it can be full or read-only; unmounted when dropped.
struct Mount {
    path: PathBuf,
    _scratch: Scratch,
}

impl Mount {
    /// `None` where mounting is not allowed.
    fn new(options: &str) -> Result<Option<Self>> {
        let scratch = Scratch::new("mount-")?;
        let path = scratch.join("disk");
        std::fs::create_dir(&path)?;
        let mounted = run("mount", &["-t", "tmpfs", "-o", options, "tmpfs"], &path)?;
        Ok(mounted.then_some(Self {
            path,
            _scratch: scratch,
        }))
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> Result<bool> {
    let output = Command::new(program)
        .args(arguments)
        .arg(path)
        .output()
        .with_context(|| program.to_owned())?;
    Ok(output.status.success())
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &["-l"], &self.path);
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_leaves_nothing_half_written() -> Result<()> {
    let Some(mount) = Mount::new("size=2m")? else {
        eprintln!("skipped: mounting needs root");
        return Ok(());
    };
    let folder = Folder::new(&mount.path, false);
    let _ = folder
        .put("small", Bytes::from_static(b"x"), Put::default())
        .await?;
    let error = folder
        .put("a/big", Bytes::from(vec![1; 4 << 20]), Put::if_absent())
        .await
        .expect_err("full");
    assert!(matches!(error, StorageError::Full { .. }), "{error:?}");
    let mut upload = folder.upload("a/big", Put::default()).await?;
    let mut result = Ok(());
    for _ in 0..8 {
        result = upload.write(Bytes::from(vec![1; 1 << 20])).await;
        if result.is_err() {
            break;
        }
    }
    let error = match result {
        Err(error) => error,
        Ok(()) => upload.complete().await.expect_err("full"),
    };
    assert!(matches!(error, StorageError::Full { .. }), "{error:?}");
    let keys: Vec<_> = folder
        .list_all("")
        .await?
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert_eq!(keys, ["small"]);
    Ok(())
}

#[tokio::test]
async fn a_read_only_file_system_is_named() -> Result<()> {
    let Some(mount) = Mount::new("size=1m")? else {
        eprintln!("skipped: mounting needs root");
        return Ok(());
    };
    let folder = Folder::new(&mount.path, false);
    let _ = folder.put("k", Bytes::from_static(b"x"), Put::default()).await?;
    anyhow::ensure!(
        run("mount", &["-o", "remount,ro"], &mount.path)?,
        "cannot remount"
    );
    for error in [
        folder
            .put("new", Bytes::new(), Put::default())
            .await
            .map(drop)
            .expect_err("read-only"),
        folder
            .put("a/new", Bytes::new(), Put::if_absent())
            .await
            .map(drop)
            .expect_err("read-only"),
        folder.delete("k").await.expect_err("read-only"),
    ] {
        assert!(matches!(error, StorageError::ReadOnly { .. }), "{error:?}");
    }
    assert!(folder.get("k", 10).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_lock_is_refused_by_a_folder_and_named_by_a_bucket() -> Result<()> {
    let until = Timestamp::now() + SignedDuration::from_secs(3);
    let put = Put::if_absent().locked_until(Some(until));
    let scratch = Scratch::new("lock-")?;
    let folder = Folder::new(scratch.path(), false);
    let error = folder
        .put("k", Bytes::new(), put.clone())
        .await
        .expect_err("no locks");
    assert!(matches!(error, StorageError::Unsupported { .. }), "{error}");

    let store = Store::shared_versitygw_with_object_lock()?;
    let bucket = s3(versitygw_location(&store)?).await?;
    assert!(
        bucket
            .put("small", Bytes::from_static(b"x"), put.clone())
            .await?
            .is_stored()
    );
    let mut upload = bucket.upload("large", put).await?;
    upload.write(Bytes::from(vec![1; 6 << 20])).await?;
    assert!(upload.complete().await?.is_stored());
    let versions = bucket.list_versions("").await?;
    assert_eq!(versions.len(), 2, "{versions:?}");
    for version in &versions {
        let error = bucket
            .delete_version(&version.key, &version.version)
            .await
            .expect_err("locked");
        assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
    }
    // A plain deletion only hides it.
    bucket.delete("small").await?;
    assert!(bucket.head("small").await?.is_none());
    assert_eq!(
        bucket
            .list_versions("small")
            .await?
            .iter()
            .filter(|version| version.is_delete_marker)
            .count(),
        1
    );

    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    for version in bucket.list_versions("").await? {
        bucket.delete_version(&version.key, &version.version).await?;
    }
    assert_eq!(bucket.list_versions("").await?, []);
    Ok(())
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_found_out() -> Result<()> {
    let bucket = Careless(backup_engine::storage::memory::Memory::new());
    assert!(!probe::conditional_writes_work(&bucket).await?);
    let checks = probe::check(&bucket).await;
    let failed: Vec<_> = checks
        .iter()
        .filter(|check| check.outcome != Outcome::Passed)
        .map(|check| check.name)
        .collect();
    assert_eq!(failed, ["put if absent", "put if unchanged"]);
    Ok(())
}

/// Overwrites whatever the condition says, as some stores do.
struct Careless(backup_engine::storage::memory::Memory);

#[async_trait::async_trait]
impl Bucket for Careless {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn read_only(&self) -> bool {
        false
    }
    async fn put(&self, key: &str, body: Bytes, _put: Put) -> Result<PutOutcome, StorageError> {
        self.0.put(key, body, Put::default()).await
    }
    async fn upload(
        &self,
        key: &str,
        _put: Put,
    ) -> Result<Box<dyn backup_engine::storage::Upload>, StorageError> {
        self.0.upload(key, Put::default()).await
    }
    async fn settle(&self) -> Result<(), StorageError> {
        self.0.settle().await
    }

    async fn get(
        &self,
        key: &str,
        limit: u64,
    ) -> Result<Option<(Bytes, backup_engine::storage::Etag)>, StorageError> {
        self.0.get(key, limit).await
    }
    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.0.get_range(key, offset, length).await
    }
    async fn stream(&self, key: &str) -> Result<Option<backup_engine::storage::ObjectStream>, StorageError> {
        self.0.stream(key).await
    }
    async fn head(&self, key: &str) -> Result<Option<backup_engine::storage::ObjectInfo>, StorageError> {
        self.0.head(key).await
    }
    fn list(
        &self,
        prefix: &str,
    ) -> futures::stream::BoxStream<'static, Result<backup_engine::storage::ObjectInfo, StorageError>> {
        self.0.list(prefix)
    }
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.0.list_folders(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.0.delete(key).await
    }
    async fn list_versions(
        &self,
        prefix: &str,
    ) -> Result<Vec<backup_engine::storage::ObjectVersion>, StorageError> {
        self.0.list_versions(prefix).await
    }
    async fn delete_version(&self, key: &str, version: &str) -> Result<(), StorageError> {
        self.0.delete_version(key, version).await
    }
    async fn list_uploads(
        &self,
        prefix: &str,
    ) -> Result<Vec<backup_engine::storage::OpenUpload>, StorageError> {
        self.0.list_uploads(prefix).await
    }
    async fn abort_upload(&self, upload: &backup_engine::storage::OpenUpload) -> Result<(), StorageError> {
        self.0.abort_upload(upload).await
    }
}
