//! What we answer.
//!
//! An [`Answer`] is built by the rules and rendered in one place, [`Answer::render`].

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde::Serialize;

use super::{API_VERSION, KIND};

/// Characters of one warning that the API server lets through.
pub const MAX_WARNING: usize = 256;
/// Characters of all warnings together.
pub const MAX_WARNINGS: usize = 4096;

/// The answer to one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Yes or no.
    pub verdict: Verdict,
    /// Changes to the object; only mutating webhooks may have one.
    pub patch: Option<json_patch::Patch>,
    /// Shown to the user, without a prefix; aim at 120 characters.
    pub warnings: Vec<String>,
    /// For the audit log: the API server puts the webhook's name before each key.
    pub audit: BTreeMap<String, String>,
}

/// Yes or no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may happen.
    Allowed,
    /// It may not.
    Denied(Denial),
}

/// A no, as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status, 403 as a rule; the API server turns anything below 400 into 400.
    pub code: u16,
    /// A reason of `metav1.Status`, such as `Forbidden`.
    pub reason: String,
    /// What, why, and the commands that unblock. The same text every time: tools repeat refused requests.
    pub message: String,
}

impl Answer {
    /// Yes, and nothing more.
    pub fn allow() -> Self {
        Self::with(Verdict::Allowed)
    }

    /// No: 403, `Forbidden`.
    pub fn deny(message: impl Into<String>) -> Self {
        Self::with(Verdict::Denied(Denial {
            code: 403,
            reason: "Forbidden".to_owned(),
            message: message.into(),
        }))
    }

    fn with(verdict: Verdict) -> Self {
        Self {
            verdict,
            patch: None,
            warnings: Vec::new(),
            audit: BTreeMap::new(),
        }
    }

    /// With changes to the object.
    pub fn patched(mut self, patch: json_patch::Patch) -> Self {
        self.patch = Some(patch);
        self
    }

    /// With one more warning.
    pub fn warned(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// With one more line in the audit log.
    pub fn audited(mut self, key: &str, value: impl Into<String>) -> Self {
        self.audit.insert(key.to_owned(), value.into());
        self
    }

    /// Whether it is a yes.
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allowed
    }

    /// The bytes of the AdmissionReview that answers the request with this UID.
    pub fn render(&self, uid: &str) -> Vec<u8> {
        let patch = self.patch.as_ref().filter(|patch| !patch.0.is_empty());
        // Strings, numbers and paths only: nothing that JSON cannot say.
        let patch = patch.and_then(|patch| serde_json::to_vec(patch).ok());
        let review = Review {
            api_version: API_VERSION,
            kind: KIND,
            response: Response {
                uid,
                allowed: self.is_allowed(),
                status: match &self.verdict {
                    Verdict::Allowed => None,
                    Verdict::Denied(denial) => Some(Status {
                        status: "Failure",
                        code: denial.code.max(400),
                        reason: &denial.reason,
                        message: &denial.message,
                    }),
                },
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch: patch.map(ByteString),
                warnings: cut(&self.warnings),
                audit_annotations: &self.audit,
            },
        };
        serde_json::to_vec(&review).unwrap_or_default()
    }
}

/// The warnings as far as the API server shows them.
fn cut(warnings: &[String]) -> Vec<String> {
    let mut left = MAX_WARNINGS;
    let mut shown = Vec::new();
    for warning in warnings {
        let room = left.min(MAX_WARNING);
        let length = warning.chars().count();
        let text: String = if length > room {
            // A text that breaks off says so.
            warning
                .chars()
                .take(room.saturating_sub(1))
                .chain(['…'])
                .collect()
        } else {
            warning.clone()
        };
        if room == 0 {
            break;
        }
        left -= length.min(room);
        shown.push(text);
    }
    shown
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'a str,
    code: u16,
    reason: &'a str,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Answer, MAX_WARNING, MAX_WARNINGS};

    fn rendered(answer: &Answer) -> Value {
        serde_json::from_slice(&answer.render("the-uid")).unwrap()
    }

    #[test]
    fn a_yes_is_nothing_but_a_yes() {
        let empty = Answer::allow().patched(json_patch::Patch(Vec::new()));
        for answer in [Answer::allow(), empty] {
            assert_eq!(
                rendered(&answer),
                json!({
                    "apiVersion": "admission.k8s.io/v1",
                    "kind": "AdmissionReview",
                    "response": { "uid": "the-uid", "allowed": true },
                })
            );
        }
    }

    #[test]
    fn a_denial_has_code_and_reason() {
        let response = &rendered(&Answer::deny("no: choose first").audited("why", "undecided"))["response"];
        assert_eq!(response["allowed"], false);
        assert_eq!(
            response["status"],
            json!({ "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no: choose first" })
        );
        assert_eq!(response["auditAnnotations"], json!({ "why": "undecided" }));
    }

    #[test]
    fn a_patch_travels_as_base64() {
        let patch = serde_json::from_value(json!([{ "op": "add", "path": "/a", "value": 1 }])).unwrap();
        let response = &rendered(&Answer::allow().patched(patch))["response"];
        assert_eq!(response["patchType"], "JSONPatch");
        assert_eq!(
            response["patch"],
            "W3sib3AiOiJhZGQiLCJwYXRoIjoiL2EiLCJ2YWx1ZSI6MX1d"
        );
    }

    #[test]
    fn warnings_are_cut_by_characters() {
        let long = "é".repeat(MAX_WARNING + 1);
        let answer = Answer::allow().warned(long).warned("short");
        let warnings = &rendered(&answer)["response"]["warnings"];
        let first = warnings[0].as_str().unwrap();
        assert_eq!(first.chars().count(), MAX_WARNING);
        assert!(first.ends_with("é…"), "{first}");
        assert_eq!(warnings[1], "short");
    }

    #[test]
    fn warnings_fit_together() {
        let many = (0..40).fold(Answer::allow(), |answer, _| answer.warned("x".repeat(150)));
        let answer = rendered(&many);
        let shown = answer["response"]["warnings"].as_array().unwrap();
        let lengths = shown
            .iter()
            .map(|warning| warning.as_str().unwrap().chars().count());
        assert_eq!(lengths.sum::<usize>(), MAX_WARNINGS);
    }
}
