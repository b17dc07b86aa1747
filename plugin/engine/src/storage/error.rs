//! What can go wrong between us and a location, sorted by what a person has to do about it.
//!
//! Every variant carries [`At`]: what was attempted, on which key, in which location. In come answers of the S3
//! client and of the file system (sorted in `s3/error.rs` and `folder.rs`), out goes a text that names the next
//! step. No text holds a credential: requests are never printed, only the server's code and message.

use std::fmt;

/// What was attempted, on which key, in which location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The verb, as a person would say it: `write`, `read`, `list`.
    pub operation: &'static str,
    /// Key relative to the location's prefix; empty for the location as a whole.
    pub key: String,
    /// The location, as [`super::Bucket::describe`] prints it.
    pub location: String,
}

impl At {
    /// Names one attempt.
    pub fn new(operation: &'static str, key: &str, location: &str) -> Self {
        Self {
            operation,
            key: key.to_owned(),
            location: location.to_owned(),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{} {}", self.operation, self.location)
        } else {
            write!(f, "{} {:?} in {}", self.operation, self.key, self.location)
        }
    }
}

/// A failed operation on a location.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The bucket, or the folder, is not there.
    #[error("{at}: there is no such bucket or folder; create it, mount it, or correct the location")]
    NoSuchBucket {
        /// The attempt.
        at: At,
    },
    /// A key that had to be there is not.
    #[error("{at}: there is no such key; `kubectl backup verify` says what else is missing")]
    NoSuchKey {
        /// The attempt.
        at: At,
    },
    /// The credentials are good, the right is missing.
    #[error("{at}: access denied ({detail}); the credentials need {needs}")]
    AccessDenied {
        /// The attempt.
        at: At,
        /// The right to ask for.
        needs: String,
        /// The server's own words.
        detail: String,
    },
    /// The server knows nobody by these credentials, or the signature is wrong, or they have run out.
    #[error(
        "{at}: the server refuses the credentials ({detail}); check the access key, the secret key and the clock"
    )]
    WrongCredentials {
        /// The attempt.
        at: At,
        /// The server's own words.
        detail: String,
    },
    /// No credentials were found, or the source of credentials does not answer.
    #[error(
        "{at}: no usable S3 credentials ({detail}); set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile in the location"
    )]
    NoCredentials {
        /// The attempt.
        at: At,
        /// What the credentials chain said.
        detail: String,
    },
    /// An object lock forbids the change until its time has come.
    #[error("{at}: the object is locked{}; it can be removed when the lock has run out", until_text(.until.as_ref()))]
    Locked {
        /// The attempt.
        at: At,
        /// When the lock ends, if the server tells.
        until: Option<jiff::Timestamp>,
    },
    /// Disk full or quota used up.
    #[error("{at}: no space left ({detail}); free space or raise the quota, then repeat the command")]
    Full {
        /// The attempt.
        at: At,
        /// What the server or the file system said.
        detail: String,
    },
    /// The location may not be written to.
    #[error("{at}: the location is read-only; choose another location for writing")]
    ReadOnly {
        /// The attempt.
        at: At,
    },
    /// No connection: name, route, TLS, proxy.
    #[error("{at}: cannot reach the server ({detail}); check the endpoint, the proxy variables and the CA")]
    Unreachable {
        /// The attempt.
        at: At,
        /// The chain of causes.
        detail: String,
    },
    /// A connection, but no progress within the time allowed.
    #[error("{at}: the server stalled ({detail}); repeat the command, or check the network to the location")]
    Stalled {
        /// The attempt.
        at: At,
        /// What ran out.
        detail: String,
    },
    /// The server asks us to come later, and did so at every attempt.
    #[error("{at}: the server is overloaded or failing ({detail}); repeat the command later")]
    Busy {
        /// The attempt.
        at: At,
        /// The server's own words.
        detail: String,
    },
    /// The bucket lives in another region than the location says.
    #[error("{at}: wrong region ({detail}); set `region=` in the location")]
    WrongRegion {
        /// The attempt.
        at: At,
        /// The server's own words, with the right region if it tells.
        detail: String,
    },
    /// The body is larger than the caller accepts.
    #[error("{at}: {size} bytes, at most {limit} are accepted here; the file is not what its name says")]
    TooLarge {
        /// The attempt.
        at: At,
        /// What is stored.
        size: u64,
        /// What the caller accepts.
        limit: u64,
    },
    /// The body ended before its announced length, at every attempt.
    #[error("{at}: the body ended after {received} of {expected} bytes; repeat the command")]
    Cut {
        /// The attempt.
        at: At,
        /// Announced length.
        expected: u64,
        /// Bytes that came.
        received: u64,
    },
    /// Somebody replaced or removed the object while it was being read.
    #[error("{at}: the object changed while it was being read; repeat the command")]
    ChangedWhileReading {
        /// The attempt.
        at: At,
    },
    /// An upload outgrew what its part size allows.
    #[error("{at}: more than {limit} bytes; say the expected size beforehand so that larger parts are used")]
    TooManyParts {
        /// The attempt.
        at: At,
        /// The most that this upload could hold.
        limit: u64,
    },
    /// The key cannot be stored by this kind of location.
    #[error("{at}: not a usable key: {reason}")]
    BadKey {
        /// The attempt.
        at: At,
        /// Why.
        reason: &'static str,
    },
    /// The server does not implement what was asked.
    #[error(
        "{at}: the server does not support this ({detail}); `kubectl backup location check` shows what it can do"
    )]
    Unsupported {
        /// The attempt.
        at: At,
        /// The server's own words.
        detail: String,
    },
    /// A setting of the location cannot be used.
    #[error("{location}: {reason}")]
    Setting {
        /// The location.
        location: String,
        /// What is wrong with it, and what to write instead.
        reason: String,
    },
    /// Anything else.
    #[error("{at}: {detail}")]
    Other {
        /// The attempt.
        at: At,
        /// The chain of causes.
        detail: String,
    },
}

fn until_text(until: Option<&jiff::Timestamp>) -> String {
    until.map(|time| format!(" until {time}")).unwrap_or_default()
}

impl StorageError {
    /// Whether the same call may well succeed a little later: the location is there, it just did not answer well.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::Busy { .. } | Self::Cut { .. }
        )
    }
}

/// The causes of an error as one line, each said once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_operation_key_and_location() {
        let at = At::new("write", "backups/b/b.tar.gz", "s3://bucket/prefix");
        let text = StorageError::Full {
            at,
            detail: "quota".into(),
        }
        .to_string();
        assert!(
            text.contains("write \"backups/b/b.tar.gz\" in s3://bucket/prefix"),
            "{text}"
        );
        assert!(text.contains("free space"), "{text}");
    }

    #[test]
    fn a_lock_says_when_it_ends() {
        let at = At::new("delete", "k", "s3://b");
        let until = Some("2027-01-02T03:04:05Z".parse().unwrap());
        let text = StorageError::Locked { at, until }.to_string();
        assert!(text.contains("2027-01-02T03:04:05Z"), "{text}");
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let inner = std::io::Error::other("refused");
        let outer = std::io::Error::other(inner);
        assert_eq!(chain(&outer), "refused");
    }
}
