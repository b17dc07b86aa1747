//! What the API server asks.
//!
//! Everything that is not an object is decoded; `object` and `oldObject` are kept as they came.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{API_VERSION, KIND};

/// One question of the API server.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Echoed in the answer.
    pub uid: String,
    /// What is done.
    pub operation: Operation,
    /// The kind of `object`, in the version that the webhook asked for.
    #[serde(default, deserialize_with = "or_default")]
    pub kind: GroupVersionKind,
    /// The resource of the request, in the version that the webhook asked for.
    #[serde(default, deserialize_with = "or_default")]
    pub resource: GroupVersionResource,
    /// Such as `status` or `scale`; none for the object itself.
    #[serde(default, deserialize_with = "non_empty")]
    pub sub_resource: Option<String>,
    /// Empty in a collection delete and where the server makes the name up: read it from the object.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// None for what lies in no namespace.
    #[serde(default, deserialize_with = "non_empty")]
    pub namespace: Option<String>,
    /// Who asks.
    #[serde(default, deserialize_with = "or_default")]
    pub user_info: UserInfo,
    /// Nothing will be stored.
    #[serde(default, deserialize_with = "or_default")]
    pub dry_run: bool,
    /// The object as it would be stored; none on DELETE.
    #[serde(default)]
    pub object: Option<Box<RawValue>>,
    /// The object as it is stored; none on CREATE.
    #[serde(default)]
    pub old_object: Option<Box<RawValue>>,
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// A connection to it is opened.
    Connect,
}

/// A kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Such as `v1`.
    #[serde(default)]
    pub version: String,
    /// Such as `Pod`.
    #[serde(default)]
    pub kind: String,
}

/// A resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct GroupVersionResource {
    /// Empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Such as `v1`.
    #[serde(default)]
    pub version: String,
    /// Such as `pods`.
    #[serde(default)]
    pub resource: String,
}

/// Who asks, as the API server has authenticated them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct UserInfo {
    /// Such as `system:serviceaccount:kube-system:namespace-controller`.
    #[serde(default, deserialize_with = "or_default")]
    pub username: String,
    /// Not of every authenticator.
    #[serde(default, deserialize_with = "or_default")]
    pub uid: String,
    /// Such as `system:masters`.
    #[serde(default, deserialize_with = "or_default")]
    pub groups: Vec<String>,
    /// What the authenticator adds.
    #[serde(default, deserialize_with = "or_default")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why bytes are no question that can be answered. There is no UID to answer with, so the sender gets this as text.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON, or not of this shape. Says the place, never the content.
    #[error("the body is not an AdmissionReview: line {line}, column {column}")]
    Malformed {
        /// Of the first fault.
        line: usize,
        /// Of the first fault.
        column: usize,
    },
    /// Another version or kind.
    #[error("the body is {found}, expected {API_VERSION} {KIND}; list v1 in admissionReviewVersions")]
    OtherVersion {
        /// `apiVersion kind`, cut to a sensible length.
        found: String,
    },
    /// A review of an answer, or an empty one.
    #[error("the AdmissionReview has no request")]
    NoRequest,
    /// Nothing to echo.
    #[error("the request has no uid")]
    NoUid,
}

/// Apart from the request, so that another version is told before its fields are found missing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default, borrow)]
    request: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Uid {
    #[serde(default)]
    uid: Option<String>,
}

impl Request {
    /// The request in the bytes of an AdmissionReview.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReviewError> {
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
        let version = envelope.api_version.unwrap_or_default();
        let kind = envelope.kind.unwrap_or_default();
        if version != API_VERSION || kind != KIND {
            let found = format!("{version:?} {kind:?}").chars().take(120).collect();
            return Err(ReviewError::OtherVersion { found });
        }
        let raw = envelope.request.ok_or(ReviewError::NoRequest)?.get();
        let Uid { uid } = serde_json::from_str(raw).map_err(|error| malformed(&error))?;
        if uid.unwrap_or_default().is_empty() {
            return Err(ReviewError::NoUid);
        }
        serde_json::from_str(raw).map_err(|error| malformed(&error))
    }
}

fn malformed(error: &serde_json::Error) -> ReviewError {
    ReviewError::Malformed {
        line: error.line(),
        column: error.column(),
    }
}

/// The API server leaves empty fields out; other senders write `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(source: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

fn non_empty<'de, D: Deserializer<'de>>(source: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = Option::deserialize(source)?;
    Ok(text.filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::{Operation, Request};

    fn review(request: &str) -> String {
        format!(r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#)
    }

    #[test]
    fn objects_keep_their_bytes() {
        let object = r#"{"z":1.0,"a":{"unknown": [1e3, "é"]}}"#;
        let text = review(&format!(
            r#"{{"uid":"u","operation":"CREATE","object":{object},"oldObject":null,"options":{{}}}}"#
        ));
        let request = Request::parse(text.as_bytes()).unwrap();
        assert_eq!(request.object.unwrap().get(), object);
        assert!(request.old_object.is_none());
    }

    #[test]
    fn everything_but_uid_and_operation_may_be_missing_or_null() {
        for request in [
            r#"{"uid":"u","operation":"DELETE"}"#,
            r#"{"uid":"u","operation":"DELETE","name":null,"namespace":null,"userInfo":null,"dryRun":null,"kind":null,
                "resource":null,"subResource":null,"object":null}"#,
            r#"{"uid":"u","operation":"DELETE","name":"","namespace":"","userInfo":{"groups":null,"extra":null}}"#,
        ] {
            let parsed = Request::parse(review(request).as_bytes()).unwrap();
            assert_eq!(parsed.operation, Operation::Delete);
            assert_eq!(
                (parsed.namespace, parsed.name.as_str(), parsed.dry_run),
                (None, "", false)
            );
        }
    }

    #[test]
    fn what_cannot_be_answered_is_told_apart() {
        let beta = r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}"#;
        for (body, said) in [
            ("", "not an AdmissionReview: line 1"),
            ("[]x", "not an AdmissionReview: line 1"),
            (
                "{}",
                r#"the body is "" "", expected admission.k8s.io/v1 AdmissionReview"#,
            ),
            (beta, "admission.k8s.io/v1beta1"),
            (&review("null"), "no request"),
            (&review(r#"{"operation":"CREATE"}"#), "no uid"),
            (&review(r#"{"uid":"","operation":"CREATE"}"#), "no uid"),
            (
                &review(r#"{"uid":"u","operation":"PATCH"}"#),
                "not an AdmissionReview: line 1",
            ),
        ] {
            let error = Request::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{body}: {error}");
        }
    }

    #[test]
    fn an_error_never_repeats_the_content() {
        let body = review(r#"{"uid":"u","operation":"hunter2"}"#);
        let error = Request::parse(body.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
