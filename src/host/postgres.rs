//! PostgreSQL: the hands on a database server. The only home of its client.
//!
//! Owns sessions, names and marks, and every action that a rollback of data is made of: plain async
//! functions with time limits and one typed error, each looking before it acts and safe to repeat.
//! It knows no plan, no journal, no traffic and no schedule: callers decide, record and hold.
//!
//! INVARIANT: nothing is restored into the live database, and nothing is dropped that does not
//! carry this installation's mark or claim.

pub mod archive;
pub mod build;
pub mod claims;
mod connect;
pub mod contents;
mod error;
pub mod facts;
pub mod fence;
pub mod gate;
pub mod loss;
pub mod names;
pub mod preflight;
pub mod properties;
pub mod recover;
pub mod swap;
pub mod verify;

pub use archive::{Owners, Sealed};
pub use claims::Whose;
pub use connect::{Located, Lookup, Password, Reach, Server, Session, Tls};
pub use contents::{Contents, Snapshot};
pub use error::{Again, DbError, Fault};
pub use facts::{DatabaseFacts, RoleFacts, ServerFacts, SessionSeen};
pub use names::{DbName, Installation, Kind, Made, Marker, NameError};
pub use properties::Properties;
pub use recover::Scope;
pub use swap::{Side, Swap, Swapped};
