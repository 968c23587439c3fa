//! Environment variables that stand in for keys of the file: `CUTOVER_STATE__PATH`.
//!
//! Two underscores go one level down, a number picks an item of a list. The value is laid into the
//! tree before anything is typed, so a variable is checked exactly like the text, and a mistake
//! names the variable. It does not know which keys exist: the reader refuses unknown ones.

use toml::de::DeValue;

use super::{Entry, Node, Place, Spot, Value, join};
use crate::problem::Sink;

const PREFIX: &str = "CUTOVER_";
const SECTIONS: [&str; 6] = ["listen", "proxy", "tls", "admin", "state", "apps"];

/// Lays the overrides among `variables` into the tree. Other variables are left alone.
pub(crate) fn merge(
    root: &mut Node,
    variables: impl IntoIterator<Item = (String, String)>,
    sink: &mut Sink,
) {
    let mut overrides: Vec<(String, String)> =
        variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    overrides.sort();
    for (name, value) in overrides {
        let place = Place { spot: Spot::Variable(name.clone()), key: String::new() };
        let path = name[PREFIX.len()..].to_ascii_lowercase();
        if !path.contains("__") {
            refuse_single_underscore(&place, &path, sink);
            continue;
        }
        let segments: Vec<&str> = path.split("__").collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            sink.wrong(&place, "a level of this name is empty")
                .hint("two underscores stand between two names, as in CUTOVER_STATE__PATH");
            continue;
        }
        if let Err(stop) = lay(root, &segments, value, &name) {
            sink.wrong(&place, stop).hint("see docs/configuration.md for the names of the keys");
        }
    }
}

/// `CUTOVER_STATE_PATH` is a slip that would otherwise be ignored in silence.
fn refuse_single_underscore(place: &Place, path: &str, sink: &mut Sink) {
    let section = SECTIONS.iter().find(|section| path.starts_with(&format!("{section}_")));
    if let Some(section) = section {
        let rest = path[section.len() + 1..].to_ascii_uppercase();
        sink.wrong(place, "one underscore does not go down into a section").hint(format!(
            "write two underscores: {PREFIX}{}__{rest}",
            section.to_ascii_uppercase()
        ));
    }
}

fn lay(node: &mut Node, path: &[&str], value: String, variable: &str) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else {
        node.place.spot = Spot::Variable(variable.to_owned());
        node.value = typed(value, &node.place)?;
        return Ok(());
    };
    let kind = node.kind();
    match &mut node.value {
        Value::Table(entries) => {
            let index = entries.iter().position(|entry| same_name(&entry.name, first));
            let index = index.unwrap_or_else(|| {
                let name = (*first).to_owned();
                let key = join(&node.place.key, &name);
                let place = Place { spot: Spot::Variable(variable.to_owned()), key };
                let empty = Node { value: Value::Table(Vec::new()), place: place.clone() };
                entries.push(Entry { name, place, node: empty });
                entries.len() - 1
            });
            if rest.is_empty() {
                entries[index].place.spot = Spot::Variable(variable.to_owned());
            }
            lay(&mut entries[index].node, rest, value, variable)
        }
        Value::List(items) => {
            let count = items.len();
            match first.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                Some(item) => lay(item, rest, value, variable),
                None => Err(format!(
                    "`{}` is a list of {count}; \"{first}\" is not the number of one of them \
                     (they count from 0)",
                    node.place.key
                )),
            }
        }
        _ => Err(format!("`{}` is {kind}; nothing can stand below it", node.place.key)),
    }
}

/// Variables cannot hold a dash, so an underscore stands for either.
fn same_name(key: &str, segment: &str) -> bool {
    key.eq_ignore_ascii_case(segment) || key.replace('-', "_").eq_ignore_ascii_case(segment)
}

/// A list or an inline table is read as TOML; everything else is left to the reader of the key.
fn typed(text: String, place: &Place) -> Result<Value, String> {
    if !text.starts_with(['[', '{']) {
        return Ok(Value::Loose(text));
    }
    match DeValue::parse(&text) {
        Ok(parsed) => {
            let mut node = super::node(&parsed, place.key.clone());
            move_to(&mut node, &place.spot);
            Ok(node.value)
        }
        // An IPv6 address begins like a list.
        Err(_) if text.starts_with('[') && text.contains("]:") => Ok(Value::Loose(text)),
        Err(error) => {
            Err(format!("this begins like a list or a table, but is not TOML: {}", error.message()))
        }
    }
}

fn move_to(node: &mut Node, spot: &Spot) {
    node.place.spot = spot.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| move_to(item, spot)),
        Value::Table(entries) => {
            for entry in entries {
                entry.place.spot = spot.clone();
                move_to(&mut entry.node, spot);
            }
        }
        _ => {}
    }
}
