//! What each change of a schema is called.

use super::*;

fn plain(name: &str, kind: &str) -> Column {
    Column {
        name: name.into(),
        kind: kind.into(),
        required: false,
        default: None,
        made: Made::Given,
    }
}

fn named(columns: &[i16], text: &str) -> Rule {
    Rule {
        columns: columns.iter().copied().collect(),
        text: text.to_owned(),
        demands: text.to_owned(),
        is_constraint: true,
    }
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
fn a_primary_key_and_the_name_of_a_unique_rule_are_used() {
    let with = |name: &str, text: &str| {
        let mut schema = orders();
        let rule = Rule { demands: "UNIQUE (id)".into(), ..named(&[1], text) };
        schema.relations.get_mut(&7).unwrap().rules.insert(name.into(), rule);
        schema
    };
    let key = with("orders_pkey", "PRIMARY KEY (id)");
    let unique = with("orders_id", "UNIQUE (id)");
    let classes =
        |from: &Schema, to: &Schema| changes(from, to).iter().map(|change| change.class).max();
    assert_eq!(classes(&key, &unique), Some(Class::Contract));
    assert_eq!(classes(&key, &key), None);
    let renamed = changes(&unique, &with("uq_id", "UNIQUE (id)"));
    let said = "renamed the rule orders_id of orders to uq_id".to_owned();
    assert_eq!(renamed, [change(Class::Contract, said)]);
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
    check(
        insert(Column { default: Some("0".into()), ..needed }),
        Class::Expand,
        "added orders.note",
    );
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
fn a_rule_counts_for_former_releases_only_where_they_write() {
    let rule = |columns: &[i16]| named(columns, "CHECK (total > 0)");
    let with = |columns: &'static [i16]| {
        move |r: &mut Relation| drop(r.rules.insert("positive".into(), rule(columns)))
    };
    check(with(&[2]), Class::Contract, "demands CHECK (total > 0) of orders");
    check(with(&[9]), Class::Expand, "added the rule positive to orders");
    // As one on expressions or on nothing.
    check(with(&[]), Class::Contract, "demands CHECK (total > 0) of orders");
}

#[test]
fn a_rule_that_is_taken_may_be_missed() {
    for (rule, class) in [
        ("UNIQUE (item)", Class::Contract),
        ("CREATE UNIQUE INDEX ON public.orders USING btree (lower(item))", Class::Contract),
        ("FOREIGN KEY (item) REFERENCES items(id) ON DELETE CASCADE", Class::Contract),
        ("FOREIGN KEY (item) REFERENCES items(id)", Class::Expand),
        ("CHECK (total > 0)", Class::Expand),
    ] {
        let mut before = orders();
        let rules = &mut before.relations.get_mut(&7).unwrap().rules;
        rules.insert("known".into(), named(&[2], rule));
        let found = changes(&before, &orders());
        assert_eq!(found, [change(class, "took the rule known from orders".into())], "{rule}");
    }
}

#[test]
fn where_values_come_from_counts_for_who_leaves_them_out_and_for_who_gives_them() {
    let with = |default: Option<&str>, made| Column {
        default: default.map(str::to_owned),
        made,
        ..plain("item", "text")
    };
    let told = |old: &Column, new: &Column| {
        let mut found = Vec::new();
        column("orders", old, new, &mut found);
        found.first().map(|change| change.class)
    };
    let (none, one) = (with(None, Made::Given), with(Some("1"), Made::Given));
    let two = with(Some("2"), Made::Given);
    let (counted, always) = (with(None, Made::Counted), with(None, Made::AlwaysCounted));
    let computed = with(Some("id + 1"), Made::Computed);
    for (old, new, class) in [
        (&none, &none, None),
        (&none, &one, Some(Class::Expand)),
        (&one, &two, Some(Class::Expand)),
        (&one, &none, Some(Class::Contract)),
        (&one, &counted, Some(Class::Expand)),
        (&one, &always, Some(Class::Contract)),
        (&counted, &always, Some(Class::Contract)),
        (&always, &counted, Some(Class::Expand)),
        (&counted, &none, Some(Class::Contract)),
        (&computed, &none, Some(Class::Contract)),
    ] {
        assert_eq!(told(old, new), class, "{old:?} to {new:?}");
    }
}

#[test]
fn a_function_that_does_something_else_is_no_addition() {
    let with = |digest: &str| {
        let functions = [("one()".to_owned(), digest.to_owned())].into();
        Schema { functions, ..orders() }
    };
    let class =
        |before: &Schema, after: &Schema| changes(before, after).first().map(|change| change.class);
    assert_eq!(class(&with("a"), &with("b")), Some(Class::Contract));
    assert_eq!(class(&with("a"), &orders()), Some(Class::Contract));
    assert_eq!(class(&orders(), &with("a")), Some(Class::Expand));
}
