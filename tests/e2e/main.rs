//! The tests that need the real world: a container engine, compose, PostgreSQL, the example.
//!
//! `scripts/setup` and `scripts/images` prepare the machine; `make test` runs both and turns the
//! feature `e2e` on. Without the feature this binary holds no test.
//! Every test makes its own project, ports and folders, and removes them; see `harness`.
#![cfg(feature = "e2e")]

#[cfg(test)]
mod adopt;
#[cfg(test)]
mod adoption;
#[cfg(test)]
mod alone;
#[cfg(test)]
mod backups;
#[cfg(test)]
mod checks;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod habits;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod host;
#[cfg(test)]
mod init;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod kinto;
#[cfg(test)]
mod legs;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod netns;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod redirect;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod static_apps;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod traps;
