//! The sections below `[apps.NAME]`, as they are written.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{RawDatabase, RawIntegrity, RawSmoke};
use crate::checked::{
    ContactEvent, HostName, NetworkClass, PathPrefix, PortClass, Protocol, StatusRange, Sticky,
    VolumeClass,
};
use crate::problem::Sink;
use crate::read::{At, Keyed, Number, OneOrMany, Port, Read, section};
use crate::scalar::{Address, FilePath, Hidden, Share, Span, Target};
use crate::tree::{Node, Value};

section! {
    /// One application: from compose files, or with fixed endpoints.
    RawApp {
        /// The compose files, merged in this order. Never edited.
        compose: OneOrMany<FilePath>,
        /// The compose project that runs today. Default: as compose finds it.
        project: String,
        /// The compose profiles that are on. Default: as compose finds them.
        profiles: Vec<At<String>>,
        /// Fixed endpoints instead of compose files.
        endpoints: RawEndpoints,
        /// Services that run once, for both colors: databases, queues, caches.
        shared: Vec<At<String>>,
        /// Services that run in the stable color only: workers, schedulers.
        singletons: Vec<At<String>>,
        /// Services that run once for each deploy and end, beside those that the compose file waits
        /// for to end.
        jobs: Vec<At<String>>,
        /// Files with variables; they belong to a release.
        env_files: Vec<At<FilePath>>,
        /// Which keys of env files come back with a release.
        env: RawEnv,
        /// What becomes of each volume and each writable bind mount.
        volumes: Keyed<VolumeClass>,
        /// What becomes of published ports without a route: "9229", "5353/udp", or "service:port".
        ports: Keyed<PortClass>,
        /// Public ports that are carried by connection to the stable color, whatever they speak.
        tcp: Vec<At<RawTcp>>,
        /// What becomes of each network that is not the app's own.
        networks: Keyed<NetworkClass>,
        /// Variables of the compose file that may be missing.
        blank_ok: Vec<At<String>>,
        /// How long the old color stays up (accepted, has no effect in this version: until the next
        /// deploy).
        keep_warm: Span,
        /// How a client is known again. Default: that of [proxy].
        sticky: Sticky,
        /// Which requests go to which service.
        #[schemars(required)]
        routes: Vec<At<RawRoute>>,
        /// How readiness is asked.
        probe: RawProbe,
        /// The steps of a deploy.
        rollout: RawRollout,
        /// What a deploy runs once.
        migrations: RawMigrations,
        /// The database.
        database: RawDatabase,
        /// Queries that say whether the data is whole.
        integrity: Vec<At<RawIntegrity>>,
        /// What has to work on a color.
        smoke: Vec<At<RawSmoke>>,
        /// Who is told (accepted, has no effect in this version).
        contacts: Vec<At<RawContact>>,
    }
    not yet: hooks, limits, shield, shadow, triggers, freeze;
}

section! {
    /// Which keys of env files come back with a release that is brought back. `*` and `?` stand for
    /// what may vary.
    RawEnv {
        /// Keys that come back with the release; stronger than everything else.
        pin: Vec<At<String>>,
        /// Keys that keep today's value. Always among them, unless pinned: *_PASSWORD, *_TOKEN,
        /// *_KEY and *_SECRET.
        follow: Vec<At<String>>,
    }
}

section! {
    /// Fixed endpoints: for each color, the addresses of each service.
    RawEndpoints {
        /// Blue is stable at first.
        #[schemars(required)]
        blue: Keyed<OneOrMany<Address>>,
        /// Green.
        green: Keyed<OneOrMany<Address>>,
    }
}

section! {
    /// Requests that go to one service.
    RawRoute {
        /// The host. Default: every host that no other route names.
        host: HostName,
        /// The path prefix; the longest one wins. Default: /.
        path: PathPrefix,
        /// The service.
        #[schemars(required)]
        service: String,
        /// The port inside the container; not for fixed endpoints.
        port: Port,
        /// Only requests that came in on this port of a listener.
        on: Port,
        /// Whether the prefix is taken away. Default: false.
        strip_prefix: bool,
        /// What the service speaks. Default: http1; others not yet.
        protocol: Protocol,
    }
}

section! {
    /// A public port that is carried by connection to the stable color.
    RawTcp {
        /// One address or a list of them, each with a port.
        #[schemars(required)]
        listen: OneOrMany<Address>,
        /// The service.
        #[schemars(required)]
        service: String,
        /// The port inside the container; not for fixed endpoints.
        port: Port,
    }
}

section! {
    /// How readiness is asked, on the way that a client's request takes.
    RawProbe {
        /// The path to ask for. Default: /.
        path: Target,
        /// The host to ask for. Default: that of the route.
        host: HostName,
        /// The port of a listener to ask on. Default: any that has a route for the path.
        on: Port,
        /// Statuses that mean ready. Default: 2xx and 3xx.
        expect: OneOrMany<StatusRange>,
        /// How often it is asked. Default: 10.
        attempts: Number<1, 1000>,
        /// From one attempt to the next. Default: 10s.
        interval: Span,
        /// Good answers in a row that mean ready. Default: 3.
        passes: Number<1, 100>,
        /// How long one answer may take. Default: 5s.
        timeout: Span,
    }
}

section! {
    /// The steps of a deploy.
    RawRollout {
        /// Rising weights, all below 100 %. Default: 1 %, 5 %, 25 %, 50 %.
        steps: Vec<At<RawStep>>,
        /// The share of requests that may fail by the app's own doing while `adopt` compares.
        /// Default: 2%.
        max_error_rate: Share,
    }
}

section! {
    /// One step of a deploy.
    RawStep {
        /// The share of clients on the new release.
        #[schemars(required)]
        weight: Share,
        /// Accepted, has no effect in this version. Default: 1m.
        soak: Span,
    }
    list: "[{ weight = \"1%\" }, { weight = \"25%\" }]";
}

section! {
    /// What a deploy runs once, before the new release gets traffic.
    RawMigrations {
        /// The service whose image runs it.
        #[schemars(required)]
        service: String,
        /// The command: a line, or a list of words.
        #[schemars(required)]
        command: Words,
        /// The folder of migrations and their down scripts, below this file's.
        down: FilePath,
        /// What takes a release's migrations back, where no scripts do: a line, or a list of words.
        down_command: Words,
        /// What `migrate status` shows below our own list: a line, or a list of words.
        status_command: Words,
    }
}

section! {
    /// Somebody who is told (accepted, has no effect in this version).
    RawContact {
        /// The name in messages.
        #[schemars(required)]
        name: String,
        /// An address that takes a POST.
        webhook: Hidden,
        /// A file that holds the address.
        webhook_file: FilePath,
        /// What they are told of. Default: everything.
        on: Vec<At<ContactEvent>>,
    }
}

/// A command: a line, or a list of words.
#[derive(Debug, Clone)]
pub(crate) enum Words {
    Line(String),
    List(Vec<String>),
}

impl Read for Words {
    fn read(node: &Node, sink: &mut Sink) -> Option<Self> {
        if matches!(node.value, Value::List(_)) {
            let words: Vec<At<String>> = Vec::read(node, sink)?;
            return Some(Self::List(words.into_iter().map(|word| word.value).collect()));
        }
        String::read(node, sink).map(Self::Line)
    }
}

impl JsonSchema for Words {
    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 }
        ] })
    }
}
