//! Whether there is room for a second copy, asked before anything is built.
//!
//! Refused is only what cannot go well: the copy that runs uses more now than is free, swap and
//! what the old standby gives back counted, or the limits of the new one are larger than the whole
//! machine. Everything else that looks tight is a note. What cannot be read refuses nothing.

use cutover_model::LineLevel;
use serde_json::Value;
use tokio::sync::mpsc;

use super::perform::{colored, say, text};
use super::{Report, Work};
use crate::host::StackSettings;
use crate::host::compose::ColoredStack;
use crate::host::docker::{Container, Docker};
use crate::host::facts::{self, HostRoom};

const MIB: u64 = 1024 * 1024;

/// A place on a disk: how a text names it, below what nothing can be made there, below what it is
/// worth a note.
const DOCKER: (&str, u64, u64) = ("Docker's disk", 128 * MIB, 1_024 * MIB);
const STATE: (&str, u64, u64) = ("the disk of the state folder", 8 * MIB, 64 * MIB);

/// What a second copy wants of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Need {
    /// What the copy that runs uses now, or 0 when none does.
    used: u64,
    /// What the new one may take at most, by its limits, where it has any.
    limits: u64,
    /// What goes with the old standby.
    given_back: u64,
}

/// What follows from need and room.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Enough,
    Tight(String),
    Refused(String),
}

/// Refuses where memory or disk clearly do not suffice; notes where they may not.
pub(super) async fn room(
    settings: &StackSettings,
    docker: &Docker,
    stack: &ColoredStack,
    work: &Work,
    reports: &mpsc::Sender<Report>,
) -> Result<(), String> {
    let root = docker.engine().await.map_err(text)?.root;
    let room = facts::room(&settings.state, &root);
    let need = need(settings, docker, stack, work).await;
    let disks = [disk(room.docker_disk_free, DOCKER), disk(room.state_disk_free, STATE)];
    for verdict in [memory(need, &room)].into_iter().chain(disks) {
        match verdict {
            Verdict::Enough => {}
            Verdict::Tight(note) => say(reports, LineLevel::Note, "note", note).await,
            Verdict::Refused(why) => return Err(why),
        }
    }
    Ok(())
}

async fn need(
    settings: &StackSettings,
    docker: &Docker,
    stack: &ColoredStack,
    work: &Work,
) -> Need {
    let (idle, serving) = (stack.color, stack.color.other());
    let model = work.projects.get(serving).as_deref().unwrap_or(&stack.operator_project);
    let used = used_by(settings, docker, Some(model)).await;
    let given_back = used_by(settings, docker, work.projects.get(idle).as_deref()).await;
    Need { used, limits: limits(&stack.file), given_back }
}

/// What the colored containers of a project that run use now; what cannot be read is 0.
async fn used_by(settings: &StackSettings, docker: &Docker, project: Option<&str>) -> u64 {
    let Some(project) = project else { return 0 };
    let mut sum = 0_u64;
    let is_copied = |c: &Container| {
        c.is_running() && c.service().is_some_and(|service| !settings.is_singleton(service))
    };
    for container in colored(settings, docker, project).await.unwrap_or_default() {
        if is_copied(&container) {
            sum = sum.saturating_add(docker.memory_of(&container).await.unwrap_or(0));
        }
    }
    sum
}

/// The sum of the memory limits in a rendered file, which are bytes there.
fn limits(file: &Value) -> u64 {
    let Some(services) = file["services"].as_object() else { return 0 };
    let limit = |service: &Value| {
        let places = [&service["mem_limit"], &service["deploy"]["resources"]["limits"]["memory"]];
        let number = |v: &Value| v.as_u64().or_else(|| v.as_str()?.parse().ok());
        places.into_iter().find_map(number).unwrap_or(0)
    };
    services.values().map(limit).fold(0, u64::saturating_add)
}

fn memory(need: Need, room: &HostRoom) -> Verdict {
    let (Some(free), Some(total)) = (room.memory_free, room.memory_total) else {
        return Verdict::Enough;
    };
    let swap = room.swap_free.unwrap_or(0);
    let free = free.saturating_add(need.given_back);
    let with_swap = free.saturating_add(swap);
    let what_to_do = "Make room or add swap, then deploy again. Nothing was built or stopped";
    if need.used > with_swap {
        return Verdict::Refused(format!(
            "not enough memory for a second copy: the one that runs uses {}, {} are free{}. \
             {what_to_do}",
            shown(need.used),
            shown(free),
            with(swap)
        ));
    }
    if need.limits > total.saturating_add(swap) {
        return Verdict::Refused(format!(
            "not enough memory for a second copy: its limits are {}, this machine has {}{}. \
             Lower the limits in the compose file. Nothing was built or stopped",
            shown(need.limits),
            shown(total),
            with(swap)
        ));
    }
    if need.used.max(need.limits) > free {
        return Verdict::Tight(format!(
            "memory is tight: a second copy may need {}, {} are free{}",
            shown(need.used.max(need.limits)),
            shown(free),
            with(swap)
        ));
    }
    Verdict::Enough
}

fn with(swap: u64) -> String {
    match swap {
        0 => String::new(),
        some => format!(" and {} of swap", shown(some)),
    }
}

fn disk(free: Option<u64>, (name, needed, tight): (&str, u64, u64)) -> Verdict {
    let Some(free) = free else { return Verdict::Enough };
    if free < needed {
        return Verdict::Refused(format!(
            "not enough space on {name} for a release: {} are needed at least, {} are free. \
             docker builder prune and docker image prune make room; images of releases on record \
             are kept. Nothing was built or stopped",
            shown(needed),
            shown(free)
        ));
    }
    if free < tight {
        return Verdict::Tight(format!("{name} is nearly full: {} are free", shown(free)));
    }
    Verdict::Enough
}

fn shown(bytes: u64) -> String {
    let mib = bytes / MIB;
    match mib {
        0..=1_023 => format!("{mib} MiB"),
        _ => format!("{}.{} GiB", mib / 1_024, mib % 1_024 * 10 / 1_024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(free: u64, swap: u64) -> HostRoom {
        HostRoom {
            memory_free: Some(free * MIB),
            memory_total: Some(4_096 * MIB),
            swap_free: Some(swap * MIB),
            state_disk_free: Some(10_000 * MIB),
            docker_disk_free: Some(10_000 * MIB),
        }
    }

    fn need(used: u64, limits: u64) -> Need {
        Need { used: used * MIB, limits: limits * MIB, given_back: 0 }
    }

    #[test]
    fn memory_is_refused_only_when_swap_and_the_old_standby_do_not_help() {
        let refused = memory(need(620, 0), &room(400, 100));
        let Verdict::Refused(why) = &refused else { panic!("{refused:?}") };
        assert!(why.contains("620 MiB") && why.contains("400 MiB"), "{why}");
        assert!(matches!(memory(need(620, 0), &room(400, 300)), Verdict::Tight(_)));
        let helped = Need { given_back: 300 * MIB, ..need(620, 0) };
        assert_eq!(memory(helped, &room(400, 0)), Verdict::Enough);
    }

    #[test]
    fn a_limit_above_the_free_memory_is_a_note_and_above_the_machine_a_refusal() {
        assert!(matches!(memory(need(100, 900), &room(800, 0)), Verdict::Tight(_)));
        assert!(matches!(memory(need(100, 5_000), &room(800, 0)), Verdict::Refused(_)));
    }

    #[test]
    fn what_cannot_be_read_refuses_nothing() {
        let unknown = HostRoom {
            memory_free: None,
            memory_total: None,
            swap_free: None,
            state_disk_free: None,
            docker_disk_free: None,
        };
        assert_eq!(memory(need(9_000, 0), &unknown), Verdict::Enough);
        assert_eq!(disk(None, DOCKER), Verdict::Enough);
    }

    #[test]
    fn a_full_disk_is_refused_by_name() {
        let Verdict::Refused(why) = disk(Some(20 * MIB), DOCKER) else { panic!("20 MiB suffice") };
        assert!(why.contains("Docker's disk") && why.contains("20 MiB"), "{why}");
        assert!(matches!(disk(Some(20 * MIB), STATE), Verdict::Tight(_)));
    }

    #[test]
    fn limits_are_read_in_both_forms() {
        let file = serde_json::json!({"services": {
            "web": {"mem_limit": "67108864"},
            "api": {"deploy": {"resources": {"limits": {"memory": "134217728"}}}},
            "agent": {},
        }});
        assert_eq!(limits(&file), 192 * MIB);
    }
}
