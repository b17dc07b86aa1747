//! Values of Secrets, hidden.
//!
//! In comes an object as JSON; out goes the same object in which every value of a Secret is `***` with its length. It
//! covers `data`, `stringData` and the copy of both that `kubectl apply` keeps in an annotation. Later code may rely on:
//! an object that passed through here shows the names of the keys and nothing of the values, whatever their shape.

use serde_json::{Map, Value};

/// Where `kubectl apply` keeps a copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Hides the values if the object is a Secret. `is_secret` is what the caller knows from elsewhere, such as the folder in
/// the archive: an object that lies about its kind is hidden all the same.
pub(crate) fn mask(object: &mut Value, is_secret: bool) {
    let Value::Object(fields) = object else {
        return;
    };
    if !is_secret && fields.get("kind").and_then(Value::as_str) != Some("Secret") {
        return;
    }
    for field in ["data", "stringData"] {
        if let Some(values) = fields.get_mut(field) {
            mask_values(values, field == "data");
        }
    }
    if let Some(annotation) = annotations(fields).and_then(|annotations| annotations.get_mut(LAST_APPLIED)) {
        mask_value(annotation, false);
    }
}

fn annotations(fields: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    fields
        .get_mut("metadata")?
        .get_mut("annotations")?
        .as_object_mut()
}

fn mask_values(values: &mut Value, is_base64: bool) {
    match values {
        Value::Object(values) => values.values_mut().for_each(|value| mask_value(value, is_base64)),
        Value::Null => {}
        other => mask_value(other, is_base64),
    }
}

fn mask_value(value: &mut Value, is_base64: bool) {
    let text = match value {
        Value::Null => return,
        Value::String(text) if is_base64 => format!("*** ({} bytes)", decoded_length(text)),
        Value::String(text) => format!("*** ({} bytes)", text.len()),
        _ => "***".to_owned(),
    };
    *value = Value::String(text);
}

/// Bytes that base64 text stands for.
fn decoded_length(text: &str) -> usize {
    let digits = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=')
        .count();
    digits * 3 / 4
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_value_of_a_secret_is_left() {
        let mut secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": "login",
                "annotations": {
                    "note": "kept",
                    "kubectl.kubernetes.io/last-applied-configuration": "{\"data\":{\"password\":\"aHVudGVyMg==\"}}",
                },
            },
            "data": { "password": "aHVudGVyMg==", "empty": "", "odd": ["aHVudGVyMg=="], "none": null },
            "stringData": { "plain": "hunter2" },
            "type": "Opaque",
        });
        mask(&mut secret, false);
        let text = secret.to_string();
        assert!(
            !text.contains("hunter2") && !text.contains("aHVudGVyMg"),
            "{text}"
        );
        assert_eq!(secret["data"]["password"], "*** (7 bytes)");
        assert_eq!(secret["data"]["empty"], "*** (0 bytes)");
        assert_eq!(secret["data"]["odd"], "***");
        assert_eq!(secret["data"]["none"], Value::Null);
        assert_eq!(secret["stringData"]["plain"], "*** (7 bytes)");
        assert_eq!(secret["metadata"]["annotations"]["note"], "kept");
        assert_eq!(secret["type"], "Opaque");
    }

    #[test]
    fn an_object_that_lies_about_its_kind_is_hidden_too() {
        let mut secret = json!({ "kind": "ConfigMap", "data": "aHVudGVyMg==" });
        mask(&mut secret, true);
        assert_eq!(secret["data"], "*** (7 bytes)");
    }

    #[test]
    fn other_kinds_are_left_alone() {
        let config = json!({ "kind": "ConfigMap", "data": { "a": "b" } });
        let mut masked = config.clone();
        mask(&mut masked, false);
        assert_eq!(masked, config);
    }

    #[test]
    fn lengths_are_those_of_the_decoded_bytes() {
        for (text, expected) in [
            ("", 0),
            ("YQ==", 1),
            ("YWI=", 2),
            ("YWJj", 3),
            ("YWJj\nYQ==", 4),
            ("YQ", 1),
        ] {
            assert_eq!(decoded_length(text), expected, "{text:?}");
        }
    }
}
