//! `KIND/NAME` words.
//!
//! The kind stays a word: only a cluster or a backup knows which kinds there are. Names are taken as they are, because
//! many kinds allow more than DNS names (`system:node`).

use super::RequestError;

/// An object as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectWord {
    /// `deployment`, `deploy`, `deployments.apps`.
    pub(crate) kind: String,
    /// The namespace, if `-n` gave one.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl ObjectWord {
    pub(super) fn parse(text: &str, namespace: Option<String>) -> Result<Self, RequestError> {
        match split(text)? {
            (kind, Some(name)) => Ok(Self {
                kind,
                namespace,
                name,
            }),
            (_, None) => Err(refuse(text)),
        }
    }
}

/// A filter `KIND` or `KIND/NAME`.
pub(super) fn kind_and_name(text: Option<&str>) -> Result<(Option<String>, Option<String>), RequestError> {
    match text {
        None => Ok((None, None)),
        Some(text) => split(text).map(|(kind, name)| (Some(kind), name)),
    }
}

fn split(text: &str) -> Result<(String, Option<String>), RequestError> {
    let mut parts = text.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(kind), None, _) if !kind.is_empty() => Ok((kind.to_owned(), None)),
        (Some(kind), Some(name), None) if !kind.is_empty() && !name.is_empty() => {
            Ok((kind.to_owned(), Some(name.to_owned())))
        }
        _ => Err(refuse(text)),
    }
}

fn refuse(text: &str) -> RequestError {
    RequestError::flag(
        "object",
        text,
        "write KIND/NAME, such as secret/login, and its namespace with -n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_name_are_split_once() {
        let object = ObjectWord::parse("clusterroles/system:node", None).unwrap();
        assert_eq!(
            (object.kind.as_str(), object.name.as_str()),
            ("clusterroles", "system:node")
        );
        for text in ["secret", "secret/", "/login", "shop/secret/login", "", "/"] {
            let error = ObjectWord::parse(text, None).expect_err(text).to_string();
            assert!(error.contains("KIND/NAME"), "{error}");
        }
    }

    #[test]
    fn a_filter_may_be_a_kind_alone() {
        assert_eq!(kind_and_name(None).unwrap(), (None, None));
        assert_eq!(kind_and_name(Some("po")).unwrap(), (Some("po".into()), None));
        assert_eq!(
            kind_and_name(Some("po/a")).unwrap(),
            (Some("po".into()), Some("a".into()))
        );
        assert!(kind_and_name(Some("po/")).is_err());
    }
}
