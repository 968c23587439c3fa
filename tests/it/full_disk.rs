//! The state folder on a disk that is full: a small file system in memory, made for the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cutover::journal::weights::{Entry, WeightsFile};
use cutover::journal::{JournalError, NewFact, StateLock, Store, tables};
use cutover_model::{AppName, Color, Millis, OperationId, Salt, Seq, Split};

/// A file system of its own, taken away at the end.
pub(crate) struct SmallDisk {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl SmallDisk {
    pub(crate) fn mount(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "cutover-test"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success(), "mounting needs root, as the other tests do");
        Self { _folder: folder, path }
    }

    /// Fills what is left, to the last byte; may be called again.
    pub(crate) fn fill(&self) -> PathBuf {
        use std::io::Write;
        let count = std::fs::read_dir(&self.path).unwrap().count();
        let path = self.path.join(format!("filler-{count}"));
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.path).status());
    }
}

fn shop() -> AppName {
    AppName::new("shop").unwrap()
}

fn fact(size: usize) -> NewFact {
    NewFact {
        kind: "noted".to_owned(),
        version: 1,
        actor: "li".to_owned(),
        operation: None,
        time: Millis(1),
        bytes: vec![1; size],
    }
}

fn open(folder: &Path) -> Store {
    let lock = Arc::new(StateLock::take(folder, Millis(1)).unwrap());
    Store::open(folder, lock, "node-a", Millis(1)).unwrap()
}

fn entry(number: u64) -> Entry {
    Entry {
        split: Split::all(Color::Green),
        salt: Salt(1),
        number,
        at: Millis(1),
        operation: Some(OperationId(1)),
        reason: "rollback".to_owned(),
    }
}

#[test]
fn a_full_disk_refuses_facts_but_not_the_weights_and_goes_on_when_there_is_space() {
    let disk = SmallDisk::mount("size=2m,mode=0700");
    let folder = disk.path.clone();
    let mut store = open(&folder);
    let mut weights = WeightsFile::open(&folder).unwrap();
    let epoch = store.epoch();
    let mut head = store.append(&shop(), Seq(0), epoch, &[fact(10)]).unwrap();
    let filler = disk.fill();
    let refused =
        (0..200).find_map(|_| match store.append(&shop(), head, epoch, &[fact(50_000)]) {
            Ok(seq) => {
                head = seq;
                None
            }
            Err(error) => Some(error),
        });
    assert!(matches!(refused, Some(JournalError::Full { .. })), "{refused:?}");
    assert!(refused.unwrap().to_string().contains("no space is left"));
    let saved = tables::save(&folder, &vec![0; 100_000]);
    assert!(matches!(saved, Err(JournalError::Full { .. })), "{saved:?}");
    for number in 1..20 {
        weights.set(&shop(), entry(number)).unwrap();
    }
    let seen = WeightsFile::read(&folder).unwrap().unwrap();
    assert_eq!(seen.get(&shop()), Some(&entry(19)));

    std::fs::remove_file(filler).unwrap();
    // The refused fact was in doubt: the head says whether it stands.
    let now = store.head(&shop()).unwrap();
    assert!(now == head || now == head.next(), "{now} after {head}");
    let next = store.append(&shop(), now, epoch, &[fact(10)]).unwrap();
    drop(store);
    let mut store = open(&folder);
    assert_eq!(store.head(&shop()), Ok(next));
    store.verify().unwrap();
}

#[test]
fn without_inodes_the_weights_are_still_written() {
    let disk = SmallDisk::mount("size=8m,nr_inodes=16,mode=0700");
    let folder = disk.path.clone();
    let mut store = open(&folder);
    let mut weights = WeightsFile::open(&folder).unwrap();
    for n in 0.. {
        if std::fs::File::create(folder.join(format!("filler-{n}"))).is_err() {
            break;
        }
    }
    let saved = tables::save(&folder, &vec![0; 10]);
    assert!(matches!(saved, Err(JournalError::Full { .. })), "{saved:?}");
    weights.set(&shop(), entry(1)).unwrap();
    let epoch = store.epoch();
    assert_eq!(store.append(&shop(), Seq(0), epoch, &[fact(10)]), Ok(Seq(1)));
}
