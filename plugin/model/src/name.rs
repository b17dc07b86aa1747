//! Names of backups and restores, checked once so that no later code has to ask whether a name is safe in a path.
//!
//! Source of the rule: Kubernetes' DNS-1123 subdomain, which Velero applies to Backup objects. Names longer than a
//! label value may be are shortened for labels as Velero's `label.GetValidName` does.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::digests::hex;

/// Longest label value that Kubernetes accepts.
const LABEL_VALUE_MAX: usize = 63;

/// Name of a backup or of a restore: a DNS-1123 subdomain of at most 253 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupName(String);

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{name}` is no valid name: {reason}; use lower-case letters, digits, `-` and `.`, beginning and ending with a \
     letter or digit, at most 253 characters"
)]
pub struct NameError {
    name: String,
    reason: &'static str,
}

impl BackupName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`] when it is no DNS-1123 subdomain.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let refuse = |reason| {
            Err(NameError {
                name: name.chars().take(300).collect(),
                reason,
            })
        };
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > 253 {
            return refuse("it is longer than 253 characters");
        }
        for part in name.split('.') {
            if part.is_empty() {
                return refuse("it begins or ends with a dot or has two dots in a row");
            }
            if !part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            {
                return refuse("it has a character that is not allowed");
            }
            if part.starts_with('-') || part.ends_with('-') {
                return refuse("a part of it begins or ends with `-`");
            }
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a label value: itself up to 63 characters, else its first 57 and six hex digits of its SHA-256.
    pub fn label_value(&self) -> String {
        label_value(&self.0)
    }
}

/// Velero's `GetValidName`: values of at most 63 characters stay, longer ones keep 57 and get six hex digits of SHA-256.
pub fn label_value(name: &str) -> String {
    if name.len() <= LABEL_VALUE_MAX {
        return name.to_owned();
    }
    let digest = hex(&Sha256::digest(name.as_bytes()));
    // Names are ASCII; for other text the cut moves to the next boundary below.
    let cut = (0..=LABEL_VALUE_MAX - 6)
        .rev()
        .find(|at| name.is_char_boundary(*at))
        .unwrap_or(0);
    format!("{}{}", &name[..cut], &digest[..6])
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BackupName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

impl TryFrom<String> for BackupName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::parse(&name)
    }
}

impl From<BackupName> for String {
    fn from(name: BackupName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subdomains_are_taken_and_nothing_else() {
        for good in ["a", "a1", "shop-2026", "a.b", "0", "nightly-20261122010000"] {
            assert!(BackupName::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(254);
        for bad in [
            "",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a.",
            "../x",
            "a/b",
            "a b",
            "ä",
            "a.-b",
            long.as_str(),
        ] {
            assert!(BackupName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn long_names_are_shortened_for_labels() {
        assert_eq!(label_value("short"), "short");
        let long = "x".repeat(70);
        let value = label_value(&long);
        assert_eq!(value.len(), 63);
        assert!(value.starts_with(&"x".repeat(57)));
    }
}
