//! The PostgreSQL database of a stack: which service runs it, what it is called, and where its
//! password can be read.
//!
//! What is proposed names the file and the variable of the password, never the password itself.
//! INVARIANT: a section that could not be used as it stands is written as a comment.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::duty::{Duty, Reason};
use super::folder::Findings;
use super::stack::{Service, Stack};
use crate::host::env;

/// The database that `[apps.NAME.database]` is proposed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatabaseGuess {
    /// The shared service.
    pub service: String,
    /// The database.
    pub name: String,
    /// The role.
    pub user: String,
    /// How its password is found.
    pub password: PasswordGuess,
}

/// How a password is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordGuess {
    /// None is asked for.
    NotNeeded,
    /// A variable of a file.
    Variable {
        /// The file, as the operator's folder has it.
        file: String,
        /// The variable.
        key: String,
    },
    /// A file that holds it.
    File(String),
    /// It stands in the compose file, or in nothing that can be referred to.
    Unknown,
}

impl DatabaseGuess {
    /// Whether the section can be used as it is written.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.password != PasswordGuess::Unknown
    }
}

/// The one PostgreSQL service that both copies share; none where there are several.
pub(super) fn decide(
    stack: &Stack,
    decided: &[(String, Duty, Reason)],
    findings: &Findings,
) -> Option<DatabaseGuess> {
    let is_postgres =
        |reason: &Reason| matches!(reason, Reason::Keeper(name) if name.starts_with("PostgreSQL"));
    let mut found = decided
        .iter()
        .filter(|(_, duty, reason)| *duty == Duty::Shared && is_postgres(reason))
        .filter_map(|(name, _, _)| Some((name, stack.services.get(name)?)));
    let (Some((name, service)), None) = (found.next(), found.next()) else { return None };
    let user = service.environment.get("POSTGRES_USER").unwrap_or("postgres");
    let called = stack.services.values().flat_map(|other| other.environment.values());
    let called = called.filter_map(|value| named_by(value, name)).next();
    let made = service.environment.get("POSTGRES_DB");
    let known = findings.passwords.get(name).cloned();
    let trusts = service.environment.get("POSTGRES_HOST_AUTH_METHOD") == Some("trust");
    Some(DatabaseGuess {
        service: name.clone(),
        name: called.or(made).unwrap_or(user).to_owned(),
        user: user.to_owned(),
        password: match known {
            Some(known) => known,
            None if trusts => PasswordGuess::NotNeeded,
            None => PasswordGuess::Unknown,
        },
    })
}

/// The database that a URL of another service names, if it leads to this one.
fn named_by<'v>(url: &'v str, service: &str) -> Option<&'v str> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
    let (place, path) = rest.split_once('/')?;
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    let host = host.split(':').next().unwrap_or_default();
    let name = path.split(['?', '#']).next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (host == service && !name.is_empty() && name.chars().all(is_plain)).then_some(name)
}

/// Where the password of each service stands, if a file of the folder holds it.
pub(super) fn passwords(folder: &Path, stack: &Stack) -> BTreeMap<String, PasswordGuess> {
    let found = stack.services.iter().filter_map(|(name, service)| {
        let guess = secret(folder, stack, service).or_else(|| held(folder, service))?;
        Some((name.clone(), guess))
    });
    found.collect()
}

/// The file of a compose secret that the service reads its password from.
fn secret(folder: &Path, stack: &Stack, service: &Service) -> Option<PasswordGuess> {
    let inside = Path::new(service.environment.get("POSTGRES_PASSWORD_FILE")?);
    let used = service.secrets.iter().find(|secret| {
        let target = secret.target.as_deref().unwrap_or(Path::new(&secret.source));
        target == inside || (target.is_relative() && inside.file_name() == target.file_name())
    })?;
    let file = stack.secrets.get(&used.source)?.file.as_ref()?;
    let file = file.strip_prefix(folder).unwrap_or(file);
    Some(PasswordGuess::File(file.display().to_string()))
}

/// The variable of an env file that holds the very password.
fn held(folder: &Path, service: &Service) -> Option<PasswordGuess> {
    const USUAL: &str = "POSTGRES_PASSWORD";
    let password = service.environment.get(USUAL)?;
    let files = std::iter::once(folder.join(".env"))
        .chain(service.env_file.iter().map(|file| folder.join(&file.path)));
    for path in files {
        let values = env::plain_values(&super::folder::read(&path));
        let mut keys = values.iter().filter(|(_, value)| *value == password).map(|(key, _)| key);
        let usual = keys.clone().find(|key| *key == USUAL);
        if let Some(key) = usual.or_else(|| keys.next()) {
            let file = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
            return Some(PasswordGuess::Variable { file, key: key.clone() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(more: &str, dot_env: &str) -> Option<DatabaseGuess> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), dot_env).unwrap();
        let text = format!(
            r#"{{"name": "shop", "services": {{{more}}},
                "secrets": {{"pw": {{"file": "{}/secrets/pw"}}}}}}"#,
            folder.path().display()
        );
        let stack: Stack = serde_json::from_str(&text).unwrap();
        let findings = super::super::folder::look(folder.path(), &stack);
        let decided: Vec<_> = stack
            .services
            .iter()
            .map(|(name, service)| {
                let seen = super::super::seen::Seen::default();
                let (duty, reason) = super::super::duty::decide(name, service, &stack, &seen);
                (name.clone(), duty, reason)
            })
            .collect();
        decide(&stack, &decided, &findings)
    }

    fn postgres(environment: &str) -> String {
        format!(r#""db": {{"image": "postgres:15", "environment": {{{environment}}}}}"#)
    }

    #[test]
    fn the_password_is_named_by_the_variable_that_holds_it_and_never_shown() {
        let db = postgres(r#""POSTGRES_USER": "shop", "POSTGRES_PASSWORD": "sesame""#);
        let found = guess(&db, "A=1\nDB_PASS=sesame\n").unwrap();
        let password = PasswordGuess::Variable { file: ".env".into(), key: "DB_PASS".into() };
        assert_eq!((found.name.as_str(), found.user.as_str()), ("shop", "shop"));
        assert_eq!(found.password, password);
        assert!(!format!("{found:?}").contains("sesame"));
        // Two that hold it: the one with the usual name.
        let found = guess(&db, "A_PASS=sesame\nPOSTGRES_PASSWORD=sesame\n").unwrap();
        let key = "POSTGRES_PASSWORD".to_owned();
        assert_eq!(found.password, PasswordGuess::Variable { file: ".env".into(), key });
        assert!(!guess(&db, "DB_PASS=other\n").unwrap().is_usable());
    }

    #[test]
    fn a_secret_of_compose_is_named_by_its_file() {
        let db = r#""db": {"image": "postgres:15",
            "secrets": [{"source": "pw", "target": "/run/secrets/pw"}],
            "environment": {"POSTGRES_PASSWORD_FILE": "/run/secrets/pw", "POSTGRES_DB": "main"}}"#;
        let found = guess(db, "").unwrap();
        assert_eq!(found.password, PasswordGuess::File("secrets/pw".into()));
        assert_eq!((found.name.as_str(), found.user.as_str()), ("main", "postgres"));
    }

    #[test]
    fn the_database_is_the_one_that_the_application_connects_to() {
        assert_eq!(named_by("postgres://u:p@db:5432/main?x=1", "db"), Some("main"));
        assert_eq!(named_by("postgresql://db/main", "db"), Some("main"));
        for other in ["postgres://u:p@elsewhere/main", "postgres://db/", "redis://db/0", "db/main"]
        {
            assert_eq!(named_by(other, "db"), None, "{other}");
        }
        let db = postgres(r#""POSTGRES_DB": "first""#);
        let api =
            r#""api": {"image": "api", "environment": {"DATABASE_URL": "postgres://db/main"}}"#;
        assert_eq!(guess(&format!("{db}, {api}"), "").unwrap().name, "main");
        assert_eq!(guess(&db, "").unwrap().name, "first");
    }

    #[test]
    fn nothing_is_guessed_where_there_are_two_or_another_one() {
        let trusting = postgres(r#""POSTGRES_HOST_AUTH_METHOD": "trust""#);
        assert_eq!(guess(&trusting, "").unwrap().password, PasswordGuess::NotNeeded);
        assert_eq!(
            guess(&format!("{trusting}, {}", trusting.replace("\"db\"", "\"b\"")), ""),
            None
        );
        assert_eq!(guess(r#""db": {"image": "mysql:8"}"#, ""), None);
    }
}
