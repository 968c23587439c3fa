//! What a schema has beside tables, columns and functions: triggers, policies, rules, the queries
//! of views, settings of tables, types, sequences, and rights.
//!
//! Each is kept as a digest of its definition, so a difference is found and what it means is not:
//! that is said of it.
//! INVARIANT: a difference that nobody understands is never told as an addition.

use std::collections::{BTreeMap, BTreeSet};

use cutover_model::migration::Class;

use super::ddl::UNKNOWN;
use super::schema::{Change, NAME, OURS, change};
use crate::host::postgres::connect::{ASK, Session};
use crate::host::postgres::error::DbError;
use crate::host::postgres::facts::get;

/// An object or a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Object {
    /// It, in words: `trigger audit`.
    pub(super) noun: String,
    /// The table that it belongs to.
    pub(super) table: Option<u32>,
    /// Of its definition.
    pub(super) digest: String,
    /// How far a sequence counts, and the file of its counter.
    pub(super) counter: Option<(i64, u32)>,
}

/// What a role may do with something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) of: String,
    /// The right, and who has it.
    pub(super) given: BTreeSet<(String, String)>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Objects {
    /// By kind, and what stays the same of them when they are changed.
    pub(super) all: BTreeMap<(String, String), Object>,
    /// By what they are on.
    pub(super) rights: BTreeMap<String, Rights>,
}

/// What belongs to a table: kind, key, words, table, digest.
const OF_TABLES: &str = "
SELECT 'trigger', t.tgrelid || ' ' || t.tgname, 'trigger ' || t.tgname, t.tgrelid,
       md5(concat(pg_get_triggerdef(t.oid), t.tgenabled))
  FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL
SELECT 'policy', p.polrelid || ' ' || p.polname, 'policy ' || p.polname, p.polrelid,
       md5(concat(p.polcmd, p.polpermissive, p.polroles, ' USING ',
                  pg_get_expr(p.polqual, p.polrelid), ' WITH CHECK ',
                  pg_get_expr(p.polwithcheck, p.polrelid)))
  FROM pg_policy p
UNION ALL
SELECT 'rule', r.ev_class || ' ' || r.rulename, 'rewrite rule ' || r.rulename, r.ev_class,
       md5(concat(pg_get_ruledef(r.oid), r.ev_enabled))
  FROM pg_rewrite r WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'query', c.oid::text, 'query', c.oid, md5(concat(pg_get_viewdef(c.oid), c.reloptions))
  FROM pg_class c WHERE c.relkind IN ('v', 'm')
UNION ALL
SELECT x.noun, c.oid::text, x.noun, c.oid, x.value
  FROM pg_class c CROSS JOIN LATERAL (VALUES
       ('row level security', concat(c.relrowsecurity, c.relforcerowsecurity)),
       ('owner', c.relowner::text),
       ('kind', concat(c.relkind, c.relpersistence, c.reloftype)),
       ('replica identity', c.relreplident::text),
       ('place among partitions',
        concat((SELECT string_agg(i.inhparent::text, ' ' ORDER BY i.inhseqno)
                  FROM pg_inherits i WHERE i.inhrelid = c.oid),
               pg_get_expr(c.relpartbound, c.oid))),
       ('watch over foreign keys',
        concat((SELECT string_agg(concat(t.tgname, t.tgenabled), ' ' ORDER BY t.tgname)
                  FROM pg_trigger t
                 WHERE t.tgrelid = c.oid AND t.tgisinternal AND t.tgenabled <> 'O')))
       ) AS x(noun, value)
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')";

/// What stands by itself: kind, key, words, digest, and of a sequence how far it goes and its file.
const ALONE: &str = "
SELECT 'type', t.oid::text,
       'type ' || CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || t.typname,
       md5(concat(format_type(t.oid, NULL), t.typowner, format_type(t.typbasetype, t.typtypmod),
                  t.typcollation, t.typnotnull, t.typdefault, ' CHECKS ',
                  (SELECT string_agg(pg_get_constraintdef(k.oid), ' ' ORDER BY 1)
                     FROM (SELECT oid FROM pg_constraint WHERE contypid = t.oid) k), ' COLUMNS ',
                  (SELECT string_agg(concat(a.attname, ' ', format_type(a.atttypid, a.atttypmod),
                                            a.attcollation), ', ' ORDER BY a.attnum)
                     FROM pg_attribute a
                    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))),
       NULL::bigint, NULL::oid
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_class c ON c.oid = t.typrelid
 WHERE (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c'
        OR t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))
   AND {OURS}
UNION ALL
SELECT 'sequence', c.oid::text, 'sequence ' || {NAME},
       concat({NAME}, ' ', c.relowner, ' ', s.seqstart, ' ', s.seqincrement, ' ', s.seqmin, ' ',
              s.seqcache, ' ', s.seqcycle, ' ', c.relpersistence),
       s.seqmax, pg_relation_filenode(c.oid)
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence <> 't' AND {OURS}
UNION ALL
SELECT 'event trigger', e.evtname, 'event trigger ' || e.evtname,
       concat(e.evtevent, ' ', e.evtfoid::regproc, e.evtenabled, e.evttags), NULL, NULL
  FROM pg_event_trigger e WHERE e.evtname !~ '^cutover_'";

/// Rights: on what, that in words, the right, and for whom. A row without a right keeps what
/// nobody has one on.
const RIGHTS: &str = "
SELECT o.key, o.words, concat(a.privilege_type, o.part, g.more),
       CASE WHEN a.grantee = 0 THEN 'everyone' ELSE pg_get_userbyid(a.grantee)::text END
  FROM (SELECT 'table ' || c.oid AS key, {NAME} AS words, '' AS part,
               coalesce(c.relacl,
                        acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\",
                                   c.relowner)) AS acl
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND {OURS}
        UNION ALL
        SELECT 'table ' || c.oid, {NAME}, ' (' || a.attname || ')', a.attacl
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND {OURS}
        UNION ALL
        SELECT 'function ' || p.oid::regprocedure, 'the function ' || p.oid::regprocedure, '',
               coalesce(p.proacl, acldefault('f', p.proowner))
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS}
        UNION ALL
        SELECT 'schema ' || n.oid, 'the schema ' || n.nspname, '',
               coalesce(n.nspacl, acldefault('n', n.nspowner))
          FROM pg_namespace n WHERE {OURS}
        UNION ALL
        SELECT 'type ' || t.oid, 'the type ' || format_type(t.oid, NULL), '', t.typacl
          FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE {OURS} AND t.typacl IS NOT NULL) o
  LEFT JOIN LATERAL aclexplode(o.acl) a ON true
  LEFT JOIN LATERAL (SELECT '' AS more
                     UNION ALL SELECT ' to pass on' WHERE a.is_grantable) g ON true";

/// Looks at all of them.
///
/// # Errors
/// [`DbError`] when the server does not answer.
pub(super) async fn look(session: &Session) -> Result<Objects, DbError> {
    let what = "looking at what belongs to the schema";
    let filled = |sql: &str| sql.replace("{OURS}", OURS).replace("{NAME}", NAME);
    let mut objects = Objects::default();
    for row in session.rows(what, ASK, OF_TABLES, &[]).await? {
        let object = Object {
            noun: get(&row, 2)?,
            table: Some(get(&row, 3)?),
            digest: get(&row, 4)?,
            ..Object::default()
        };
        objects.all.insert((get(&row, 0)?, get(&row, 1)?), object);
    }
    for row in session.rows(what, ASK, &filled(ALONE), &[]).await? {
        let (most, file): (Option<i64>, Option<u32>) = (get(&row, 4)?, get(&row, 5)?);
        let object = Object {
            noun: get(&row, 2)?,
            digest: get(&row, 3)?,
            counter: most.zip(file),
            ..Object::default()
        };
        objects.all.insert((get(&row, 0)?, get(&row, 1)?), object);
    }
    for row in session.rows(what, ASK, &filled(RIGHTS), &[]).await? {
        let rights = objects.rights.entry(get(&row, 0)?).or_default();
        rights.of = get(&row, 1)?;
        let (right, who): (String, Option<String>) = (get(&row, 2)?, get(&row, 3)?);
        rights.given.extend(who.map(|who| (right, who)));
    }
    Ok(objects)
}

/// Everything that is different. `kept`: the tables that were there before and are now, to their
/// names; what belongs to others is told with them.
pub(super) fn changes(
    before: &Objects,
    after: &Objects,
    kept: &BTreeMap<u32, String>,
    found: &mut Vec<Change>,
) {
    let named = |object: &Object| match object.table {
        Some(table) => kept.get(&table).map(|name| format!("{} of {name}", object.noun)),
        None => Some(object.noun.clone()),
    };
    for (key, was) in &before.all {
        let Some(name) = named(was) else { continue };
        match after.all.get(key) {
            Some(now) => different(&name, was, now, found),
            // Event triggers tell of the drops of these.
            None if ["type", "sequence"].contains(&key.0.as_str()) => {}
            None => found.push(change(Class::Contract, format!("dropped the {name} {UNKNOWN}"))),
        }
    }
    for (key, now) in after.all.iter().filter(|(key, _)| !before.all.contains_key(*key)) {
        let Some(name) = named(now) else { continue };
        found.push(match ["type", "sequence"].contains(&key.0.as_str()) {
            true => change(Class::Expand, format!("added the {name}")),
            false => change(Class::Contract, format!("added the {name} {UNKNOWN}")),
        });
    }
    for (key, was) in &before.rights {
        let Some(now) = after.rights.get(key) else { continue };
        let of = &now.of;
        for (right, who) in was.given.difference(&now.given) {
            found.push(change(Class::Contract, format!("took {right} on {of} from {who}")));
        }
        for (right, who) in now.given.difference(&was.given) {
            found.push(change(Class::Expand, format!("gave {right} on {of} to {who}")));
        }
    }
}

fn different(name: &str, was: &Object, now: &Object, found: &mut Vec<Change>) {
    let is_shorter = was.counter.map(|(most, _)| most) > now.counter.map(|(most, _)| most);
    if was.digest != now.digest || is_shorter {
        found.push(change(Class::Contract, format!("changed the {name} {UNKNOWN}")));
    } else if was.counter.map(|(most, _)| most) < now.counter.map(|(most, _)| most) {
        found.push(change(Class::Expand, format!("made the {name} longer")));
    } else if was.counter != now.counter {
        found.push(change(Class::Data, format!("set the {name} anew")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(table: u32, digest: &str) -> Objects {
        let object = Object {
            noun: "trigger audit".into(),
            table: Some(table),
            digest: digest.into(),
            ..Object::default()
        };
        let key = ("trigger".to_owned(), format!("{table} audit"));
        Objects { all: [(key, object)].into(), ..Objects::default() }
    }

    fn sequence(most: i64, file: u32) -> Objects {
        let noun = "sequence ids".to_owned();
        let object = Object { noun, counter: Some((most, file)), ..Object::default() };
        let key = ("sequence".to_owned(), "9".to_owned());
        Objects { all: [(key, object)].into(), ..Objects::default() }
    }

    fn rights(given: &[(&str, &str)]) -> Objects {
        let given = given.iter().map(|(right, who)| ((*right).to_owned(), (*who).to_owned()));
        let rights = Rights { of: "orders".into(), given: given.collect() };
        Objects { rights: [("table 7".to_owned(), rights)].into(), ..Objects::default() }
    }

    fn found(before: &Objects, after: &Objects) -> Vec<(Class, String)> {
        let mut found = Vec::new();
        changes(before, after, &[(7, "orders".to_owned())].into(), &mut found);
        found.into_iter().map(|change| (change.class, change.what)).collect()
    }

    #[test]
    fn what_belongs_to_a_table_of_before_is_never_harmless() {
        let none = Objects::default();
        let told =
            |verb| [(Class::Contract, format!("{verb} the trigger audit of orders {UNKNOWN}"))];
        assert_eq!(found(&none, &trigger(7, "a")), told("added"));
        assert_eq!(found(&trigger(7, "a"), &trigger(7, "b")), told("changed"));
        assert_eq!(found(&trigger(7, "a"), &none), told("dropped"));
        assert_eq!(found(&trigger(7, "a"), &trigger(7, "a")), []);
        assert_eq!(found(&none, &trigger(8, "a")), [], "a new table's is told with the table");
    }

    #[test]
    fn a_sequence_may_only_grow() {
        let told = |after| found(&sequence(100, 1), &after).first().map(|(class, _)| *class);
        assert_eq!(told(sequence(100, 1)), None);
        assert_eq!(told(sequence(200, 2)), Some(Class::Expand));
        assert_eq!(told(sequence(100, 2)), Some(Class::Data));
        assert_eq!(told(sequence(50, 2)), Some(Class::Contract));
        assert_eq!(found(&Objects::default(), &sequence(1, 1))[0].0, Class::Expand);
    }

    #[test]
    fn a_right_that_is_taken_is_told_from_one_that_is_given() {
        let (one, two) = (rights(&[("SELECT", "app")]), rights(&[]));
        assert_eq!(found(&one, &two), [(Class::Contract, "took SELECT on orders from app".into())]);
        assert_eq!(found(&two, &one), [(Class::Expand, "gave SELECT on orders to app".into())]);
    }
}
