//! The JSON Schema of the operator's file, for editors. It comes from the raw types alone.
//!
//! Two things are made right that the derivation cannot know: TOML has no null, so an optional key
//! is just one that may be left out, and the names of our types mean nothing to a reader.

use serde_json::{Map, Value};

use crate::raw::RawConfig;

/// The JSON Schema of the file.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(RawConfig).to_value();
    tidy(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "cutover.toml".into());
    }
    schema
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            drop_null(object);
            if let Some(Value::String(reference)) = object.get_mut("$ref") {
                *reference = reference.replace("#/$defs/Raw", "#/$defs/");
            }
            if let Some(Value::Object(types)) = object.get_mut("$defs") {
                let named = std::mem::take(types).into_iter();
                *types =
                    named.map(|(name, of)| (name.trim_start_matches("Raw").into(), of)).collect();
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Takes "or null" out of a schema.
fn drop_null(object: &mut Map<String, Value>) {
    let null = Value::from("null");
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| *kind != null);
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type") != Some(&null));
    if let [only] = choices.as_mut_slice() {
        let only = std::mem::take(only);
        object.remove("anyOf");
        if let Value::Object(only) = only {
            object.extend(only);
        }
    }
}
