//! The operator's stack as `docker compose config --format json` prints it: what `init` looks at.
//!
//! Small and tolerant: keys that nobody asks for are not read, and missing ones have defaults.
//! Merging, profiles and interpolation are done already; nothing here reads YAML.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// The whole stack.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Stack {
    /// Files and values that services are given as files.
    pub secrets: BTreeMap<String, Secret>,
    /// The operator's own project.
    pub name: String,
    /// The services by name.
    pub services: BTreeMap<String, Service>,
    /// The networks by their name in the file.
    pub networks: BTreeMap<String, Network>,
}

/// Variables with their values. Its `Debug` shows the names alone.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct Variables(BTreeMap<String, Option<String>>);

impl Variables {
    /// The value of a variable that has one and is not blank.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref().filter(|value| !value.is_empty())
    }

    /// The values of all that have one.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.0.values().flatten().map(String::as_str)
    }
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A secret of compose.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Secret {
    /// The file on this host that holds it.
    pub file: Option<PathBuf>,
}

/// A secret as a service has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct UsedSecret {
    /// Its name in the file.
    pub source: String,
    /// Where the service finds it.
    pub target: Option<PathBuf>,
}

/// A network.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Whether it belongs to somebody else.
    pub external: bool,
}

/// One service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// The image, if one is named.
    pub image: Option<String>,
    /// How it is built, if it is.
    pub build: Option<Build>,
    /// The words of its command.
    #[serde(deserialize_with = "words")]
    pub command: Vec<String>,
    /// The words of its entrypoint.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Vec<String>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Ports that only other services see.
    pub expose: Vec<String>,
    /// What it mounts.
    pub volumes: Vec<Mount>,
    /// What it waits for.
    pub depends_on: BTreeMap<String, Dependency>,
    /// Variables; their values may be secrets and are never shown.
    pub environment: Variables,
    /// Secrets that it is given as files.
    pub secrets: Vec<UsedSecret>,
    /// Files with variables.
    pub env_file: Vec<EnvFile>,
    /// The networks it is on.
    pub networks: BTreeMap<String, serde::de::IgnoredAny>,
    /// Its health check.
    pub healthcheck: Option<HealthCheck>,
    /// When it is started again.
    pub restart: Option<String>,
    /// `host`, or another service's or container's.
    pub network_mode: Option<String>,
    /// `host`, or another service's or container's.
    pub pid: Option<String>,
    /// Devices of the host.
    pub devices: Vec<serde::de::IgnoredAny>,
}

/// How an image is built.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Build {
    /// The folder.
    pub context: PathBuf,
    /// The Dockerfile in it.
    pub dockerfile: Option<PathBuf>,
}

/// A published port.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The address of the host; absent: all.
    pub host_ip: Option<String>,
    /// The port of the host; absent: any free one. A range is not a number.
    pub published: Option<String>,
    /// The port inside.
    pub target: u16,
    /// `tcp` or `udp`.
    pub protocol: Option<String>,
}

impl Port {
    /// The port of the host, when it is one fixed number.
    #[must_use]
    pub fn public(&self) -> Option<u16> {
        self.published.as_deref()?.parse().ok().filter(|port| *port != 0)
    }

    /// Whether it is UDP.
    #[must_use]
    pub fn is_udp(&self) -> bool {
        self.protocol.as_deref() == Some("udp")
    }
}

/// Something that is mounted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The volume's name or the host's path; absent: an anonymous volume.
    pub source: Option<String>,
    /// Where it is mounted.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// What one service waits for in another.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// `service_started`, `service_healthy`, `service_completed_successfully`.
    pub condition: String,
}

/// A file with variables.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct EnvFile {
    /// The file.
    pub path: PathBuf,
}

/// A health check.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// Its command.
    #[serde(deserialize_with = "words")]
    pub test: Vec<String>,
}

impl Service {
    /// The name of its image without registry, folder, tag and digest; empty if it is built.
    #[must_use]
    pub fn image_name(&self) -> &str {
        let image = self.image.as_deref().unwrap_or_default();
        let image = image.split('@').next().unwrap_or_default();
        let name = image.rsplit('/').next().unwrap_or_default();
        name.split(':').next().unwrap_or_default()
    }

    /// The tag of its image; `None` without one, and for `latest`.
    #[must_use]
    pub fn image_tag(&self) -> Option<&str> {
        let name = self.image.as_deref()?.rsplit('/').next()?;
        let tag = name.split('@').next()?.split_once(':')?.1;
        (tag != "latest").then_some(tag)
    }

    /// Entrypoint and command as one line, to look for words in it.
    #[must_use]
    pub fn start_line(&self) -> String {
        self.entrypoint.iter().chain(&self.command).cloned().collect::<Vec<_>>().join(" ")
    }

    /// The path that its own health check asks for, if that is an HTTP request to itself.
    #[must_use]
    pub fn health_path(&self) -> Option<String> {
        let line = self.healthcheck.as_ref()?.test.join(" ");
        let url = line.split_once("http://")?.1;
        let end = url.find(|c: char| c.is_whitespace() || "\"')|;&".contains(c));
        let url = &url[..end.unwrap_or(url.len())];
        let path = &url[url.find('/')?..];
        (path.len() > 1).then(|| path.to_owned())
    }
}

/// A command is absent, a text, or a list of words.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(line) => vec![line],
        serde_json::Value::Array(words) => {
            words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Service {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_values_of_variables_are_in_no_debug_text() {
        let stack: Stack = serde_json::from_str(
            r#"{"services": {"db": {"environment": {"DB_PASSWORD": "sesame", "EMPTY": null}}}}"#,
        )
        .unwrap();
        let text = format!("{stack:?}");
        assert!(text.contains("DB_PASSWORD") && !text.contains("sesame"), "{text}");
        let variables = &stack.services["db"].environment;
        assert_eq!((variables.get("DB_PASSWORD"), variables.get("EMPTY")), (Some("sesame"), None));
    }

    #[test]
    fn image_names_lose_registry_tag_and_digest() {
        let of = |image: &str| service(&format!("{{\"image\":\"{image}\"}}"));
        assert_eq!(of("registry.example:5000/a/postgres:15").image_name(), "postgres");
        assert_eq!(of("registry.example:5000/a/postgres:15").image_tag(), Some("15"));
        assert_eq!(of("redis@sha256:00").image_name(), "redis");
        assert_eq!(of("redis").image_tag(), None);
        assert_eq!(of("redis:latest").image_tag(), None);
    }

    #[test]
    fn health_checks_give_their_path() {
        let of =
            |test: &str| service(&format!("{{\"healthcheck\":{{\"test\":{test}}}}}")).health_path();
        let curl = r#"["CMD-SHELL","curl -f http://localhost:3001/api/health || exit 1"]"#;
        assert_eq!(of(curl).as_deref(), Some("/api/health"));
        assert_eq!(of(r#"["CMD","wget","http://127.0.0.1/"]"#), None);
        assert_eq!(of(r#"["CMD","pg_isready"]"#), None);
    }
}
