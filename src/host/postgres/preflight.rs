//! The refusals: what speaks against building, swapping or restoring, each with its remedy.
//!
//! [`look`] gathers what is so; [`refusals`] is pure and gives all reasons at once. Nothing here
//! changes anything on the server.

use std::collections::BTreeSet;
use std::time::Duration;

use cutover_model::OperationId;

pub mod space;

use self::space::Space;
use super::archive::tool;
use super::claims::{self, Whose};
use super::connect::{ASK, Server, Session};
use super::error::DbError;
use super::facts::{self, DatabaseFacts, ServerFacts, get};
use super::names::{DbName, Kind};
use crate::text;

/// What will be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The live database.
    pub live: DbName,
    /// How large the new one will be, bytes.
    pub size: u64,
    /// The extensions that it makes.
    pub extensions: BTreeSet<String>,
    /// The roles that own something in it or have a right to it.
    pub roles: BTreeSet<String>,
    /// The major version that it was made by; `None`: by this very server.
    pub made_by: Option<i32>,
    /// Whether it is made by `pg_restore`.
    pub restores: bool,
    /// Whether unknown disk space is accepted.
    pub unknown_space: UnknownSpace,
    /// How long requests may wait for the exchange; `None`: nothing is exchanged.
    pub max_hold: Option<Duration>,
}

impl Need {
    /// What takes the place of the live database and is as large; made by this very server.
    #[must_use]
    pub fn like(live: &DatabaseFacts, unknown_space: UnknownSpace) -> Self {
        Self {
            live: live.name.clone(),
            size: live.size.unwrap_or(0),
            extensions: BTreeSet::new(),
            roles: BTreeSet::new(),
            made_by: None,
            restores: false,
            unknown_space,
            max_hold: None,
        }
    }
}

/// What an exchange of names takes at least, and what each session adds that has to end for it: a
/// sixth of what was measured with 8, 20 and 40 busy clients (41 ms and 79 ms for the first two),
/// because idle ones end faster, and none may be refused that would do.
const EXCHANGE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_micros(500));

/// What to do where the free space cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownSpace {
    /// Refuse.
    Refused,
    /// Go on: the operator answers for it.
    Accepted,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The server.
    pub server: ServerFacts,
    /// The live database; `None`: there is none.
    pub live: Option<DatabaseFacts>,
    /// Its disk; `None`: it cannot be known.
    pub space: Option<Space>,
    /// The extensions that the server can make.
    pub extensions: BTreeSet<String>,
    /// Its roles.
    pub roles: BTreeSet<String>,
    /// The major version of `pg_dump` and `pg_restore`.
    pub tools: i32,
    /// Databases of other operations of ours that are being built or exchanged.
    pub unfinished: Vec<(DbName, OperationId)>,
    /// Names that are needed and are foreign, with the reason.
    pub foreign: Vec<(DbName, String)>,
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Gathers what is so.
///
/// # Errors
/// [`DbError`] when it cannot be found out.
pub async fn look(
    server: &Server,
    session: &Session,
    operation: OperationId,
    live: &DbName,
) -> Result<Seen, DbError> {
    let seen = facts::server(session).await?;
    let names = async |sql: &str| {
        let rows = session.rows("asking what the server has", ASK, sql, &[]).await?;
        rows.iter().map(|row| get::<String>(row, 0)).collect::<Result<BTreeSet<_>, _>>()
    };
    let mut found = Seen {
        space: space::of(server, &seen).await?,
        live: facts::database(session, live).await?,
        extensions: names("SELECT name::text FROM pg_available_extensions").await?,
        roles: names("SELECT rolname::text FROM pg_roles").await?,
        tools: tool::tools_major(server).await?,
        server: seen,
        unfinished: Vec::new(),
        foreign: Vec::new(),
    };
    if no_writes(&found.server).is_some() {
        // Refused for that alone: to look for claims, their place has to be made, which is a write.
        return Ok(found);
    }
    claims::ensure_ledger(session).await?;
    for (name, of, kind) in claims::claimed(session, &server.installation).await? {
        if kind == Kind::Candidate && of != operation {
            found.unfinished.push((name, of));
        }
    }
    for name in [live.candidate(operation), live.previous(operation)] {
        if let Whose::Foreign(why) = claims::whose(session, &server.installation, &name).await? {
            found.foreign.push((name, why));
        }
    }
    Ok(found)
}

/// Why a server takes no writes. Pure.
#[must_use]
pub fn no_writes(server: &ServerFacts) -> Option<Refusal> {
    let (what, remedy) = if server.in_recovery {
        let remedy = "name the primary server in the database's section of cutover.toml";
        ("the server is a standby, which takes no writes", remedy)
    } else if server.read_only {
        let remedy = "find out who set it, and why, then turn it off: SELECT source, sourcefile \
                      FROM pg_settings WHERE name = 'default_transaction_read_only'";
        ("the server takes no writes: default_transaction_read_only is on", remedy)
    } else {
        return None;
    };
    Some(Refusal { what: what.to_owned(), remedy: remedy.to_owned() })
}

/// Every reason not to go on. Pure.
#[must_use]
pub fn refusals(need: &Need, seen: &Seen) -> Vec<Refusal> {
    let mut reasons = Vec::new();
    let mut refuse = |what: String, remedy: &str| {
        reasons.push(Refusal { what, remedy: remedy.to_owned() });
    };
    let server = &seen.server;
    if let Some(refusal) = no_writes(server) {
        refuse(refusal.what, &refusal.remedy);
    }
    rights(seen, &mut refuse);
    match &seen.live {
        None => {
            let remedy = "check `name` in the database's section of cutover.toml";
            refuse(format!("there is no database \"{}\"", need.live), remedy);
        }
        Some(live) => {
            in_the_way(live, &mut refuse);
            if let Some(most) = need.max_hold {
                too_long(live.sessions.len(), most, &mut refuse);
            }
        }
    }
    reasons.extend(no_room(need.size, server.max_wal, seen.space, need.unknown_space));
    let mut refuse = |what: String, remedy: &str| {
        reasons.push(Refusal { what, remedy: remedy.to_owned() });
    };
    let tools = seen.tools.min(server.major());
    if let Some(made_by) = need.made_by.filter(|made_by| *made_by > tools) {
        let what = format!("the dump was made by PostgreSQL {made_by}, and here is {tools}");
        refuse(what, "restore it with a server of that version or a later one");
    }
    if seen.tools < server.major() {
        let what =
            format!("pg_dump is of version {}, the server of {}", seen.tools, server.major());
        refuse(what, "install the client tools of the server's version");
    }
    if need.restores && seen.tools >= tool::SETS_MORE && server.major() < tool::SETS_MORE {
        let (tools, major) = (seen.tools, server.major());
        refuse(
            format!(
                "pg_restore is of version {tools}, and a server of {major} refuses its settings"
            ),
            "install the client tools of the server's version",
        );
    }
    for name in need.extensions.difference(&seen.extensions) {
        let remedy = "install it on the server; CREATE EXTENSION is done by the restore";
        refuse(format!("the server has no extension {name}"), remedy);
    }
    for name in need.roles.difference(&seen.roles) {
        let remedy = "make it with CREATE ROLE, with the rights that it had";
        refuse(format!("the server has no role {name}"), remedy);
    }
    for (name, of) in &seen.unfinished {
        let what = format!("operation {of} has left \"{name}\"");
        let remedy = "end it first: cutover continue, or cutover abort, with its number; where it \
                      has ended: cutover doctor";
        refuse(what, remedy);
    }
    for (name, why) in &seen.foreign {
        let remedy = "rename or drop it yourself if nobody needs it; it is not touched";
        refuse(format!("\"{name}\" is not Cutover's: {why}"), remedy);
    }
    reasons
}

/// Why there is no room for so many bytes more. Pure.
#[must_use]
pub fn no_room(
    size: u64,
    max_wal: u64,
    space: Option<Space>,
    unknown: UnknownSpace,
) -> Option<Refusal> {
    let refusal = |what: String, remedy: &str| Some(Refusal { what, remedy: remedy.to_owned() });
    let Some(space) = space else {
        return match unknown {
            UnknownSpace::Accepted => None,
            UnknownSpace::Refused => refusal(
                "the free space of the server's disk cannot be known".to_owned(),
                "make sure of it, then set space = \"unchecked\" in cutover.toml",
            ),
        };
    };
    let missing = space.missing(size, max_wal);
    if missing == 0 {
        return None;
    }
    let (size, missing) = (megabytes(size), megabytes(missing));
    refusal(
        format!(
            "the server's disk is {missing} short of what is to be made ({size}), its WAL and a \
             tenth"
        ),
        "make room: a full disk stops the server, and it does not start again",
    )
}

fn rights(seen: &Seen, refuse: &mut impl FnMut(String, &str)) {
    let role = &seen.server.role;
    if !role.createdb {
        refuse(
            format!("role {} may not make databases", role.name),
            "give it the right: ALTER ROLE ... CREATEDB",
        );
    }
    if !role.creates_here {
        refuse(
            format!("role {} may not make a schema in the maintenance database", role.name),
            "give it the right: GRANT CREATE ON DATABASE ... TO ...",
        );
    }
    if let Some(live) = seen.live.as_ref().filter(|live| !live.ours_to_alter) {
        refuse(
            format!("role {} does not own \"{}\"", role.name, live.name),
            "connect as its owner, or make the role a member of the owner",
        );
    }
    if !role.signals {
        let other = |live: &DatabaseFacts| {
            live.sessions.iter().find(|s| !s.role.is_empty() && s.role != role.name).cloned()
        };
        if let Some(other) = seen.live.as_ref().and_then(other) {
            refuse(
                format!("role {} may not end the sessions of role {}", role.name, other.role),
                "give it the right: GRANT pg_signal_backend TO ...",
            );
        }
    }
}

fn in_the_way(live: &DatabaseFacts, refuse: &mut impl FnMut(String, &str)) {
    for (gid, owner) in &live.prepared {
        let gid = crate::host::process::escape(gid);
        refuse(
            format!("\"{}\" has a prepared transaction of {owner}: {gid}", live.name),
            "decide it: COMMIT PREPARED or ROLLBACK PREPARED, in that database",
        );
    }
    if !live.allows {
        refuse(
            format!("\"{}\" does not take connections", live.name),
            "find out who closed it; ALTER DATABASE ... ALLOW_CONNECTIONS true opens it",
        );
    }
    for (slot, active) in &live.slots {
        if *active == facts::Active::Active {
            refuse(
                format!("a replica follows \"{}\" by slot {slot}", live.name),
                "stop it first: the slot stays with the database that is put aside",
            );
        }
    }
    if live.subscriptions > 0 {
        refuse(
            format!("\"{}\" subscribes to another database", live.name),
            "disable its subscriptions first: their workers come back and block the exchange",
        );
    }
}

/// Requests would wait for longer than they may, whatever is tried.
fn too_long(sessions: usize, most: Duration, refuse: &mut impl FnMut(String, &str)) {
    let (base, each) = EXCHANGE;
    let projected = base + each * u32::try_from(sessions).unwrap_or(u32::MAX);
    if projected > most {
        refuse(
            format!(
                "to end {} and exchange the names takes {} at least, and max_hold is {}",
                text::number_of(sessions, "session"),
                text::duration(projected),
                text::duration(most)
            ),
            "raise max_hold, or stop what is connected without need",
        );
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", text::count(bytes.div_ceil(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_never_end_in_time_is_too_long() {
        let said = |sessions, most| {
            let mut said = Vec::new();
            too_long(sessions, most, &mut |what, remedy| said.push(format!("{what}: {remedy}")));
            said
        };
        assert!(said(2_000, Duration::from_secs(5)).is_empty());
        let [text] = said(2_000, Duration::from_secs(1)).try_into().expect("one reason");
        assert!(
            text.starts_with("to end 2000 sessions") && text.contains("raise max_hold"),
            "{text}"
        );
    }
}
