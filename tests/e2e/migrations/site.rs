//! The shop with its database configured, migrations of the test's own, and looks at what is there.

use crate::harness::daemon::Ran;
use crate::harness::engine;
use crate::harness::fronted::Fronted;
use crate::harness::shop::PASSWORD;

pub(super) struct Site {
    pub(super) fronted: Fronted,
}

impl Site {
    /// v1 serves, and Cutover knows its database.
    pub(super) fn deployed() -> Self {
        let fronted = Fronted::deployed_with(|app| {
            format!(
                r#"
[apps.{app}.database]
service = "postgres"
name = "shop"
user = "shop"
password_env = {{ file = ".env", key = "POSTGRES_PASSWORD" }}
"#
            )
        });
        Self { fronted }
    }

    /// A migration of the next release.
    pub(super) fn migration(&self, name: &str, sql: &str) {
        self.script(name, "migration.sql", sql);
    }

    pub(super) fn script(&self, name: &str, file: &str, sql: &str) {
        let folder = self.fronted.shop.path().join("prisma/migrations").join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(file), sql).expect("a script");
    }

    /// Another readiness probe from now on.
    pub(super) fn probes(&mut self, path: &str) {
        self.changes("path = \"/api/health\"", &format!("path = \"{path}\""));
    }

    /// The migration command takes its database from a file in the image from now on.
    pub(super) fn migrates_what_a_file_names(&mut self) {
        let url = format!("postgres://shop:{PASSWORD}@postgres:5432/shop\n");
        self.fronted.shop.write("prisma/url", &url);
        let command = "\"/shop migrate\"";
        self.changes(command, "\"/shop migrate /prisma/migrations /prisma/url\"");
    }

    /// Migrations are taken back, and listed, by commands of the release from now on.
    pub(super) fn goes_down_by(&mut self, command: &str) {
        let more = format!(
            "command = \"/shop migrate\"\ndown_command = \"{command}\"\n\
             status_command = \"/shop migrate-status\""
        );
        self.changes("command = \"/shop migrate\"", &more);
    }

    /// Another command takes them back from now on.
    pub(super) fn again_by(&mut self, from: &str, command: &str) {
        let line = |command: &str| format!("down_command = \"{command}\"");
        self.changes(&line(from), &line(command));
    }

    fn changes(&mut self, from: &str, to: &str) {
        let file = self.fronted.shop.path().join("cutover.toml");
        let text = std::fs::read_to_string(&file).expect("the file");
        let changed = text.replace(from, to);
        assert_ne!(text, changed);
        self.fronted.shop.write("cutover.toml", &changed);
        self.fronted.cutover.stop();
        self.fronted.cutover.serve();
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Ran {
        self.fronted.run(arguments)
    }

    /// The databases of the server but its own.
    pub(super) fn databases(&self) -> Vec<String> {
        let sql = "SELECT datname::text FROM pg_database
                   WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1";
        self.fronted.shop.observe("postgres").ask(sql).iter().map(|row| row.get(0)).collect()
    }

    /// Every database takes connections.
    pub(super) fn assert_open(&self) {
        let sql = "SELECT count(*) FROM pg_database WHERE NOT datallowconn AND NOT datistemplate";
        assert_eq!(self.fronted.shop.observe("postgres").number(sql), 0, "a database is closed");
    }

    /// The migrations that the live database has.
    pub(super) fn applied(&self) -> String {
        self.fronted.shop.observe("shop").text(
            "SELECT coalesce(string_agg(migration_name, ',' ORDER BY 1), '')
               FROM _prisma_migrations",
        )
    }

    pub(super) fn has_column(&self, name: &str) -> bool {
        let sql = format!(
            "SELECT count(*) FROM information_schema.columns
              WHERE table_name = 'orders' AND column_name = '{name}'"
        );
        self.fronted.shop.observe("shop").number(&sql) > 0
    }

    /// Containers that a rehearsal starts beside what runs.
    pub(super) fn beside(&self) -> Vec<String> {
        let filter = format!("name={}", self.fronted.shop.project);
        let all = ["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"];
        let names = engine::docker(&all).succeeded().stdout;
        let is_ours = |name: &&str| name.ends_with("-beside") || name.ends_with("-once");
        names.lines().filter(is_ours).map(str::to_owned).collect()
    }
}
