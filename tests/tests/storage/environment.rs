//! What a client takes from its surroundings: credentials files, variables, proxies, certificates.
//!
//! Variables belong to a process, so cases that need them run this test binary again with one ignored test that does
//! a round trip at the location that a variable names.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use backup_engine::location::{Location, S3Location, from_backup_storage_location, open_tuned, url};
use backup_engine::storage::{Put, StorageError};
use backup_tests::process::Server;
use backup_tests::proxy::{Fault, FaultProxy};
use backup_tests::scratch::Scratch;
use backup_tests::servers::{self, Program};
use backup_tests::store::in_process::{ACCESS_KEY, SECRET_KEY};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::subjects::{BUCKET, in_process_server, s3_location, tuning};

const URL: &str = "STORAGE_TEST_URL";

async fn round_trip(location: &Location) -> Result<(), StorageError> {
    let bucket = open_tuned(location, tuning()).await?;
    let _ = bucket.put("k", Bytes::from_static(b"x"), Put::default()).await?;
    assert_eq!(bucket.list_all("").await?.len(), 1);
    bucket.delete("k").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the cases below, with variables of their own"]
async fn child() -> Result<()> {
    let location = url::parse(&std::env::var(URL)?)?;
    Ok(round_trip(&location).await?)
}

/// Runs [`child`] with these variables and no others of AWS or proxies; what it printed.
fn child_with(url: &str, variables: &[(&str, &str)]) -> Result<(bool, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([
        "--exact",
        "environment::child",
        "--include-ignored",
        "--nocapture",
    ]);
    command
        .env_clear()
        .env("RUST_BACKTRACE", "0")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(URL, url);
    let output = command.envs(variables.iter().copied()).output()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(text.contains("running 1 test"), "{text}");
    Ok((output.status.success(), text))
}

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
    ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_variables_and_profiles() -> Result<()> {
    let server = in_process_server()?;
    let url = format!("s3://{BUCKET}?endpoint=http://{}", server.address());
    let (passed, text) = child_with(&url, &KEYS)?;
    assert!(passed, "{text}");

    let folder = Scratch::new("aws-")?;
    let file = folder.join("credentials");
    let text = format!("[shop]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    std::fs::write(&file, text)?;
    let file = file.to_str().context("UTF-8")?;
    let files = ("AWS_SHARED_CREDENTIALS_FILE", file);
    let (passed, text) = child_with(&url, &[files, ("AWS_PROFILE", "shop")])?;
    assert!(passed, "{text}");
    let (passed, text) = child_with(&format!("{url}&profile=shop"), &[files])?;
    assert!(passed, "{text}");

    let (passed, text) = child_with(&url, &[files])?;
    assert!(!passed && text.contains("no usable S3 credentials"), "{text}");
    // The endpoint may come from the AWS configuration too.
    let endpoint = format!("http://{}", server.address());
    let endpoint = ("AWS_ENDPOINT_URL", endpoint.as_str());
    let (passed, text) = child_with(&format!("s3://{BUCKET}"), &[KEYS[0], KEYS[1], endpoint])?;
    assert!(passed, "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_for_s3_alone_counts_like_one_for_all_services_and_before_it() -> Result<()> {
    let server = in_process_server()?;
    let url = format!("s3://{BUCKET}");
    let endpoint = format!("http://{}", server.address());
    let own = ("AWS_ENDPOINT_URL_S3", endpoint.as_str());
    let (passed, text) = child_with(&url, &[KEYS[0], KEYS[1], own])?;
    assert!(passed, "{text}");
    let all = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let (passed, text) = child_with(&url, &[KEYS[0], KEYS[1], own, all])?;
    assert!(passed, "{text}");
    // A location that names its endpoint means that one.
    let (passed, text) = child_with(
        &format!("{url}?endpoint=http://127.0.0.1:1"),
        &[KEYS[0], KEYS[1], own],
    )?;
    assert!(!passed && text.contains("127.0.0.1:1"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_variables_are_honoured() -> Result<()> {
    let server = in_process_server()?;
    let proxy = FaultProxy::start(server.address()).await?;
    proxy.arm(1_000, Fault::Delay(std::time::Duration::ZERO));
    // Nobody knows this name, so what arrives came through the proxy.
    let url = format!("s3://{BUCKET}?endpoint=http://s3.invalid&region=us-east-1");
    let address = format!("http://{}", proxy.address());
    let through = ("HTTP_PROXY", address.as_str());
    let (passed, text) = child_with(&url, &[KEYS[0], KEYS[1], through])?;
    assert!(passed, "{text}");
    assert!(proxy.used() > 0);

    proxy.arm(1_000, Fault::Delay(std::time::Duration::ZERO));
    let url = format!(
        "s3://{BUCKET}?endpoint=http://{}&region=us-east-1",
        server.address()
    );
    let (passed, text) = child_with(&url, &[KEYS[0], KEYS[1], through, ("NO_PROXY", "127.0.0.1")])?;
    assert!(passed, "{text}");
    assert_eq!(proxy.used(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_storage_location_opens_with_its_secret() -> Result<()> {
    let server = in_process_server()?;
    let spec = serde_json::json!({
        "provider": "velero.io/aws",
        "objectStorage": {"bucket": BUCKET, "prefix": "cluster-a"},
        "config": {
            "region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": format!("http://{}", server.address()),
            "checksumAlgorithm": ""
        }
    });
    let secret = format!("[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n");
    let location = from_backup_storage_location(&spec, Some(secret.as_bytes()))?;
    round_trip(&location).await?;
    let wrong = secret.replace(SECRET_KEY, "hunter2");
    let location = from_backup_storage_location(&spec, Some(wrong.as_bytes()))?;
    let error = round_trip(&location).await.expect_err("a wrong key");
    assert!(matches!(error, StorageError::WrongCredentials { .. }), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_are_sent_when_the_location_names_an_algorithm() -> Result<()> {
    let server = in_process_server()?;
    for algorithm in ["CRC32", "CRC32C", "SHA256", "CRC64NVME"] {
        let location = S3Location {
            checksum: backup_engine::location::s3::Checksum::Algorithm(algorithm.into()),
            ..s3_location(server.address(), BUCKET, ACCESS_KEY, SECRET_KEY)
        };
        let bucket = open_tuned(&Location::S3(Box::new(location)), tuning()).await?;
        let body = Bytes::from(vec![7; 11 << 20]);
        let mut upload = bucket.upload("large", Put::default()).await?;
        upload.write(body.clone()).await.context(algorithm)?;
        assert!(upload.complete().await.context(algorithm)?.is_stored());
        assert!(bucket.get("large", 1 << 30).await?.context("it is there")?.0 == body);
        assert!(
            bucket
                .put("small", Bytes::from_static(b"x"), Put::default())
                .await
                .context(algorithm)?
                .is_stored()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_of_its_own_is_trusted_and_an_unknown_one_is_not() -> Result<()> {
    let folder = Scratch::new("tls-")?;
    let (ca, certificate, key) = certificates("127.0.0.1")?;
    std::fs::write(folder.join("ca.pem"), ca)?;
    std::fs::write(folder.join("tls.crt"), certificate)?;
    std::fs::write(folder.join("tls.key"), key)?;
    std::fs::create_dir_all(folder.join("buckets").join(BUCKET))?;
    let (_server, port) = versitygw_with_tls(folder.path())?;
    let location = S3Location {
        endpoint: Some(format!("https://127.0.0.1:{port}")),
        ca_file: Some(folder.join("ca.pem")),
        ..s3_location(([127, 0, 0, 1], port).into(), BUCKET, ACCESS_KEY, SECRET_KEY)
    };
    let mut result = round_trip(&Location::S3(Box::new(location.clone()))).await;
    for _ in 0..50 {
        if !matches!(result, Err(StorageError::Unreachable { .. })) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        result = round_trip(&Location::S3(Box::new(location.clone()))).await;
    }
    result?;
    let stranger = S3Location {
        ca_file: None,
        ..location
    };
    let error = round_trip(&Location::S3(Box::new(stranger)))
        .await
        .expect_err("an unknown CA");
    assert!(matches!(error, StorageError::Unreachable { .. }), "{error:?}");
    assert!(
        error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
    Ok(())
}

/// A CA, and a certificate for this name or address with its key, as PEM.
pub(crate) fn certificates(name: &str) -> Result<(String, String, String)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([name.to_owned()])?.signed_by(&key, &ca)?;
    Ok((ca.pem(), certificate.pem(), key.serialize_pem()))
}

pub(crate) fn versitygw_with_tls(folder: &Path) -> Result<(Server, u16)> {
    servers::binary(Program::Versitygw)?;
    let port = backup_tests::cluster::free_port()?;
    let mut command = servers::command(Program::Versitygw)?;
    command
        .args([
            "--port",
            &format!("127.0.0.1:{port}"),
            "--region",
            "us-east-1",
            "--quiet",
        ])
        .arg("--cert")
        .arg(folder.join("tls.crt"))
        .arg("--key")
        .arg(folder.join("tls.key"))
        .arg("posix")
        .arg(folder.join("buckets"))
        .env("ROOT_ACCESS_KEY", ACCESS_KEY)
        .env("ROOT_SECRET_KEY", SECRET_KEY);
    Ok((
        Server::start("versitygw", command, &folder.join("versitygw.log"))?,
        port,
    ))
}
