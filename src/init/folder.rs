//! What the operator's folder says about the app: migrations, timers, files with variables.
//!
//! It looks at well-known names only, in the compose folder and in the folders that images are
//! built from; every read is bounded, links are not followed out, nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::database::{self, PasswordGuess};
use super::stack::Stack;

/// The most that is read of one file.
const MOST: u64 = 256 * 1024;

/// A tool that changes the schema of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationTool {
    /// What it is called.
    pub tool: &'static str,
    /// What gave it away, relative to the compose folder.
    pub found: String,
    /// The command that brings the schema up to date.
    pub command: &'static str,
    /// A part of any command that does so.
    pub sign: &'static str,
    /// The services that are built from the folder it was found in.
    pub services: BTreeSet<String>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Migration tools, in the order of the list below.
    pub migrations: Vec<MigrationTool>,
    /// Libraries with timers, by service.
    pub timers: BTreeMap<String, Vec<&'static str>>,
    /// What images start with, as far as their Dockerfile or `package.json` says, by service.
    pub starts: BTreeMap<String, String>,
    /// Whether there is a `.env` beside the compose file.
    pub dot_env: bool,
    /// Whether this host has IPv6.
    pub ipv6: bool,
    /// Where the password of a PostgreSQL service can be read, by service.
    pub passwords: BTreeMap<String, PasswordGuess>,
}

/// Tool, what gives it away, its command, the sign of it in a start command.
const TOOLS: [(&str, &str, &str, &str); 9] = [
    ("Prisma", "prisma/migrations", "npx prisma migrate deploy", "prisma migrate"),
    ("Alembic", "alembic.ini", "alembic upgrade head", "alembic upgrade"),
    ("Django", "manage.py", "python manage.py migrate --noinput", "manage.py migrate"),
    ("Knex", "knexfile.js", "npx knex migrate:latest", "knex migrate"),
    ("Knex", "knexfile.ts", "npx knex migrate:latest", "knex migrate"),
    ("Sequelize", ".sequelizerc", "npx sequelize-cli db:migrate", "db:migrate"),
    ("Drizzle", "drizzle.config.ts", "npx drizzle-kit migrate", "drizzle-kit migrate"),
    ("Rails", "db/migrate", "bin/rails db:migrate", "db:migrate"),
    ("Laravel", "artisan", "php artisan migrate --force", "artisan migrate"),
];

/// Files that list libraries, and those with timers.
const TIMERS: [(&str, &[&str]); 5] = [
    ("package.json", &["node-cron", "node-schedule", "agenda", "bree", "cron", "toad-scheduler"]),
    ("requirements.txt", &["apscheduler", "celery", "django-crontab", "huey", "schedule"]),
    ("pyproject.toml", &["apscheduler", "celery", "django-crontab", "huey", "schedule"]),
    ("Gemfile", &["sidekiq-cron", "whenever", "rufus-scheduler", "clockwork"]),
    ("go.mod", &["robfig/cron", "go-co-op/gocron"]),
];

/// Looks around.
#[must_use]
pub fn look(folder: &Path, stack: &Stack) -> Findings {
    let mut findings = Findings {
        dot_env: folder.join(".env").is_file(),
        ipv6: Path::new("/proc/net/if_inet6").exists(),
        passwords: database::passwords(folder, stack),
        ..Findings::default()
    };
    let mut contexts: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for (name, service) in &stack.services {
        if let Some(build) = &service.build {
            contexts.entry(folder.join(&build.context)).or_default().insert(name.clone());
            let dockerfile = build.dockerfile.as_deref().unwrap_or(Path::new("Dockerfile"));
            let start = start_of(&folder.join(&build.context), dockerfile);
            findings.starts.insert(name.clone(), start);
        }
    }
    for (context, services) in &contexts {
        look_for_tools(folder, context, services, &mut findings);
        look_for_timers(context, services, &mut findings);
    }
    // A stack of ready-made images may still keep its migrations beside the compose file.
    if !contexts.contains_key(folder) {
        look_for_tools(folder, folder, &BTreeSet::new(), &mut findings);
    }
    findings
}

fn look_for_tools(
    folder: &Path,
    context: &Path,
    services: &BTreeSet<String>,
    findings: &mut Findings,
) {
    for (tool, sign_of_it, command, sign) in TOOLS {
        let place = context.join(sign_of_it);
        let known = findings.migrations.iter().any(|found| found.tool == tool);
        if known || std::fs::symlink_metadata(&place).is_err() {
            continue;
        }
        let found = place.strip_prefix(folder).unwrap_or(&place).display().to_string();
        let services = services.clone();
        findings.migrations.push(MigrationTool { tool, found, command, sign, services });
    }
}

fn look_for_timers(context: &Path, services: &BTreeSet<String>, findings: &mut Findings) {
    let mut found = BTreeSet::new();
    for (file, libraries) in TIMERS {
        let text = read(&context.join(file)).to_ascii_lowercase();
        let has = |library: &&&str| names(&text, library);
        found.extend(libraries.iter().filter(has).copied());
    }
    if found.is_empty() {
        return;
    }
    for service in services {
        findings.timers.insert(service.clone(), found.iter().copied().collect());
    }
}

/// Whether a list of libraries names one: the name stands alone, not as a part of another.
fn names(text: &str, library: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.match_indices(library).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + library.len()..].chars().next();
        let alone = |side: Option<char>| side.is_none_or(|c| !is_part(c));
        alone(before) && alone(after)
    })
}

/// The last CMD and ENTRYPOINT of a Dockerfile, and the start script of a `package.json` beside it.
fn start_of(context: &Path, dockerfile: &Path) -> String {
    let text = read(&context.join(dockerfile));
    let mut lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("CMD") || line.starts_with("ENTRYPOINT"))
        .collect();
    let package = read(&context.join("package.json"));
    let package: serde_json::Value = serde_json::from_str(&package).unwrap_or_default();
    lines.extend(package.pointer("/scripts/start").and_then(serde_json::Value::as_str));
    lines.join("\n")
}

/// The beginning of a file; nothing if it is not a regular one.
pub(super) fn read(path: &Path) -> String {
    let regular = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let mut text = Vec::new();
    if regular && let Ok(file) = std::fs::File::open(path) {
        // What cannot be read is not known; the operator is asked.
        if file.take(MOST).read_to_end(&mut text).is_err() {
            text.clear();
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_library_is_found_only_under_its_own_name() {
        let text = "{ \"dependencies\": { \"node-cron\": \"^3\", \"cron-parser\": \"1\" } }";
        assert!(names(text, "node-cron"));
        assert!(!names(text, "cron"), "cron-parser and node-cron are other libraries");
        assert!(names("celery==5\n", "celery"));
    }
}
