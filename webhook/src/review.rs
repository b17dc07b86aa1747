//! AdmissionReview v1, from bytes to a [`Request`] and from an [`Answer`] back to bytes.
//!
//! The objects of a request stay raw JSON: a handler reads the few fields that it needs, so that a pod of 3 MiB costs one
//! pass and no field that this version does not know is ever lost. Whoever renders an answer may rely on the API server
//! taking it: the UID is the request's, a denial carries a code that means denial, warnings have the length that is let
//! through, an empty patch is none.

mod answer;
mod request;

pub use answer::{Answer, Denial, MAX_WARNING, MAX_WARNINGS, Verdict};
pub use request::{GroupVersionKind, GroupVersionResource, Operation, Request, ReviewError, UserInfo};

/// The version of reviews that we speak.
pub const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of both request and response.
pub const KIND: &str = "AdmissionReview";
