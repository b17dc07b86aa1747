//! From the document to checked rules.
//!
//! Fields are read as Go reads them: their case does not count, null is the same as nothing, numbers and truths become text
//! where text is expected, and a field that nobody knows is an error.

use serde_json::{Map, Value};

use super::{ModifierError, Patches, Rule, condition::Conditions, json_patch::JsonPatch};
use crate::{
    selector::{LabelSelector, LabelSelectorRequirement},
    yaml,
};

/// Fields of one object of the document.
struct Fields<'a> {
    what: &'a str,
    fields: Vec<(String, &'a Value)>,
}

impl<'a> Fields<'a> {
    /// Takes an object apart; `known` are the names of its fields.
    fn of(what: &'a str, value: &'a Value, known: &[&str]) -> Result<Self, String> {
        let mut fields = Vec::new();
        let given = match value {
            Value::Null => None,
            Value::Object(given) => Some(given),
            _ => return Err(format!("{what} must be a mapping")),
        };
        for (key, value) in given.into_iter().flatten() {
            let Some(name) = known.iter().find(|name| name.eq_ignore_ascii_case(key)) else {
                return Err(format!(
                    "{what} has no field {key}; it takes {}",
                    known.join(", ")
                ));
            };
            if fields.iter().any(|(read, _)| read == name) {
                return Err(format!("{what} has {name} twice"));
            }
            if !value.is_null() {
                fields.push(((*name).to_owned(), value));
            }
        }
        Ok(Self { what, fields })
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Result<String, String> {
        self.get(name).map_or(Ok(String::new()), |value| {
            text(&format!("{} of {}", name, self.what), value)
        })
    }

    fn list(&self, name: &str) -> Result<&'a [Value], String> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(format!("{name} of {} must be a list", self.what)),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let items = self.list(name)?.iter();
        items.map(|item| text(&format!("each of {name}"), item)).collect()
    }
}

fn text(what: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Array(_) | Value::Object(_) => Err(format!("{what} must be text; write a mapping behind `|`")),
        value => Ok(yaml::as_text(value).into_owned()),
    }
}

/// The rules of a document.
pub(super) fn rules(document: &Value) -> Result<Vec<Rule>, ModifierError> {
    let read = || -> Result<&[Value], String> {
        let top = Fields::of("the document", document, &["version", "resourceModifierRules"])?;
        let version = top.text("version")?;
        if !version.eq_ignore_ascii_case("v1") {
            return Err(format!("version is {version:?}, and only v1 is known"));
        }
        let rules = top.list("resourceModifierRules")?;
        if rules.is_empty() {
            return Err("resourceModifierRules is empty".to_owned());
        }
        Ok(rules)
    };
    let rules = read().map_err(ModifierError::Document)?;
    (1..)
        .zip(rules)
        .map(|(number, value)| {
            rule(value).map_err(|problem| ModifierError::Rule {
                rule: number,
                problem,
            })
        })
        .collect()
}

fn rule(value: &Value) -> Result<Rule, String> {
    let kinds = ["patches", "mergePatches", "strategicPatches"];
    let fields = Fields::of("the rule", value, &["conditions", kinds[0], kinds[1], kinds[2]])?;
    let conditions = conditions(fields.get("conditions").unwrap_or(&Value::Null))?;
    let mut given = Vec::new();
    for kind in kinds {
        let list = fields.list(kind)?;
        if !list.is_empty() {
            given.push((kind, list));
        }
    }
    let patches = match given.as_slice() {
        [] => return Err(format!("it has no patch; give one of {}", kinds.join(", "))),
        [("patches", patches)] => Patches::Json(json_patches(patches)?),
        [("mergePatches", patches)] => {
            Patches::Merge(merge_patches(patches)?.into_iter().map(Value::Object).collect())
        }
        [(_, patches)] => Patches::Strategic(merge_patches(patches)?),
        _ => return Err(format!("only one of {} can be given", kinds.join(", "))),
    };
    Ok(Rule { conditions, patches })
}

fn conditions(value: &Value) -> Result<Conditions, String> {
    let fields = Fields::of(
        "conditions",
        value,
        &[
            "namespaces",
            "groupResource",
            "resourceNameRegex",
            "labelSelector",
            "matches",
        ],
    )?;
    let mut matches = Vec::new();
    for item in fields.list("matches")? {
        let item = Fields::of("a match", item, &["path", "value"])?;
        matches.push((item.text("path")?, item.text("value")?));
    }
    let selector = fields.get("labelSelector").map(label_selector).transpose()?;
    Conditions::new(
        fields.texts("namespaces")?,
        &fields.text("groupResource")?,
        &fields.text("resourceNameRegex")?,
        selector.as_ref(),
        &matches,
    )
}

fn label_selector(value: &Value) -> Result<LabelSelector, String> {
    let fields = Fields::of("labelSelector", value, &["matchLabels", "matchExpressions"])?;
    let mut selector = LabelSelector::default();
    match fields.get("matchLabels") {
        None => {}
        Some(Value::Object(labels)) => {
            for (key, value) in labels {
                selector.match_labels.insert(key.clone(), text("a label", value)?);
            }
        }
        Some(_) => return Err("matchLabels of labelSelector must be a mapping".to_owned()),
    }
    for item in fields.list("matchExpressions")? {
        let item = Fields::of(
            "an expression of labelSelector",
            item,
            &["key", "operator", "values"],
        )?;
        selector.match_expressions.push(LabelSelectorRequirement {
            key: item.text("key")?,
            operator: item.text("operator")?,
            values: item.texts("values")?,
        });
    }
    Ok(selector)
}

fn json_patches(items: &[Value]) -> Result<JsonPatch, String> {
    let mut patch = JsonPatch::default();
    for item in items {
        let fields = Fields::of("a patch", item, &["operation", "from", "path", "value"])?;
        patch.push(
            &fields.text("operation")?,
            &fields.text("from")?,
            &fields.text("path")?,
            &fields.text("value")?,
        )?;
    }
    Ok(patch)
}

/// `patchData` is a document of its own, in which a key may stand twice.
fn merge_patches(items: &[Value]) -> Result<Vec<Map<String, Value>>, String> {
    let mut patches = Vec::new();
    for item in items {
        let data = Fields::of("a patch", item, &["patchData"])?.text("patchData")?;
        let mut patch = yaml::parse(&data, false).map_err(|problem| format!("patchData: {problem}"))?;
        yaml::without_fractions(&mut patch);
        let Value::Object(patch) = patch else {
            return Err("patchData must be a mapping, with the fields of the object that change".to_owned());
        };
        patches.push(patch);
    }
    Ok(patches)
}
