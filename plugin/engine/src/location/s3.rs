//! What a location on S3 means, setting by setting.
//!
//! In come values that `url` and `backup_storage_location` have checked, out go the answers that the client asks
//! for: is it AWS, path style or not, how it is called in messages.

use std::path::PathBuf;

use super::redacted::Redacted;

/// A bucket of an S3 server, or a prefix in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// Bucket name.
    pub bucket: String,
    /// Prefix within the bucket, without slashes at its ends; may be empty.
    pub prefix: String,
    /// URL of a server other than AWS.
    pub endpoint: Option<String>,
    /// Region; the AWS configuration's own if not given, `us-east-1` without one.
    pub region: Option<String>,
    /// `https://server/bucket/key` instead of `https://bucket.server/key`. By default for all but AWS.
    pub path_style: Option<bool>,
    /// Profile of the AWS configuration.
    pub profile: Option<String>,
    /// File with CA certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The same as bytes, from a BackupStorageLocation.
    pub ca_pem: Option<Vec<u8>>,
    /// No check of the server's certificate. Understood, so that it can be refused by name.
    pub insecure_skip_tls_verify: bool,
    /// Server-side encryption asked for with each object.
    pub encryption: Encryption,
    /// Checksums sent with each object.
    pub checksum: Checksum,
    /// Tags for each object, `key=value&key=value`.
    pub tagging: Option<String>,
    /// How firm an object lock is.
    pub lock_mode: LockMode,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Where the credentials come from.
    pub credentials: CredentialsFrom,
}

/// Server-side encryption.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Encryption {
    /// What the bucket does by itself.
    #[default]
    BucketDefault,
    /// Keys of the store.
    Aes256,
    /// A key of the key management service, its default key if none is named.
    Kms {
        /// Id, ARN or alias.
        key: Option<String>,
    },
}

/// Checksums of uploads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Checksum {
    /// For AWS yes; for others only where an object lock demands one, because many refuse them.
    #[default]
    Auto,
    /// None, except where an object lock demands one.
    Off,
    /// This algorithm, in S3's spelling.
    Algorithm(String),
}

/// How firm an object lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// May be lifted early by whoever holds the special right for it.
    #[default]
    Governance,
    /// May be lifted early by nobody.
    Compliance,
}

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CredentialsFrom {
    /// The AWS default chain: environment, profile, web identity, container, instance.
    #[default]
    Chain,
    /// Given beforehand.
    Keys {
        /// Access key id; it is a name, not a secret.
        access_key: String,
        /// Secret key.
        secret_key: Redacted,
        /// Session token.
        session_token: Option<Redacted>,
    },
    /// Text of an AWS credentials file, as in Velero's Secret.
    ProfileText(Redacted),
}

/// Checksum algorithms, in S3's spelling.
pub(super) const ALGORITHMS: [&str; 5] = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];

impl S3Location {
    /// A bucket with nothing else said.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            path_style: None,
            profile: None,
            ca_file: None,
            ca_pem: None,
            insecure_skip_tls_verify: false,
            encryption: Encryption::default(),
            checksum: Checksum::default(),
            tagging: None,
            lock_mode: LockMode::default(),
            read_only: false,
            credentials: CredentialsFrom::default(),
        }
    }

    /// The location for messages: bucket, prefix and, where it is not AWS's own, the server.
    pub fn describe(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        let server = self
            .endpoint
            .as_ref()
            .map(|endpoint| format!(" at {endpoint}"))
            .unwrap_or_default();
        format!("s3://{}{slash}{}{server}", self.bucket, self.prefix)
    }

    /// Whether AWS itself is meant.
    pub fn is_aws(&self) -> bool {
        let Some(endpoint) = &self.endpoint else {
            return true;
        };
        let host = endpoint.split("://").nth(1).unwrap_or(endpoint);
        let host = host
            .split(['/', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        [".amazonaws.com", ".amazonaws.com.cn"]
            .iter()
            .any(|suffix| host.ends_with(suffix))
    }

    /// Whether requests name the bucket in the path.
    pub fn uses_path_style(&self) -> bool {
        // Names with dots do not match AWS' certificate for `*.s3.amazonaws.com`.
        self.path_style
            .unwrap_or(!self.is_aws() || self.bucket.contains('.'))
    }
}

/// Why a name cannot be a bucket's, if it cannot. Stores differ in the details; this keeps out what would change the
/// meaning of a URL.
pub(super) fn bucket_fault(bucket: &str) -> Option<&'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if bucket.is_empty() {
        Some("it names no bucket; write s3://BUCKET")
    } else if bucket.len() > 63 {
        Some("a bucket's name has at most 63 characters")
    } else if !bucket.chars().all(legal) || bucket.starts_with(['.', '-']) {
        Some("a bucket's name has letters, digits, dots and dashes")
    } else {
        None
    }
}

/// Why a prefix cannot be one, if it cannot.
pub(super) fn prefix_fault(prefix: &str) -> Option<&'static str> {
    let odd = |part: &str| matches!(part, "" | "." | "..");
    (!prefix.is_empty() && prefix.split('/').any(odd)).then_some("the prefix has an empty part, `.` or `..`")
}

/// Why a text cannot be an endpoint, if it cannot.
pub(super) fn endpoint_fault(endpoint: &str) -> Option<&'static str> {
    let Some(rest) = endpoint
        .strip_prefix("https://")
        .or_else(|| endpoint.strip_prefix("http://"))
    else {
        return Some("an endpoint begins with https:// or http://");
    };
    if rest.contains('@') {
        return Some("an endpoint holds no credentials");
    }
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['?', '#', ' ']) || endpoint.parse::<http::Uri>().is_err() {
        return Some("it is not an endpoint such as https://minio.example.org:9000");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_is_told_from_other_servers() {
        let at = |endpoint: Option<&str>| S3Location {
            endpoint: endpoint.map(Into::into),
            ..S3Location::new("b")
        };
        assert!(at(None).is_aws() && !at(None).uses_path_style());
        assert!(at(Some("https://s3.eu-west-1.amazonaws.com")).is_aws());
        assert!(at(Some("https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com:443/")).is_aws());
        assert!(!at(Some("https://amazonaws.com.example.org")).is_aws());
        assert!(at(Some("http://127.0.0.1:9000")).uses_path_style());
        assert!(S3Location::new("with.dots").uses_path_style());
    }
}
