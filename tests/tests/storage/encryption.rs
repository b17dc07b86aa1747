//! Encryption by the store and tags: which requests carry them, and which do not.
//!
//! The requests are read between the client and a real server, which itself would take them without a word.

use anyhow::{Context, Result};
use backup_engine::location::{Location, S3Location, from_backup_storage_location, open_tuned};
use backup_engine::storage::Put;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::proxy::{FaultProxy, Request};
use backup_tests::store::in_process::{ACCESS_KEY, SECRET_KEY};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::subjects::{BUCKET, in_process_server, tuning};

const ENCRYPTION: &str = "x-amz-server-side-encryption";
const KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const TAGGING: &str = "x-amz-tagging";
const ARN: &str = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// What must stand in the requests that make an object, and nowhere else.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Expected {
    encryption: Option<&'static str>,
    key: Option<&'static str>,
    tagging: Option<&'static str>,
}

/// Puts, uploads, reads, lists and deletes, so that every kind of request is made.
async fn every_request(location: S3Location) -> Result<()> {
    let bucket = open_tuned(&Location::S3(Box::new(location)), tuning()).await?;
    let small = || Bytes::from_static(b"x");
    assert!(bucket.put("plain", small(), Put::default()).await?.is_stored());
    assert!(bucket.put("absent", small(), Put::if_absent()).await?.is_stored());
    let mut upload = bucket.upload("large", Put::if_absent()).await?;
    upload.write(Bytes::from(vec![7; 11 << 20])).await?;
    assert!(upload.complete().await?.is_stored());
    let mut upload = bucket.upload("given-up", Put::default()).await?;
    upload.write(Bytes::from(vec![7; 6 << 20])).await?;
    upload.abort().await?;
    assert_eq!(bucket.get_range("large", 5, 3).await?.len(), 3);
    assert!(bucket.head("large").await?.is_some());
    for object in bucket.list_all("").await? {
        bucket.delete(&object.key).await?;
    }
    Ok(())
}

/// Each request carries what it should.
fn check(requests: &[Request], expected: Expected) {
    let nothing = Expected {
        encryption: None,
        key: None,
        tagging: None,
    };
    for request in requests {
        let operation = request.s3_operation();
        let wanted = match operation {
            "PutObject" | "CreateMultipartUpload" | "CopyObject" => expected,
            _ => nothing,
        };
        let is = |name: &str, value: Option<&str>| {
            assert_eq!(
                request.header(name),
                value,
                "{name} of {operation} in {request:?}"
            );
            if value.is_some() {
                let authorization = request.header("authorization").unwrap_or_default();
                assert!(authorization.contains(name), "{name} is not signed: {request:?}");
            }
        };
        is(ENCRYPTION, wanted.encryption);
        is(KEY, wanted.key);
        is(TAGGING, wanted.tagging);
    }
}

fn operations(requests: &[Request]) -> Vec<&'static str> {
    let mut operations: Vec<_> = requests.iter().map(Request::s3_operation).collect();
    operations.sort_unstable();
    operations.dedup();
    operations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn velero_s_settings_stand_in_every_request_that_makes_an_object_and_in_no_other() -> Result<()> {
    let kms = Some("aws:kms");
    let table: [(Value, Expected); 5] = [
        (
            json!({}),
            Expected {
                encryption: None,
                key: None,
                tagging: None,
            },
        ),
        (
            json!({"serverSideEncryption": "AES256", "tagging": "team=shop&cost=a%20b"}),
            Expected {
                encryption: Some("AES256"),
                key: None,
                tagging: Some("team=shop&cost=a%20b"),
            },
        ),
        (
            json!({"serverSideEncryption": "aws:kms"}),
            Expected {
                encryption: kms,
                key: None,
                tagging: None,
            },
        ),
        // As in Velero a key says that it is KMS, whatever else is said.
        (
            json!({"kmsKeyId": ARN}),
            Expected {
                encryption: kms,
                key: Some(ARN),
                tagging: None,
            },
        ),
        (
            json!({"kmsKeyId": ARN, "serverSideEncryption": "AES256"}),
            Expected {
                encryption: kms,
                key: Some(ARN),
                tagging: None,
            },
        ),
    ];
    let server = in_process_server()?;
    let secret = format!("[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n");
    for (config, expected) in table {
        let recorder = FaultProxy::start(server.address()).await?;
        let mut config = config;
        config["region"] = "us-east-1".into();
        config["s3ForcePathStyle"] = "true".into();
        config["s3Url"] = format!("http://{}", recorder.address()).into();
        let spec = json!({"provider": "aws", "objectStorage": {"bucket": BUCKET}, "config": config});
        let Location::S3(location) = from_backup_storage_location(&spec, Some(secret.as_bytes()))? else {
            anyhow::bail!("it is on S3");
        };
        every_request(*location)
            .await
            .with_context(|| config.to_string())?;
        let requests = recorder.requests();
        let all = [
            "AbortMultipartUpload",
            "CompleteMultipartUpload",
            "CreateMultipartUpload",
            "DeleteObject",
            "GetObject",
            "HeadObject",
            "ListObjectsV2",
            "PutObject",
            "UploadPart",
        ];
        assert_eq!(operations(&requests), all);
        check(&requests, expected);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_a_kms_key_leaves_no_object_without_it() -> Result<()> {
    let server = in_process_server()?;
    let recorder = FaultProxy::start(server.address()).await?;
    let namespace = Cluster::shared()?.namespace()?;
    let location = format!(
        "s3://{BUCKET}/kms?endpoint=http://{}&region=us-east-1&sse=aws:kms&kms-key-id={ARN}&tagging=team%3Dshop",
        recorder.address()
    );
    let plugin = Plugin::bare()?
        .with_kubeconfig(Cluster::shared()?.kubeconfig())?
        .with_env("KUBECTL_BACKUP_LOCATION", &location)
        .with_env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .with_env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    plugin.run(["create", "b1", "-n", namespace.name()])?.ok();
    // A copy within the store makes objects too.
    let copy = location.replace("/kms?", "/copy?");
    plugin.run(["copy", "b1", "--to", &copy])?.ok();
    let requests = recorder.requests();
    let written = requests
        .iter()
        .filter(|request| request.s3_operation() == "PutObject");
    assert!(written.count() > 10, "{requests:?}");
    check(
        &requests,
        Expected {
            encryption: Some("aws:kms"),
            key: Some(ARN),
            tagging: Some("team=shop"),
        },
    );
    Ok(())
}
