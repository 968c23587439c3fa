//! Every text, from values of the wire, whole.

use cutover_model::{
    Actor, Color, Ending, Fact, Generation, Happened, LineLevel, Manner, Millis, OperationId,
    OperationKind, ReleaseId, ReleaseState, RolloutEnding, Salt, Split, Step, Way, Weight,
};
use insta::assert_snapshot;

use super::*;
use crate::api::wire::{
    AppStatus, Done, Event, LastMove, Maintenance, Mood, Moved, PageOf, Preview, Problem,
    ProblemKind, Readiness, Recorded, ReleaseLine, Releases, Running, Side, Status, Traffic,
    Turned, schema,
};

/// 27 Nov 2026, 03:07:41.204 UTC.
const NOW: i64 = 1_795_748_861_204;
const MINUTE: i64 = 60_000;

fn weight(points: u16) -> Weight {
    Weight::from_basis_points(points).unwrap()
}

fn side(color: Color, release: u64, label: &str, points: u16) -> Side {
    let requests = if points > 0 { 2_460 } else { 0 };
    Side {
        color,
        weight: weight(points),
        release: Some(ReleaseId(release)),
        label: label.to_owned(),
        state: Some(ReleaseState::Warm),
        since: Some(NOW - 158 * MINUTE),
        endpoints: 2,
        traffic: Traffic {
            per_second: 41.2,
            requests,
            failed: requests / 800,
            p99_us: Some(250_000),
        },
        address: Some("127.0.0.1:40001".to_owned()),
    }
}

fn app(mood: Mood) -> AppStatus {
    AppStatus {
        app: "shop".parse().unwrap(),
        mood,
        since: Some(NOW - 247 * MINUTE),
        why: None,
        serves: side(Color::Green, 7, "9c41e07 \"v1.5.0\"", 10_000),
        standby: side(Color::Blue, 5, "77ab2d0 \"v1.4.1\"", 0),
        rollback: Readiness {
            to: Some(ReleaseId(5)),
            label: "v1.4.1".to_owned(),
            instant: true,
            text: "traffic: instant, to r5, no loss".to_owned(),
        },
        data: Some(crate::api::wire::DataReadiness {
            rung: crate::api::wire::Rung::Point,
            what: "restore point before r7".to_owned(),
            at: Some(NOW - 158 * MINUTE),
            takes_ms: Some(3_400),
        }),
        backup: Some(crate::api::wire::BackupLine {
            id: Some("b-118".to_owned()),
            at: Some(NOW - 300 * MINUTE),
            verified_at: Some(NOW - 299 * MINUTE),
            copied_at: None,
            kept: 7,
            broken: 1,
            next_at: Some(NOW + 110 * MINUTE),
            drill: Some(crate::api::wire::DrillLine {
                at: NOW - 5_000 * MINUTE,
                backup: Some("b-113".to_owned()),
                took_ms: 41_000,
                failed: None,
            }),
            ..crate::api::wire::BackupLine::default()
        }),
        next_weights: Vec::new(),
        running: Vec::new(),
        last_move: Some(LastMove {
            at: NOW - 247 * MINUTE,
            operation: Some(OperationId(39)),
            what: Some("promote".to_owned()),
        }),
        notes: Vec::new(),
        ports: Vec::new(),
        maintenance: None,
        generation: Generation(12),
        singletons: vec![crate::api::wire::Singleton {
            service: "agent".to_owned(),
            running: cutover_model::ByColor { blue: 0, green: 1 },
        }],
    }
}

fn picture(apps: Vec<AppStatus>) -> String {
    let status = Status {
        schema: schema::STATUS.to_owned(),
        version: "0.1.0".to_owned(),
        started_at: NOW - 300 * MINUTE,
        now: NOW,
        listen: vec!["0.0.0.0:80".to_owned()],
        apps,
        host: crate::api::wire::Host { memory: Some(62), disk: None },
    };
    super::status(&status, None, &Clock::utc())
}

#[test]
fn status_calm() {
    assert_snapshot!(picture(vec![app(Mood::Calm)]));
}

#[test]
fn a_backup_that_is_due_says_what_it_waits_for() {
    let mut shop = app(Mood::Calm);
    let backup = shop.backup.as_mut().unwrap();
    (backup.next_at, backup.waits_for) = (Some(NOW - MINUTE), Some(OperationId(41)));
    let said = picture(vec![shop]);
    assert!(said.contains("; DUE 03:06:41, waits for the end of o41; copy"), "{said}");
}

#[test]
fn status_rollout() {
    let mut shop = app(Mood::Rollout);
    shop.serves = side(Color::Blue, 5, "77ab2d0 \"v1.4.1\"", 9_500);
    shop.standby = side(Color::Green, 7, "9c41e07 \"v1.5.0\"", 500);
    shop.next_weights = vec![weight(2_500), weight(5_000)];
    shop.notes = vec!["2 changes are not in the journal yet".to_owned()];
    shop.ports = vec![80, 3_001];
    shop.running = vec![Running {
        operation: OperationId(41),
        what: "deploy".to_owned(),
        started_at: NOW - 12 * MINUTE,
        actor: "li".to_owned(),
    }];
    assert_snapshot!(picture(vec![shop]));
}

fn maintenance() -> Maintenance {
    Maintenance {
        since: NOW - 12 * MINUTE,
        by: "li".to_owned(),
        retry_after_s: 1_800,
        allow: vec!["10.0.0.0/8".to_owned(), "::1/128".to_owned()],
        page: PageOf::Operator,
    }
}

#[test]
fn status_maintenance() {
    let mut shop = app(Mood::Maintenance);
    shop.maintenance = Some(maintenance());
    assert_snapshot!(picture(vec![shop]));
}

#[test]
fn maintenance_on_and_off() {
    let on = Turned {
        schema: schema::MAINTENANCE.to_owned(),
        app: "shop".parse().unwrap(),
        at: NOW,
        took_us: 700,
        recorded: Recorded::MemoryOnly { why: "no space is left".to_owned() },
        before: None,
        maintenance: Some(maintenance()),
        requests: 14,
        tunnels: 22,
        serves: side(Color::Green, 7, "v1.5.0", 10_000),
    };
    let off = Turned {
        recorded: Recorded::Journal,
        before: on.maintenance.clone(),
        maintenance: None,
        ..on.clone()
    };
    let texts = [on, off].map(|turned| super::turned(&turned, &Clock::utc()));
    assert_snapshot!(texts.join("\n----\n"));
}

#[test]
fn status_trouble_and_an_empty_app() {
    let mut shop = app(Mood::Trouble);
    shop.why = Some("118 of the last minute's 380 requests failed".to_owned());
    let mut blog = app(Mood::Empty);
    blog.app = "blog".parse().unwrap();
    for side in [&mut blog.serves, &mut blog.standby] {
        side.release = None;
        side.state = None;
        side.since = None;
        side.label = String::new();
        side.traffic = Traffic::default();
    }
    blog.rollback.text = "nowhere to go back to: no other release has proved itself".to_owned();
    blog.rollback.to = None;
    blog.last_move = None;
    blog.data = None;
    blog.backup = Some(crate::api::wire::BackupLine::default());
    assert_snapshot!(picture(vec![shop, blog]));
}

fn done(what: &str, serves: Side, standby: Side) -> Done {
    Done {
        schema: schema::DONE.to_owned(),
        app: "shop".parse().unwrap(),
        operation: OperationId(40),
        what: what.to_owned(),
        at: NOW,
        moved: Some(Moved {
            weight: (weight(0), weight(0)),
            stable: (Color::Green, Color::Blue),
            generation: Generation(13),
            took_us: 700,
        }),
        recorded: Recorded::Journal,
        serves,
        standby,
        next_weights: Vec::new(),
        remarks: Vec::new(),
        cuts_only: false,
        has_database: false,
        rollback: Some(Readiness {
            to: Some(ReleaseId(5)),
            label: "v1.4.1".to_owned(),
            instant: true,
            text: "traffic: instant, to r5, no loss".to_owned(),
        }),
    }
}

fn whole(done: &Done) -> String {
    format!("{}\n---\n{}", first_lines(done, &Clock::utc()), last_lines(done, None))
}

fn back() -> Done {
    let mut done = done(
        "rollback",
        side(Color::Blue, 5, "v1.4.1", 10_000),
        side(Color::Green, 7, "v1.5.0", 0),
    );
    done.remarks = vec!["r5, not r6: it never proved itself".to_owned()];
    done
}

#[test]
fn rollback() {
    assert_snapshot!(whole(&back()));
}

#[test]
fn rollback_where_the_data_could_go_back_too() {
    let left = "r7 ran 1 migration and has written since 26 Nov 22:31";
    let known = last_lines(&Done { has_database: true, ..back() }, Some(left));
    let unknown = last_lines(&Done { has_database: true, ..back() }, None);
    assert_snapshot!(format!("{known}\n---\n{unknown}\n---\n{}", last_lines(&back(), Some(left))));
}

#[test]
fn rollback_that_is_not_recorded_yet() {
    let why = "no space is left for /var/lib/cutover/journal.db (appending)".to_owned();
    let weights =
        Done { recorded: Recorded::WeightsOnly { why: why.clone() }, remarks: vec![], ..back() };
    let memory = Done { recorded: Recorded::MemoryOnly { why }, remarks: vec![], ..back() };
    assert_snapshot!(format!("{}\n\n{}", whole(&weights), whole(&memory)));
}

#[test]
fn rollback_to_a_release_that_has_to_be_started() {
    let done = Done { moved: None, ..back() };
    assert_snapshot!(first_lines(&done, &Clock::utc()));
}

#[test]
fn shift_and_promote() {
    let (r5, r7) = (side(Color::Blue, 5, "v1.4.1", 9_000), side(Color::Green, 7, "v1.5.0", 1_000));
    let mut shift = done("shift", r5.clone(), r7.clone());
    shift.next_weights = vec![weight(2_500)];
    // Above the half the canary has the larger share, and is still what people watch.
    let most = done(
        "next",
        Side { weight: weight(7_500), ..r7.clone() },
        Side { weight: weight(2_500), ..r5.clone() },
    );
    let promote =
        done("promote", Side { weight: weight(10_000), ..r7 }, Side { weight: weight(0), ..r5 });
    let mut closed = promote.clone();
    if let Some(back) = &mut closed.rollback {
        (back.instant, back.text) = (false, "traffic: REFUSED: o39 dropped nodes.region".into());
    }
    let said = last_lines(&closed, None);
    assert_eq!(said, "\"cutover rollback\" from here: traffic: REFUSED: o39 dropped nodes.region");
    assert_snapshot!([shift, most, promote].iter().map(whole).collect::<Vec<_>>().join("\n\n"));
}

#[test]
fn deploy_begins() {
    let mut deploy =
        done("deploy", side(Color::Blue, 5, "v1.4.1", 10_000), side(Color::Green, 4, "", 0));
    deploy.moved = None;
    assert_snapshot!(first_lines(&deploy, &Clock::utc()));
}

#[test]
fn nothing_to_do_and_a_refusal() {
    let ways = vec![
        Way {
            command: "cutover rollback --database".to_owned(),
            what: "r5 with the data of 22:31: shows what is lost, then asks".to_owned(),
        },
        Way {
            command: "cutover maintenance on".to_owned(),
            what: "no user sees errors".to_owned(),
        },
    ];
    let problem = Problem {
        schema: schema::PROBLEM.to_owned(),
        kind: ProblemKind::NothingToDo,
        message: "Nothing to do: r5 has had all traffic since 03:07:41 (o40)".to_owned(),
        ways: vec![Way {
            command: "cutover undo o40".to_owned(),
            what: "takes that back".to_owned(),
        }],
        exit: 0,
    };
    let refused =
        "r5 cannot run on today's database: r7 dropped nodes.region. NOTHING WAS CHANGED.";
    assert_snapshot!(format!("{}\n\n{}", nothing_to_do(&problem), failure(refused, &ways)));
}

#[test]
fn followed_lines() {
    let clock = Clock::utc();
    let lines = [
        (LineLevel::Step, "build", "backend, frontend, agent"),
        (LineLevel::Step, "10 %", "of the clients are on r2; the others stay on r1"),
        (LineLevel::Step, "", "r7 is idle. It stays up, without traffic."),
        (LineLevel::Error, "failed", "ready: backend answers 500\n  r2 backend  TypeError\n  at x"),
    ];
    let lines = lines.map(|(level, label, text)| line(&clock, NOW, level, label, text));
    assert_snapshot!(lines.join("\n"));
}

#[test]
fn list_of_releases() {
    let line = |id: u64, state, points, proven: bool, rejected: Option<u64>| ReleaseLine {
        parts: None,
        release: ReleaseId(id),
        label: format!("4be1c2{id} \"Cart on one page\""),
        commit: None,
        color: if id.is_multiple_of(2) { Color::Blue } else { Color::Green },
        state,
        weight: weight(points),
        made_at: NOW - i64::try_from(9 - id).unwrap() * 600 * MINUTE,
        proven_at: proven.then_some(NOW),
        rejected_by: rejected.map(OperationId),
        images: std::collections::BTreeMap::new(),
        migrations: None,
    };
    let list = Releases {
        schema: schema::RELEASES.to_owned(),
        app: "shop".parse().unwrap(),
        releases: vec![
            line(9, ReleaseState::Warm, 500, false, None),
            line(8, ReleaseState::Warm, 9_500, true, None),
            line(7, ReleaseState::Gone, 0, true, Some(40)),
            line(6, ReleaseState::Failed, 0, false, None),
        ],
    };
    assert_snapshot!(releases(&list, NOW, &Clock::utc()));
}

#[test]
fn preview_link() {
    let preview = Preview {
        schema: schema::PREVIEW.to_owned(),
        release: ReleaseId(6),
        color: Color::Green,
        link: "http://shop.example.com/?cutover-preview=v1.abc".to_owned(),
        until: NOW + 60 * MINUTE,
        address: Some("127.0.0.1:40002".to_owned()),
    };
    assert_snapshot!(super::preview(&preview, &Clock::utc()));
}

#[test]
fn events_as_lines() {
    let o = OperationId(40);
    let (blue, tenth) =
        (Split::all(Color::Blue), Split { stable: Color::Blue, weight: weight(1_000) });
    let rollback = OperationKind::Rollback {
        to: ReleaseId(5),
        from: Some(ReleaseId(7)),
        manner: Manner::default(),
    };
    let step = Step { weight: weight(100), soak_ms: 0 };
    let (release, salt) = (ReleaseId(7), Salt(1));
    let probe = cutover_model::Action::Probe { release, color: Color::Green };
    let facts = vec![
        Fact::RolloutStarted { release, salt, steps: vec![step] },
        Fact::OperationStarted { operation: o, what: rollback, request: None },
        Fact::SplitChanged { number: 3, before: tenth, after: blue, operation: Some(o) },
        Fact::RolloutEnded { ending: RolloutEnding::RolledBack },
        Fact::ReleaseRejected { release, operation: o },
        Fact::ActionIntended { operation: o, index: 1, action: probe },
        Fact::ActionDone { operation: o, index: 1, took_ms: 1_234 },
        Fact::ActionDone { operation: o, index: 2, took_ms: 1_234 },
        Fact::Line {
            operation: Some(o),
            level: LineLevel::Error,
            label: "failed".to_owned(),
            text: "one\ntwo".to_owned(),
        },
        Fact::OperationEnded { operation: o, ending: Ending::Done },
        Fact::Noted { operation: o, text: "prices wrong".to_owned() },
    ];
    let mut actions = Actions::default();
    let line = |(seq, fact): (u64, Fact)| {
        let happened = Happened {
            at: Millis(NOW),
            actor: Actor("li".to_owned()),
            operation: fact.operation(),
            fact,
        };
        let seq = Some(seq);
        let schema = schema::EVENT.to_owned();
        let event = Event { schema, app: "shop".parse().unwrap(), seq, happened };
        super::event(&event, &Clock::utc(), &mut actions)
    };
    assert_snapshot!((210..).zip(facts).map(line).collect::<Vec<_>>().join("\n"));
}
