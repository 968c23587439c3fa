//! From the tree to the raw types: shapes and single values, each kept with its place.
//!
//! Every value that does not fit becomes a problem and reading goes on, so that all of them are
//! reported at once. Whether values fit together is not asked here (`check`). INVARIANT: a reader
//! that returns `None` has noted a problem.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::problem::Sink;
use crate::tree::{Entry, Node, Place, Value};

mod suggest;

/// A value with the place where it was written.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// Something that a node of the tree can be read as.
pub(crate) trait Read: Sized {
    /// A list of such things as it stands in the file; `None`: each of them is a section of its
    /// own, under `[[its.key]]`.
    const LIST: Option<&'static str> = Some("[\"one\", \"two\"]");
    /// Reads it, or notes what is wrong.
    fn read(node: &Node, sink: &mut Sink) -> Option<Self>;
}

/// A value that is written as a text, such as `"10s"`.
pub(crate) trait FromText: Sized {
    /// What it is, with its article: `a duration`.
    const WHAT: &'static str;
    /// One that is right, as it stands in the file, with its quotes.
    const EXAMPLE: &'static str;
    /// How the hint begins: other values are possible, or they are not.
    const LEAD: &'static str = "write it like";
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with the text, as the end of a sentence that begins with the text.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// Reads a value and keeps its place.
pub(crate) fn value<T: Read>(entry: &Entry, sink: &mut Sink) -> Option<At<T>> {
    let value = T::read(&entry.node, sink)?;
    Some(At { value, place: entry.node.place.clone() })
}

/// The entries of a table; `list` is how several of its kind are written ([`Read::LIST`]).
pub(crate) fn table<'n>(
    node: &'n Node,
    list: Option<&'static str>,
    sink: &mut Sink,
) -> Option<&'n [Entry]> {
    match &node.value {
        Value::Table(entries) => Some(entries),
        _ => {
            let key = &node.place.key;
            let hint = match (&node.value, key.strip_suffix(']').and_then(|k| k.rsplit_once('['))) {
                (Value::Loose(_), _) => {
                    "write it as one line of TOML: { name = \"value\" }".to_owned()
                }
                (_, None) => format!("write [{key}] on a line of its own"),
                (_, Some((whole, _))) => list_hint(whole, list),
            };
            wrong_kind(node, "a section", &hint, sink);
            None
        }
    }
}

/// How a list is written.
fn list_hint(key: &str, list: Option<&str>) -> String {
    match list {
        Some(list) => format!("write it in brackets, separated by commas: {list}"),
        None => format!("write [[{key}]] on a line of its own, for each of them"),
    }
}

/// Notes a key that is not known here.
pub(crate) fn unknown(entry: &Entry, known: &[&'static str], sink: &mut Sink) {
    let hint = suggest::hint(&entry.name, known);
    sink.wrong(&entry.place, format!("unknown key `{}`", entry.name)).hint(hint);
}

/// Notes a key that is reserved for later.
pub(crate) fn not_yet(entry: &Entry, sink: &mut Sink) {
    sink.wrong(&entry.place, format!("not yet: `{}` is not part of this version", entry.name))
        .hint("leave it out; the name is kept for a later version");
}

fn wrong_kind(node: &Node, wanted: &str, hint: &str, sink: &mut Sink) {
    let what = match &node.value {
        Value::Loose(_) => format!("this is not {wanted} (for `{}`)", node.place.key),
        _ => format!("`{}` is {}; it has to be {wanted}", node.place.key, node.kind()),
    };
    sink.wrong(&node.place, what).hint(hint);
}

impl<T: FromText> Read for T {
    fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        let hint = format!("{} {}", T::LEAD, T::EXAMPLE);
        let (Value::Text(text) | Value::Loose(text)) = &node.value else {
            wrong_kind(node, T::WHAT, &hint, sink);
            return None;
        };
        match T::from_text(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                sink.wrong(&node.place, reason).hint(hint);
                None
            }
        }
    }
}

impl FromText for String {
    const WHAT: &'static str = "a text";
    const EXAMPLE: &'static str = "\"this\", in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        match text.contains('\0') {
            true => Err("a NUL character cannot stand in here".to_owned()),
            false => Ok(text.to_owned()),
        }
    }
}

impl Read for bool {
    fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            Value::Boolean(flag) => Some(*flag),
            Value::Loose(text) if text == "true" => Some(true),
            Value::Loose(text) if text == "false" => Some(false),
            _ => {
                wrong_kind(node, "true or false", "write true or false, without quotes", sink);
                None
            }
        }
    }
}

/// A whole number between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number<const MIN: i64, const MAX: i64>(pub(crate) i64);

impl<const MIN: i64, const MAX: i64> Read for Number<MIN, MAX> {
    fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        let range = format!("a whole number from {MIN} to {MAX}");
        let number = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Loose(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            Some(number) => {
                let what = format!("`{}` is {number}; it has to be {range}", node.place.key);
                sink.wrong(&node.place, what).hint(format!("{MIN} to {MAX} is possible"));
                None
            }
            None => {
                wrong_kind(node, &range, "write the number without quotes", sink);
                None
            }
        }
    }
}

/// A port, 1 to 65535.
pub(crate) type Port = Number<1, 65_535>;

impl<const MIN: i64, const MAX: i64> Number<MIN, MAX> {
    /// The number as a port or another 16-bit value; the largest one if it does not fit.
    pub(crate) fn small(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }

    /// The number as a 32-bit value; the largest one if it does not fit.
    pub(crate) fn count(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

/// Items in brackets.
impl<T: Read> Read for Vec<At<T>> {
    fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Value::List(items) = &node.value else {
            wrong_kind(node, "a list", &list_hint(&node.place.key, T::LIST), sink);
            return None;
        };
        // A bad item is noted and left out; the others are still checked.
        Some(items.iter().filter_map(|item| at(item, sink)).collect())
    }
}

fn at<T: Read>(node: &Node, sink: &mut Sink) -> Option<At<T>> {
    Some(At { value: T::read(node, sink)?, place: node.place.clone() })
}

/// One value, or a list of them.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<At<T>>);

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::read(node, sink).map(Self),
            _ => at(node, sink).map(|item| Self(vec![item])),
        }
    }
}

/// A table whose keys are names of the operator's own.
#[derive(Debug, Clone)]
pub(crate) struct Keyed<T>(pub(crate) Vec<Named<T>>);

/// One entry of a [`Keyed`] table.
#[derive(Debug, Clone)]
pub(crate) struct Named<T> {
    pub(crate) name: At<String>,
    pub(crate) item: At<T>,
}

impl<T: Read> Read for Keyed<T> {
    fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        let entries = table(node, Self::LIST, sink)?;
        let named = entries.iter().filter_map(|entry| {
            let name = At { value: entry.name.clone(), place: entry.place.clone() };
            value(entry, sink).map(|item| Named { name, item })
        });
        Some(Self(named.collect()))
    }
}

/// Writes a section as a struct whose fields are all optional and keep their places, reads it with
/// unknown keys refused, and describes it for the JSON Schema.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$field_meta:meta])* $field:ident: $type:ty, )*
        }
        $( not yet: $( $later:ident ),+ ; )?
        $( list: $list:literal ; )?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(crate) struct $name {
            $( $(#[$field_meta])* pub(crate) $field: Option<$crate::read::At<$type>>, )*
        }

        impl $crate::read::Read for $name {
            const LIST: Option<&'static str> = {
                let list: &[&'static str] = &[$( $list )?];
                list.first().copied()
            };

            fn read(
                node: &$crate::tree::Node,
                sink: &mut $crate::problem::Sink,
            ) -> Option<Self> {
                let entries = $crate::read::table(node, Self::LIST, sink)?;
                let mut section = Self { $( $field: None, )* };
                for entry in entries {
                    match entry.name.as_str() {
                        $( stringify!($field) => {
                            section.$field = $crate::read::value(entry, sink);
                        } )*
                        $( $( stringify!($later) => $crate::read::not_yet(entry, sink), )+ )?
                        _ => $crate::read::unknown(entry, &[$( stringify!($field) ),*], sink),
                    }
                }
                Some(section)
            }
        }
    };
}
pub(crate) use section;

/// Teaches an enum of the checked types the words that stand for it in the file.
macro_rules! choice {
    ($name:ident, $what:literal, $( $word:literal => $value:expr ),+ $(,)?) => {
        impl $crate::read::FromText for $name {
            const WHAT: &'static str = $what;
            const EXAMPLE: &'static str = $crate::read::choices!($( $word ),+);
            const LEAD: &'static str = "write";

            fn from_text(text: &str) -> Result<Self, String> {
                match text {
                    $( $word => Ok($value), )+
                    other => Err(format!("\"{other}\" is not {}", $what)),
                }
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$( $word ),+] })
            }
        }
    };
}
pub(crate) use choice;

macro_rules! choices {
    ($first:literal $(, $rest:literal)*) => {
        concat!("\"", $first, "\"" $( , " or \"", $rest, "\"" )*)
    };
}
pub(crate) use choices;

/// Describes a type that is written as a text.
macro_rules! text_schema {
    ($name:ident, $schema:tt) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use text_schema;

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl<T: JsonSchema> JsonSchema for Keyed<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Keyed{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": item })
    }
}

impl<const MIN: i64, const MAX: i64> JsonSchema for Number<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Number{MIN}To{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}
