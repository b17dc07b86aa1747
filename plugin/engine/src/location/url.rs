//! Locations as URLs, read and printed.
//!
//! `s3://BUCKET[/PREFIX]?key=value&...` and `file:///ABSOLUTE/FOLDER`. What is printed reads back as the same
//! location (credentials excepted, which are never in a URL). Every key of the query is known by name; an
//! unknown one is refused with the nearest known one, because a setting that is silently ignored shows up as a
//! failed restore.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::nearest::nearest;
use super::s3::{
    ALGORITHMS, Checksum, Encryption, LockMode, S3Location, bucket_fault, endpoint_fault, prefix_fault,
};
use super::{FolderLocation, Location, LocationError};

/// Settings of an S3 location.
const S3_KEYS: [&str; 13] = [
    "endpoint",
    "region",
    "path-style",
    "profile",
    "ca-file",
    "insecure-skip-tls-verify",
    "sse",
    "kms-key-id",
    "checksum",
    "tagging",
    "lock-mode",
    "read-only",
    "prefix",
];

/// Words that people try for credentials.
const CREDENTIAL_WORDS: [&str; 4] = ["key", "secret", "token", "password"];

const CREDENTIALS_HINT: &str =
    "credentials do not belong in a location; use AWS_PROFILE, the AWS_ variables or profile=NAME";

/// Whether a word is meant as a URL rather than as a name.
pub fn is_url(word: &str) -> bool {
    word.contains("://") || word.starts_with('/') || word.starts_with("./") || word.starts_with("../")
}

/// Reads a URL.
pub fn parse(url: &str) -> Result<Location, LocationError> {
    let result = match url.split_once("://") {
        Some(("s3", rest)) => parse_s3(rest).map(|location| Location::S3(Box::new(location))),
        Some(("file", rest)) => parse_file(rest).map(Location::Folder),
        Some((scheme, _)) => Err(format!(
            "{scheme}:// is not supported; write s3://BUCKET or file:///FOLDER"
        )),
        None if url.starts_with('/') => Err(format!("a folder is written file://{url}")),
        None => Err("write s3://BUCKET[/PREFIX] or file:///ABSOLUTE/FOLDER".to_owned()),
    };
    result.map_err(|reason| LocationError::Url {
        url: shown(url),
        reason,
    })
}

/// The URL for a message, without a user part or query, where people put credentials by mistake.
fn shown(url: &str) -> String {
    let base = url.split(['?', '#']).next().unwrap_or_default();
    match base.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest
                .split_once('/')
                .map_or((rest, None), |(host, path)| (host, Some(path)));
            let host = host.rsplit('@').next().unwrap_or(host);
            let path = path.map(|path| format!("/{path}")).unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => base.to_owned(),
    }
}

fn parse_file(rest: &str) -> Result<FolderLocation, String> {
    let (path, query) = split_query(rest);
    if !path.starts_with('/') {
        return Err("a folder is given by its absolute path: file:///FOLDER, with three slashes".into());
    }
    let mut folder = FolderLocation {
        path: PathBuf::from(decode(path)?),
        read_only: false,
    };
    for pair in query {
        match pair? {
            (key, value) if key == "read-only" => folder.read_only = boolean(&key, &value)?,
            (key, _) => return Err(format!("a folder has no setting {key:?}; it has read-only=true")),
        }
    }
    if folder
        .path
        .components()
        .any(|part| part == std::path::Component::ParentDir)
    {
        return Err("a folder's path has no `..`".into());
    }
    Ok(folder)
}

fn parse_s3(rest: &str) -> Result<S3Location, String> {
    let (place, query) = split_query(rest);
    if place.contains('@') {
        return Err(CREDENTIALS_HINT.into());
    }
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = decode(prefix)?;
    let prefix = prefix.trim_end_matches('/');
    if let Some(fault) = bucket_fault(bucket).or_else(|| prefix_fault(prefix)) {
        return Err(fault.into());
    }
    let mut location = S3Location {
        prefix: prefix.to_owned(),
        ..S3Location::new(bucket)
    };
    let (mut encryption, mut kms_key) = (None, None);
    let mut seen: Vec<String> = Vec::new();
    for pair in query {
        let (key, value) = pair?;
        if seen.contains(&key) {
            return Err(format!("{key} is given twice"));
        }
        match key.as_str() {
            "sse" => encryption = Some(value),
            "kms-key-id" => kms_key = Some(required(&key, value)?),
            _ => set(&mut location, &key, value)?,
        }
        seen.push(key);
    }
    location.encryption = encryption_of(encryption.as_deref(), kms_key)?;
    Ok(location)
}

fn set(location: &mut S3Location, key: &str, value: String) -> Result<(), String> {
    match key {
        "endpoint" => {
            if let Some(fault) = endpoint_fault(&value) {
                return Err(format!("endpoint: {fault}"));
            }
            location.endpoint = Some(value.trim_end_matches('/').to_owned());
        }
        "region" => location.region = Some(required(key, value)?),
        "path-style" => location.path_style = Some(boolean(key, &value)?),
        "profile" => location.profile = Some(required(key, value)?),
        "ca-file" => {
            let file = PathBuf::from(required(key, value)?);
            if !file.is_absolute() {
                return Err("ca-file is given by its absolute path".into());
            }
            location.ca_file = Some(file);
        }
        "insecure-skip-tls-verify" => location.insecure_skip_tls_verify = boolean(key, &value)?,
        "checksum" => location.checksum = checksum(&value)?,
        "tagging" => location.tagging = Some(required(key, value)?),
        "lock-mode" => {
            location.lock_mode = match value.as_str() {
                "governance" => LockMode::Governance,
                "compliance" => LockMode::Compliance,
                _ => return Err(format!("lock-mode={value:?}: it is governance or compliance")),
            }
        }
        "read-only" => location.read_only = boolean(key, &value)?,
        "prefix" => return Err("the prefix is part of the path: s3://BUCKET/PREFIX".into()),
        _ => return Err(unknown(key)),
    }
    Ok(())
}

fn unknown(key: &str) -> String {
    let lower = key.to_ascii_lowercase();
    if CREDENTIAL_WORDS.iter().any(|word| lower.contains(word)) {
        return format!("{key}: {CREDENTIALS_HINT}");
    }
    match nearest(key, S3_KEYS) {
        Some(near) => format!("unknown setting {key:?}; did you mean {near:?}?"),
        None => format!("unknown setting {key:?}; known are {}", S3_KEYS.join(", ")),
    }
}

pub(super) fn encryption_of(sse: Option<&str>, key: Option<String>) -> Result<Encryption, String> {
    match (sse, key) {
        (None, None) => Ok(Encryption::BucketDefault),
        (Some("AES256"), None) => Ok(Encryption::Aes256),
        (Some("AES256"), Some(_)) => Err("a KMS key needs sse=aws:kms".into()),
        (Some("aws:kms") | None, key) => Ok(Encryption::Kms { key }),
        (Some(other), _) => Err(format!("sse={other:?}: it is AES256 or aws:kms")),
    }
}

pub(super) fn checksum(value: &str) -> Result<Checksum, String> {
    let upper = value.to_ascii_uppercase();
    match upper.as_str() {
        "AUTO" => Ok(Checksum::Auto),
        "" | "OFF" | "NONE" => Ok(Checksum::Off),
        name if ALGORITHMS.contains(&name) => Ok(Checksum::Algorithm(upper)),
        _ => Err(format!(
            "checksum={value:?}: it is auto, off, {}",
            ALGORITHMS.join(", ")
        )),
    }
}

fn required(key: &str, value: String) -> Result<String, String> {
    if value.is_empty() {
        Err(format!("{key} has no value"))
    } else {
        Ok(value)
    }
}

pub(super) fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{key}={value:?}: it is true or false")),
    }
}

type Pair = Result<(String, String), String>;

fn split_query(rest: &str) -> (&str, impl Iterator<Item = Pair>) {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    (
        place,
        pairs.map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} has no value"))?;
            Ok((decode(key)?, decode(value)?))
        }),
    )
}

/// Undoes `%XX`. A `+` stays: these are not forms, and regions or tags may hold one.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after
            .first_chunk::<2>()
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = digits
            .filter(|pair| !pair.starts_with('+'))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.ok_or("a % is written %25")?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:,+".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Prints a location so that [`parse`] reads it back. Credentials and a CA that came as bytes are left out.
pub fn print(location: &Location) -> String {
    match location {
        Location::Folder(folder) => {
            let read_only = if folder.read_only { "?read-only=true" } else { "" };
            format!("file://{}{read_only}", encode(&folder.path.to_string_lossy()))
        }
        Location::S3(location) => {
            let slash = if location.prefix.is_empty() { "" } else { "/" };
            let base = format!("s3://{}{slash}{}", location.bucket, encode(&location.prefix));
            let settings = settings(location);
            let pairs: Vec<_> = settings
                .iter()
                .map(|(key, value)| format!("{key}={}", encode(value)))
                .collect();
            if pairs.is_empty() {
                base
            } else {
                format!("{base}?{}", pairs.join("&"))
            }
        }
    }
}

fn settings(location: &S3Location) -> Vec<(&'static str, String)> {
    let flag = |set: bool| set.then(|| "true".to_owned());
    let (sse, kms_key) = match &location.encryption {
        Encryption::BucketDefault => (None, None),
        Encryption::Aes256 => (Some("AES256".to_owned()), None),
        Encryption::Kms { key } => (Some("aws:kms".to_owned()), key.clone()),
    };
    let checksum = match &location.checksum {
        Checksum::Auto => None,
        Checksum::Off => Some("off".to_owned()),
        Checksum::Algorithm(name) => Some(name.clone()),
    };
    let all = [
        ("endpoint", location.endpoint.clone()),
        ("region", location.region.clone()),
        ("path-style", location.path_style.map(|set| set.to_string())),
        ("profile", location.profile.clone()),
        (
            "ca-file",
            location
                .ca_file
                .as_ref()
                .map(|file| file.to_string_lossy().into_owned()),
        ),
        (
            "insecure-skip-tls-verify",
            flag(location.insecure_skip_tls_verify),
        ),
        ("sse", sse),
        ("kms-key-id", kms_key),
        ("checksum", checksum),
        ("tagging", location.tagging.clone()),
        (
            "lock-mode",
            (location.lock_mode == LockMode::Compliance).then(|| "compliance".to_owned()),
        ),
        ("read-only", flag(location.read_only)),
    ];
    all.into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(url: &str) -> S3Location {
        match parse(url) {
            Ok(Location::S3(location)) => *location,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn all_settings_are_understood_and_printed_again() {
        let url = "s3://bucket/a/b?endpoint=https://minio.example.org:9000&region=eu-west-1&path-style=false\
                   &profile=prod&ca-file=/etc/ca.pem&sse=aws:kms&kms-key-id=alias/backup&checksum=CRC32C\
                   &tagging=team%3Dshop%26tier%3D1&lock-mode=compliance&read-only=true";
        let location = s3(url);
        assert_eq!(location.prefix, "a/b");
        assert_eq!(
            location.endpoint.as_deref(),
            Some("https://minio.example.org:9000")
        );
        assert_eq!(location.tagging.as_deref(), Some("team=shop&tier=1"));
        assert_eq!(
            location.encryption,
            Encryption::Kms {
                key: Some("alias/backup".into())
            }
        );
        assert_eq!(print(&Location::S3(Box::new(location))), url);
    }

    #[test]
    fn the_short_form_is_enough() {
        let location = s3("s3://bucket");
        assert_eq!(location, S3Location::new("bucket"));
        assert_eq!(s3("s3://bucket/"), S3Location::new("bucket"));
        assert_eq!(s3("s3://bucket/prefix/").describe(), "s3://bucket/prefix");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        let table = [
            ("s3://", "s3://BUCKET"),
            ("s3:///prefix", "s3://BUCKET"),
            ("s3://b?enpoint=http://x", "did you mean \"endpoint\"?"),
            ("s3://b?region=", "region has no value"),
            ("s3://b?region", "has no value"),
            ("s3://b?region=a&region=b", "given twice"),
            ("s3://b?path-style=yes", "true or false"),
            ("s3://b?endpoint=minio:9000", "https:// or http://"),
            ("s3://b?sse=AES", "AES256 or aws:kms"),
            ("s3://b?sse=AES256&kms-key-id=k", "sse=aws:kms"),
            ("s3://b?checksum=MD4", "SHA256"),
            ("s3://b?ca-file=ca.pem", "absolute"),
            ("s3://b/a/../c", "`..`"),
            ("s3://b/a//c", "empty part"),
            ("s3://b?prefix=x", "s3://BUCKET/PREFIX"),
            ("s3://b%2Fx", "letters"),
            ("gs://b", "gs:// is not supported"),
            ("/var/backups", "file:///var/backups"),
            ("file://var/backups", "three slashes"),
            ("file:///var/../etc", "`..`"),
            ("file:///var?region=x", "no setting \"region\""),
            ("s3://b/%", "%25"),
            ("s3://b/%ff", "UTF-8"),
        ];
        for (url, expected) in table {
            let text = parse(url).expect_err(url).to_string();
            assert!(text.contains(expected), "{url}: {text}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for url in [
            "s3://AKIA:hunter2@bucket/prefix",
            "s3://b?secret-key=hunter2",
            "s3://b?aws_secret_access_key=hunter2",
            "s3://b?endpoint=https://me:hunter2@minio",
            "s3://b?password=hunter2",
        ] {
            let text = parse(url).expect_err(url).to_string();
            assert!(
                text.contains("credentials") && !text.contains("hunter2"),
                "{url}: {text}"
            );
        }
    }

    #[test]
    fn a_folder_with_blanks_reads_back() {
        let folder = FolderLocation {
            path: "/srv/my backups/100%".into(),
            read_only: true,
        };
        let url = print(&Location::Folder(folder.clone()));
        assert_eq!(url, "file:///srv/my%20backups/100%25?read-only=true");
        assert_eq!(parse(&url).unwrap(), Location::Folder(folder));
        assert_eq!(
            parse("file:///srv/my backups").unwrap(),
            Location::Folder(FolderLocation {
                path: "/srv/my backups".into(),
                read_only: false
            })
        );
    }
}
