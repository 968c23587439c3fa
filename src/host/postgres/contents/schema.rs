//! The schema of a database as it can be compared: what a migration did to it.
//!
//! Two looks at one database, before and after, are compared by the numbers of tables and columns,
//! so that a rename is no drop. Drops and rewrites that leave the same schema behind are told by
//! [`super::watch`]. Pure, but for the look itself.
//! INVARIANT: what former releases may miss is never told as an addition.

use std::collections::{BTreeMap, BTreeSet};

use cutover_model::migration::Class;

use crate::host::postgres::connect::{ASK, Session};
use crate::host::postgres::error::DbError;
use crate::host::postgres::facts::get;

/// Changes of a column's type that hold every value, as `format_type` writes them.
const WIDER: [(&str, &str); 7] = [
    ("smallint", "integer"),
    ("smallint", "bigint"),
    ("integer", "bigint"),
    ("real", "double precision"),
    ("character varying", "text"),
    ("character", "text"),
    ("timestamp without time zone", "timestamp with time zone"),
];

/// One thing that a migration did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// How grave it is for a former release.
    pub class: Class,
    /// It, in a few words: `dropped nodes.region`.
    pub what: String,
}

fn change(class: Class, what: String) -> Change {
    Change { class, what }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    kind: String,
    required: bool,
    filled: bool,
}

/// A table or a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Relation {
    name: String,
    columns: BTreeMap<i16, Column>,
    /// What its rows have to obey: name, to the columns and the rule.
    rules: BTreeMap<String, (BTreeSet<i16>, String)>,
    file: Option<u32>,
}

/// A look at a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    relations: BTreeMap<u32, Relation>,
    functions: BTreeMap<String, String>,
    labels: BTreeSet<String>,
}

const OURS: &str = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema',
                    'cutover', 'cutover_rehearsal')";

/// Looks at the schema of a session's database.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn look(session: &Session) -> Result<Schema, DbError> {
    let what = "looking at the schema";
    let name = "CASE n.nspname WHEN 'public' THEN c.relname::text
                ELSE n.nspname || '.' || c.relname END";
    let mut schema = Schema::default();
    let sql = format!(
        "SELECT c.oid, {name}, pg_relation_filenode(c.oid)
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {OURS}"
    );
    for row in session.rows(what, ASK, &sql, &[]).await? {
        let relation = Relation { name: get(&row, 1)?, file: get(&row, 2)?, ..Relation::default() };
        schema.relations.insert(get(&row, 0)?, relation);
    }
    let sql = "SELECT a.attrelid, a.attnum, a.attname::text, format_type(a.atttypid, a.atttypmod),
                      a.attnotnull, a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> ''
                 FROM pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped";
    for row in session.rows(what, ASK, sql, &[]).await? {
        if let Some(relation) = schema.relations.get_mut(&get::<u32>(&row, 0)?) {
            let column = Column {
                name: get(&row, 2)?,
                kind: get(&row, 3)?,
                required: get(&row, 4)?,
                filled: get(&row, 5)?,
            };
            relation.columns.insert(get(&row, 1)?, column);
        }
    }
    // A unique index without a constraint is a rule as well.
    let sql = "SELECT conrelid, conname::text, conkey, pg_get_constraintdef(oid)
                 FROM pg_constraint WHERE conrelid <> 0 AND contype IN ('c', 'u', 'p', 'f', 'x')
               UNION ALL
               SELECT i.indrelid, c.relname::text, i.indkey::int2[], pg_get_indexdef(i.indexrelid)
                 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                WHERE i.indisunique
                  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)";
    for row in session.rows(what, ASK, sql, &[]).await? {
        if let Some(relation) = schema.relations.get_mut(&get::<u32>(&row, 0)?) {
            let columns: Option<Vec<i16>> = get(&row, 2)?;
            let columns = columns.unwrap_or_default().into_iter().filter(|column| *column > 0);
            relation.rules.insert(get(&row, 1)?, (columns.collect(), get(&row, 3)?));
        }
    }
    let sql = format!(
        "SELECT p.oid::regprocedure::text, md5(p.prosrc)
           FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS}"
    );
    for row in session.rows(what, ASK, &sql, &[]).await? {
        schema.functions.insert(get(&row, 0)?, get(&row, 1)?);
    }
    let sql = "SELECT t.typname || ' ' || quote_literal(e.enumlabel)
                 FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid";
    for row in session.rows(what, ASK, sql, &[]).await? {
        schema.labels.insert(get(&row, 0)?);
    }
    Ok(schema)
}

impl Schema {
    /// The tables that were there, by number, to their names.
    pub(super) fn tables(&self) -> BTreeMap<u32, String> {
        self.relations.iter().map(|(oid, relation)| (*oid, relation.name.clone())).collect()
    }

    /// Whether a table of this name, as event triggers write it, is there.
    pub(super) fn has(&self, name: &str) -> bool {
        let name = name.strip_prefix("public.").unwrap_or(name);
        self.relations.values().any(|relation| relation.name == name)
    }

    /// Tables whose file is another one now: emptied at once, or written anew.
    pub(super) fn refiled(&self, after: &Self) -> Vec<String> {
        let both = |(oid, now): (&u32, &Relation)| {
            let was = self.relations.get(oid)?;
            (was.file.is_some() && was.file != now.file).then(|| now.name.clone())
        };
        after.relations.iter().filter_map(both).collect()
    }
}

/// Everything that is different, the gravest last.
#[must_use]
pub fn changes(before: &Schema, after: &Schema) -> Vec<Change> {
    let mut found = Vec::new();
    for (oid, was) in &before.relations {
        match after.relations.get(oid) {
            None => found.push(change(Class::Contract, format!("dropped {}", was.name))),
            Some(now) => relation(was, now, &mut found),
        }
    }
    let fresh = after.relations.iter().filter(|(oid, _)| !before.relations.contains_key(oid));
    found.extend(fresh.map(|(_, now)| change(Class::Expand, format!("added {}", now.name))));
    for (name, body) in &before.functions {
        match after.functions.get(name) {
            None => found.push(change(Class::Contract, format!("dropped the function {name}"))),
            Some(now) if now != body => {
                found.push(change(Class::Expand, format!("changed the function {name}")));
            }
            Some(_) => {}
        }
    }
    let fresh = after.functions.keys().filter(|name| !before.functions.contains_key(*name));
    found.extend(fresh.map(|name| change(Class::Expand, format!("added the function {name}"))));
    let gone = before.labels.difference(&after.labels);
    found.extend(gone.map(|label| change(Class::Contract, format!("dropped the value {label}"))));
    let fresh = after.labels.difference(&before.labels);
    found.extend(fresh.map(|label| change(Class::Expand, format!("added the value {label}"))));
    found.sort();
    found
}

fn relation(was: &Relation, now: &Relation, found: &mut Vec<Change>) {
    let table = &now.name;
    if was.name != now.name {
        found.push(change(Class::Contract, format!("renamed {} to {table}", was.name)));
    }
    for (number, old) in &was.columns {
        match now.columns.get(number) {
            None => found.push(change(Class::Contract, format!("dropped {table}.{}", old.name))),
            Some(new) => column(table, old, new, found),
        }
    }
    for (number, new) in &now.columns {
        if was.columns.contains_key(number) {
            continue;
        }
        let name = &new.name;
        found.push(match new.required && !new.filled {
            true => change(Class::Contract, format!("added {table}.{name}, which needs a value")),
            false => change(Class::Expand, format!("added {table}.{name}")),
        });
    }
    for (name, (columns, rule)) in &now.rules {
        if was.rules.get(name).is_some_and(|(_, known)| known == rule) {
            continue;
        }
        // Under another name it is the same rule.
        if was.rules.values().any(|(_, known)| known == rule) {
            continue;
        }
        let is_met = columns.iter().any(|column| was.columns.contains_key(column));
        found.push(match is_met {
            true => change(Class::Contract, format!("demands {rule} of {table}")),
            false => change(Class::Expand, format!("added the rule {name} to {table}")),
        });
    }
    for (name, (_, rule)) in &was.rules {
        if !now.rules.values().any(|(_, known)| known == rule) {
            found.push(change(Class::Expand, format!("took the rule {name} from {table}")));
        }
    }
}

fn column(table: &str, old: &Column, new: &Column, found: &mut Vec<Change>) {
    let name = &new.name;
    if old.name != new.name {
        found.push(change(Class::Contract, format!("renamed {table}.{} to {name}", old.name)));
    }
    if old.kind != new.kind {
        let (from, to) = (&old.kind, &new.kind);
        let is_wider = is_wider(from, to);
        let class = if is_wider { Class::Rewrite } else { Class::Contract };
        found.push(change(class, format!("made {table}.{name} {to}, it was {from}")));
    }
    if !old.required && new.required {
        found.push(change(Class::Contract, format!("demands a value of {table}.{name}")));
    }
    if new.required && old.filled && !new.filled {
        found.push(change(Class::Contract, format!("took the default of {table}.{name}")));
    }
}

/// Whether every value of one type is one of the other. Lengths and precisions count when they
/// stand on both sides.
fn is_wider(from: &str, to: &str) -> bool {
    let split = |text: &str| match text.split_once('(') {
        Some((name, rest)) => {
            let length = rest.split([')', ',']).next().and_then(|number| number.parse().ok());
            (name.trim().to_owned(), length)
        }
        None => (text.to_owned(), None::<u32>),
    };
    let ((from, was), (to, now)) = (split(from), split(to));
    match from == to {
        true => now.is_none_or(|now| was.is_some_and(|was| was <= now)),
        false => now.is_none() && WIDER.contains(&(from.as_str(), to.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, kind: &str) -> Column {
        Column { name: name.into(), kind: kind.into(), required: false, filled: false }
    }

    fn orders() -> Schema {
        let columns = [(1, plain("id", "bigint")), (2, plain("item", "character varying(20)"))];
        let relation =
            Relation { name: "orders".into(), columns: columns.into(), ..Relation::default() };
        Schema { relations: [(7, relation)].into(), ..Schema::default() }
    }

    fn check(edit: impl Fn(&mut Relation), class: Class, what: &str) {
        let (before, mut after) = (orders(), orders());
        edit(after.relations.get_mut(&7).unwrap());
        let found = changes(&before, &after);
        assert_eq!(found, [change(class, what.to_owned())]);
    }

    #[test]
    fn what_is_added_is_told_from_what_is_taken_away() {
        assert!(changes(&orders(), &orders()).is_empty());
        let note = || plain("note", "text");
        let insert = |column| {
            move |relation: &mut Relation| drop(relation.columns.insert(3, Column::clone(&column)))
        };
        check(insert(note()), Class::Expand, "added orders.note");
        let needed = Column { required: true, ..note() };
        check(insert(needed.clone()), Class::Contract, "added orders.note, which needs a value");
        check(insert(Column { filled: true, ..needed }), Class::Expand, "added orders.note");
        check(|r| drop(r.columns.remove(&2)), Class::Contract, "dropped orders.item");
        let rename = |r: &mut Relation| r.columns.get_mut(&2).unwrap().name = "name".into();
        check(
            rename,
            Class::Contract,
            "renamed orders.item to orders.name".replace("to orders.", "to ").as_str(),
        );
        check(|r| r.name = "sales".into(), Class::Contract, "renamed orders to sales");
        let demand = |r: &mut Relation| r.columns.get_mut(&2).unwrap().required = true;
        check(demand, Class::Contract, "demands a value of orders.item");
    }

    #[test]
    fn a_type_that_holds_every_value_is_no_loss() {
        for (from, to) in [
            ("character varying(20)", "character varying(40)"),
            ("character varying(20)", "character varying"),
            ("character varying(20)", "text"),
            ("integer", "bigint"),
        ] {
            assert!(is_wider(from, to), "{from} to {to}");
            assert!(!is_wider(to, from), "{to} to {from}");
        }
        assert!(!is_wider("text", "integer"));
    }

    #[test]
    fn a_rule_counts_for_former_releases_only_where_they_write() {
        let rule = |columns: &[i16]| {
            let columns = columns.iter().copied().collect();
            (columns, "CHECK (total > 0)".to_owned())
        };
        let with = |columns: &'static [i16]| {
            move |r: &mut Relation| drop(r.rules.insert("positive".into(), rule(columns)))
        };
        check(with(&[2]), Class::Contract, "demands CHECK (total > 0) of orders");
        check(with(&[9]), Class::Expand, "added the rule positive to orders");
    }
}
