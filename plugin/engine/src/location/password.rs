//! The password of a location's volume repositories as it lies in the cluster: a Secret in our namespace.
//!
//! Pure. In come the place of the location, as [`crate::location::Location::describe`] says it, and the password; out goes the
//! Secret, and the other way round. Its name is made of the place alone, so that a pod finds it whatever endpoint it reaches
//! the location by.

use backup_plan::hash::sha256_start;
use serde_json::{Value, json};

use super::{backup_storage_location::base64, redacted::Redacted};
use crate::schedule::{NAMESPACE, objects::APP};

/// Annotation of the Secret: the place of the location.
pub const PLACE: &str = "kubectl-backup.io/place";

/// Key of the Secret.
const KEY: &str = "password";

/// A place, short and without characters that names do not have. By which endpoint a bucket is reached says nothing about
/// what is in it.
pub fn place_id(place: &str) -> String {
    let bucket = place
        .rsplit_once(" at ")
        .filter(|(bucket, _)| bucket.starts_with("s3://"));
    sha256_start(bucket.map_or(place, |(bucket, _)| bucket), 6)
}

/// Name of the Secret.
pub fn secret_name(place: &str) -> String {
    format!("repository-{}", place_id(place))
}

/// Path of the Secret.
pub fn secret_path(place: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/{}", secret_name(place))
}

/// The Secret.
pub fn secret(place: &str, password: &Redacted) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": secret_name(place), "namespace": NAMESPACE,
            "labels": { APP.0: APP.1 },
            "annotations": { PLACE: place },
        },
        "stringData": { KEY: password.reveal() },
    })
}

/// The password in a Secret; `None` where it has none.
pub fn from_secret(secret: &Value) -> Option<Redacted> {
    let bytes = base64(secret["data"][KEY].as_str()?)?;
    String::from_utf8(bytes).ok().map(Redacted::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_carries_a_password() {
        let made = secret("s3://b/p", &Redacted::new("hunter2".to_owned()));
        assert_eq!(made["metadata"]["name"], secret_name("s3://b/p").as_str());
        assert_eq!(made["stringData"][KEY], "hunter2");
        let stored = json!({ "data": { KEY: "aHVudGVyMg==" } });
        assert_eq!(from_secret(&stored).unwrap().reveal(), "hunter2");
        assert!(from_secret(&json!({ "data": { KEY: "%" } })).is_none());
        assert_ne!(secret_name("s3://b/p"), secret_name("s3://b/q"));
        assert_eq!(
            secret_name("s3://b/p at http://minio:9000"),
            secret_name("s3://b/p")
        );
    }
}
