//! Strategic merge patches, as `apimachinery` applies them.
//!
//! In come an object and patches; out goes the object in which lists of Kubernetes' own types are merged item by item, where
//! their types say so, and the directives in the patches are carried out: `$patch`, `$retainKeys`, `$setElementOrder/x` and
//! `$deleteFromPrimitiveList/x`. One difference: a field that the Go types do not know is merged as a mapping or replaced as
//! a list, where `apimachinery` gives up; objects of a newer cluster have such fields.

use std::mem;

use serde_json::{Map, Value};

use super::merge_keys::{Type, of_kind};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Applies patches one after another.
pub(super) fn apply(object: &Map<String, Value>, patches: &[Map<String, Value>]) -> Result<Value, String> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    let of = of_kind(version, kind).ok_or_else(|| {
        format!("there are no strategic merge patches for {kind} of {version}; write mergePatches or patches")
    })?;
    let mut changed = object.clone();
    for patch in patches {
        changed = merge_map(changed, patch.clone(), of)?;
    }
    Ok(Value::Object(changed))
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    of: Type,
) -> Result<Map<String, Value>, String> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => Err(format!(
                "{DIRECTIVE}: {directive} is unknown for a mapping; write replace or delete"
            )),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered(&mut original, &mut patch, of)?;
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_PREFIX) {
            Some(name) => (name.to_owned(), true),
            None if key.starts_with("$deleteFromPrimitiveList") => {
                return Err(format!("{key} must name a list: {DELETE_PREFIX}LIST"));
            }
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        merge_field(&mut original, key, value, deletes, of)?;
    }
    Ok(original)
}

fn merge_field(
    original: &mut Map<String, Value>,
    key: String,
    value: Value,
    deletes: bool,
    of: Type,
) -> Result<(), String> {
    let field = of.field(&key);
    let merged = match (original.remove(&key), value) {
        (Some(Value::Object(current)), Value::Object(patch)) if !deletes => {
            if field.strategy == "replace" {
                Some(Value::Object(patch))
            } else {
                Some(Value::Object(merge_map(current, patch, field.of)?))
            }
        }
        (Some(Value::Array(current)), Value::Array(patch)) => {
            if field.strategy == "merge" || deletes {
                Some(Value::Array(merge_list(
                    current, patch, field.key, field.of, deletes,
                )?))
            } else {
                Some(Value::Array(patch))
            }
        }
        // A list to delete from that is none: there is nothing to delete.
        (current, _) if deletes => current,
        (Some(current), patch) if same_type(&current, &patch) => without_directives(patch),
        (_, mut patch) => {
            discard_nulls(&mut patch);
            without_directives(patch)
        }
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

/// `$retainKeys` names the keys of the original that stay.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), String> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(retained) = retained else {
        return Err(format!("{RETAIN_KEYS} must be a list of keys"));
    };
    let is_retained = |key: &str| retained.iter().any(|name| name == key);
    for (key, value) in &*patch {
        let is_list_directive =
            key.starts_with("$deleteFromPrimitiveList") || key.starts_with("$setElementOrder");
        if !value.is_null() && !is_list_directive && !is_retained(key) {
            return Err(format!("{key} is patched and not in {RETAIN_KEYS}"));
        }
    }
    original.retain(|key, _| is_retained(key));
    Ok(())
}

/// Merges the lists for which the patch gives an order.
fn merge_ordered(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    of: Type,
) -> Result<(), String> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with("$setElementOrder"))
        .cloned()
        .collect();
    for directive in directives {
        let name = directive
            .strip_prefix(ORDER_PREFIX)
            .ok_or_else(|| format!("{directive} must name a list: {ORDER_PREFIX}LIST"))?;
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(format!("{directive} must be a list"));
        };
        let take = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(format!("{directive} stands for {name}, which is no list")),
        };
        let mut current = take(original.get(name).cloned())?;
        let mut patched = take(patch.get(name).cloned())?;
        let field = of.field(name);
        check_order(
            patched.as_deref().unwrap_or_default(),
            &order,
            field.key,
            &directive,
        )?;
        let is_map = element_kind(&[
            current.as_deref().unwrap_or_default(),
            patched.as_deref().unwrap_or_default(),
        ]);
        let live = current.clone().unwrap_or_default();
        let merged = match (current.take(), patched.take()) {
            (None, None) => continue,
            (Some(current), None) => current,
            (None, Some(patched)) => match without_directives(Value::Array(patched)) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(current), Some(patched)) if field.strategy == "merge" => {
                merge_list(current, patched, field.key, field.of, false)?
            }
            (Some(_), Some(patched)) => patched,
        };
        let is_map = is_map?;
        let (from_patch, other) = partition(merged, &order, field.key)?;
        let both = in_order(from_patch, other, &order, &live, field.key, is_map)?;
        original.insert(name.to_owned(), Value::Array(both));
        patch.remove(name);
    }
    Ok(())
}

/// The items of a patch must stand in the order that it gives, and be in it.
fn check_order(patch: &[Value], order: &[Value], key: &str, directive: &str) -> Result<(), String> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut places = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let mut found = false;
        for place in places.by_ref() {
            if identity(item, key)? == identity(place, key)? {
                found = true;
                break;
            }
        }
        if !found {
            return Err(format!(
                "the list of the patch is not in the order of {directive}"
            ));
        }
    }
    Ok(())
}

/// What tells an item from others: the value of its merge key, or the plain item itself.
fn identity<'a>(item: &'a Value, key: &str) -> Result<&'a Value, String> {
    if key.is_empty() {
        return Ok(item);
    }
    let fields = item
        .as_object()
        .ok_or_else(|| format!("an item of a list that is merged by {key} is no mapping"))?;
    fields
        .get(key)
        .ok_or_else(|| format!("an item of a list lacks {key}, by which the list is merged"))
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    of: Type,
    deletes: bool,
) -> Result<Vec<Value>, String> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let is_map = element_kind(&[&original, &patch])?;
    if !is_map {
        if deletes {
            return Ok(original
                .into_iter()
                .filter(|item| !patch.contains(item))
                .collect());
        }
        let mut both = original.clone();
        both.extend(patch.iter().cloned());
        remove_doubled(&mut both);
        let (from_patch, other) = if key.is_empty() {
            both.into_iter().partition(|item| patch.contains(item))
        } else {
            partition(both, &patch, key)?
        };
        return in_order(from_patch, other, &patch, &original, key, is_map);
    }
    if key.is_empty() {
        return Err("a list of mappings has no merge key".to_owned());
    }
    let (original, patch) = carry_out_directives(original, patch, key)?;
    let mut merged = original.clone();
    for item in &patch {
        let identity = identity(item, key)?;
        match position(&merged, identity, key)? {
            Some(position) => {
                if let (Some(slot), Value::Object(item)) = (merged.get_mut(position), item)
                    && let Value::Object(current) = mem::take(slot)
                {
                    *slot = Value::Object(merge_map(current, item.clone(), of)?);
                }
            }
            None => merged.push(item.clone()),
        }
    }
    let (from_patch, other) = partition(merged, &patch, key)?;
    in_order(from_patch, other, &patch, &original, key, is_map)
}

/// Where an item stands in a list of mappings.
fn position(items: &[Value], wanted: &Value, key: &str) -> Result<Option<usize>, String> {
    for (position, item) in items.iter().enumerate() {
        let fields = item.as_object().ok_or("an item of a list is no mapping")?;
        if fields.get(key).is_some_and(|value| value == wanted) {
            return Ok(Some(position));
        }
    }
    Ok(None)
}

/// Takes the items with `$patch` out of a patch, and deletes or replaces what they say.
fn carry_out_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), String> {
    let mut plain = Vec::new();
    let mut replaces = false;
    for item in patch {
        match item
            .get(DIRECTIVE)
            .map(|directive| directive.as_str().unwrap_or_default())
        {
            None => plain.push(item),
            Some("delete") => {
                let identity = identity(&item, key)?;
                while let Some(position) = position(&original, identity, key)? {
                    original.remove(position);
                }
            }
            Some("replace") => replaces = true,
            Some(other) => {
                return Err(format!(
                    "{DIRECTIVE}: {other:?} is unknown for an item of a list; write delete or replace"
                ));
            }
        }
    }
    Ok(if replaces {
        (plain, Vec::new())
    } else {
        (original, plain)
    })
}

/// Whether the items of all lists are mappings; they must all be of one type, and not lists.
fn element_kind(lists: &[&[Value]]) -> Result<bool, String> {
    let mut items = lists.iter().flat_map(|list| list.iter());
    let first = items
        .next()
        .ok_or("a list without items is merged with another")?;
    if first.is_array() {
        return Err("lists of lists cannot be merged".to_owned());
    }
    if items.all(|item| same_type(first, item)) {
        Ok(first.is_object())
    } else {
        Err("the items of a list are not all of one type".to_owned())
    }
}

fn same_type(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.is_f64() == right.is_f64(),
        (left, right) => mem::discriminant(left) == mem::discriminant(right),
    }
}

/// Later copies go, and the last item takes their place.
fn remove_doubled(items: &mut Vec<Value>) {
    let mut first = 0;
    while first < items.len() {
        let mut second = first + 1;
        while second < items.len() {
            if items.get(first) == items.get(second) {
                items.swap_remove(second);
            } else {
                second += 1;
            }
        }
        first += 1;
    }
}

/// Items that stand in `by`, and the others.
fn partition(items: Vec<Value>, by: &[Value], key: &str) -> Result<(Vec<Value>, Vec<Value>), String> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for item in items {
        let found = if key.is_empty() {
            by.contains(&item)
        } else {
            position(by, identity(&item, key)?, key)?.is_some()
        };
        let side = if found { &mut inside } else { &mut outside };
        side.push(item);
    }
    Ok((inside, outside))
}

/// The items of the patch in its order and the others in theirs, put together by the order of the live list.
fn in_order(
    from_patch: Vec<Value>,
    other: Vec<Value>,
    patch_order: &[Value],
    live_order: &[Value],
    key: &str,
    is_map: bool,
) -> Result<Vec<Value>, String> {
    let place = |order: &[Value], item: &Value| {
        let identity = |item: &Value| {
            if is_map {
                item.get(key).cloned()
            } else {
                Some(item.clone())
            }
        };
        let wanted = identity(item);
        order.iter().position(|item| identity(item) == wanted)
    };
    let sorted = |mut items: Vec<Value>, order: &[Value]| {
        if is_map {
            for item in items.iter().chain(order) {
                identity(item, key)?;
            }
        }
        stable_sort(&mut items, |left, right| {
            match (place(order, left), place(order, right)) {
                (Some(left), Some(right)) => left < right,
                _ => true,
            }
        });
        Ok::<_, String>(items)
    };
    let patch = sorted(from_patch, patch_order)?;
    let other = sorted(other, live_order)?;
    let is_before = |left: &Value, right: &Value| {
        let (left, right) = (place(live_order, left), place(live_order, right));
        left.zip(right).is_some_and(|(left, right)| left < right)
    };
    let (mut patch, mut other) = (patch.into_iter().peekable(), other.into_iter().peekable());
    let mut all = Vec::new();
    loop {
        let next = match (other.peek(), patch.peek()) {
            (Some(left), Some(right)) if is_before(left, right) => other.next(),
            (_, Some(_)) => patch.next(),
            (_, None) => other.next(),
        };
        match next {
            Some(item) => all.push(item),
            None => return Ok(all),
        }
    }
}

/// An insertion sort: where the comparison is not consistent, the outcome is that of Go's sort.
fn stable_sort(items: &mut [Value], is_less: impl Fn(&Value, &Value) -> bool) {
    for start in 1..items.len() {
        let mut at = start;
        while at > 0 && is_less(&items[at], &items[at - 1]) {
            items.swap(at, at - 1);
            at -= 1;
        }
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// The value without mappings that are directives; `None` if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(
            fields
                .into_iter()
                .filter_map(|(key, value)| Some((key, without_directives(value)?)))
                .collect(),
        ),
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        value => Some(value),
    }
}
