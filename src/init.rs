//! `cutover init`: from a compose file to a commented `cutover.toml`.
//!
//! Reads what compose makes of the operator's files, looks at the folder and at what runs, proposes
//! what becomes of each service, volume and port, and says what it could not know. It decides
//! nothing silently and changes nothing but the one file that it writes.

pub mod around;
mod asks;
pub mod database;
pub mod duty;
pub mod file;
pub mod folder;
pub mod images;
pub mod ports;
pub mod proposal;
pub mod running;
pub mod seen;
pub mod stack;
pub mod tell;
pub mod volumes;
