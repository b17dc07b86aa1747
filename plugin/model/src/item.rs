//! An object as the API server sent it, with only the few fields looked at that a rule needs.
//!
//! In comes the raw JSON of one object or of one page of a list; out go borrowed views ([`Head`], [`Page`]) and the raw
//! bytes with `apiVersion` and `kind` put back ([`splice`]). Nothing is decoded and written again, so no field is lost
//! or reordered on the way into an archive.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::value::RawValue;

/// The part of an object that rules look at, borrowed from its JSON.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Head<'a> {
    /// `apiVersion`; absent in list items of built-in kinds.
    #[serde(borrow, default, rename = "apiVersion")]
    pub api_version: Option<Cow<'a, str>>,
    /// `kind`; absent in list items of built-in kinds.
    #[serde(borrow, default)]
    pub kind: Option<Cow<'a, str>>,
    /// `metadata`.
    #[serde(borrow)]
    pub metadata: HeadMetadata<'a>,
}

/// The fields of `metadata` that rules look at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadMetadata<'a> {
    /// `name`.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// `namespace`, absent for cluster-scoped objects.
    #[serde(borrow, default)]
    pub namespace: Option<Cow<'a, str>>,
    /// `uid`.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    /// `labels`.
    #[serde(borrow, default)]
    pub labels: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    /// `annotations`, left undecoded: they are large (last-applied-configuration) and rarely looked at.
    #[serde(borrow, default)]
    pub annotations: Option<&'a RawValue>,
    /// `ownerReferences`.
    #[serde(borrow, default)]
    pub owner_references: Option<Vec<OwnerReference<'a>>>,
    /// `deletionTimestamp`, present when the object is being deleted.
    #[serde(borrow, default)]
    pub deletion_timestamp: Option<Cow<'a, str>>,
}

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference<'a> {
    /// `apiVersion` of the owner.
    #[serde(borrow, default)]
    pub api_version: Cow<'a, str>,
    /// `kind` of the owner.
    #[serde(borrow, default)]
    pub kind: Cow<'a, str>,
    /// `name` of the owner.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// `uid` of the owner.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    /// Whether this owner is the managing controller.
    #[serde(default)]
    pub controller: Option<bool>,
}

impl<'a> Head<'a> {
    /// Reads the head of one object.
    ///
    /// # Errors
    /// When the bytes are no JSON object or one of the fields has another type than Kubernetes gives it.
    pub fn parse(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Value of a label, if set.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(|value| &**value)
    }

    /// Labels with owned strings.
    pub fn owned_labels(&self) -> BTreeMap<String, String> {
        self.metadata
            .labels
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone().into_owned(), value.clone().into_owned()))
            .collect()
    }
}

/// One page of a list, borrowed from the response body.
#[derive(Debug, Deserialize)]
pub struct Page<'a> {
    /// List metadata.
    #[serde(default)]
    pub metadata: PageMetadata,
    /// The objects, each as sent. `null` where a server sends no list.
    #[serde(borrow, default)]
    pub items: Option<Vec<&'a RawValue>>,
}

/// Metadata of a list page.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PageMetadata {
    /// Token of the next page, empty on the last.
    #[serde(rename = "continue")]
    pub continue_token: String,
    /// Resource version of the snapshot that the list shows.
    pub resource_version: String,
    /// Objects after this page, where the server knows.
    pub remaining_item_count: Option<u64>,
}

impl<'a> Page<'a> {
    /// Reads one page.
    ///
    /// # Errors
    /// When the body is no list.
    pub fn parse(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

/// One page whose metadata stand before its objects, as the API server writes its own kinds: the objects need no look before
/// they are read one by one, so that each byte is parsed once.
#[derive(Debug)]
pub struct Front {
    /// List metadata.
    pub metadata: PageMetadata,
    /// Where the first object begins in the body, or the bracket that ends an empty list.
    pub items: usize,
}

impl Front {
    /// Bytes in which the objects must begin; metadata of lists are a few hundred.
    const WITHIN: usize = 4 << 10;

    /// Reads what stands before the objects; `None` when the page is of another form.
    pub fn parse(body: &[u8]) -> Option<Self> {
        const ITEMS: &[u8] = b",\"items\":[";
        #[derive(Deserialize)]
        struct Fields {
            metadata: PageMetadata,
        }
        // Nothing stands behind the objects, and the body was not cut.
        body.trim_ascii_end().ends_with(b"]}").then_some(())?;
        let begin = body.get(..body.len().min(Self::WITHIN))?;
        let comma = begin.windows(ITEMS.len()).position(|window| window == ITEMS)?;
        // What comes before is an object of its own once it is closed; so `items` is a field of the page and of nothing in it.
        let mut fields = begin.get(..comma)?.to_vec();
        fields.push(b'}');
        let Fields { metadata } = serde_json::from_slice(&fields).ok()?;
        Some(Self {
            metadata,
            items: comma + ITEMS.len(),
        })
    }
}

/// The next object of a list whose objects begin with `rest`: its bytes, its head or why it has none, and where the one
/// behind it begins. `None` at the end of the list.
///
/// # Errors
/// When `rest` is neither an object nor the end of a list; nothing behind it can be read then.
#[allow(
    clippy::type_complexity,
    reason = "three things that belong together nowhere else"
)]
pub fn next_object(
    rest: &[u8],
) -> Result<Option<(&[u8], Result<Head<'_>, serde_json::Error>, usize)>, serde_json::Error> {
    let blank = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let begin = blank(rest);
    let object = rest.get(begin..).unwrap_or_default();
    if object.first() == Some(&b']') {
        return Ok(None);
    }
    let mut heads = serde_json::Deserializer::from_slice(object).into_iter::<Head<'_>>();
    let (head, length) = match heads.next() {
        Some(Ok(head)) => (Ok(head), heads.byte_offset()),
        // Fields of odd types: it ends where any JSON value would.
        refused => {
            let mut values = serde_json::Deserializer::from_slice(object).into_iter::<&RawValue>();
            let raw = values.next().transpose()?;
            let length = raw.map_or(0, |_| values.byte_offset());
            match refused {
                Some(Err(error)) if length > 0 => (Err(error), length),
                _ => return Err(serde::de::Error::custom("the list of objects is cut")),
            }
        }
    };
    let raw = object.get(..length).unwrap_or_default();
    let behind = object.get(length..).unwrap_or_default();
    let skipped = blank(behind);
    match behind.get(skipped) {
        Some(b',') => Ok(Some((raw, head, begin + length + skipped + 1))),
        Some(b']') => Ok(Some((raw, head, begin + length + skipped))),
        _ => Err(serde::de::Error::custom("the list of objects is cut")),
    }
}

/// Appends `raw` to `out` with `apiVersion` and `kind` in front where the object lacks them (list items of built-in
/// kinds do); every other byte stays as the server sent it.
pub fn splice(raw: &[u8], head: &Head<'_>, api_version: &str, kind: &str, out: &mut Vec<u8>) {
    let missing_version = head.api_version.is_none();
    let missing_kind = head.kind.is_none();
    let Some(rest) = raw.strip_prefix(b"{").filter(|_| missing_version || missing_kind) else {
        out.extend_from_slice(raw);
        return;
    };
    out.push(b'{');
    let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let mut fields = Vec::with_capacity(2);
    if missing_kind {
        fields.push(("kind", kind));
    }
    if missing_version {
        fields.push(("apiVersion", api_version));
    }
    let last = fields.len() - 1;
    for (position, (name, value)) in fields.into_iter().enumerate() {
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        // Group, version and kind are DNS words; writing them through serde keeps the promise for odd servers too. Writing
        // into memory does not fail.
        let _ = serde_json::to_writer(&mut *out, value);
        if position != last || !is_empty {
            out.push(b',');
        }
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn spliced(raw: &str) -> Value {
        let head = Head::parse(raw.as_bytes()).unwrap_or_default();
        let mut out = Vec::new();
        splice(raw.as_bytes(), &head, "apps/v1", "Deployment", &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn type_is_put_back_only_where_it_is_missing() {
        assert_eq!(
            spliced("{}"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment"})
        );
        assert_eq!(
            spliced("{ }"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment"})
        );
        let custom = r#"{"apiVersion":"x.io/v1","kind":"X","metadata":{"name":"a"}}"#;
        assert_eq!(spliced(custom), serde_json::from_str::<Value>(custom).unwrap());
        assert_eq!(
            spliced(r#"{"kind":"X","metadata":{"name":"a"}}"#),
            json!({"apiVersion":"apps/v1","kind":"X","metadata":{"name":"a"}})
        );
    }

    #[test]
    fn escaped_names_are_decoded() {
        let head = Head::parse(br#"{"metadata":{"name":"a\u002db","labels":{"a\/b":"c"}}}"#).unwrap();
        assert_eq!(head.metadata.name, "a-b");
        assert_eq!(head.label("a/b"), Some("c"));
    }

    /// Names of the objects of a page, read one by one; `None` where the page has another form or is broken.
    fn names(body: &str) -> Option<Vec<Option<String>>> {
        let mut at = Front::parse(body.as_bytes())?.items;
        let (mut names, mut objects) = (Vec::new(), Vec::new());
        while let Some((raw, head, next)) = next_object(&body.as_bytes()[at..]).ok()? {
            objects.push(raw);
            names.push(head.ok().map(|head| head.metadata.name.into_owned()));
            at += next;
        }
        // What reading the page as a whole gives.
        let page = Page::parse(body.as_bytes()).unwrap();
        let expected = page.items.unwrap_or_default();
        assert_eq!(
            objects,
            expected
                .iter()
                .map(|item| item.get().as_bytes())
                .collect::<Vec<_>>()
        );
        Some(names)
    }

    #[test]
    fn objects_are_read_one_by_one_where_metadata_come_first() {
        let some = |names: &[&str]| {
            Some(
                names
                    .iter()
                    .map(|name| Some((*name).to_owned()))
                    .collect::<Vec<_>>(),
            )
        };
        for (body, expected) in [
            (
                r#"{"kind":"L","metadata":{"continue":"x"},"items":[]}"#,
                some(&[]),
            ),
            (
                r#"{"metadata":{},"items":[{"metadata":{"name":"a"}} , {"metadata":{"name":"b"},"x":"]}"} ]}"#,
                some(&["a", "b"]),
            ),
            // An object with a head of odd types is passed over, not the ones behind it.
            (
                r#"{"metadata":{},"items":[{"metadata":7},{"metadata":{"name":"b"}}]}"#,
                Some(vec![None, Some("b".to_owned())]),
            ),
            // Another form: read as a whole.
            (r#"{"items":[],"metadata":{}}"#, None),
            (r#"{"kind":"L","items":[],"metadata":{}}"#, None),
            (r#"{"metadata":{"x":{"y":1,"items":[]}},"more":1}"#, None),
            (r#"{"metadata":{},"items":null}"#, None),
            // Broken.
            (r#"{"metadata":{},"items":[{"metadata":{"name":"a"}}"#, None),
            (r#"{"metadata":{},"items":[{"metadata":{"name":"a""#, None),
            (r#"{"metadata":{},"items":[{"metadata":{"name":"a"}} x]}"#, None),
            (
                r#"{"metadata":{},"items":[{"metadata":{"name":"a"}}],"more":1}"#,
                None,
            ),
        ] {
            assert_eq!(names(body), expected, "{body}");
        }
        let front =
            Front::parse(br#"{"metadata":{"continue":"x","remainingItemCount":3},"items":[]}"#).unwrap();
        assert_eq!(
            (
                front.metadata.continue_token.as_str(),
                front.metadata.remaining_item_count
            ),
            ("x", Some(3))
        );
    }

    proptest! {
        #[test]
        fn splice_adds_two_fields_and_changes_nothing_else(
            fields in proptest::collection::btree_map("[a-z<>&\"\\\\]{1,8}", "\\PC{0,12}", 0..6)
        ) {
            let mut expected = json!(fields);
            let raw = expected.to_string();
            let object = expected.as_object_mut().unwrap();
            object.entry("kind").or_insert("Deployment".into());
            object.entry("apiVersion").or_insert("apps/v1".into());
            let head = Head {
                api_version: fields.get("apiVersion").map(|v| v.as_str().into()),
                kind: fields.get("kind").map(|v| v.as_str().into()),
                ..Head::default()
            };
            let mut out = Vec::new();
            splice(raw.as_bytes(), &head, "apps/v1", "Deployment", &mut out);
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
        }
    }
}
