//! The example of `examples/shop`, copied into a git repository of its own with its own project
//! name and ports. `up` starts it the plain way, as its README does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::engine::{self, Printed};
use super::observer::Observer;
use super::own_engine::{self, OwnEngine};
use super::postgres::{image_of, usual_major};
use super::stack::clean_up;
use super::{eventually, ports, wire};

pub(crate) const PASSWORD: &str = "cups-and-plates";

pub(crate) struct Shop {
    folder: TempDir,
    /// How docker is told which engine: nothing for the machine's own.
    engine: Vec<String>,
    /// The network namespace of that engine.
    network: Option<PathBuf>,
    pub(crate) project: String,
    /// Where docker compose publishes the frontend.
    pub(crate) port: u16,
    /// Where docker compose publishes the backend.
    pub(crate) api_port: u16,
}

impl Shop {
    /// A copy with its first release committed; nothing runs.
    pub(crate) fn copy() -> Self {
        Self::copy_of(usual_major())
    }

    /// The same with the database of this major version.
    pub(crate) fn copy_of(major: u32) -> Self {
        Self::copy_for(Vec::new(), None, major)
    }

    /// A copy for an engine of the test's own, which gets the images.
    pub(crate) fn copy_on(own: &OwnEngine) -> Self {
        own.load("shop-program:latest");
        own.load(&image_of(usual_major()));
        Self::copy_for(vec!["-H".to_owned(), own.host()], Some(own.network()), usual_major())
    }

    fn copy_for(engine: Vec<String>, network: Option<PathBuf>, major: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("cutover-shop-").tempdir().expect("a folder");
        let shop = Self {
            project: ports::project_name("shop"),
            port: ports::free_port(),
            api_port: ports::free_port(),
            folder,
            engine,
            network,
        };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
        let target = shop.path().display().to_string();
        engine::run("./release", &["start", &target], &example).succeeded();
        shop.write(
            ".env",
            &format!(
                "SHOP_PROJECT={}\nSHOP_PORT={}\nSHOP_API_PORT={}\nPOSTGRES_PASSWORD={PASSWORD}\n\
                 SHOP_POSTGRES={}\n",
                shop.project,
                shop.port,
                shop.api_port,
                image_of(major)
            ),
        );
        shop
    }

    /// A copy whose database runs and is migrated; nothing else does.
    pub(crate) fn with_database() -> Self {
        Self::copy().migrated()
    }

    pub(crate) fn migrated(self) -> Self {
        let shop = self;
        shop.compose(&["up", "-d", "--wait", "postgres"]).succeeded();
        shop.compose(&["build", "-q"]).succeeded();
        shop.compose(&["run", "--rm", "backend", "/shop", "migrate"]).succeeded();
        shop
    }

    /// A copy that runs from plain docker compose, migrated and healthy.
    pub(crate) fn up() -> Self {
        Self::copy().running()
    }

    /// This copy, running from plain docker compose, migrated and healthy.
    pub(crate) fn running(self) -> Self {
        let shop = self.migrated();
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
        self.docker(&[&["compose"], arguments].concat())
    }

    fn docker(&self, arguments: &[&str]) -> Printed {
        let engine = self.engine.iter().map(String::as_str);
        let all: Vec<&str> = engine.chain(arguments.iter().copied()).collect();
        engine::run("docker", &all, &self.path())
    }

    pub(crate) fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let list = ["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &service];
        let ids = self.docker(&list).succeeded().stdout;
        let first = ids.lines().next();
        first.unwrap_or_else(|| panic!("no container of {service}")).to_owned()
    }

    /// When each container that plain compose runs was started, by id.
    pub(crate) fn starts(&self) -> Vec<(String, String)> {
        engine::starts_by(|arguments| self.docker(arguments), &self.project)
    }

    /// A session with the shop's database that stays open from here on.
    pub(crate) fn observer(&self) -> Observer {
        self.observe("shop")
    }

    /// The same with any database. It goes over the operator's own network: a color's link goes with
    /// its color.
    pub(crate) fn observe(&self, database: &str) -> Observer {
        let network = format!("(index .NetworkSettings.Networks \"{}_default\")", self.project);
        let template = format!("{{{{{network}.IPAddress}}}}");
        let inspect = ["inspect", "--format", &template, &self.container("postgres")];
        let said = self.docker(&inspect).succeeded().stdout;
        let address = SocketAddr::new(said.trim().parse().expect("an address"), 5432);
        let connect = || Observer::connect(address, "shop", PASSWORD, database);
        match &self.network {
            None => connect(),
            Some(network) => own_engine::inside(network, connect),
        }
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
