//! The schema of a database as it can be compared: what a migration did to it.
//!
//! Two looks at one database, before and after, are compared by the numbers of tables and columns,
//! so that a rename is no drop. Drops and rewrites that leave the same schema behind are told by
//! [`super::watch`]. Pure, but for the look itself.
//! INVARIANT: what former releases may miss is never told as an addition.

use std::collections::{BTreeMap, BTreeSet};

use cutover_model::migration::Class;

use super::ddl::UNKNOWN;
use super::objects::{self, Objects};
use super::width::is_wider;
use crate::host::postgres::connect::{ASK, Session};
use crate::host::postgres::error::DbError;
use crate::host::postgres::facts::get;

/// One thing that a migration did.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// How grave it is for a former release.
    pub class: Class,
    /// It, in a few words: `dropped nodes.region`.
    pub what: String,
}

pub(super) fn change(class: Class, what: String) -> Change {
    Change { class, what }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    kind: String,
    required: bool,
    default: Option<String>,
    made: Made,
}

impl Column {
    /// Whether a row may leave it out and it gets a value.
    fn is_filled(&self) -> bool {
        self.default.is_some() || self.made != Made::Given
    }
}

/// Where the values of a column come from, as the catalogue has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// From who writes a row.
    Given,
    /// A number, where none is given.
    Counted,
    /// A number; none may be given.
    AlwaysCounted,
    /// By an expression on the row.
    Computed,
}

impl Made {
    fn new(identity: &str, generated: &str) -> Self {
        match (identity, generated) {
            ("", "") => Self::Given,
            ("a", _) => Self::AlwaysCounted,
            (_, "") => Self::Counted,
            _ => Self::Computed,
        }
    }
}

/// A table or a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Relation {
    name: String,
    columns: BTreeMap<i16, Column>,
    /// What its rows have to obey, by name.
    rules: BTreeMap<String, Rule>,
    file: Option<u32>,
}

/// Something that rows have to obey.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    columns: BTreeSet<i16>,
    text: String,
    /// What it demands of a row that is written: the same for an index and a constraint made of it,
    /// and for one that was validated since.
    demands: String,
    /// Whether `ON CONFLICT ON CONSTRAINT` can name it.
    is_constraint: bool,
}

impl Rule {
    /// Whether who knows that rule meets nothing new here and misses nothing.
    fn is_known_as(&self, other: &Self) -> bool {
        self.demands == other.demands
            && (self.is_constraint || !other.is_constraint)
            // `GROUP BY` a primary key covers the other columns; that of a unique one does not.
            && (self.is_primary() || !other.is_primary())
    }

    fn is_primary(&self) -> bool {
        self.text.starts_with("PRIMARY KEY")
    }

    /// Whether statements may call it by its name: `ON CONFLICT ON CONSTRAINT`.
    fn is_called_by_name(&self) -> bool {
        self.is_constraint && UNIQUE.iter().any(|start| self.text.starts_with(start))
    }
}

/// A look at a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    relations: BTreeMap<u32, Relation>,
    functions: BTreeMap<String, String>,
    labels: BTreeSet<String>,
    objects: Objects,
}

/// The name of `pg_class c` in `pg_namespace n`, as it is told.
pub(super) const NAME: &str = "CASE n.nspname WHEN 'public' THEN c.relname::text
                               ELSE n.nspname || '.' || c.relname END";

/// Whether `pg_namespace n` is the application's.
pub(super) const OURS: &str =
    "n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema',
                    'cutover', 'cutover_rehearsal')";

/// What the rows of a table have to obey: the table, the name, the columns that it reads, the text,
/// what it demands, whether it is a constraint. A unique index without a constraint is a rule as
/// well; what an index reads, in expressions too, stands in its dependencies. A constraint that is
/// not validated is obeyed by every row that is written.
const RULES: &str = "
SELECT k.conrelid, k.conname::text,
       CASE WHEN k.contype IN ('u', 'p', 'x') THEN
            ARRAY(SELECT d.refobjsubid::int2 FROM pg_depend d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = k.conindid
                     AND d.refclassid = 'pg_class'::regclass AND d.refobjid = k.conrelid)
            || k.conkey
       ELSE k.conkey END,
       pg_get_constraintdef(k.oid),
       CASE WHEN k.contype IN ('u', 'p') AND NOT k.condeferrable
            THEN replace(pg_get_indexdef(k.conindid),
                         ' ' || quote_ident(x.relname) || ' ON ', ' ON ')
            ELSE regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '') END,
       true
  FROM pg_constraint k LEFT JOIN pg_class x ON x.oid = k.conindid
 WHERE k.conrelid <> 0 AND k.contype IN ('c', 'u', 'p', 'f', 'x')
UNION ALL
SELECT i.indrelid, c.relname::text,
       ARRAY(SELECT d.refobjsubid::int2 FROM pg_depend d
              WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid),
       replace(pg_get_indexdef(i.indexrelid), ' ' || quote_ident(c.relname) || ' ON ', ' ON '),
       replace(pg_get_indexdef(i.indexrelid), ' ' || quote_ident(c.relname) || ' ON ', ' ON '),
       false
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indisunique
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)";

/// Looks at the schema of a session's database.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub async fn look(session: &Session) -> Result<Schema, DbError> {
    let what = "looking at the schema";
    let mut schema = Schema::default();
    let sql = format!(
        "SELECT c.oid, {NAME}, pg_relation_filenode(c.oid)
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {OURS}"
    );
    for row in session.rows(what, ASK, &sql, &[]).await? {
        let relation = Relation { name: get(&row, 1)?, file: get(&row, 2)?, ..Relation::default() };
        schema.relations.insert(get(&row, 0)?, relation);
    }
    let sql = "SELECT a.attrelid, a.attnum, a.attname::text,
                      format_type(a.atttypid, a.atttypmod) || coalesce(
                          (SELECT ' COLLATE ' || quote_ident(o.collname) FROM pg_collation o
                            WHERE o.oid = a.attcollation AND o.oid <> t.typcollation), ''),
                      a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
                      a.attidentity::text, a.attgenerated::text
                 FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                 LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attnum > 0 AND NOT a.attisdropped";
    for row in session.rows(what, ASK, sql, &[]).await? {
        if let Some(relation) = schema.relations.get_mut(&get::<u32>(&row, 0)?) {
            let column = Column {
                name: get(&row, 2)?,
                kind: get(&row, 3)?,
                required: get(&row, 4)?,
                default: get(&row, 5)?,
                made: Made::new(get(&row, 6)?, get(&row, 7)?),
            };
            relation.columns.insert(get(&row, 1)?, column);
        }
    }
    for row in session.rows(what, ASK, RULES, &[]).await? {
        if let Some(relation) = schema.relations.get_mut(&get::<u32>(&row, 0)?) {
            let columns: Option<Vec<i16>> = get(&row, 2)?;
            let columns = columns.unwrap_or_default().into_iter().filter(|column| *column > 0);
            let (columns, is_constraint) = (columns.collect(), get(&row, 5)?);
            let (text, demands) = (get(&row, 3)?, get(&row, 4)?);
            let rule = Rule { columns, text, demands, is_constraint };
            relation.rules.insert(get(&row, 1)?, rule);
        }
    }
    let sql = format!(
        "SELECT p.oid::regprocedure::text,
                md5(concat(p.proowner, CASE p.prokind
                    WHEN 'a' THEN (SELECT a::text FROM pg_aggregate a WHERE a.aggfnoid = p.oid)
                    ELSE pg_get_functiondef(p.oid) END))
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
    schema.objects = objects::look(session).await?;
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
                let what = format!("changed the function {name} {UNKNOWN}");
                found.push(change(Class::Contract, what));
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
    let mut kept = after.tables();
    kept.retain(|oid, _| before.relations.contains_key(oid));
    objects::changes(&before.objects, &after.objects, &kept, &mut found);
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
        found.push(match new.required && !new.is_filled() {
            true => change(Class::Contract, format!("added {table}.{name}, which needs a value")),
            false => change(Class::Expand, format!("added {table}.{name}")),
        });
    }
    for (name, rule) in &now.rules {
        // Under another name it is the same rule.
        if was.rules.values().any(|known| rule.is_known_as(known)) {
            continue;
        }
        let Rule { columns, text, .. } = rule;
        // One that reads no column, or the row as a whole, is met by every row.
        let is_met =
            columns.is_empty() || columns.iter().any(|column| was.columns.contains_key(column));
        // A constraint gone and its index left demands nothing new; that it is gone is said below.
        let is_old = was.rules.values().any(|known| known.demands == rule.demands);
        // Since PostgreSQL 18 there are some that nothing is held against.
        let is_enforced = !text.ends_with(" NOT ENFORCED");
        found.push(match is_met && is_enforced && !is_old {
            true => change(Class::Contract, format!("demands {text} of {table}")),
            false => change(Class::Expand, format!("added the rule {name} to {table}")),
        });
    }
    for (name, rule) in &was.rules {
        let kept = now.rules.iter().find(|(_, known)| known.is_known_as(rule));
        if let Some((other, _)) = kept {
            let is_there = now.rules.get(name).is_some_and(Rule::is_called_by_name);
            if rule.is_called_by_name() && !is_there {
                let text = format!("renamed the rule {name} of {table} to {other}");
                found.push(change(Class::Contract, text));
            }
            continue;
        }
        // `ON CONFLICT` needs what is unique; and a foreign key may do work of its own.
        let is_used = UNIQUE.iter().any(|start| rule.text.starts_with(start))
            || rule.text.contains(" ON DELETE ")
            || rule.text.contains(" ON UPDATE ");
        let class = if is_used { Class::Contract } else { Class::Expand };
        found.push(change(class, format!("took the rule {name} from {table}")));
    }
}

/// How rules begin that let `ON CONFLICT` name their columns.
const UNIQUE: [&str; 4] = ["PRIMARY KEY", "UNIQUE", "CREATE UNIQUE INDEX", "EXCLUDE"];

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
    if old.required && !new.required {
        found.push(change(Class::Expand, format!("demands no value of {table}.{name} any more")));
    }
    let (class, verb) = match (old.made, new.made) {
        (from, Made::AlwaysCounted) if from != Made::AlwaysCounted => {
            (Class::Contract, "takes no value any more for")
        }
        (Made::Computed, to) if to != Made::Computed => (Class::Contract, "computes no more"),
        (Made::Computed, _) if old.default != new.default => (Class::Contract, "computes anew"),
        _ if old.is_filled() && !new.is_filled() => (Class::Contract, "took the default of"),
        _ if !old.is_filled() && new.is_filled() => (Class::Expand, "gave a default to"),
        (from, to) if from != to || old.default != new.default => {
            (Class::Expand, "changed the default of")
        }
        _ => return,
    };
    found.push(change(class, format!("{verb} {table}.{name}")));
}

#[cfg(test)]
mod tests;
