//! A location that lies in the cluster: a labelled Secret in our namespace.
//!
//! In comes the Secret as JSON, out goes the [`Location`] in it: key `url` as on the command line, key `credentials`, if there
//! is one, the text of an AWS credentials file. Pods of ours find their location this way, and so may everybody who may
//! read the Secret.

use serde_json::Value;

use super::backup_storage_location::base64;
use super::redacted::Redacted;
use super::s3::CredentialsFrom;
use super::{Location, LocationError, url};

/// Reads a location out of a Secret.
///
/// # Errors
/// [`LocationError::Secret`] when a key is missing or is no text, [`LocationError::Url`] when the URL means nothing.
pub fn from_secret(secret: &Value) -> Result<Location, LocationError> {
    let fail = |key: &str, reason: &str| LocationError::Secret {
        name: secret["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        key: key.to_owned(),
        reason: reason.to_owned(),
    };
    let text = |key: &str| -> Result<Option<String>, LocationError> {
        let Some(encoded) = secret["data"][key].as_str() else {
            return Ok(None);
        };
        let bytes = base64(encoded).ok_or_else(|| fail(key, "it is no base64"))?;
        let text = String::from_utf8(bytes).map_err(|_| fail(key, "it is no text"))?;
        Ok(Some(text))
    };
    let url = text("url")?.ok_or_else(|| fail("url", "it is missing"))?;
    let mut location = url::parse(url.trim())?;
    if let (Location::S3(s3), Some(credentials)) = (&mut location, text("credentials")?) {
        s3.credentials = CredentialsFrom::ProfileText(Redacted::new(credentials));
    }
    Ok(location)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_a_location() {
        let secret = json!({
            "metadata": { "name": "location-main" },
            "data": { "url": "czM6Ly9iL3A/cmVnaW9uPWV1LXdlc3QtMQo=", "credentials": "W2RlZmF1bHRdCmF3c19hY2Nlc3Nfa2V5X2lkPXg=" },
        });
        let location = from_secret(&secret).unwrap();
        assert_eq!(location.describe(), "s3://b/p");
        assert!(!format!("{location:?}").contains("aws_access_key_id"));
        for (data, expected) in [
            (json!({}), "key url: it is missing"),
            (json!({ "url": "%" }), "no base64"),
            (json!({ "url": "L3Nydg==" }), "/srv"),
        ] {
            let secret = json!({ "metadata": { "name": "location-main" }, "data": data });
            let error = from_secret(&secret).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
