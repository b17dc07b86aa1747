//! Hiding values in a text.
//!
//! In come Secrets as JSON, whose values must not be seen, and texts; out go the texts with every such value, and with whatever
//! has the shape of a key or a token, replaced by [`HIDDEN`]. Too much is hidden rather than too little.

use serde_json::Value;

use crate::location::backup_storage_location::base64;

/// What stands in place of a value.
const HIDDEN: &str = "<hidden>";

/// A shorter value says nothing and would be found everywhere.
const SHORTEST: usize = 6;

/// Words before a value that must not be seen, in lower case.
const BEFORE: [&str; 12] = [
    "password",
    "passwd",
    "secret",
    "token",
    "bearer",
    "authorization",
    "access_key",
    "accesskey",
    "access-key",
    "api_key",
    "apikey",
    "x-amz-signature",
];

/// Values that are hidden.
#[derive(Default)]
pub struct Veil {
    values: Vec<String>,
}

impl std::fmt::Debug for Veil {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Veil({} values)", self.values.len())
    }
}

impl Veil {
    /// Remembers the values of a Secret, whole, line by line and behind `=` and `:`, as they are and in base64. The URL of a
    /// location is none: it holds no credentials, and without it nobody can help.
    pub fn learn(&mut self, secret: &Value) {
        let data = secret["data"].as_object();
        for (_, encoded) in data.into_iter().flatten().filter(|(key, _)| *key != "url") {
            let Some(encoded) = encoded.as_str() else {
                continue;
            };
            self.add(encoded);
            let Some(text) = base64(encoded).and_then(|bytes| String::from_utf8(bytes).ok()) else {
                continue;
            };
            self.add(&text);
            for line in text.lines() {
                self.add(line);
                if let Some((_, value)) = line.split_once(['=', ':']) {
                    self.add(value);
                }
            }
        }
        // The longest first, or a part of a value would be left.
        self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        self.values.dedup();
    }

    fn add(&mut self, value: &str) {
        let value = value.trim().trim_matches('"');
        if value.len() >= SHORTEST && value != "[default]" {
            self.values.push(value.to_owned());
        }
    }

    /// The text without what must not be seen.
    pub fn over(&self, text: &str) -> String {
        let known = self
            .values
            .iter()
            .fold(text.to_owned(), |text, value| text.replace(value, HIDDEN));
        let lines: Vec<String> = known.split('\n').map(by_shape).collect();
        lines.join("\n")
    }
}

/// Hides what follows a telling word, and words that look like keys.
fn by_shape(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut hides_next = false;
    // `key = value` in three words.
    let mut is_told = false;
    let is_end = |letter: char| letter.is_whitespace() || "\"',;&?(){}[]<>\\".contains(letter);
    for piece in line.split_inclusive(is_end) {
        let word = piece.trim_end_matches(is_end);
        let end = piece.get(word.len()..).unwrap_or_default();
        let lower = word.to_ascii_lowercase();
        let (name, value) = match word.find(['=', ':']) {
            Some(at) => word.split_at(at + 1),
            None => ("", word),
        };
        let tells = |text: &str| BEFORE.iter().any(|before| text.contains(before));
        if word.is_empty() {
            shown.push_str(piece);
            continue;
        }
        if !name.is_empty() && tells(&name.to_ascii_lowercase()) {
            shown.push_str(name);
            if value.is_empty() {
                hides_next = true;
            } else {
                // `Authorization:Bearer` is followed by what counts.
                hides_next = tells(&value.to_ascii_lowercase());
                shown.push_str(HIDDEN);
            }
        } else if hides_next && word != "=" && word != ":" {
            hides_next = tells(&lower);
            shown.push_str(HIDDEN);
        } else if looks_like_a_key(value) {
            shown.push_str(name);
            shown.push_str(HIDDEN);
        } else {
            let is_sign = word == "=" || word == ":";
            hides_next = (is_sign && (hides_next || is_told))
                || matches!(
                    lower.as_str(),
                    "bearer" | "basic" | "authorization" | "password" | "token"
                )
                || (tells(&lower) && end.contains(['"', '\'']));
            shown.push_str(word);
        }
        is_told = tells(&lower);
        shown.push_str(end);
    }
    shown
}

/// AWS key ids and web tokens.
fn looks_like_a_key(word: &str) -> bool {
    let is_id = ["AKIA", "ASIA"].iter().any(|begin| word.starts_with(begin))
        && word.len() >= 16
        && word.chars().all(|letter| letter.is_ascii_alphanumeric());
    is_id || (word.starts_with("eyJ") && word.len() > 40)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn known_values_are_hidden_wherever_they_stand() {
        let mut veil = Veil::default();
        // [default]\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG
        let encoded = "W2RlZmF1bHRdCmF3c19zZWNyZXRfYWNjZXNzX2tleSA9IHdKYWxyWFV0bkZFTUkvSzdNREVORw==";
        veil.learn(&json!({ "data": { "credentials": encoded, "url": "czM6Ly9iYWNrdXBz" } }));
        let shown = veil.over(&format!("x wJalrXUtnFEMI/K7MDENG y\n{encoded}\ns3://backups"));
        assert!(!shown.contains("wJalr") && !shown.contains("W2Rl"), "{shown}");
        assert!(shown.contains("s3://backups"));
        assert!(!format!("{veil:?}").contains("wJalr"));
    }

    #[test]
    fn shapes_are_hidden_without_knowing_the_value() {
        let veil = Veil::default();
        for text in [
            "login password=planted now",
            "Authorization: Bearer planted",
            "aws_secret_access_key = planted",
            "{\"token\": \"planted\"}",
            "?X-Amz-Signature=planted&x=1",
            "key AKIAPLANTEDPLANTED12 used, planted: no".trim_end_matches(", planted: no"),
        ] {
            let shown = veil.over(text);
            assert!(!shown.to_lowercase().contains("planted"), "{text} -> {shown}");
            assert!(shown.contains(HIDDEN));
        }
        let plain = "Job nightly-1 failed: BackoffLimitExceeded at 2026-11-25T00:00:00Z";
        assert_eq!(veil.over(plain), plain);
    }
}
