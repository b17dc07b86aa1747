//! Answers of an S3 server, sorted.
//!
//! In comes an error of the S3 client, whatever the operation, out goes a [`StorageError`]. Status and code decide;
//! many stores send one without the other, and a HEAD has no code at all. The text is the server's code and
//! message, never the request.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::super::error::{At, StorageError, chain};

/// What the sorting needs of an answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// HTTP status, 0 without an answer.
    pub(super) status: u16,
    /// S3's error code, empty if there is none.
    pub(super) code: String,
    message: String,
    region: Option<String>,
}

impl Answer {
    /// Takes the facts out of an error.
    pub(super) fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        let response = error.raw_response();
        let region = response.and_then(|response| response.headers().get("x-amz-bucket-region"));
        let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
        Self {
            status: response.map_or(0, |response| response.status().as_u16()),
            code: meta.and_then(|meta| meta.code()).unwrap_or_default().to_owned(),
            message: meta
                .and_then(|meta| meta.message())
                .unwrap_or_default()
                .to_owned(),
            region: region.map(ToOwned::to_owned),
        }
    }

    /// The condition of a write did not hold.
    pub(super) fn is_precondition_failed(&self) -> bool {
        self.status == 412 || self.code == "PreconditionFailed"
    }

    /// Somebody wrote at the same moment; the write may be tried again.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ConditionalRequestConflict" | "OperationAborted"
        ) || self.status == 409
    }

    /// The key, not the bucket, is missing.
    pub(super) fn is_missing_key(&self) -> bool {
        matches!(self.code.as_str(), "NoSuchKey" | "NotFound" | "NoSuchVersion")
            || (self.status == 404 && self.code.is_empty())
    }

    fn text(&self) -> String {
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => format!("HTTP {}", self.status),
            ("", message) => format!("HTTP {}: {message}", self.status),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        }
    }
}

/// Sorts one error.
pub(super) fn sort<E>(at: At, error: &SdkError<E, HttpResponse>) -> StorageError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error {
        SdkError::TimeoutError(_) => StorageError::Stalled {
            at,
            detail: "no answer in time".into(),
        },
        SdkError::DispatchFailure(failure) if failure.is_timeout() => StorageError::Unreachable {
            at,
            detail: chain(error),
        },
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            let detail = chain(error);
            let lower = detail.to_lowercase();
            if ["credential", "identity", "profile", "token"]
                .iter()
                .any(|word| lower.contains(word))
            {
                StorageError::NoCredentials { at, detail }
            } else if lower.contains("stalled") || lower.contains("throughput") {
                StorageError::Stalled { at, detail }
            } else {
                StorageError::Unreachable { at, detail }
            }
        }
        SdkError::ServiceError(_) => sort_answer(at, &Answer::of(error)),
        _ => {
            let status = Answer::of(error).status;
            let detail = format!("HTTP {status}, an answer that is not S3: {}", chain(error));
            if status >= 500 {
                StorageError::Busy { at, detail }
            } else {
                StorageError::Other { at, detail }
            }
        }
    }
}

/// Sorts an answer that came back.
pub(super) fn sort_answer(at: At, answer: &Answer) -> StorageError {
    let detail = answer.text();
    match (answer.code.as_str(), answer.status) {
        ("NoSuchBucket", _) => StorageError::NoSuchBucket { at },
        (
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "AuthFailure"
            | "XAdminUserNotFound"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "RequestTimeTooSkewed"
            | "NotSignedUp"
            | "InvalidSecurity",
            _,
        )
        | (_, 401) => StorageError::WrongCredentials { at, detail },
        ("ObjectLocked" | "ObjectLockConfigurationNotFoundError", _) => {
            StorageError::Locked { at, until: None }
        }
        (_, 400 | 403) if speaks_of_a_lock(answer) => StorageError::Locked { at, until: None },
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
        | (_, 301 | 307) => {
            let region = answer
                .region
                .as_deref()
                .map(|region| format!("; the bucket is in {region}"));
            StorageError::WrongRegion {
                at,
                detail: format!("{detail}{}", region.unwrap_or_default()),
            }
        }
        ("QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "StorageFull", _) | (_, 507) => {
            StorageError::Full { at, detail }
        }
        ("NotImplemented" | "MethodNotAllowed", _) | (_, 405 | 501) => {
            StorageError::Unsupported { at, detail }
        }
        ("SlowDown" | "Throttling" | "TooManyRequests" | "InternalError" | "ServiceUnavailable", _)
        | (_, 429 | 500..=599) => StorageError::Busy { at, detail },
        (_, 403) => {
            let needs = needs(at.operation).to_owned();
            StorageError::AccessDenied { at, needs, detail }
        }
        _ if answer.is_missing_key() => StorageError::NoSuchKey { at },
        _ => StorageError::Other { at, detail },
    }
}

fn speaks_of_a_lock(answer: &Answer) -> bool {
    let text = answer.message.to_lowercase();
    [
        "object lock",
        "object is locked",
        "worm protected",
        "retention",
        "legal hold",
        "object protected",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// The right in S3's own name, by what was attempted.
fn needs(operation: &str) -> &'static str {
    match operation {
        "write" => "s3:PutObject (and s3:AbortMultipartUpload; with object lock s3:PutObjectRetention)",
        "read" => "s3:GetObject",
        "look up" => "s3:GetObject, and s3:ListBucket to tell a missing key from a forbidden one",
        "list" => "s3:ListBucket on the bucket",
        "delete" => "s3:DeleteObject",
        "list versions in" => "s3:ListBucketVersions on the bucket",
        "delete a version of" => "s3:DeleteObjectVersion",
        "list uploads in" => "s3:ListBucketMultipartUploads on the bucket",
        "abort the upload of" => "s3:AbortMultipartUpload",
        _ => "the right to do this",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(status: u16, code: &str, message: &str) -> String {
        let answer = Answer {
            status,
            code: code.into(),
            message: message.into(),
            region: Some("eu-west-1".into()),
        };
        let error = sort_answer(At::new("write", "k", "s3://b"), &answer);
        format!("{error:?}")
            .split([' ', '{'])
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    #[test]
    fn answers_are_sorted_by_what_a_person_has_to_do() {
        let table = [
            (404, "NoSuchBucket", "", "NoSuchBucket"),
            (404, "NoSuchKey", "", "NoSuchKey"),
            (404, "", "", "NoSuchKey"),
            (403, "AccessDenied", "Access Denied", "AccessDenied"),
            (403, "", "", "AccessDenied"),
            (403, "InvalidAccessKeyId", "", "WrongCredentials"),
            (403, "SignatureDoesNotMatch", "", "WrongCredentials"),
            (
                403,
                "AccessDenied",
                "Access Denied because object protected by object lock.",
                "Locked",
            ),
            (
                400,
                "InvalidRequest",
                "Object is WORM protected and cannot be overwritten",
                "Locked",
            ),
            (301, "PermanentRedirect", "", "WrongRegion"),
            (400, "AuthorizationHeaderMalformed", "", "WrongRegion"),
            (507, "", "", "Full"),
            (403, "QuotaExceeded", "", "Full"),
            (501, "NotImplemented", "", "Unsupported"),
            (503, "SlowDown", "", "Busy"),
            (500, "", "", "Busy"),
            (400, "InvalidArgument", "", "Other"),
        ];
        for (status, code, message, expected) in table {
            assert_eq!(
                sorted(status, code, message),
                expected,
                "{status} {code} {message}"
            );
        }
    }

    #[test]
    fn a_wrong_region_names_the_right_one() {
        let answer = Answer {
            status: 301,
            region: Some("eu-west-1".into()),
            ..Answer::default()
        };
        let text = sort_answer(At::new("list", "", "s3://b"), &answer).to_string();
        assert!(text.contains("eu-west-1") && text.contains("region="), "{text}");
    }
}
