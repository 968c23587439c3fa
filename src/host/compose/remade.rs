//! A kept stack for another place: the color, release and folders that it goes to now. Pure.
//!
//! Works on what was kept with the release, so that a stack can be made again without the
//! operator's file. Changed is only what coloring itself had put there: names of the color's
//! project, our labels, paths of the release's folder and worktree. What a container is told
//! (variables, commands, checks) stays as it was.

use std::path::Path;

use cutover_model::{Color, ReleaseId};
use serde_json::Value;

use super::super::docker::label;
use super::super::settings::StackSettings;
use super::ColoredStack;

/// Where a kept stack goes.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The app.
    pub settings: &'a StackSettings,
    /// The color.
    pub color: Color,
    /// The release that it is there.
    pub release: ReleaseId,
    /// Its folder as it was, and as it is.
    pub folder: (&'a Path, &'a Path),
    /// Its worktree as it was, and as it is.
    pub worktree: (&'a Path, &'a Path),
}

/// What a container is told: none of ours stands in there.
const TOLD: [&str; 6] = ["environment", "command", "entrypoint", "healthcheck", "args", "notes"];

impl ColoredStack {
    /// The same stack for another place.
    ///
    /// # Errors
    /// When it cannot be put into JSON and back: a fault of this program.
    pub fn remade(&self, place: &Place<'_>) -> Result<Self, serde_json::Error> {
        let rename = Rename { stack: self, place };
        let mut value = serde_json::to_value(self)?;
        rename.walk(&mut value, "", "");
        let mut stack: Self = serde_json::from_value(value)?;
        stack.color = place.color;
        stack.release = place.release;
        Ok(stack)
    }
}

struct Rename<'a> {
    stack: &'a ColoredStack,
    place: &'a Place<'a>,
}

impl Rename<'_> {
    fn walk(&self, value: &mut Value, key: &str, parent: &str) {
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    let is_told = TOLD.contains(&name.as_str()) && key != "services";
                    if !is_told {
                        self.walk(inner, name, key);
                    }
                }
            }
            Value::Array(list) => {
                for inner in list {
                    self.walk(inner, key, parent);
                }
            }
            Value::String(text) => {
                if let Some(new) = self.text(text, key, parent) {
                    *text = new;
                }
            }
            _ => {}
        }
    }

    fn text(&self, text: &str, key: &str, parent: &str) -> Option<String> {
        let (from, to) = (self.stack.color.to_string(), self.place.color.to_string());
        if key == label::COLOR {
            return Some(to);
        }
        if key == label::RELEASE {
            return Some(self.place.release.to_string());
        }
        if parent == "labels" {
            return None;
        }
        let state = &self.place.settings.state;
        let folders = (state.join("folders").join(&from), state.join("folders").join(&to));
        let pairs =
            [self.place.folder, self.place.worktree, (folders.0.as_path(), folders.1.as_path())];
        for (old, new) in pairs {
            if let Ok(rest) = Path::new(text).strip_prefix(old) {
                let new = if rest.as_os_str().is_empty() { new.into() } else { new.join(rest) };
                return Some(new.to_string_lossy().into_owned());
            }
        }
        if key == "aliases" {
            return text.strip_suffix(&format!("-{from}")).map(|name| format!("{name}-{to}"));
        }
        if let Some(name) = text.strip_suffix(&format!(":{}", self.stack.release))
            && name.starts_with(&format!("cutover/{}-", self.place.settings.app))
        {
            return Some(format!("{name}:{}", self.place.release));
        }
        let rest = text.strip_prefix(&self.stack.project)?;
        let is_ours = rest.is_empty() || rest.starts_with('_') || rest == "-link";
        is_ours.then(|| format!("{}{rest}", self.place.settings.project(self.place.color)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cutover_model::{AppName, ServiceName};
    use serde_json::json;

    use super::*;
    use crate::host::compose::{ImageSource, Join};

    fn stack() -> ColoredStack {
        let service = ServiceName::new("web").unwrap();
        ColoredStack {
            project: "shop-green".into(),
            operator_project: "shop".into(),
            color: Color::Green,
            release: ReleaseId(1),
            file: json!({
                "name": "shop-green",
                "services": {"environment": {"labels": {label::COLOR: "green"}}, "web": {
                    "environment": {"COMPOSE": "shop-green", "HOST": "/s/releases/r1/env/.env"},
                    "labels": {label::COLOR: "green", label::RELEASE: "r1", "mine": "shop-green"},
                    "env_file": [{"path": "/s/releases/r1/env/.env"}],
                    "volumes": [{"source": "/s/worktrees/r1/conf"}, {"source": "logs"},
                                {"source": "/s/folders/green/tmp"}],
                    "networks": {"front": {"aliases": ["web-green", "www"]}},
                }},
                "networks": {"front": {"labels": {label::COLOR: "green"}},
                             "link": {"name": "shop-green-link", "external": true},
                             "other": {"name": "shop-green-x_net", "external": true}},
                "volumes": {"logs": {"name": "shop-green_logs"}},
            }),
            build_file: Some(json!({"services": {"web": {"image": "cutover/shop-web:r1"}}})),
            images: BTreeMap::from([(
                service.clone(),
                ImageSource::Built { tag: "cutover/shop-web:r1".into() },
            )]),
            starts: Vec::new(),
            waits: Vec::new(),
            shared: Vec::new(),
            link: Some("shop-green-link".into()),
            joins: vec![Join {
                network: "edge".into(),
                service,
                aliases: vec!["web-green".into()],
            }],
            published: Vec::new(),
            volumes: Vec::new(),
            copies: Vec::new(),
            folders: vec!["/s/folders/green/tmp".into()],
            notes: Vec::new(),
        }
    }

    #[test]
    fn only_what_coloring_put_there_changes() {
        let mut settings =
            StackSettings::new(AppName::new("shop").unwrap(), "/srv/shop".into(), "/s".into());
        settings.state = "/s".into();
        let place = Place {
            settings: &settings,
            color: Color::Blue,
            release: ReleaseId(7),
            folder: (Path::new("/s/releases/r1"), Path::new("/s/releases/r7")),
            worktree: (Path::new("/s/worktrees/r1"), Path::new("/s/worktrees/r7")),
        };
        let blue = stack().remade(&place).unwrap();
        let web = &blue.file["services"]["web"];
        assert_eq!(web["environment"], stack().file["services"]["web"]["environment"]);
        assert_eq!(web["labels"][label::COLOR], "blue");
        assert_eq!(web["labels"][label::RELEASE], "r7");
        assert_eq!(web["labels"]["mine"], "shop-green");
        assert_eq!(web["env_file"][0]["path"], "/s/releases/r7/env/.env");
        let sources: Vec<_> =
            web["volumes"].as_array().unwrap().iter().map(|v| v["source"].clone()).collect();
        assert_eq!(sources, ["/s/worktrees/r7/conf", "logs", "/s/folders/blue/tmp"]);
        assert_eq!(web["networks"]["front"]["aliases"], json!(["web-blue", "www"]));
        let odd = &blue.file["services"]["environment"];
        assert_eq!(odd["labels"][label::COLOR], "blue", "a service may be called so");
        let networks = &blue.file["networks"];
        assert_eq!(networks["link"]["name"], "shop-blue-link");
        assert_eq!(networks["other"]["name"], "shop-green-x_net", "not of this color");
        assert_eq!(networks["front"]["labels"][label::COLOR], "blue");
        assert_eq!(blue.file["volumes"]["logs"]["name"], "shop-blue_logs");
        assert_eq!(
            (blue.project.as_str(), blue.file["name"].as_str()),
            ("shop-blue", Some("shop-blue"))
        );
        assert_eq!(blue.link.as_deref(), Some("shop-blue-link"));
        assert_eq!(blue.joins[0].aliases, ["web-blue"]);
        assert_eq!(blue.images.values().next().unwrap().reference(), "cutover/shop-web:r7");
        assert_eq!(blue.folders, [Path::new("/s/folders/blue/tmp")]);
        let same = Place { color: Color::Green, release: ReleaseId(1), ..place };
        let same = Place {
            folder: (Path::new("/a"), Path::new("/a")),
            worktree: (Path::new("/b"), Path::new("/b")),
            ..same
        };
        assert_eq!(stack().remade(&same).unwrap(), stack(), "the same place changes nothing");
    }
}
