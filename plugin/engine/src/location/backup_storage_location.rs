//! A Velero BackupStorageLocation as one of our locations.
//!
//! In come its `spec` as JSON and, if it names one, the bytes of its Secret; out comes the [`Location`] that Velero
//! would use with them. Nothing is looked up here. Settings that change where or how bytes lie and that we do not
//! have are refused by name; a guess would read or write the wrong place.

use serde_json::Value;

use super::redacted::Redacted;
use super::s3::{CredentialsFrom, Encryption, S3Location, bucket_fault, endpoint_fault, prefix_fault};
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

/// Standard base64, as JSON carries bytes.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let padding = digits.iter().rev().take_while(|byte| **byte == b'=').count();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits.get(..digits.len().checked_sub(padding.min(2))?)? {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xFF).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::s3::Checksum;
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
    fn base64_as_kubernetes_writes_it() {
        let table: [(&str, Option<&[u8]>); 7] = [
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
