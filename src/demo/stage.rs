//! The stage of the demo: a folder of its own, two shops, and the daemon as `serve` runs it.
//!
//! Everything is on loopback, on ports that were free, and below one temporary folder. Nothing is
//! left when [`Stage::strike`] returns.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use cutover_model::Color;
use tempfile::TempDir;

use super::ask::Admin;
use super::shop::Shop;
use crate::daemon::{Daemon, Resume, ServeOptions};

/// The app's name.
pub const APP: &str = "demo";

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    blue: Shop,
    green: Shop,
    daemon: Daemon,
    public: SocketAddr,
    folder: TempDir,
}

impl Stage {
    /// Sets it up; traffic flows when this returns.
    ///
    /// # Errors
    /// When the daemon cannot be started.
    pub async fn set() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("cutover-demo-").tempdir()?;
        let (blue, green) = (Shop::open(Color::Blue).await?, Shop::open(Color::Green).await?);
        let file = folder.path().join("cutover.toml");
        std::fs::write(&file, config(folder.path(), blue.address(), green.address()))?;
        // No variable of the caller's reaches into the demo.
        let loaded = cutover_config::load(&file, []).map_err(|p| anyhow::anyhow!("{p}"))?;
        let options =
            ServeOptions { file, start_on: None, resume: Resume::GoOn, inherited: Vec::new() };
        let daemon = Daemon::start(loaded.config, options).await?;
        let public = *daemon.addresses.first().context("the daemon listens nowhere")?;
        Ok(Self { blue, green, daemon, public, folder })
    }

    /// Where the clients come in.
    #[must_use]
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where the green shop answers by itself.
    #[must_use]
    pub fn green(&self) -> SocketAddr {
        self.green.address()
    }

    /// The daemon's admin socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.daemon.socket
    }

    /// A client of that socket.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.daemon.socket.clone())
    }

    /// The shop in a color.
    #[must_use]
    pub fn shop(&self, color: Color) -> &Shop {
        match color {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        }
    }

    /// Ends everything and removes the folder.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub async fn strike(self) -> anyhow::Result<()> {
        self.daemon.shut_down().await;
        self.blue.close().await;
        self.green.close().await;
        let path = self.folder.path().to_owned();
        self.folder.close().with_context(|| format!("{} is left", path.display()))
    }
}

fn config(folder: &Path, blue: SocketAddr, green: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        r#"# The demo's own file: what `cutover init` would write, for an app without Docker.
version = 1

[[listen]]
address = "127.0.0.1:0"

[proxy]
drain_deadline = "2s"

[admin]
socket = "{folder}/cutover.sock"

[state]
path = "{folder}/state"

[apps.{APP}.endpoints]
blue = {{ web = ["{blue}"] }}
green = {{ web = ["{green}"] }}

[[apps.{APP}.routes]]
service = "web"

[apps.{APP}.probe]
path = "/health"
"#
    )
}
