//! Where the old name of a mapped namespace still stands, in text whose meaning only a person knows.
//!
//! In comes the body as it will be written; out go the paths at which a text names a mapped namespace: as part of a host
//! name (`db.shop.svc`, `//db.shop:80`), behind the word `namespace`, as a service account's user. Nothing is changed. The
//! name as an ordinary word does not count. Values are never shown: some are secret.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};
use velero_model::resource::ApiKind;

use super::{Note, Options};

/// Most paths that a note lists; the others are counted.
const PLACES: usize = 8;

/// A copy of the whole object in one annotation would repeat every finding.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Groups of Kubernetes' own kinds: where these refer to namespaces is known, and mapped.
const BUILT_IN: [&str; 20] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Names the places of one object.
pub(super) fn scan(kind: &ApiKind, body: &Map<String, Value>, options: &Options) -> Option<Note> {
    if options.namespace_mapping.is_empty() {
        return None;
    }
    let mut search = Search {
        options,
        is_custom: !BUILT_IN.contains(&kind.group.as_str()),
        path: String::new(),
        places: Vec::new(),
        more: 0,
    };
    let annotations = body
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations"));
    if let Some(Value::Object(annotations)) = annotations {
        search.within(".metadata.annotations", |search| {
            for (key, value) in annotations.iter().filter(|(key, _)| *key != LAST_APPLIED) {
                search.step(key, |search| search.value(key, value));
            }
        });
    }
    if has_text(kind) {
        for (key, value) in body {
            match key.as_str() {
                "apiVersion" | "kind" | "metadata" | "status" => {}
                "data" if kind.group.is_empty() && kind.plural == "secrets" => search.secret(value),
                _ => search.step(key, |search| search.value(key, value)),
            }
        }
    }
    search.note()
}

/// Kinds whose fields have no text but references that are mapped, or descriptions.
fn has_text(kind: &ApiKind) -> bool {
    !matches!(
        (kind.group.as_str(), kind.plural.as_str()),
        (
            "",
            "namespaces" | "persistentvolumes" | "events" | "endpoints" | "serviceaccounts"
        ) | (
            "rbac.authorization.k8s.io" | "apiextensions.k8s.io" | "discovery.k8s.io" | "events.k8s.io",
            _
        )
    )
}

struct Search<'a> {
    options: &'a Options,
    is_custom: bool,
    path: String,
    places: Vec<String>,
    more: u64,
}

impl Search<'_> {
    fn note(self) -> Option<Note> {
        (!self.places.is_empty()).then_some(Note::NamespaceInText {
            places: self.places,
            more: self.more,
        })
    }

    fn within(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        let step = if before == 0 {
            step.trim_start_matches('.')
        } else {
            step
        };
        self.path.push_str(step);
        visit(self);
        self.path.truncate(before);
    }

    fn step(&mut self, key: &str, visit: impl FnOnce(&mut Self)) {
        let step = if key.contains(['.', '/']) {
            format!("[{key}]")
        } else {
            format!(".{key}")
        };
        self.within(&step, visit);
    }

    fn value(&mut self, key: &str, value: &Value) {
        match value {
            Value::String(text) => self.text(key, text),
            Value::Object(fields) => self.fields(fields),
            Value::Array(items) => self.items(key, items),
            _ => {}
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>) {
        // Of a name with a value (a variable, a header) the name says what the value is.
        let named = fields.get("name").and_then(Value::as_str);
        for (key, value) in fields {
            let meaning = named.filter(|_| key == "value").unwrap_or(key);
            self.step(key, |search| search.value(meaning, value));
        }
    }

    fn items(&mut self, key: &str, items: &[Value]) {
        let mut before = "";
        for (position, item) in items.iter().enumerate() {
            let name = item.get("name").and_then(Value::as_str);
            let step = name.map_or_else(|| format!("[{position}]"), |name| format!("[{name}]"));
            // `--namespace shop` comes as two arguments.
            let is_flag = before.starts_with('-') && (before == "-n" || before.ends_with("namespace"));
            let meaning = if is_flag { before } else { key };
            self.within(&step, |search| match item {
                Value::String(text) if is_flag => search.flag(meaning, text),
                item => search.value(key, item),
            });
            before = item.as_str().unwrap_or_default();
        }
    }

    /// Values are base64; only the key is ever shown.
    fn secret(&mut self, data: &Value) {
        self.within(".data", |search| {
            for (key, value) in data.as_object().into_iter().flatten() {
                let decoded = value
                    .as_str()
                    .and_then(|value| BASE64_STANDARD.decode(value).ok());
                if let Some(Ok(text)) = decoded.map(String::from_utf8) {
                    search.step(key, |search| search.text(key, &text));
                }
            }
        });
    }

    fn flag(&mut self, flag: &str, text: &str) {
        if self.options.namespace_mapping.contains_key(text) {
            self.found(text);
        } else {
            self.text(flag, text);
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        let options = self.options;
        let names = options.namespace_mapping.keys();
        let found = names
            .filter(|name| text.contains(name.as_str()))
            .find(|name| self.says(key, text, name));
        if let Some(name) = found {
            self.found(name);
        }
    }

    fn says(&self, key: &str, text: &str, name: &str) -> bool {
        if text == name && (is_about_namespaces(key) && (self.is_custom || !is_reference(key))) {
            return true;
        }
        if matches!(key, "host" | "hosts" | "hostname" | "hostnames" | "externalName") {
            return text.split('.').any(|label| label == name);
        }
        mentions(text, name)
    }

    fn found(&mut self, name: &str) {
        if self.places.len() < PLACES {
            self.places.push(format!("{} ({name})", self.path));
        } else {
            self.more += 1;
        }
    }
}

fn is_about_namespaces(key: &str) -> bool {
    key.to_ascii_lowercase().contains("namespace")
}

/// The names of API fields, as against those of variables and keys of data.
fn is_reference(key: &str) -> bool {
    matches!(key, "namespace" | "namespaces")
}

/// Whether a text uses a name as a namespace's.
fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(position, _)| {
        let (Some(before), Some(after)) = (text.get(..position), text.get(position + name.len()..)) else {
            return false;
        };
        !ends_in_word(before)
            && !begins_with_word(after)
            && (in_cluster_domain(after)
                || after_its_title(before)
                || (!after.strip_prefix('.').is_some_and(begins_with_word) && ends_host(before, after)))
    })
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '-' || char == '_'
}

fn ends_in_word(text: &str) -> bool {
    text.ends_with(is_word)
}

fn begins_with_word(text: &str) -> bool {
    text.starts_with(is_word)
}

/// `shop.svc`, `shop.pod.cluster.local`.
fn in_cluster_domain(after: &str) -> bool {
    [".svc", ".pod"].iter().any(|domain| {
        after
            .strip_prefix(domain)
            .is_some_and(|rest| !begins_with_word(rest))
    })
}

/// `namespace: shop`, `--namespace=shop`, `system:serviceaccount:shop:`.
fn after_its_title(before: &str) -> bool {
    let title = before.trim_end_matches([' ', '\t', '"', '\'', '=', ':', '\\']);
    let separator = before.len() - title.len();
    let says = |word: &str| {
        let tail = title.len().checked_sub(word.len()).and_then(|at| title.get(at..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(word))
    };
    (1..=5).contains(&separator)
        && (says("namespace") || title.ends_with("serviceaccount") || title.ends_with("serviceaccounts"))
}

/// `db.shop`, as a whole word or with a port, or at the beginning of a URL: a Service and its namespace.
fn ends_host(before: &str, after: &str) -> bool {
    let Some(host) = before.strip_suffix('.') else {
        return false;
    };
    let is_host =
        |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-' || char == '.';
    let start = host.trim_end_matches(is_host);
    let labels = host.get(start.len()..).unwrap_or_default();
    let count = labels.split('.').count();
    if labels.split('.').any(str::is_empty) || !labels.starts_with(|char: char| char.is_ascii_lowercase()) {
        return false;
    }
    let is_port = after
        .strip_prefix(':')
        .is_some_and(|rest| rest.starts_with(|char: char| char.is_ascii_digit()));
    let is_authority = start.ends_with("//") || start.ends_with('@');
    if is_authority || is_port {
        return count <= 3;
    }
    let opens =
        start.is_empty() || start.ends_with([' ', '\t', '\n', '"', '\'', '=', ',', ';', ':', '(', '[', '|']);
    let closes =
        after.is_empty() || after.starts_with(['"', '\'', ',', ';', ' ', '\t', '\r', '\n', ')', ']', '|']);
    count == 1 && opens && closes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_told_from_words() {
        for (text, expected) in [
            ("db.shop.svc", true),
            ("shop.svc.cluster.local", true),
            ("http://x.shop:80/path", true),
            ("postgres://user:secret@db.shop/orders", true),
            ("https://web-0.web.shop", true),
            ("db.shop", true),
            ("db.shop:5432", true),
            ("DB_HOST=db.shop", true),
            ("host: db.shop\nport: 5432", true),
            ("a.bank,db.shop,c", true),
            ("10-0-0-7.shop.pod", true),
            ("namespace: shop", true),
            ("{\"namespace\":\"shop\"}", true),
            ("{\\\"namespace\\\":\\\"shop\\\"}", true),
            ("--namespace=shop", true),
            ("POD_NAMESPACE=shop", true),
            ("system:serviceaccount:shop:worker", true),
            ("our shop is open", false),
            ("shop", false),
            ("the shop. Then", false),
            ("www.shop.example.com", false),
            ("com.shop.Order", false),
            ("com.example.shop", false),
            ("logging.level.shop=DEBUG", false),
            ("db.shopping.svc", false),
            ("db.my-shop.svc", false),
            ("db.shop-2", false),
            ("/etc/app/config.shop", false),
            ("shop.svcs", false),
            ("Db.shop", false),
            ("namespaceshop", false),
            ("\u{e4}shop.svc", false),
        ] {
            assert_eq!(mentions(text, "shop"), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[a-z\u{e4}./:@ =\"-]{0,30}(shop|s)?[a-z\u{e4}./:@ =-]{0,8}", name in "(shop|s)") {
            let _ = mentions(&text, &name);
            let exact = format!("{text} db.{name}.svc");
            prop_assert!(mentions(&exact, &name));
        }
    }
}
