//! "Did you mean": the known key that an unknown one most likely stands for.
//!
//! Two ways lead there: few letters differ, or it is the word that other tools use for the same
//! thing. When neither does, the known keys are listed.

/// Words from other tools, and what they are called here.
const OTHER_WORDS: [(&str, &str); 20] = [
    ("hostname", "host"),
    ("domain", "host"),
    ("prefix", "path"),
    ("path_prefix", "path"),
    ("strip", "strip_prefix"),
    ("upstream", "service"),
    ("backend", "service"),
    ("target", "service"),
    ("bind", "address"),
    ("addr", "address"),
    ("addresses", "address"),
    ("file", "compose"),
    ("compose_file", "compose"),
    ("env_file", "env_files"),
    ("retries", "attempts"),
    ("healthcheck", "probe"),
    ("threads", "workers"),
    ("route", "routes"),
    ("cmd", "command"),
    ("stages", "steps"),
];

/// What to write instead of `name` where these keys are known.
pub(crate) fn hint(name: &str, known: &[&'static str]) -> String {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let by_word = OTHER_WORDS
        .iter()
        .find(|(other, here)| *other == lower && known.contains(here))
        .map(|(_, here)| *here);
    match by_word.or_else(|| by_letters(&lower, known)) {
        Some(best) => format!("did you mean `{best}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

fn by_letters(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let (distance, best) = known
        .iter()
        .map(|key| (strsim::damerau_levenshtein(name, key), *key))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the letters may differ: "prot" is `port`, but "size" is not `host`.
    (distance <= (name.chars().count().max(best.len()) / 3).max(1)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn a_slip_of_the_finger_finds_its_key() {
        let known = ["host", "path", "service", "port", "on"];
        assert_eq!(hint("prot", &known), "did you mean `port`?");
        assert_eq!(hint("Service", &known), "did you mean `service`?");
        assert_eq!(hint("hostname", &known), "did you mean `host`?");
        assert_eq!(hint("size", &known), "known here: host, path, service, port, on");
    }
}
