//! Results for machines: one JSON or YAML document with `apiVersion: cli.kubectl-backup.io/v1` and a `kind`.
//!
//! In come serializable results, out goes one document. Lists of any length are written item by item through [`Items`].

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use super::yaml;
use crate::{arguments::global::OutputFormat, exit::Failure};

/// `apiVersion` of every document.
pub(crate) const API_VERSION: &str = "cli.kubectl-backup.io/v1";

/// Prints one result as a document of this kind.
pub(crate) fn write(
    out: &mut impl Write,
    format: OutputFormat,
    kind: &str,
    result: &impl Serialize,
) -> Result<(), Failure> {
    let mut document = Map::new();
    document.insert("apiVersion".to_owned(), API_VERSION.into());
    document.insert("kind".to_owned(), kind.into());
    match serde_json::to_value(result)? {
        Value::Object(fields) => document.extend(fields),
        Value::Array(items) => {
            document.insert("items".to_owned(), Value::Array(items));
        }
        other => {
            document.insert("value".to_owned(), other);
        }
    }
    bare(out, format, &Value::Object(document))
}

/// Prints a value as it is: an object of a backup has an `apiVersion` of its own.
pub(crate) fn bare(out: &mut impl Write, format: OutputFormat, value: &Value) -> Result<(), Failure> {
    let text = match format {
        OutputFormat::Yaml => yaml::to_string(value),
        _ => format!("{value:#}\n"),
    };
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A document whose `items` are written as they come.
pub(crate) struct Items<W> {
    out: W,
    is_yaml: bool,
    is_first: bool,
}

impl<W: Write> Items<W> {
    pub(crate) fn begin(out: W, format: OutputFormat, kind: &str) -> io::Result<Self> {
        Self::begin_with(out, format, kind, &Map::new())
    }

    /// A document with fields of its own before the items.
    pub(crate) fn begin_with(
        mut out: W,
        format: OutputFormat,
        kind: &str,
        fields: &Map<String, Value>,
    ) -> io::Result<Self> {
        let is_yaml = format == OutputFormat::Yaml;
        if is_yaml {
            write!(out, "apiVersion: {API_VERSION}\nkind: {kind}\n")?;
            if !fields.is_empty() {
                out.write_all(yaml::to_string(&Value::Object(fields.clone())).as_bytes())?;
            }
            write!(out, "items:")?;
        } else {
            write!(
                out,
                "{{\n  \"apiVersion\": \"{API_VERSION}\",\n  \"kind\": \"{kind}\",\n"
            )?;
            for (key, value) in fields {
                writeln!(out, "  {}: {value},", Value::from(key.as_str()))?;
            }
            write!(out, "  \"items\": [")?;
        }
        Ok(Self {
            out,
            is_yaml,
            is_first: true,
        })
    }

    pub(crate) fn push(&mut self, item: &impl Serialize) -> Result<(), Failure> {
        let value = serde_json::to_value(item)?;
        if self.is_yaml {
            if self.is_first {
                self.out.write_all(b"\n")?;
            }
            self.out.write_all(yaml::item(&value).as_bytes())?;
        } else {
            let comma = if self.is_first { "" } else { "," };
            write!(self.out, "{comma}\n    {value}")?;
        }
        self.is_first = false;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        match (self.is_yaml, self.is_first) {
            (true, true) => self.out.write_all(b" []\n")?,
            (true, false) => {}
            (false, true) => self.out.write_all(b"]\n}\n")?,
            (false, false) => self.out.write_all(b"\n  ]\n}\n")?,
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_says_what_it_is() {
        let mut out = Vec::new();
        write(&mut out, OutputFormat::Json, "Summary", &json!({ "objects": 3 })).unwrap();
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            value,
            json!({ "apiVersion": "cli.kubectl-backup.io/v1", "kind": "Summary", "objects": 3 })
        );
        assert_eq!(out.last(), Some(&b'\n'));
    }

    #[test]
    fn items_written_one_by_one_are_one_document() {
        for count in [0, 1, 3] {
            for format in [OutputFormat::Json, OutputFormat::Yaml] {
                let mut out = Vec::new();
                let fields = json!({ "restore": "r", "kinds": [{ "a": 1 }] });
                let fields = fields.as_object().cloned().unwrap_or_default();
                let mut items = Items::begin_with(&mut out, format, "ContentList", &fields).unwrap();
                for number in 0..count {
                    items
                        .push(&json!({ "name": format!("a-{number}"), "labels": { "x": "1" } }))
                        .unwrap();
                }
                items.finish().unwrap();
                let text = String::from_utf8(out).unwrap();
                let value: Value = match format {
                    OutputFormat::Yaml => serde_saphyr::from_str(&text).unwrap(),
                    _ => serde_json::from_str(&text).unwrap(),
                };
                assert_eq!(value["kind"], "ContentList", "{text}");
                assert_eq!(
                    (&value["restore"], &value["kinds"][0]["a"]),
                    (&json!("r"), &json!(1))
                );
                assert_eq!(value["items"].as_array().map(Vec::len), Some(count), "{text}");
                if count > 0 {
                    assert_eq!(value["items"][0]["labels"]["x"], "1");
                }
            }
        }
    }
}
