//! What replicas share: the pair that is served, the one that comes next, and the authorities that are trusted.

use std::fmt;

/// A certificate and its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Never printed.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pair(..)")
    }
}

/// Everything that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Authorities that the API server is to trust, PEM, the newest last.
    pub trusted: Vec<String>,
    /// What is served.
    pub current: Pair,
    /// What will be served once its authority is trusted everywhere.
    pub next: Option<Pair>,
}

const END: &str = "-----END CERTIFICATE-----";

impl Bundle {
    /// The authorities as one PEM text: the caBundle.
    pub fn authorities(&self) -> String {
        self.trusted.concat()
    }
}

/// The certificates of a PEM text one by one.
pub(super) fn split(pem: &str) -> Vec<String> {
    pem.split_inclusive(END)
        .map(str::trim)
        .filter(|text| text.ends_with(END))
        .map(|text| format!("{text}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn pem_is_split_after_each_certificate() {
        let one = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
        let other = one.replace("MA", "MQ");
        assert_eq!(split(&format!("{one}\n{other}")), [one.to_owned(), other]);
        assert!(split("").is_empty() && split("text").is_empty());
    }
}
