//! Times as Velero writes them: RFC 3339 in UTC with whole seconds.
//!
//! `jiff` prints sub-seconds where there are any, which Go's `metav1.Time` never does; every time that goes into a file
//! passes through [`to_seconds`] or one of the serde modules here.

use jiff::Timestamp;

/// The same time without its sub-second part.
pub fn to_seconds(time: Timestamp) -> Timestamp {
    // The constructor only fails outside years -9999..9999, where `time` came from already.
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// RFC 3339 in UTC with whole seconds, `2026-11-22T01:00:00Z`.
pub fn format(time: Timestamp) -> String {
    to_seconds(time).to_string()
}

/// `20261122010000`, the suffix of generated names.
pub fn compact(time: Timestamp) -> String {
    to_seconds(time).strftime("%Y%m%d%H%M%S").to_string()
}

/// For `#[serde(with = "time::seconds")]` on a `Timestamp`.
pub mod seconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes whole seconds.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format(*time))
    }

    /// Reads any RFC 3339 time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

/// For `#[serde(with = "time::optional_seconds")]` on an `Option<Timestamp>`.
pub mod optional_seconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes whole seconds, or `null`.
    // The signature is serde's.
    #[allow(clippy::ref_option)]
    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_str(&super::format(*time)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads any RFC 3339 time, or `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        Option::<Timestamp>::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_seconds_are_cut() {
        let time: Timestamp = "2026-11-22T01:02:03.987Z".parse().unwrap();
        assert_eq!(format(time), "2026-11-22T01:02:03Z");
        assert_eq!(compact(time), "20261122010203");
    }
}
