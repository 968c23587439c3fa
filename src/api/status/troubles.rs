//! What is wrong with the daemon itself, for `status`: said until it has ended.
//!
//! Whoever finds trouble says it here and in the log; nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How loud it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// State is lost: every app is in trouble.
    Loud,
    /// Something beside traffic does not work.
    Note,
}

/// See the module. Bounded: there is one line for each thing, and few things.
#[derive(Debug, Default)]
pub struct Troubles {
    lines: Mutex<BTreeMap<&'static str, (Voice, String)>>,
}

impl Troubles {
    /// Part of the state is lost: what, and what to do.
    pub fn alarm(&self, what: &'static str, text: impl Into<String>) {
        self.say(what, Voice::Loud, text.into());
    }

    /// Something beside traffic does not work.
    pub fn note(&self, what: &'static str, text: impl Into<String>) {
        self.say(what, Voice::Note, text.into());
    }

    /// It is over.
    pub fn ended(&self, what: &'static str) {
        if self.lines().remove(what).is_some() {
            tracing::info!("{what}: works again");
        }
    }

    /// What makes every app one in trouble.
    #[must_use]
    pub fn loud(&self) -> Option<String> {
        let lines = self.lines();
        let loud: Vec<String> = lines.iter().filter(|l| l.1.0 == Voice::Loud).map(text).collect();
        (!loud.is_empty()).then(|| loud.join("; "))
    }

    /// The others, each a line.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.lines().iter().filter(|l| l.1.0 == Voice::Note).map(text).collect()
    }

    fn say(&self, what: &'static str, voice: Voice, text: String) {
        let mut lines = self.lines();
        if lines.get(what).is_none_or(|(_, known)| *known != text) {
            tracing::error!("{what}: {text}");
            lines.insert(what, (voice, text));
        }
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<&'static str, (Voice, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text((what, (_, text)): (&&'static str, &(Voice, String))) -> String {
    format!("{what}: {text}")
}
