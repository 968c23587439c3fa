//! The sections about an app's database and about what proves it whole, as they are written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::Words;
use crate::checked::{HostName, RestorePoint, SpaceCheck, StatusRange, TlsMode};
use crate::problem::Sink;
use crate::read::{Number, OneOrMany, Port, Read, section};
use crate::scalar::{FilePath, Hidden, Span, Target};
use crate::tree::{Node, Value};

section! {
    /// The database.
    RawDatabase {
        /// The shared service that runs it; or else `host`.
        service: String,
        /// Its host, by name or IP address, where compose does not run it.
        host: String,
        /// The port of `host`, or of `service` inside its container. Default: 5432.
        port: Port,
        /// How the way to it is encrypted, in the words of libpq's `sslmode`. Default: disable.
        tls: TlsMode,
        /// The authorities that its certificate has to be signed by, in PEM.
        ca: FilePath,
        /// The database.
        #[schemars(required)]
        name: String,
        /// The role to connect as.
        #[schemars(required)]
        user: String,
        /// Its password; better in a file.
        password: Hidden,
        /// A file that holds its password.
        password_file: FilePath,
        /// A file with variables, and the variable that holds the password or a whole URL with it.
        password_env: RawVariable,
        /// The database to be connected to while this one is renamed. Default: postgres.
        maintenance: String,
        /// How a deploy makes its restore point. Default: copy.
        restore_point: RestorePoint,
        /// How long requests may be held while names are exchanged. Default: 5s.
        max_hold: Span,
        /// How long the checks are repeated after a restore; 0s: not at all. Default: 5m.
        watch: Span,
        /// Whether the server's free disk space has to be known. Default: checked.
        space: SpaceCheck,
        /// When it is backed up.
        backup: RawBackup,
    }
}

section! {
    /// One variable of a file.
    RawVariable {
        /// The file.
        #[schemars(required)]
        file: FilePath,
        /// The variable.
        #[schemars(required)]
        key: String,
    }
}

section! {
    /// When a database is backed up.
    RawBackup {
        /// Five fields, as cron has them.
        #[schemars(required)]
        schedule: String,
        /// How many are kept.
        keep: RawKeep,
        /// The folder of the files. Default: backups, in the state folder.
        path: FilePath,
        /// The recipient that `age` encrypts to. Default: not encrypted.
        encrypt: String,
        /// The private key that `age` decrypts with. Default: this host cannot read them back.
        identity_file: FilePath,
        /// A command that copies each new file elsewhere; its path is added as the last word.
        copy: Words,
        /// How long that command may take. Default: 1h.
        copy_timeout: Span,
    }
}

section! {
    /// How many backups are kept.
    RawKeep {
        /// One for each of the last days.
        daily: Number<0, 10_000>,
        /// One for each of the last weeks.
        weekly: Number<0, 10_000>,
        /// One for each of the last months.
        monthly: Number<0, 10_000>,
    }
}

section! {
    /// A query that says whether the data is whole.
    RawIntegrity {
        /// Its name in messages.
        #[schemars(required)]
        name: String,
        /// One statement, which cannot write.
        #[schemars(required)]
        sql: String,
        /// What the first column of its only row has to be. Default: it gives no row.
        expect: Literal,
        /// How long it may take. Default: 10s.
        timeout: Span,
    }
}

section! {
    /// What has to work on a color: a request, or a command.
    RawSmoke {
        /// Its name in messages.
        #[schemars(required)]
        name: String,
        /// The path to ask for.
        path: Target,
        /// The host to ask for. Default: that of the route.
        host: HostName,
        /// Statuses that pass. Default: 2xx.
        expect: OneOrMany<StatusRange>,
        /// A text that the answer has to hold.
        body: String,
        /// A command instead of a request; CUTOVER_URL in its environment is the color's address.
        command: Words,
        /// How long it may take. Default: 10s.
        timeout: Span,
    }
}

/// A number, a text, or true or false: a value as a query answers it.
#[derive(Debug, Clone)]
pub(crate) struct Literal(pub(crate) String);

impl Read for Literal {
    fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            Value::Integer(number) => Some(Self(number.to_string())),
            // As PostgreSQL writes them.
            Value::Boolean(true) => Some(Self("t".to_owned())),
            Value::Boolean(false) => Some(Self("f".to_owned())),
            Value::Text(text) | Value::Loose(text) => Some(Self(text.clone())),
            _ => {
                let what = format!("`{}` is not one value", node.place.key);
                sink.wrong(&node.place, what).hint("write 0, \"text\", or true");
                None
            }
        }
    }
}

impl JsonSchema for Literal {
    fn schema_name() -> Cow<'static, str> {
        "Literal".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string", "boolean"] })
    }
}
