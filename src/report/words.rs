//! The words of a report in English and Chinese.
//!
//! Whole phrases, so that each language has its own order of words. Names of releases, operations
//! and commands are the same in both.

use std::time::Duration;

use cutover_model::Fact;
use serde::{Deserialize, Serialize};

use super::value::{Item, Outcome};
use crate::text;

/// A language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

/// The headings of what people write: root cause, improvements, prevention.
#[must_use]
pub(super) fn sections(language: Language) -> [&'static str; 3] {
    match language {
        Language::En => ["Root cause", "Improvements", "Prevention"],
        Language::Zh => ["根因分析", "改进措施", "预防方案"],
    }
}

/// A phrase that stands alone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phrase {
    Users,
    UsersNone,
    UsersUnknown,
    Data,
    DataUntouched,
    DataNotExchanged,
    Reason,
    ReasonNone,
    DecidedBy,
    ByItself,
    Recovered,
    NotRecovered,
    Versions,
    Timeline,
    FirstFailure,
    LastFailure,
    Difference,
    Commits,
    Migrations,
    EnvKeys,
    Images,
    NotKnown,
    None,
    Logs,
    Verified,
    ToBeWritten,
    Ended,
    NotWell,
    Running,
}

impl Language {
    /// `en` or `zh-Hans`, as HTML names them.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-Hans",
        }
    }

    pub(super) fn say(self, phrase: Phrase) -> &'static str {
        let (en, zh) = both(phrase);
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }

    /// `9 min 31 s`.
    pub(super) fn duration(self, millis: i64) -> String {
        let millis = u64::try_from(millis).unwrap_or(0);
        match self {
            Self::En => text::duration(Duration::from_millis(millis)),
            Self::Zh => match millis / 1_000 {
                0 => format!("{millis} 毫秒"),
                seconds @ 1..=59 => format!("{seconds} 秒"),
                seconds @ 60..=3_599 => format!("{} 分 {} 秒", seconds / 60, seconds % 60),
                seconds => format!("{} 小时 {} 分", seconds / 3_600, seconds % 3_600 / 60),
            },
        }
    }

    /// What the operation was, for the title.
    pub(super) fn title(self, app: &str, what: &str, from: Option<&str>, to: &str) -> String {
        match (self, from) {
            (Self::En, Some(from)) if matches!(what, "rollback" | "restore" | "abort") => {
                let verb = if what == "restore" { "data put back" } else { "rolled back" };
                format!("{app}: {verb} from {from} to {to}")
            }
            (Self::En, Some(from)) => format!("{app}: {what}, from {from} to {to}"),
            (Self::En, None) => format!("{app}: {what}, {to}"),
            (Self::Zh, Some(from)) if matches!(what, "rollback" | "restore" | "abort") => {
                let kind = if what == "restore" { "数据恢复" } else { "回滚" };
                format!("{app} {kind}事件报告：{from} → {to}")
            }
            (Self::Zh, Some(from)) => format!("{app} 事件报告（{what}）：{from} → {to}"),
            (Self::Zh, None) => format!("{app} 事件报告（{what}）：{to}"),
        }
    }

    pub(super) fn users(self, failed: u64, clients: u64, at_least: bool) -> String {
        let (failed, clients) = (text::count(failed), text::count(clients));
        match (self, at_least) {
            (Self::En, false) => format!("{failed} failed requests, {clients} clients"),
            (Self::En, true) => {
                format!(
                    "at least {failed} failed requests, {clients} clients (older records are lost)"
                )
            }
            (Self::Zh, false) => format!("失败请求 {failed} 个，涉及 {clients} 个客户端"),
            (Self::Zh, true) => {
                format!("失败请求至少 {failed} 个，涉及 {clients} 个客户端（更早的记录已丢失）")
            }
        }
    }

    /// `kept`: the database that has the rows which were set aside, while it is there.
    pub(super) fn restored(
        self,
        source: &str,
        of: &str,
        rows: Option<u64>,
        kept: Option<&str>,
    ) -> String {
        let rows = rows.map(text::count);
        match self {
            Self::En => {
                let counted = rows.map_or("rows not counted".to_owned(), |rows| {
                    let deleted = if kept.is_some() { ", not deleted" } else { "" };
                    format!("{rows} rows set aside{deleted}")
                });
                let place = kept.map_or("that is undone or let go since".to_owned(), |kept| {
                    format!("in {kept}")
                });
                format!("data of {of} ({source}); {counted}, {place}")
            }
            Self::Zh => {
                let counted = rows.map_or("其后写入的行数未统计".to_owned(), |rows| {
                    let deleted = if kept.is_some() { "未删除" } else { "曾保留" };
                    format!("其后写入的 {rows} 行{deleted}")
                });
                let place = kept
                    .map_or("现已撤销或删除".to_owned(), |kept| format!("保存在 {kept}"));
                format!("恢复到 {of}（{source}）；{counted}，{place}")
            }
        }
    }

    pub(super) fn recovered(self, at: &str, since_first: Option<String>, asked: &str) -> String {
        match (self, since_first) {
            (Self::En, Some(first)) => format!(
                "traffic at {at}: {first} after the first failed request, {asked} after the command"
            ),
            (Self::En, None) => format!("traffic at {at}: {asked} after the command"),
            (Self::Zh, Some(first)) => {
                format!("流量于 {at} 恢复：首个失败请求后 {first}，命令后 {asked}")
            }
            (Self::Zh, None) => format!("流量于 {at} 恢复：命令后 {asked}"),
        }
    }

    pub(super) fn data_back(self, after: &str) -> String {
        match self {
            Self::En => format!("data {after} after the command"),
            Self::Zh => format!("数据于命令后 {after} 恢复"),
        }
    }

    pub(super) fn left_out(self, count: u64) -> String {
        match self {
            Self::En => format!("({count} more in between: cutover events)"),
            Self::Zh => format!("（其间另有 {count} 条：cutover events）"),
        }
    }

    pub(super) fn item(self, item: Item) -> &'static str {
        match (self, item) {
            (Self::En, Item::Health) => "health",
            (Self::En, Item::Core) => "core functions",
            (Self::En, Item::Data) => "data integrity",
            (Self::En, Item::Speed) => "performance",
            (Self::En, Item::Access) => "user access",
            (Self::Zh, Item::Health) => "健康",
            (Self::Zh, Item::Core) => "核心功能",
            (Self::Zh, Item::Data) => "数据完整性",
            (Self::Zh, Item::Speed) => "性能",
            (Self::Zh, Item::Access) => "用户访问",
        }
    }

    pub(super) fn outcome(self, outcome: Outcome) -> &'static str {
        match (self, outcome) {
            (Self::En, Outcome::Pass) => "pass",
            (Self::En, Outcome::Fail) => "FAIL",
            (Self::En, Outcome::NotKnown) => "not known",
            (Self::Zh, Outcome::Pass) => "通过",
            (Self::Zh, Outcome::Fail) => "未通过",
            (Self::Zh, Outcome::NotKnown) => "未知",
        }
    }

    pub(super) fn edit(self, operation: &str) -> String {
        format!("{}: cutover report {operation} --edit", self.say(Phrase::ToBeWritten))
    }

    /// What a fact says in this language, where it has words of its own for it.
    pub(super) fn fact(self, fact: &Fact) -> Option<String> {
        if self == Self::En {
            return None;
        }
        Some(match fact {
            Fact::OperationStarted { what, .. } => format!("操作开始：{}", what.as_str()),
            Fact::OperationEnded { ending: cutover_model::Ending::Done, .. } => {
                "操作完成".to_owned()
            }
            Fact::SplitChanged { before, after, .. } => match (before.sole(), after.sole()) {
                (_, Some(color)) => format!("全部流量切换到 {color}"),
                _ => format!("流量：{} 到 {}", after.weight, after.canary()),
            },
            Fact::ReleaseRejected { release, operation } => {
                format!("{release} 被 {operation} 回滚")
            }
            Fact::ReleaseProven { release } => format!("{release} 已为全部用户服务"),
            Fact::GateClosed { .. } => "进入维护模式：用户看到维护页面".to_owned(),
            Fact::GateOpened => "维护结束：用户恢复访问".to_owned(),
            Fact::Noted { text, .. } => format!("备注：{text}"),
            _ => return None,
        })
    }
}

fn both(phrase: Phrase) -> (&'static str, &'static str) {
    match phrase {
        Phrase::Users => ("Users affected", "用户影响"),
        Phrase::UsersNone => ("no failed request on record", "没有失败请求的记录"),
        Phrase::UsersUnknown => (
            "not known: the daemon has been started since, its records of failures are gone",
            "未知：守护进程此后重新启动，失败记录已不存在",
        ),
        Phrase::Data => ("Data affected", "数据"),
        Phrase::DataUntouched => ("none: only traffic moved", "未改动：仅切换流量"),
        Phrase::DataNotExchanged => {
            ("none: the names were not exchanged", "未改动：数据库名称未交换")
        }
        Phrase::Reason => ("Reason", "回滚原因"),
        Phrase::ReasonNone => ("not written down: cutover note", "未填写：cutover note"),
        Phrase::DecidedBy => ("Decided by", "决定人"),
        Phrase::ByItself => ("cutover itself (automatic)", "cutover（自动）"),
        Phrase::Recovered => ("Recovered in", "恢复时间"),
        Phrase::NotRecovered => ("traffic did not move", "流量未切换"),
        Phrase::Versions => ("Versions", "版本"),
        Phrase::Timeline => ("Timeline", "时间线"),
        Phrase::FirstFailure => ("first failed request", "首个失败请求"),
        Phrase::LastFailure => ("last failed request", "最后一个失败请求"),
        Phrase::Difference => ("What differs between the releases", "版本差异"),
        Phrase::Commits => ("commits", "提交"),
        Phrase::Migrations => ("migrations", "数据库迁移"),
        Phrase::EnvKeys => ("env keys", "环境变量"),
        Phrase::Images => ("images", "镜像"),
        Phrase::NotKnown => ("not known", "未知"),
        Phrase::None => ("none", "无"),
        Phrase::Logs => ("Log lines around the trigger", "触发前后的日志"),
        Phrase::Verified => ("Verified after", "回滚后验证"),
        Phrase::ToBeWritten => ("to be written", "待填写"),
        Phrase::Ended => ("Ended", "结束"),
        Phrase::NotWell => ("which did not come to its end", "未成功完成"),
        Phrase::Running => ("it is still running", "仍在进行"),
    }
}
