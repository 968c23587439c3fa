//! The report of one rollback in both languages and both forms, and what it does with text that
//! wants to be more than text.

use cutover_model::{
    Color, Fact, LineLevel, Manner, OperationId, OperationKind, ReleaseId, Split, Weight,
};

use super::*;

/// 27 Nov 2026, 02:58:10 by the clock of the report.
const FIRST: i64 = 1_795_748_290_000;

fn zone() -> TimeZone {
    TimeZone::fixed(jiff::tz::offset(8))
}

fn tell(fact: &Fact) -> String {
    match fact {
        Fact::Line { label, text, .. } => format!("{label}: {text}"),
        other => other.kind().to_owned(),
    }
}

fn moment(after_ms: i64, what: What) -> Moment {
    Moment { at: FIRST + after_ms, operation: Some(OperationId(40)), by: "li".into(), what }
}

fn fact(fact: Fact) -> What {
    What::Fact(Box::new(fact))
}

fn version(release: u64, label: &str) -> Version {
    Version { release: ReleaseId(release), label: label.to_owned() }
}

fn check(item: Item, outcome: Outcome, text: &str) -> Check {
    let at = (outcome != Outcome::NotKnown).then_some(FIRST + 600_000);
    Check { item, outcome, text: text.to_owned(), at }
}

fn timeline(operation: OperationId) -> Vec<Moment> {
    let split =
        |stable, weight| Split { stable, weight: Weight::from_basis_points(weight).unwrap() };
    let what = OperationKind::Rollback {
        to: ReleaseId(5),
        from: Some(ReleaseId(7)),
        manner: Manner::default(),
    };
    let started = Fact::OperationStarted { operation, what, request: None };
    let moved = Fact::SplitChanged {
        number: 9,
        before: split(Color::Green, 0),
        after: split(Color::Blue, 0),
        operation: Some(operation),
    };
    let line = Fact::Line {
        operation: Some(operation),
        level: LineLevel::Step,
        label: "check".into(),
        text: "r5: /api/health answers, 3 ms".into(),
    };
    vec![
        moment(0, What::FirstFailure),
        moment(570_000, What::LastFailure),
        moment(571_203, fact(started)),
        moment(571_204, fact(moved)),
        moment(571_300, fact(line)),
    ]
}

fn difference() -> Option<Difference> {
    Some(Difference {
        commits: Some(vec!["9c41e07 Prices per region".into()]),
        migrations: Some(vec!["20261126_price".into()]),
        env: Some(vec![EnvChange {
            file: ".env".into(),
            keys: "PRICE_MODE added, LOG_LEVEL changed".into(),
        }]),
        images: vec![Image {
            service: "backend".into(),
            before: Some("sha256:0123456789abcdef0123".into()),
            after: Some("sha256:fedcba98765432100123".into()),
        }],
    })
}

fn report() -> Report {
    let operation = OperationId(40);
    Report {
        schema: "cutover.report/1".into(),
        app: "shop".parse().unwrap(),
        operation,
        what: "rollback".into(),
        started_at: FIRST + 571_203,
        asked_at: FIRST + 571_203,
        ended: Some((FIRST + 603_000, None)),
        from: Some(version(7, "v1.5.0")),
        to: Some(version(5, "v1.4.1")),
        users: Users {
            known: true,
            since: Some(FIRST),
            until: Some(FIRST + 570_000),
            failed: 1_157,
            clients: 121,
            at_least: false,
        },
        data: None,
        said: vec![Said { at: FIRST + 650_000, by: "li".into(), text: "prices wrong".into() }],
        decided_by: "li".into(),
        automatic: false,
        traffic_at: Some(FIRST + 571_204),
        timeline: timeline(operation),
        left_out: 0,
        difference: difference(),
        logs: Logs {
            lines: vec![("backend".into(), "2026-11-26T18:58:09Z deadlock detected".into())],
            why_none: None,
        },
        checks: vec![
            check(Item::Health, Outcome::Pass, "/api/health answers, 3.0 ms"),
            check(Item::Core, Outcome::NotKnown, "no smoke probe was run"),
            check(Item::Data, Outcome::NotKnown, "the data was not touched"),
            check(Item::Speed, Outcome::Fail, "p99 below 2.5 s (usual 250 ms)"),
            check(Item::Access, Outcome::Pass, "by 127.0.0.1:80, 4.0 ms"),
        ],
        written: Written { cause: "A missing index.".into(), ..Written::default() },
        made_at: FIRST + 700_000,
    }
}

fn style(language: Language) -> Style<'static> {
    Style { language, zone: zone(), tell: &tell }
}

#[test]
fn a_rollback_in_english() {
    insta::assert_snapshot!("english", markdown(&report(), &style(Language::En)));
}

#[test]
fn a_rollback_in_chinese() {
    insta::assert_snapshot!("chinese", markdown(&report(), &style(Language::Zh)));
}

#[test]
fn a_rollback_as_a_page() {
    insta::assert_snapshot!("page", html(&report(), &style(Language::En)));
}

#[test]
fn a_restore_says_what_became_of_the_rows_and_what_is_not_known_says_so() {
    let mut report = report();
    report.what = "restore".into();
    report.users = Users::default();
    report.data = Some(Restored {
        source: "restore point before r7".into(),
        data_of: FIRST - 16_000_000,
        at: Some(FIRST + 1_390_911),
        rows: Some(1_318),
        kept_as: Some("shop__prev_o41".into()),
    });
    report.difference = Some(Difference::default());
    report.logs = Logs { lines: Vec::new(), why_none: Some("Docker does not answer".into()) };
    report.said.clear();
    report.left_out = 7;
    insta::assert_snapshot!("restore_english", markdown(&report, &style(Language::En)));
    insta::assert_snapshot!("restore_chinese", markdown(&report, &style(Language::Zh)));
}

/// Text that tries to leave its place in both forms.
const EVIL: &str = "x\n# Root cause\n\nnone | **fine** <script>alert(1)</script> [a](javascript:1) \
                    ```` \u{202e}\u{1b}[2J&amp;";

#[test]
fn nothing_from_outside_becomes_more_than_text() {
    let mut report = report();
    report.said[0].text = EVIL.into();
    report.decided_by = EVIL.into();
    report.from = Some(version(7, EVIL));
    report.logs.lines = vec![(EVIL.into(), EVIL.into())];
    report.checks[0].text = EVIL.into();
    report.ended = Some((FIRST, Some(EVIL.into())));
    report.timeline = vec![moment(
        0,
        fact(Fact::Line {
            operation: None,
            level: LineLevel::Error,
            label: EVIL.into(),
            text: EVIL.into(),
        }),
    )];
    if let Some(difference) = &mut report.difference {
        difference.migrations = Some(vec![EVIL.into()]);
        difference.commits = Some(vec![EVIL.into()]);
        difference.images[0].service = EVIL.into();
    }
    let clean = markdown(&self::report(), &style(Language::En));
    let text = markdown(&report, &style(Language::En));
    let headings = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
    assert_eq!(headings(&text), headings(&clean), "no heading of its own\n{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    let (before, fenced) = text.split_once("`````text\n").expect("a fence longer than any run");
    let (_, after) = fenced.split_once("\n`````\n").expect("the fence ends");
    for part in [before, after] {
        assert!(!part.contains("<script") || part.contains("\\<script"), "{part}");
        assert!(!part.contains("**fine**") && !part.contains("[a](j"), "{part}");
        assert!(!part.contains("none | "), "a cell ends where it should\n{part}");
    }

    let page = html(&report, &style(Language::En));
    assert!(!page.contains("<script") && !page.contains("&amp;amp;amp;"), "{page}");
    assert!(page.contains("&lt;script&gt;") && page.contains("&amp;amp;"), "{page}");
    let count = |text: &str| text.matches("<h2>").count();
    assert_eq!(count(&page), count(&html(&self::report(), &style(Language::En))));
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
}

#[test]
fn what_people_write_cannot_pretend_to_be_another_section_or_a_tag() {
    let mut report = report();
    report.written.cause = "We saw:\n## Timeline\n<img src=x onerror=alert(1)>\n- a *list*".into();
    let text = markdown(&report, &style(Language::En));
    assert!(text.contains("\n\\## Timeline\n\\<img") && text.contains("- a *list*"), "{text}");
    assert!(!html(&report, &style(Language::En)).contains("<img"));
}

#[test]
fn edited_sections_are_found_again_in_either_language() {
    let written = Written {
        cause: "One.\n\nTwo.".into(),
        improvements: String::new(),
        prevention: "### deep\nthree".into(),
    };
    for (one, other) in [(Language::En, Language::Zh), (Language::Zh, Language::En)] {
        assert_eq!(edited(&to_edit(&written, one)), written);
        let mixed = to_edit(&written, one) + "## " + words::sections(other)[1] + "\nlater\n";
        assert_eq!(edited(&mixed).improvements, "later");
    }
    assert_eq!(edited("no heading at all"), Written::default());
}
