//! What Cutover could leave on a host: rules, namespaces, wires, units, containers, networks,
//! volumes and files. Looked at before and after; it changes nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::engine;
use super::fronted::Fronted;
use super::shop::Shop;

/// One line for each thing of ours or of the application, each in the words of the tool that
/// lists it. Ids, addresses and times are left out: plain compose may have made things anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traces(BTreeSet<String>);

impl Traces {
    /// On this host. Others may work here: only what names the app, its ports or its daemon counts.
    pub(crate) fn look(fronted: &Fronted) -> Self {
        let shop = &fronted.shop;
        let mut found: Vec<String> = our_rules(fronted);
        found.extend(our_wires(fronted));
        found.extend(units());
        found.extend(engine::belongings(&shop.project));
        found.extend(images(&shop.project));
        found.extend(of_git(&shop.path()));
        found.extend(files(&shop.beside("")).into_iter().map(|file| format!("file {file}")));
        Self(found.into_iter().collect())
    }

    /// Nothing is there that was not there before, but what docs/adoption.md says stays, and
    /// nothing has gone. `put` is the release that plain compose was given, if it was.
    #[track_caller]
    pub(crate) fn assert_given_back(&self, before: &Self, shop: &Shop, put: Option<&str>) {
        let mut stays = what_stays(&shop.project);
        for service in ["frontend", "backend", "agent"] {
            let of = |release| format!("image cutover/{}-{service}:{release}", shop.project);
            stays.extend(put.map(of));
        }
        let left: Vec<&String> = self.0.difference(&before.0).collect();
        let left: Vec<&&String> = left.iter().filter(|line| !stays.contains(line)).collect();
        // The daemon was about to write its tables in the first look.
        let half_written = |line: &&String| line.as_str() != "file state/tables.json.new";
        let gone: Vec<&String> = before.0.difference(&self.0).filter(half_written).collect();
        assert!(left.is_empty() && gone.is_empty(), "left behind:\n{left:#?}\ngone:\n{gone:#?}");
    }
}

/// The state of a Cutover that is idle: its last good tables, and folders of the app that are
/// empty, as no line names a file in them.
fn what_stays(app: &str) -> Vec<String> {
    let apps = format!("file state/apps/{app}");
    let folders = ["builds", "releases", "worktrees"].map(|folder| format!("{apps}/{folder}"));
    let tables = ["", ".before"].map(|ending| format!("file state/tables.json{ending}"));
    let mut stays = vec!["file state/apps".to_owned(), apps];
    stays.extend(folders);
    stays.extend(tables);
    stays
}

fn images(app: &str) -> Vec<String> {
    let mut found = tool("docker", &["image", "ls", "--format", "image {{.Repository}}:{{.Tag}}"]);
    found.retain(|line| line.contains(app));
    found
}

/// Working trees, branches and tags.
fn of_git(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for list in [&["worktree", "list"][..], &["branch", "--list"], &["tag", "--list"]] {
        let said = engine::run("git", list, folder).succeeded().stdout;
        // Without the commit, which the test itself changes.
        let names = said.lines().filter_map(|line| line.trim_start_matches("* ").split(' ').next());
        found.extend(names.map(|name| format!("git {} {name}", list[0])));
    }
    found
}

/// The tables of the app and of its daemon's checks, and accepts for its ports.
fn our_rules(fronted: &Fronted) -> Vec<String> {
    let shop = &fronted.shop;
    let checks = fronted.cutover.started().iter().map(|pid| format!("cutover_check_{pid}_"));
    let names: Vec<String> = checks.chain([format!("cutover_{}", shop.project)]).collect();
    let mut found = Vec::new();
    let tables = tool("nft", &["list", "tables"]);
    found.extend(tables.into_iter().filter(|line| names.iter().any(|name| line.contains(name))));
    let ports = [shop.port, shop.api_port].map(|port| port.to_string());
    let mut rules = tool("nft", &["list", "ruleset"]);
    rules.extend(tool("iptables-legacy-save", &[]));
    rules.retain(|line| line.contains("cutover: led port"));
    rules.retain(|line| ports.iter().any(|port| line.contains(port)));
    found.extend(rules);
    found
}

/// Namespaces and wires of the checks from outside, rules of routing.
fn our_wires(fronted: &Fronted) -> Vec<String> {
    let mut found = tool("ip", &["rule"]);
    found.extend(tool("ip", &["-6", "rule"]));
    for pid in fronted.cutover.started() {
        let spaces = tool("ip", &["netns", "list"]);
        found.extend(spaces.into_iter().filter(|l| l.contains(&format!("cutover-check-{pid}-"))));
        let links = tool("ip", &["-brief", "link"]);
        let wire = |line: &String| line.contains(&format!("cutc{:x}", pid << 4));
        found.extend(links.into_iter().filter(wire));
    }
    found
}

/// Units of systemd, also of ones that are made at run time.
fn units() -> Vec<String> {
    let folders = ["/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient"];
    let all = folders.iter().flat_map(|folder| files(Path::new(folder)));
    all.filter(|file| file.contains("cutover")).map(|file| format!("unit {file}")).collect()
}

fn tool(program: &str, arguments: &[&str]) -> Vec<String> {
    let said = engine::run(program, arguments, Path::new("/")).succeeded().stdout;
    said.lines().map(|line| line.trim().to_owned()).collect()
}

/// The paths of the files below a folder, which may be absent; no content of git's own.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for path in entries.map(|entry| entry.expect("a readable folder").path()) {
            // The second ones are SQLite's own, there as long as somebody has its file open.
            let name = path.to_string_lossy();
            if path.ends_with(".git") || name.ends_with(".db-wal") || name.ends_with(".db-shm") {
                continue;
            }
            let is_folder = path.is_dir() && !path.is_symlink();
            found.push(path.strip_prefix(folder).unwrap_or(&path).display().to_string());
            if is_folder {
                open.push(path);
            }
        }
    }
    found
}
