//! The one place that asks what time it is.
//!
//! Everything else takes a time as a value, so that rules can be tested at any time of any year.

use jiff::Timestamp;

/// The time by this machine's clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}
