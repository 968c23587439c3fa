//! What a migration does, as event triggers, the schema and the server's counters tell it.

use cutover::host::postgres::contents::watch;
use cutover_model::migration::Class;

use crate::harness::postgres::{Pg, name, operation};

const BASE: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, item varchar(20) NOT NULL, total int, note text);
    CREATE TABLE _prisma_migrations (id int);
    CREATE VIEW ids AS SELECT id FROM orders;
    CREATE TYPE mood AS ENUM ('good', 'bad');
    INSERT INTO orders SELECT i, 'cup', i, 'x' FROM generate_series(1, 40) i;";

#[tokio::test]
async fn each_kind_of_change_gets_its_class() {
    let pg = Pg::start();
    let server = pg.server().await;
    let cases: [(&str, Class, &str); 16] = [
        ("INSERT INTO _prisma_migrations VALUES (1)", Class::None, ""),
        ("ALTER TABLE orders ADD COLUMN cart text", Class::Expand, "added orders.cart"),
        ("CREATE TABLE carts (id int); INSERT INTO carts VALUES (1)", Class::Expand, "added carts"),
        ("CREATE INDEX ON orders (total)", Class::None, ""),
        ("ALTER TYPE mood ADD VALUE 'so'", Class::Expand, "added the value mood 'so'"),
        ("ALTER TABLE orders ALTER item TYPE text", Class::Rewrite, "made orders.item text"),
        ("ALTER TABLE orders ALTER total TYPE bigint", Class::Rewrite, "rewrote orders"),
        ("UPDATE orders SET note = 'y' WHERE id <= 7", Class::Data, "wrote 7 rows of orders"),
        ("TRUNCATE orders", Class::Data, "emptied orders"),
        ("ALTER TABLE orders DROP COLUMN note", Class::Contract, "dropped orders.note"),
        ("DROP TABLE orders CASCADE", Class::Contract, "dropped orders"),
        ("ALTER TABLE orders RENAME total TO sum", Class::Contract, "renamed orders.total to sum"),
        ("ALTER TABLE orders ALTER total SET NOT NULL", Class::Contract, "demands a value"),
        ("ALTER TABLE orders ADD CHECK (total > 0)", Class::Contract, "demands CHECK"),
        (
            "DROP VIEW ids; DROP TABLE orders; CREATE TABLE orders (id bigint PRIMARY KEY, item \
             varchar(20) NOT NULL, total int, note text)",
            Class::Contract,
            "dropped orders",
        ),
        (
            "ALTER TABLE orders DROP COLUMN note; ALTER TABLE orders ADD COLUMN note text",
            Class::Contract,
            "dropped orders.note",
        ),
    ];
    for (place, (sql, class, words)) in cases.into_iter().enumerate() {
        let database = format!("t{place}");
        pg.run("postgres", &format!("CREATE DATABASE {database}")).await;
        pg.run(&database, BASE).await;
        let session = server.connect(&name(&database), operation(7)).await.expect("a session");
        let watched = watch::begin(&session).await.expect("watched").expect("a superuser");
        pg.run(&database, sql).await;
        let found = watch::end(&session, &watched).await.expect("seen");
        let gravest = found.last().map_or(Class::None, |change| change.class);
        assert_eq!(gravest, class, "{sql}: {found:?}");
        let says = found.iter().any(|change| change.what.contains(words));
        assert!(says || words.is_empty(), "{sql}: {found:?}");
    }
}

#[tokio::test]
async fn a_role_that_may_set_no_event_trigger_gets_no_class() {
    let pg = Pg::start();
    pg.run("shop", "CREATE ROLE weak LOGIN PASSWORD 'weak'").await;
    let weak = pg.server_as("weak", "weak").await;
    let session = weak.connect(&name("shop"), operation(7)).await.expect("a session");
    assert!(watch::begin(&session).await.expect("asked").is_none());
}
