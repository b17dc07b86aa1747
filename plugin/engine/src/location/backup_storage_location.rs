//! A Velero BackupStorageLocation as one of our locations.
//!
//! In come its `spec` as JSON and, if it names one, the bytes of its Secret; out comes the [`Location`] that Velero
//! would use with them. Nothing is looked up here. Settings that change where or how bytes lie and that we do not
//! have are refused by name; a guess would read or write the wrong place.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::redacted::Redacted;
use super::s3::{
    Checksum, CredentialsFrom, Encryption, S3Location, bucket_fault, endpoint_fault, prefix_fault,
};
use super::{Location, LocationError, url};

/// Keys of `spec.config` that are understood.
const CONFIG_KEYS: [&str; 14] = [
    "region",
    "s3ForcePathStyle",
    "s3Url",
    "publicUrl",
    "kmsKeyId",
    "serverSideEncryption",
    "customerKeyEncryptionFile",
    "customerKeyEncryptionSecret",
    "signatureVersion",
    "profile",
    "enableSharedConfig",
    "insecureSkipTLSVerify",
    "tagging",
    "checksumAlgorithm",
];

/// Converts a `spec`. `credentials` is the value of the Secret's key that `spec.credential` names (or of
/// `cloud-credentials`/`cloud`): the text of an AWS credentials file. Without it the AWS default chain is used.
pub fn from_backup_storage_location(
    spec: &Value,
    credentials: Option<&[u8]>,
) -> Result<Location, LocationError> {
    let provider = spec["provider"].as_str().unwrap_or_default();
    if !matches!(provider, "aws" | "velero.io/aws") {
        let reason = format!("{provider:?} is not supported by engine direct; only aws is");
        return Err(fail("provider", reason));
    }
    let store = &spec["objectStorage"];
    let bucket = text(store, "objectStorage", "bucket")?.unwrap_or_default();
    let prefix = text(store, "objectStorage", "prefix")?.unwrap_or_default();
    let prefix = prefix.trim_matches('/');
    if let Some(fault) = bucket_fault(bucket) {
        return Err(fail("objectStorage.bucket", fault.into()));
    }
    if let Some(fault) = prefix_fault(prefix) {
        return Err(fail("objectStorage.prefix", fault.into()));
    }
    let mut location = S3Location {
        prefix: prefix.to_owned(),
        ..S3Location::new(bucket)
    };
    if let Some(encoded) = text(store, "objectStorage", "caCert")? {
        let pem = base64(encoded).ok_or_else(|| fail("objectStorage.caCert", "it is not base64".into()))?;
        location.ca_pem = Some(pem);
    }
    location.read_only = match text(spec, "", "accessMode")? {
        None | Some("" | "ReadWrite") => false,
        Some("ReadOnly") => true,
        Some(other) => return Err(fail("accessMode", format!("{other:?} is not known"))),
    };
    config(&mut location, &spec["config"])?;
    if let Some(bytes) = credentials {
        let text = String::from_utf8(bytes.to_vec());
        let text = text.map_err(|_| fail("credential", "the Secret's value is not text".into()))?;
        location.credentials = CredentialsFrom::ProfileText(Redacted::new(text));
    }
    Ok(Location::S3(Box::new(location)))
}

/// The `spec` by which Velero uses the same place, without credentials. `ca` are the certificates to trust.
///
/// # Errors
/// [`LocationError::BackupStorageLocation`] for a folder, which Velero cannot use.
pub fn to_backup_storage_location(location: &Location, ca: Option<&[u8]>) -> Result<Value, LocationError> {
    let Location::S3(s3) = location else {
        return Err(fail(
            "objectStorage",
            "Velero writes to buckets only, and this is a folder".into(),
        ));
    };
    let mut config = serde_json::Map::new();
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            config.insert(key.to_owned(), value.into());
        }
    };
    // Velero asks AWS where the bucket is; a server of one's own has no answer to that.
    let region = s3
        .region
        .as_deref()
        .or_else(|| s3.endpoint.is_some().then_some("us-east-1"));
    set("region", region);
    set("s3Url", s3.endpoint.as_deref());
    set("s3ForcePathStyle", s3.uses_path_style().then_some("true"));
    set("profile", s3.profile.as_deref());
    set(
        "insecureSkipTLSVerify",
        s3.insecure_skip_tls_verify.then_some("true"),
    );
    set("tagging", s3.tagging.as_deref());
    match &s3.encryption {
        Encryption::BucketDefault => {}
        Encryption::Aes256 => set("serverSideEncryption", Some("AES256")),
        Encryption::Kms { key: None } => set("serverSideEncryption", Some("aws:kms")),
        Encryption::Kms { key: Some(key) } => set("kmsKeyId", Some(key)),
    }
    match &s3.checksum {
        // As the AWS SDK does by itself for AWS; many others refuse checksums.
        Checksum::Auto => set("checksumAlgorithm", (!s3.is_aws()).then_some("")),
        Checksum::Off => set("checksumAlgorithm", Some("")),
        Checksum::Algorithm(name) => set("checksumAlgorithm", Some(name)),
    }
    let mut store = json!({ "bucket": s3.bucket });
    if !s3.prefix.is_empty() {
        store["prefix"] = s3.prefix.as_str().into();
    }
    if let Some(pem) = ca.or(s3.ca_pem.as_deref()) {
        store["caCert"] = json!(ByteString(pem.to_vec()));
    }
    let mut spec = json!({ "provider": "aws", "objectStorage": store });
    if !config.is_empty() {
        spec["config"] = config.into();
    }
    if s3.read_only {
        spec["accessMode"] = "ReadOnly".into();
    }
    Ok(spec)
}

fn config(location: &mut S3Location, config: &Value) -> Result<(), LocationError> {
    let empty = serde_json::Map::new();
    let config = match config {
        Value::Null => &empty,
        Value::Object(config) => config,
        _ => return Err(fail("config", "it is not an object".into())),
    };
    let (mut sse, mut kms_key) = (None, None);
    for (key, value) in config {
        let field = format!("config.{key}");
        let Some(value) = value.as_str() else {
            return Err(fail(&field, "it is not a text".into()));
        };
        let refuse = |reason: String| fail(&field, reason);
        match key.as_str() {
            // Velero accepts these and they change nothing for us: presigned URLs, an old signature, file loading.
            "publicUrl" | "signatureVersion" | "enableSharedConfig" => {}
            _ if value.is_empty() && key != "checksumAlgorithm" => {}
            "region" => location.region = Some(value.to_owned()),
            "s3ForcePathStyle" => location.path_style = Some(boolean(&field, value)?),
            "s3Url" => {
                if let Some(fault) = endpoint_fault(value) {
                    return Err(refuse(fault.into()));
                }
                location.endpoint = Some(value.trim_end_matches('/').to_owned());
            }
            "kmsKeyId" => kms_key = Some(value.to_owned()),
            "serverSideEncryption" => sse = Some(value),
            "customerKeyEncryptionFile" | "customerKeyEncryptionSecret" => {
                return Err(refuse(
                    "keys held by the customer (SSE-C) are not supported; use engine velero".into(),
                ));
            }
            "profile" => location.profile = Some(value.to_owned()),
            "insecureSkipTLSVerify" => location.insecure_skip_tls_verify = boolean(&field, value)?,
            "tagging" => location.tagging = Some(value.to_owned()),
            "checksumAlgorithm" => location.checksum = url::checksum(value).map_err(refuse)?,
            _ => {
                return Err(refuse(format!(
                    "it is not known; known are {}",
                    CONFIG_KEYS.join(", ")
                )));
            }
        }
    }
    location.encryption = match url::encryption_of(sse, kms_key) {
        Ok(encryption) => encryption,
        // Velero lets the key win.
        Err(_) if sse == Some("AES256") => Encryption::Kms {
            key: config["kmsKeyId"].as_str().map(Into::into),
        },
        Err(reason) => return Err(fail("config.serverSideEncryption", reason)),
    };
    Ok(())
}

/// Go's spellings of a boolean.
fn boolean(field: &str, value: &str) -> Result<bool, LocationError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(fail(field, format!("{value:?} is not true or false"))),
    }
}

fn text<'a>(object: &'a Value, path: &str, key: &str) -> Result<Option<&'a str>, LocationError> {
    match &object[key] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => {
            let dot = if path.is_empty() { "" } else { "." };
            Err(fail(&format!("{path}{dot}{key}"), "it is not a text".into()))
        }
    }
}

fn fail(field: &str, reason: String) -> LocationError {
    LocationError::BackupStorageLocation {
        field: field.to_owned(),
        reason,
    }
}

/// Standard base64, as Kubernetes writes bytes; blanks between digits are passed over.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split_ascii_whitespace().collect();
    serde_json::from_value(digits.into())
        .ok()
        .map(|ByteString(bytes)| bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn convert(spec: &Value, credentials: Option<&[u8]>) -> Result<S3Location, LocationError> {
        match from_backup_storage_location(spec, credentials)? {
            Location::S3(location) => Ok(*location),
            Location::Folder(_) => unreachable!("a BackupStorageLocation is never a folder"),
        }
    }

    #[test]
    fn a_full_spec_is_understood() {
        let spec = json!({
            "provider": "aws",
            "objectStorage": {"bucket": "velero", "prefix": "/cluster-a/", "caCert": "UEVN"},
            "accessMode": "ReadOnly",
            "credential": {"name": "cloud-credentials", "key": "cloud"},
            "config": {
                "region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": "http://127.0.0.1:9000",
                "checksumAlgorithm": "", "kmsKeyId": "k", "profile": "velero", "tagging": "a=b",
                "publicUrl": "http://outside", "enableSharedConfig": "true"
            },
            "default": true
        });
        let secret = b"[velero]\naws_access_key_id=AK\naws_secret_access_key=hunter2\n";
        let location = convert(&spec, Some(secret)).unwrap();
        assert_eq!(
            location.describe(),
            "s3://velero/cluster-a at http://127.0.0.1:9000"
        );
        assert_eq!(location.ca_pem.as_deref(), Some(b"PEM".as_slice()));
        assert_eq!(location.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(location.checksum, Checksum::Off);
        assert_eq!(
            location.encryption,
            Encryption::Kms {
                key: Some("k".into())
            }
        );
        assert!(location.read_only && location.uses_path_style());
        assert!(!format!("{location:?}").contains("hunter2"));
    }

    #[test]
    fn what_we_do_not_have_is_refused_by_name() {
        let with =
            |config: Value| json!({"provider": "aws", "objectStorage": {"bucket": "b"}, "config": config});
        let table = [
            (
                json!({"provider": "azure", "objectStorage": {"bucket": "b"}}),
                "azure",
            ),
            (
                json!({"provider": "aws", "objectStorage": {}}),
                "objectStorage.bucket",
            ),
            (with(json!({"regoin": "x"})), "config.regoin"),
            (with(json!({"s3ForcePathStyle": true})), "config.s3ForcePathStyle"),
            (
                with(json!({"s3ForcePathStyle": "yes"})),
                "config.s3ForcePathStyle",
            ),
            (with(json!({"customerKeyEncryptionFile": "/k"})), "SSE-C"),
            (with(json!({"s3Url": "minio:9000"})), "config.s3Url"),
        ];
        for (spec, expected) in table {
            let text = convert(&spec, None).expect_err(expected).to_string();
            assert!(text.contains(expected), "{spec}: {text}");
        }
    }

    #[test]
    fn what_velero_is_told_means_the_same_place() {
        for url in [
            "s3://b",
            "s3://b/p?region=eu-central-1",
            "s3://b/p/q?endpoint=http://127.0.0.1:9000&region=r&path-style=true",
            "s3://b?endpoint=https://s3.local&region=r&checksum=CRC32C&profile=x&tagging=a%3Db",
            "s3://b?region=r&checksum=off&sse=AES256",
            "s3://b?region=r&sse=aws:kms",
            "s3://b?region=r&sse=aws:kms&kms-key-id=k",
            "s3://b?region=r&read-only=true",
        ] {
            let wanted = url::parse(url).unwrap();
            let spec = to_backup_storage_location(&wanted, Some(b"PEM")).unwrap();
            let Location::S3(mut wanted) = wanted else {
                unreachable!("{url}")
            };
            let read = convert(&spec, None).unwrap();
            // What is a default of ours is said to Velero, whose default differs.
            wanted.ca_pem = Some(b"PEM".to_vec());
            wanted.path_style = read.path_style;
            wanted.checksum = match wanted.checksum {
                Checksum::Auto if !wanted.is_aws() => Checksum::Off,
                other => other,
            };
            assert_eq!(read, *wanted, "{url}: {spec:#}");
            assert_eq!(read.uses_path_style(), wanted.uses_path_style(), "{url}");
        }
        let folder = url::parse("file:///srv").unwrap();
        assert!(to_backup_storage_location(&folder, None).is_err());
    }

    #[test]
    fn base64_as_kubernetes_writes_it() {
        let table: [(&str, Option<&[u8]>); 8] = [
            ("QU\nJD ", Some(b"ABC")),
            ("", Some(b"")),
            ("QQ==", Some(b"A")),
            ("QUI=", Some(b"AB")),
            ("QUJD", Some(b"ABC")),
            ("/+8A", Some(&[0xFF, 0xEF, 0])),
            ("QQ=", None),
            ("Q*==", None),
        ];
        for (text, bytes) in table {
            assert_eq!(base64(text).as_deref(), bytes, "{text}");
        }
    }
}
