//! Looks at the folder of backups, and damage done to it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::engine;
use crate::restore::shop::Shop;

/// A disk of 2 MiB in the place of a folder; the folder is back when it is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn over(folder: PathBuf) -> Self {
        let path = folder.display().to_string();
        let words = ["-t", "tmpfs", "-o", "size=2m,mode=0700", "cutover-test", &path];
        engine::run("mount", &words, Path::new("/")).succeeded();
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        engine::run("umount", &[&self.0.display().to_string()], Path::new("/")).succeeded();
    }
}

/// What a test of backups sees of a shop.
pub(crate) trait Yard {
    fn folder(&self) -> PathBuf;
    fn listed(&self) -> Vec<Value>;
    fn ids(&self) -> Vec<String>;
    fn archive(&self, id: &str) -> PathBuf;
    fn spoil(&self, id: &str);
    fn assert_nothing_half_made(&self);
}

impl Yard for Shop {
    fn folder(&self) -> PathBuf {
        let shop = &self.fronted.shop;
        shop.beside("state").join("backups").join(&shop.project)
    }

    fn listed(&self) -> Vec<Value> {
        let ran = self.run(&["backup", "list", "--json"]).succeeded();
        let listed: Value = serde_json::from_str(ran.printed.stdout.trim()).expect("JSON");
        assert_eq!(listed["schema"], "cutover.backups/1");
        listed["backups"].as_array().expect("backups").clone()
    }

    fn ids(&self) -> Vec<String> {
        let id = |backup: &Value| backup["id"].as_str().expect("an id").to_owned();
        self.listed().iter().map(id).collect()
    }

    fn archive(&self, id: &str) -> PathBuf {
        self.folder().join(id).join("dump.pgc")
    }

    /// Flips one bit in the middle.
    fn spoil(&self, id: &str) {
        let path = self.archive(id);
        let mut bytes = std::fs::read(&path).expect("an archive");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("a write");
    }

    /// Every folder is a whole backup, and no database is left of any work.
    fn assert_nothing_half_made(&self) {
        // Made with the first backup.
        let entries = std::fs::read_dir(self.folder()).into_iter().flatten();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("an entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        let mut ids = self.ids();
        names.sort();
        ids.sort();
        assert_eq!(names, ids, "something is no backup");
        let left = self.databases();
        assert!(left.iter().all(|name| !name.contains("__try_")), "{left:?}");
    }
}

/// Makes a key of `age` and gives its public half.
pub(crate) fn new_key(path: &Path) -> String {
    let folder = path.parent().expect("a folder");
    let file = path.display().to_string();
    engine::run("age-keygen", &["-o", &file], folder).succeeded();
    let public = engine::run("age-keygen", &["-y", &file], folder).succeeded().stdout;
    public.trim().to_owned()
}
