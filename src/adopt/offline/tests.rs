//! Offline: what is read, what is written, and when it is refused.

use cutover_model::{
    Landing, Lead, Redirect, Release, ReleaseState, Salt, Weight, WhenDead, ids::Epoch,
};

use super::*;

const NOW: Millis = Millis(1_764_000_000_000);

fn release(number: u64, color: Color) -> Release {
    Release {
        id: ReleaseId(number),
        color,
        project: if number == 1 { "shop".into() } else { format!("shop-{color}") },
        commit: None,
        title: String::new(),
        images: [
            ("backend".to_owned(), format!("sha256:b{number}")),
            ("postgres".to_owned(), "sha256:p".to_owned()),
        ]
        .into(),
        env_files: [].into(),
        migrations: None,
        folder: String::new(),
        made_at: NOW,
        parts: None,
    }
}

fn rule() -> Redirect {
    let landing = Landing::on_loopback(10_080);
    let leads = Lead::everywhere(80);
    crate::host::redirect::plan("cutover_test_offline", &leads, landing, WhenDead::Wait).unwrap()
}

/// A state folder in which r1 was adopted and r2 in green has everything.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lock = Arc::new(StateLock::take(folder.path(), NOW).unwrap());
    let mut store = Store::open(folder.path(), lock, "test", NOW).unwrap();
    let green = Split::all(Color::Green);
    let facts = [
        Fact::AppDefined { kind: cutover_model::AppKind::Compose, stable: Color::Blue },
        Fact::ReleaseMade { release: Box::new(release(1, Color::Blue)) },
        Fact::ReleaseIs { release: ReleaseId(1), state: ReleaseState::Warm },
        Fact::ReleaseProven { release: ReleaseId(1) },
        Fact::PortsTaken { rule: Box::new(rule()) },
        Fact::ReleaseMade { release: Box::new(release(2, Color::Green)) },
        Fact::ReleaseIs { release: ReleaseId(2), state: ReleaseState::Warm },
        Fact::ReleaseProven { release: ReleaseId(2) },
        Fact::SplitChanged {
            number: 1,
            before: Split::all(Color::Blue),
            after: green,
            operation: None,
        },
    ];
    let encoded = facts.map(|fact| {
        let happened = Happened { at: NOW, actor: Actor::daemon(), operation: None, fact };
        codec::encode(&happened).unwrap()
    });
    let epoch: Epoch = store.epoch();
    store.append(&shop(), Seq(0), epoch, &encoded).unwrap();
    folder
}

fn shop() -> AppName {
    AppName::new("shop").unwrap()
}

#[test]
fn a_rollback_goes_to_the_release_before() {
    let folder = folder();
    let asleep = look(folder.path(), None).unwrap();
    let turn = asleep.turn(None).unwrap();
    let (to, from) = (ReleaseId(1), Some(ReleaseId(2)));
    assert_eq!(turn, Turn { to, color: Color::Blue, from, need: Need::Move });
    let operation = asleep.set_traffic(&turn, NOW).unwrap().unwrap();
    // The next look, and the next start, see it; asked again, there is nothing to move.
    let again = look(folder.path(), Some(&shop())).unwrap();
    assert_eq!(again.state.split, Split::all(Color::Blue));
    assert_eq!(again.turn(Some(ReleaseId(1))).unwrap().need, Need::Nothing);
    assert_eq!(again.state.newest_operation, operation);
}

#[test]
fn a_weights_file_that_is_newer_than_the_journal_counts() {
    let folder = folder();
    let split = Split { stable: Color::Green, weight: Weight::from_basis_points(500).unwrap() };
    let entry = weights::Entry {
        split,
        salt: Salt(1),
        number: 7,
        at: NOW,
        operation: None,
        reason: String::new(),
    };
    WeightsFile::open(folder.path()).unwrap().set(&shop(), entry).unwrap();
    let asleep = look(folder.path(), None).unwrap();
    assert_eq!((asleep.state.split, asleep.state.moves), (split, 7));
}

#[test]
fn a_living_daemon_is_never_overruled() {
    let folder = folder();
    let asleep = look(folder.path(), None).unwrap();
    let turn = asleep.turn(None).unwrap();
    let _daemon = StateLock::take(folder.path(), NOW).unwrap();
    assert!(matches!(look(folder.path(), None), Err(OfflineError::Running(_))));
    assert!(matches!(asleep.set_traffic(&turn, NOW), Err(OfflineError::Running(_))));
}

#[test]
fn what_does_not_exist_is_refused() {
    let folder = folder();
    let asleep = look(folder.path(), None).unwrap();
    assert!(matches!(asleep.turn(Some(ReleaseId(9))), Err(OfflineError::Nowhere(_))));
    let blog = AppName::new("blog").unwrap();
    let error = look(folder.path(), Some(&blog)).unwrap_err().to_string();
    assert!(error.contains("blog") && error.contains("shop"), "{error}");
}

#[test]
fn leaving_puts_what_serves_on_the_ports_without_the_shared_services() {
    let folder = folder();
    let asleep = look(folder.path(), None).unwrap();
    let putting = leave::Putting {
        folder: "/srv/shop".into(),
        files: vec!["compose.yml".into()],
        project: "shop".into(),
        images: [].into(),
        singletons: [].into(),
        limit: std::time::Duration::from_secs(1),
    };
    let runs = |service: &str| match service {
        "postgres" => leave::Runs::Shared,
        _ => leave::Runs::Twice,
    };
    let plan = asleep.leave_plan(putting, vec![80], &[], runs).unwrap();
    assert_eq!(plan.release, ReleaseId(2));
    let Way::Put(putting) = plan.way else { panic!("r2 does not run in the operator's project") };
    assert_eq!(putting.images, [("backend".to_owned(), "sha256:b2".to_owned())].into());
}

#[test]
fn leaving_is_recorded_so_that_the_next_start_sets_no_rule() {
    let folder = folder();
    let asleep = look(folder.path(), None).unwrap();
    assert!(asleep.state.redirect.is_some());
    let lock = asleep.lock(NOW).unwrap();
    asleep.record_leave(lock, &Actor("root".into()), NOW).unwrap();
    let after = look(folder.path(), None).unwrap();
    assert_eq!(after.state.redirect, None);
    // The app can be adopted again: the ports that compose holds now are no mistake.
    assert_eq!((after.state.stable(), after.state.standby()), (None, None));
    let operation = after.state.operations.values().next_back().unwrap();
    assert_eq!(operation.what, OperationKind::Leave);
    assert!(operation.ended.is_some());
}
