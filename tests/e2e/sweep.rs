//! `scripts/sweep`: what a killed run of the tests left goes, and nothing else.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{engine, ports};

/// A network, and a container on it that only its label tells the project of.
struct Left {
    project: String,
    container: String,
}

impl Left {
    fn of(project: String) -> Self {
        let network = format!("{project}_default");
        engine::docker(&["network", "create", &network]).succeeded();
        let label = format!("com.docker.compose.project={project}");
        let run = ["run", "-d", "--network", &network, "--label", &label, "shop-program:latest"];
        let run = engine::docker(&[&run[..], &["/shop", "frontend"]].concat()).succeeded();
        Self { project, container: run.stdout.trim().to_owned() }
    }

    fn is_there(&self) -> [bool; 2] {
        let network = format!("{}_default", self.project);
        let looks =
            [&["inspect", "-f", ".", &self.container][..], &["network", "inspect", &network]];
        looks.map(|words| engine::docker(words).code == 0)
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        engine::remove_all(&self.project);
    }
}

#[test]
fn what_a_killed_run_left_is_swept_away_and_what_runs_stays() {
    // The number of its process is another program's by now.
    let mut other = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep");
    let gone = Left::of(format!("ct{}x0shop", other.id()));
    let ours = Left::of(ports::project_name("shop"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = engine::run("scripts/sweep", &[], root).succeeded().both();
    other.kill().and_then(|()| other.wait()).expect("its end");
    assert_eq!(gone.is_there(), [false, false], "{said}");
    assert_eq!(ours.is_there(), [true, true], "{said}");
}
