//! From host, path and local port to an app's route.
//!
//! Invariant: the longest prefix wins, on segment boundaries; a host that any route names is never
//! served by a route without a host. A look-up costs one hash of the host and one hash for each
//! distinct prefix length of that host, however many routes there are.

use std::collections::HashMap;

use crate::message::RouteSpec;

/// The place of a route: the app's index in the table, the route's index in the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) app: usize,
    pub(crate) route: usize,
}

/// Every app's routes.
#[derive(Debug, Default)]
pub(crate) struct RouteIndex {
    hosts: HashMap<Box<str>, PathIndex>,
    rest: PathIndex,
}

/// The routes of one host by path.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    /// Distinct prefix lengths, longest first.
    lengths: Vec<usize>,
    prefixes: HashMap<Box<str>, Vec<Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    on: Option<u16>,
    place: Place,
}

impl RouteIndex {
    /// Adds a route.
    ///
    /// # Errors
    /// The place of the route that has the same host, path and port already.
    pub(crate) fn add(&mut self, route: &RouteSpec, place: Place) -> Result<(), Place> {
        let paths = match &route.host {
            Some(host) => self.hosts.entry(host.to_ascii_lowercase().into()).or_default(),
            None => &mut self.rest,
        };
        paths.add(route, place)
    }

    /// The routes that a host has. `host` is without port; its case does not matter.
    pub(crate) fn paths(&self, host: &str) -> &PathIndex {
        let paths = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            self.hosts.get(host.to_ascii_lowercase().as_str())
        } else {
            self.hosts.get(host)
        };
        paths.unwrap_or(&self.rest)
    }

    /// The route of a request.
    #[cfg(test)]
    fn find(&self, host: &str, path: &str, on: u16) -> Option<Place> {
        self.paths(host).find(path, Some(on))
    }
}

/// A prefix as it is compared: without the slash at its end.
pub(crate) fn normal(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

impl PathIndex {
    pub(crate) fn add(&mut self, route: &RouteSpec, place: Place) -> Result<(), Place> {
        let prefix = normal(&route.path);
        let entries = self.prefixes.entry(prefix.into()).or_default();
        if let Some(taken) = entries.iter().find(|entry| entry.on == route.on) {
            return Err(taken.place);
        }
        entries.push(Entry { on: route.on, place });
        // A route for one port comes before the one for all.
        entries.sort_by_key(|entry| entry.on.is_none());
        if let Err(at) = self.lengths.binary_search_by(|length| prefix.len().cmp(length)) {
            self.lengths.insert(at, prefix.len());
        }
        Ok(())
    }

    /// Whether it depends on the path which route a request takes, or whether it takes one.
    pub(crate) fn decides(&self) -> bool {
        self.lengths.first().is_some_and(|longest| *longest > 0)
    }

    /// The longest route that fits; `on` is `None` where the port does not matter.
    pub(crate) fn find(&self, path: &str, on: Option<u16>) -> Option<Place> {
        self.lengths.iter().find_map(|&length| {
            let boundary = path.len() == length || path.as_bytes().get(length) == Some(&b'/');
            // `*` of OPTIONS has no segments: only the empty prefix fits.
            if !(boundary || length == 0) {
                return None;
            }
            self.prefixes
                .get(path.get(..length)?)?
                .iter()
                .find(|entry| on.is_none() || entry.on.is_none() || entry.on == on)
                .map(|entry| entry.place)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::StripPrefix;
    use cutover_model::ServiceName;

    fn route(host: Option<&str>, path: &str, on: Option<u16>) -> RouteSpec {
        RouteSpec {
            host: host.map(Into::into),
            path: path.into(),
            on,
            service: ServiceName::new("web").unwrap(),
            port: 80,
            strip_prefix: StripPrefix::Keep,
        }
    }

    #[test]
    fn the_longest_prefix_on_a_segment_boundary_wins() {
        let mut index = RouteIndex::default();
        let routes = [
            route(Some("a.test"), "/", None),
            route(Some("a.test"), "/api", None),
            route(Some("a.test"), "/api/v2/", None),
            route(Some("a.test"), "/api", Some(3001)),
            route(None, "/", None),
            route(None, "/deep", None),
        ];
        for (number, route) in routes.iter().enumerate() {
            index.add(route, Place { app: 0, route: number }).unwrap();
        }
        for (host, path, on, wanted) in [
            ("a.test", "/", 80, Some(0)),
            ("A.Test", "/x", 80, Some(0)),
            ("a.test", "/api", 80, Some(1)),
            ("a.test", "/api/", 80, Some(1)),
            ("a.test", "/apix", 80, Some(0)),
            ("a.test", "/api/v2", 80, Some(2)),
            ("a.test", "/api/v2/x", 80, Some(2)),
            ("a.test", "/api/v2x", 80, Some(1)),
            ("a.test", "/api/x", 3001, Some(3)),
            ("b.test", "/api", 80, Some(4)),
            ("b.test", "/deep/x", 80, Some(5)),
            ("a.test", "*", 80, Some(0)),
            ("a.test", "/ä", 80, Some(0)),
        ] {
            let found = index.find(host, path, on).map(|place| place.route);
            assert_eq!(found, wanted, "{host} {path} {on}");
        }
    }

    #[test]
    fn a_named_host_is_not_served_by_a_route_without_host() {
        let mut index = RouteIndex::default();
        index.add(&route(Some("a.test"), "/api", None), Place { app: 0, route: 0 }).unwrap();
        index.add(&route(None, "/", None), Place { app: 1, route: 0 }).unwrap();
        assert_eq!(index.find("a.test", "/other", 80), None);
        assert_eq!(index.find("else.test", "/other", 80), Some(Place { app: 1, route: 0 }));
    }

    #[test]
    fn the_same_route_twice_names_the_first_owner() {
        let mut index = RouteIndex::default();
        index.add(&route(Some("a.test"), "/api", None), Place { app: 0, route: 0 }).unwrap();
        let again = index.add(&route(Some("A.test"), "/api/", None), Place { app: 1, route: 0 });
        assert_eq!(again, Err(Place { app: 0, route: 0 }));
    }

    #[test]
    fn a_thousand_routes_of_a_hundred_apps_are_told_apart() {
        let mut index = RouteIndex::default();
        let path = |number: usize| format!("/{}/p{number}", number % 3);
        for app in 0..100 {
            for number in 0..10 {
                let host = format!("app{app}.test");
                let place = Place { app, route: number };
                index.add(&route(Some(&host), &path(number), None), place).unwrap();
            }
        }
        for app in 0..100 {
            for number in 0..10 {
                let asked = format!("{}/deep/er", path(number));
                let found = index.find(&format!("app{app}.test"), &asked, 80);
                assert_eq!(found, Some(Place { app, route: number }));
            }
        }
    }
}
