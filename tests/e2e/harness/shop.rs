//! The example of `examples/shop`, copied into a git repository of its own with its own project
//! name and ports. `up` starts it the plain way, as its README does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::engine::{self, Printed};
use super::observer::Observer;
use super::stack::clean_up;
use super::{eventually, ports, wire};

pub(crate) const PASSWORD: &str = "cups-and-plates";

pub(crate) struct Shop {
    folder: TempDir,
    pub(crate) project: String,
    /// Where docker compose publishes the frontend.
    pub(crate) port: u16,
    /// Where docker compose publishes the backend.
    pub(crate) api_port: u16,
}

impl Shop {
    /// A copy with its first release committed; nothing runs.
    pub(crate) fn copy() -> Self {
        let folder = tempfile::Builder::new().prefix("cutover-shop-").tempdir().expect("a folder");
        let shop = Self {
            project: ports::project_name("shop"),
            port: ports::free_port(),
            api_port: ports::free_port(),
            folder,
        };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
        let target = shop.path().display().to_string();
        engine::run("./release", &["start", &target], &example).succeeded();
        shop.write(
            ".env",
            &format!(
                "SHOP_PROJECT={}\nSHOP_PORT={}\nSHOP_API_PORT={}\nPOSTGRES_PASSWORD={PASSWORD}\n\
                 SHOP_POSTGRES=cutover-fixture/postgres:15\n",
                shop.project, shop.port, shop.api_port
            ),
        );
        shop
    }

    /// A copy whose database runs and is migrated; nothing else does.
    pub(crate) fn with_database() -> Self {
        let shop = Self::copy();
        shop.compose(&["up", "-d", "--wait", "postgres"]).succeeded();
        shop.compose(&["build", "-q"]).succeeded();
        shop.compose(&["run", "--rm", "backend", "/shop", "migrate"]).succeeded();
        shop
    }

    /// A copy that runs from plain docker compose, migrated and healthy.
    pub(crate) fn up() -> Self {
        let shop = Self::with_database();
        shop.compose(&["up", "-d", "--wait"]).succeeded();
        shop
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("shop")
    }

    /// A folder of this test beside the shop, for state and sockets.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file of the shop");
    }

    /// Commits the next release: `good`, `bad`, `crash`, ... and returns what was said.
    pub(crate) fn release(&self, kind: &str) -> String {
        engine::run("./release", &[kind], &self.path()).succeeded().stdout
    }

    pub(crate) fn compose(&self, arguments: &[&str]) -> Printed {
        let mut all = vec!["compose"];
        all.extend(arguments);
        engine::run("docker", &all, &self.path())
    }

    pub(crate) fn container(&self, service: &str) -> String {
        let ids = engine::containers_of(&self.project, service);
        ids.into_iter().next().unwrap_or_else(|| panic!("no container of {service}"))
    }

    /// A database session that stays open from here on.
    pub(crate) fn observer(&self) -> Observer {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let addresses = engine::inspect(&self.container("postgres"), template);
        let first = addresses.split_whitespace().next().expect("an address of postgres");
        let address = SocketAddr::new(first.parse().expect("an address"), 5432);
        Observer::connect(address, "shop", PASSWORD, "shop")
    }

    /// Waits until the path answers 200 on this port.
    pub(crate) fn answers(&self, port: u16, path: &str) -> wire::Answer {
        eventually(&format!("200 on {path}"), Duration::from_secs(60), || {
            wire::get(port, path).ok().filter(|answer| answer.status == 200)
        })
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        clean_up(&self.project, self.folder.path());
    }
}
