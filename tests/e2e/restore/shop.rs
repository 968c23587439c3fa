//! The shop with its database configured, a release that spoils rows, and looks at what is there.

use std::time::Duration;

use crate::harness::daemon::Ran;
use crate::harness::engine;
use crate::harness::eventually;
use crate::harness::fronted::Fronted;
use crate::harness::observer::Observer;
use crate::harness::shop::Shop as Copy;

pub(crate) struct Shop {
    pub(crate) fronted: Fronted,
    observer: Observer,
}

impl Shop {
    /// v1 served, was replaced by v2 with its migration, and v2 spoilt rows since.
    pub(crate) fn with_a_bad_migration() -> Self {
        Self::spoilt(Self::deployed())
    }

    /// The same where a slow machine has the time to freeze and to exchange.
    pub(crate) fn with_a_long_hold() -> Self {
        Self::spoilt(Self::deployed_with("max_hold = \"50s\""))
    }

    /// The same of a shop that is deployed.
    pub(crate) fn spoilt(shop: Self) -> Self {
        shop.write(
            "INSERT INTO orders (item, release) SELECT 'cup', 'v1' FROM generate_series(1, 500)",
        );
        let ran = shop.fronted.deploy("migration", &["--at-once"]).succeeded();
        ran.says(&["restore point", "_note_v2"]);
        shop.fronted.serves("v2");
        shop.write("UPDATE orders SET item = 'spoilt' WHERE id % 5 = 0");
        shop.write("DELETE FROM orders WHERE id % 7 = 0");
        shop
    }

    /// v1 serves, and Cutover knows its database.
    pub(crate) fn deployed() -> Self {
        Self::deployed_with("")
    }

    /// The same with more in the database's section; `APP` in it is the app.
    pub(crate) fn deployed_with(more: &str) -> Self {
        Self::deployed_from(Copy::with_database(), more)
    }

    /// The same on a server of this major version.
    pub(crate) fn deployed_on(major: u32) -> Self {
        Self::deployed_from(Copy::copy_of(major).migrated(), "")
    }

    fn deployed_from(copy: Copy, more: &str) -> Self {
        let fronted = Fronted::deployed_from(copy, |app| {
            let more = more.replace("APP", app);
            format!(
                r#"
[apps.{app}.database]
service = "postgres"
name = "shop"
user = "shop"
password_env = {{ file = ".env", key = "POSTGRES_PASSWORD" }}
{more}

[[apps.{app}.integrity]]
name = "orders_have_items"
sql = "SELECT count(*) FROM orders WHERE item = ''"
expect = "0"
"#
            )
        });
        // Not the live database: its sessions end when names are exchanged.
        let observer = fronted.shop.observe("postgres");
        Self { fronted, observer }
    }

    /// Stops the server of the database, or starts it again.
    pub(crate) fn server(&mut self, what: &str) {
        let container = self.fronted.shop.container("postgres");
        engine::docker(&[what, &container]).succeeded();
        if what == "start" {
            self.answers();
        }
    }

    /// Restarts the server of the database, with little patience for what it does.
    pub(crate) fn restart_server(&mut self) {
        let container = self.fronted.shop.container("postgres");
        engine::docker(&["restart", "-t", "2", &container]).succeeded();
        self.answers();
    }

    /// Waits until PostgreSQL answers.
    fn answers(&mut self) {
        let container = self.fronted.shop.container("postgres");
        eventually("PostgreSQL answers", Duration::from_secs(60), || {
            let asked = ["exec", &container, "pg_isready", "-h", "127.0.0.1"];
            (engine::docker(&asked).code == 0).then_some(())
        });
        self.observer = self.fronted.shop.observe("postgres");
    }

    /// A session with the live database.
    pub(crate) fn session(&self) -> Observer {
        self.fronted.shop.observe("shop")
    }

    /// Whether a session of Cutover's does this now: a condition on `pg_stat_activity`.
    pub(crate) fn does(&self, what: &str) -> bool {
        let ours = "FROM pg_stat_activity WHERE application_name LIKE 'cutover:%'";
        self.observer.number(&format!("SELECT count(*) {ours} AND {what}")) > 0
    }

    /// The process of the server, by what it is.
    pub(crate) fn process(&self, kind: &str) -> i64 {
        let of = format!("FROM pg_stat_activity WHERE backend_type = '{kind}'");
        self.observer.number(&format!("SELECT pid::bigint {of}"))
    }

    /// Databases that take no connections.
    pub(crate) fn closed(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_database WHERE NOT datallowconn AND NOT datistemplate";
        self.observer.number(sql)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.fronted.run(arguments)
    }

    pub(crate) fn write(&self, sql: &str) {
        self.fronted.shop.observe("shop").ask(sql);
    }

    /// Orders that v2 spoilt.
    pub(crate) fn spoilt_orders(&self, database: &str) -> i64 {
        let observer = self.fronted.shop.observe(database);
        observer.number("SELECT count(*) FROM orders WHERE item = 'spoilt'")
    }

    pub(crate) fn has_migration(&self, name: &str) -> bool {
        let observer = self.fronted.shop.observe("shop");
        let sql =
            format!("SELECT count(*) FROM _prisma_migrations WHERE migration_name LIKE '%{name}'");
        observer.number(&sql) > 0
    }

    /// The databases of the server but its own.
    pub(crate) fn databases(&self) -> Vec<String> {
        let sql = "SELECT datname::text FROM pg_database
                   WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1";
        self.observer.ask(sql).iter().map(|row| row.get(0)).collect()
    }

    /// How large a database is, bytes.
    pub(crate) fn size(&self, database: &str) -> i64 {
        self.observer.number(&format!("SELECT pg_database_size('{database}')"))
    }

    /// The database that was put aside.
    pub(crate) fn aside(&self) -> String {
        let found = self.databases().into_iter().find(|name| name.contains("__prev_"));
        found.expect("a database put aside")
    }

    /// Every row of every table that people's data is in, as one number.
    pub(crate) fn fingerprint(&self, database: &str) -> String {
        self.fronted.shop.observe(database).text(
            "SELECT md5(coalesce((SELECT string_agg(o::text, ',' ORDER BY id) FROM orders o), '') ||
                        coalesce((SELECT string_agg(m.migration_name, ',' ORDER BY 1)
                                    FROM _prisma_migrations m), ''))",
        )
    }

    /// The orders alone, whatever columns a migration gave them, as one number.
    pub(crate) fn orders(&self, database: &str) -> String {
        let sql = "SELECT md5(string_agg(id || item, ',' ORDER BY id)) FROM orders";
        self.fronted.shop.observe(database).text(sql)
    }

    /// The answer of the live database to a question.
    pub(crate) fn text(&self, sql: &str) -> String {
        self.fronted.shop.observe("shop").text(sql)
    }

    /// Connections are allowed everywhere, and no candidate is left.
    pub(crate) fn assert_at_rest(&self) {
        assert_eq!(self.closed(), 0, "a database is closed");
        let left = self.databases();
        assert!(left.iter().all(|name| !name.contains("__cand_")), "{left:?}");
        assert!(left.iter().any(|name| name == "shop"), "{left:?}");
    }

    /// The longest wait that the exchange reported, in milliseconds.
    pub(crate) fn longest_wait(&self, said: &str) -> f64 {
        let line = said.lines().find(|line| line.contains("requests waited")).expect("the line");
        let after = line.split("waited, ").nth(1).expect("a time");
        let mut words = after.split_whitespace();
        let number: f64 = words.next().expect("a number").parse().expect("a number");
        match words.next() {
            Some("ms") => number,
            _ => number * 1_000.0,
        }
    }
}
