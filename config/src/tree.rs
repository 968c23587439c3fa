//! The file as a tree of values, each with the place where it stands.
//!
//! Text becomes a tree here, and syntax errors become problems; what the keys mean is not known
//! yet. The tree is our own, so that a value from an environment variable (`tree::overrides`) can
//! stand in it with its variable as its place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{NOT_TOML, Sink};

pub(crate) mod overrides;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Bytes of the text.
    Text(Range<usize>),
    /// An environment variable.
    Variable(String),
    /// The file as a whole.
    File,
}

/// Where a value was written, and under which key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Text or variable.
    pub(crate) spot: Spot,
    /// `apps.shop.routes[0].path`
    pub(crate) key: String,
}

impl Place {
    /// The file as a whole.
    pub(crate) fn file() -> Self {
        Self { spot: Spot::File, key: String::new() }
    }

    /// The same spot, for a key below this one.
    pub(crate) fn below(&self, name: &str) -> Self {
        Self { spot: self.spot.clone(), key: join(&self.key, name) }
    }
}

/// One value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    /// The text of an environment variable: whatever its reader can make of it.
    Loose(String),
    Integer(i64),
    /// A number that is not a whole one, or one too large to be of use.
    Number,
    Boolean(bool),
    Date,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// One key of a table with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Where the key stands, not the value.
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Node {
    /// What the value is, with its article, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) | Value::Loose(_) => "a text",
            Value::Integer(_) => "a whole number",
            Value::Number => "a number",
            Value::Boolean(_) => "true or false",
            Value::Date => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

fn join(parent: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if parent.is_empty() { name } else { format!("{parent}.{name}") }
}

/// Reads the text. Where it is not TOML, a problem is noted and reading goes on behind it.
pub(crate) fn parse(text: &str, sink: &mut Sink) -> Node {
    let (root, errors) = DeTable::parse_recoverable(text);
    // One broken line can upset the parser several times; the first message is the one that helps.
    let mut lines_seen = Vec::new();
    for error in errors {
        sink.broken = true;
        let span = error.span().unwrap_or(0..0);
        let line = text[..span.start.min(text.len())].matches('\n').count();
        if lines_seen.contains(&line) {
            continue;
        }
        lines_seen.push(line);
        let place = Place { spot: Spot::Text(span), key: String::new() };
        let problem = sink.wrong(&place, format!("{NOT_TOML}: {}", error.message()));
        if let Some(hint) = syntax_hint(error.message()) {
            problem.hint(hint);
        }
    }
    let place = Place::file();
    Node { value: Value::Table(entries(root.get_ref(), &place)), place }
}

/// What to write, for the slips that people make.
fn syntax_hint(message: &str) -> Option<&'static str> {
    let hints = [
        ("duplicate key", "keep one of the two"),
        ("must be quoted", "put the value in quotes: name = \"value\""),
        ("array table", "a section that may stand several times is written [[name]]"),
        ("unclosed table", "a section is written [name]"),
        ("key with no value", "write name = \"value\""),
        ("unclosed array", "a list ends with ]"),
        ("unclosed inline table", "an inline table ends with }"),
    ];
    hints.iter().find(|(part, _)| message.contains(part)).map(|(_, hint)| *hint)
}

fn entries(table: &DeTable<'_>, parent: &Place) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| {
            let name = key.get_ref().to_string();
            let path = join(&parent.key, &name);
            let place = Place { spot: Spot::Text(key.span()), key: path.clone() };
            Entry { name, place, node: node(value, path) }
        })
        .collect();
    entries.sort_by_key(|entry| match &entry.place.spot {
        Spot::Text(span) => span.start,
        _ => usize::MAX,
    });
    entries
}

fn node(source: &Spanned<DeValue<'_>>, key: String) -> Node {
    let place = Place { spot: Spot::Text(source.span()), key };
    let value = match source.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Number, Value::Integer),
        DeValue::Float(_) => Value::Number,
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| node(item, format!("{}[{index}]", place.key)))
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(entries(table, &place)),
    };
    Node { value, place }
}

/// Overwrites the values of secret keys with stars, byte for byte, so that places stay true.
pub(crate) fn mask(text: &str, root: &Node) -> String {
    let mut bytes = text.as_bytes().to_vec();
    mask_node(root, Secrecy::Open, &mut bytes);
    // Where the text is broken the tree may lack the value: mask by the look of the line, too.
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let secret = line.match_indices('=').find(|(equals, _)| is_secret(&line[..*equals]));
        if let Some((equals, _)) = secret {
            stars(&mut bytes, start + equals + 1..start + line.len());
        }
        start += line.len();
    }
    // Only whole values are overwritten, so this cannot fail; if it did, showing nothing is right.
    String::from_utf8(bytes).unwrap_or_default()
}

#[derive(Clone, Copy, PartialEq)]
enum Secrecy {
    Open,
    Secret,
}

fn mask_node(node: &Node, secrecy: Secrecy, bytes: &mut [u8]) {
    match (&node.value, &node.place.spot) {
        (Value::Table(entries), _) => {
            for entry in entries {
                let secret = secrecy == Secrecy::Secret || is_secret(&entry.name);
                let below = if secret { Secrecy::Secret } else { Secrecy::Open };
                mask_node(&entry.node, below, bytes);
            }
        }
        (Value::List(items), _) => items.iter().for_each(|item| mask_node(item, secrecy, bytes)),
        (_, Spot::Text(span)) if secrecy == Secrecy::Secret => stars(bytes, span.clone()),
        _ => {}
    }
}

fn stars(bytes: &mut [u8], span: Range<usize>) {
    let end = span.end.min(bytes.len());
    for byte in bytes.get_mut(span.start..end).unwrap_or_default() {
        if !byte.is_ascii_whitespace() {
            *byte = b'*';
        }
    }
}

/// Whether the value of this key must never be shown. Keys that name a file are harmless.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    // They say where the secret is, not what it is.
    let names_a_place =
        ["_file", "_env"].iter().any(|end| name.trim_end_matches('"').ends_with(end));
    !names_a_place
        && ["password", "secret", "token", "webhook", "credential", "encrypt"]
            .iter()
            .any(|word| name.contains(word))
}
