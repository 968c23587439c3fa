//! Why a call of compose gave nothing, and why a compose file cannot run in two colors as it is.
//!
//! Each says what is wrong, where, and what to write; all of them are found in one go. No value of
//! a variable stands in any of them, only names.

use crate::host::process::ProcessError;

/// Why a compose call gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// The command could not be run to its end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Compose refused or failed.
    #[error("{what} failed (exit {code}): {tail}")]
    Failed {
        /// What was asked.
        what: String,
        /// Its exit code.
        code: i32,
        /// The end of what it said.
        tail: String,
    },
    /// The file is not valid, says compose.
    #[error("{folder}: docker compose does not accept the compose file: {tail}")]
    Invalid {
        /// The operator's folder.
        folder: String,
        /// The end of what it said.
        tail: String,
    },
    /// The plugin lacks an option that is needed.
    #[error("docker compose is too old ({tail}); install a newer compose plugin")]
    TooOld {
        /// What it said.
        tail: String,
    },
    /// It printed something else than the JSON it should.
    #[error(
        "docker compose config printed no JSON: {0}; is the compose plugin version 2 or newer?"
    )]
    NotJson(serde_json::Error),
    /// The file cannot run in two colors as it is: every reason at once.
    #[error("the compose file cannot run in two colors yet:\n{}", lines(.0))]
    Problems(Vec<ComposeProblem>),
}

fn lines(problems: &[ComposeProblem]) -> String {
    problems.iter().map(|problem| format!("  - {problem}")).collect::<Vec<_>>().join("\n")
}

/// A name as TOML has it as a key.
fn bare(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !name.is_empty() && name.chars().all(is_bare) {
        true => name.to_owned(),
        false => format!("{name:?}"),
    }
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeProblem {
    /// A variable is not set.
    #[error(
        "the variable {name} is not set, so compose puts nothing in its place. Set it in .env (a \
         \"$\" inside a value is written \"$$\"), or list it: blank_ok = [\"{name}\"]"
    )]
    BlankVariable {
        /// The variable.
        name: String,
    },
    /// A setting names a service that the file does not have.
    #[error(
        "{setting} names the service {name}, which the compose file does not have. It has: {known}"
    )]
    UnknownService {
        /// The setting, as it is written in cutover.toml.
        setting: &'static str,
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A service is to run once and to run per color.
    #[error("the service {service} is listed as shared and as {other}: it can be only one of them")]
    TwoDuties {
        /// The service.
        service: String,
        /// The other list.
        other: &'static str,
    },
    /// No service is left that could run in two colors.
    #[error("every service is listed as shared, so there is nothing to run in two colors")]
    NothingColored,
    /// A volume that nobody classified.
    #[error(
        "the volume {volume} is mounted by {uses}. With two copies: one for both, one each, or \
         one that neither writes? Write under volumes: {} = \"shared\", \"per-color\" \
         (each starts with an empty one) or \"read-only\"",
        bare(key)
    )]
    UnclassifiedVolume {
        /// Its name in the file.
        volume: String,
        /// Who mounts it where.
        uses: String,
        /// How it is written as a key.
        key: String,
    },
    /// A writable folder of the host that nobody classified.
    #[error(
        "the folder {folder} of this host is mounted, writable, by {uses}. With two copies: one \
         for both, one each, or only read? Write under volumes: \"{key}\" = \"shared\", \
         \"per-color\" (each starts with an empty one) or \"read-only\""
    )]
    UnclassifiedFolder {
        /// The folder.
        folder: String,
        /// Who mounts it where.
        uses: String,
        /// How it is written as a key.
        key: String,
    },
    /// A volume that cannot have a copy per color.
    #[error(
        "the volume {volume} is \"per-color\", but {reason}, so both colors would use the same \
         place. Write \"shared\" or \"read-only\""
    )]
    CannotCopyVolume {
        /// Its name in the file.
        volume: String,
        /// Why not.
        reason: String,
    },
    /// A published port that no route covers.
    #[error(
        "the service {service} publishes port {published}, which no route leads to ({service}, \
         port {target}). Both copies cannot have it. Add a route with service = \"{service}\" and \
         port = {target}; or carry it by connection with a section tcp of the app; or list the \
         service as shared; or write under ports: \"{key}\" = \"drop\""
    )]
    UnclassifiedPort {
        /// The service.
        service: String,
        /// The port of this host, with its address where one is given.
        published: String,
        /// The port inside.
        target: String,
        /// How it is written as a key.
        key: String,
    },
    /// A published UDP port cannot be forwarded.
    #[error(
        "the service {service} publishes port {published}/{protocol}: only TCP can be forwarded. \
         Write under ports: \"{key}\" = \"drop\", or list the service as shared"
    )]
    NotTcp {
        /// The service.
        service: String,
        /// The port of this host.
        published: String,
        /// Its protocol.
        protocol: String,
        /// How it is written as a key.
        key: String,
    },
    /// An external network that nobody classified.
    #[error(
        "the network {network}, used by {services}, is outside of this file. Write under \
         networks: {} = \"join\" (both colors join it, answering only to names of their \
         own, such as {example}) or \"drop\"",
        bare(network)
    )]
    UnclassifiedNetwork {
        /// Its name in the file.
        network: String,
        /// Who uses it.
        services: String,
        /// The name one of them would have there.
        example: String,
    },
    /// A network of a kind that has no copies.
    #[error(
        "the network {network} has the driver {driver}: two copies of it would be one network. \
         Only bridge networks can be copied for each color; list its services as shared, or make \
         it external and classify it under networks"
    )]
    NetworkDriver {
        /// Its name in the file.
        network: String,
        /// Its driver.
        driver: String,
    },
    /// A service that uses the host itself.
    #[error(
        "the service {service} has {key}: {value}, which two copies cannot share. Take it out, or \
         list the service as shared"
    )]
    HostAccess {
        /// The service.
        service: String,
        /// The key in the file.
        key: String,
        /// What it says.
        value: String,
    },
    /// A service that refers to a container or a shared service in a way that names cannot cross.
    #[error(
        "the service {service} has {key}: {value}, which exists once and not in each color. Take \
         it out, or list the service as shared too"
    )]
    TiedToOne {
        /// The service.
        service: String,
        /// The key in the file.
        key: String,
        /// What it says.
        value: String,
    },
    /// A shared service that calls a colored one by name.
    #[error(
        "the shared service {shared} reaches {colored} by name ({place}), past the split: it would \
         find both colors or none. Point it at the proxy's address instead, or take {shared} off \
         the list of shared services"
    )]
    SharedCallsColored {
        /// The shared service.
        shared: String,
        /// The colored one.
        colored: String,
        /// Where: `depends_on`, `links`, the variable's name.
        place: String,
    },
    /// A service without an image and without a build.
    #[error("the service {service} has neither image nor build, so there is nothing to run")]
    NoImage {
        /// The service.
        service: String,
    },
    /// A key that cannot be kept for two copies.
    #[error("the service {service} has {key}, which is not supported for services in two colors")]
    Unsupported {
        /// The service.
        service: String,
        /// The key.
        key: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_written_is_toml() {
        let (volume, uses) = ("pg.data".to_owned(), "db".to_owned());
        let key = volume.clone();
        let said = ComposeProblem::UnclassifiedVolume { volume, uses, key }.to_string();
        assert!(said.contains("Write under volumes: \"pg.data\" = \"shared\""), "{said}");
        let (network, services, example) = ("my net".into(), "web".into(), "web-blue".into());
        let said = ComposeProblem::UnclassifiedNetwork { network, services, example }.to_string();
        assert!(said.contains("networks: \"my net\" = \"join\""), "{said}");
        assert_eq!(bare("logs_2-a"), "logs_2-a");
    }
}
