//! Admission for `kubectl backup`.
//!
//! In come AdmissionReviews and watched objects; out go answers, patches and, behind a lease, statuses. The rules
//! themselves are pure and live in the plan crate; here is what meets HTTP, TLS and the API server.

pub mod decide;
pub mod observe;
pub mod review;

/// What the suite sends as its name.
pub const USER_AGENT: &str = concat!("backup-webhook/", env!("CARGO_PKG_VERSION"));
