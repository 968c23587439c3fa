//! The frontend: one page and one asset, both of which name the release that served them.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use crate::Failure;
use crate::faults::Faults;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::web::{self, Answer, Pages};

const PAGE: &str = include_str!("frontend/page.html");
const STYLE: &str = include_str!("frontend/style.css");

struct Frontend {
    page: String,
}

pub(crate) async fn run(settings: Settings, stop: Stop) -> Result<(), Failure> {
    let page = PAGE.replace("{release}", &settings.release).replace("{host}", &settings.hostname);
    let faults = Arc::new(Faults::read(&settings));
    web::serve(&settings, 80, faults, Arc::new(Frontend { page }), stop).await
}

impl Pages for Frontend {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Failure> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Ok(web::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"));
        }
        Ok(match request.uri().path() {
            "/" | "/index.html" => {
                web::typed(StatusCode::OK, "text/html; charset=utf-8", self.page.clone())
            }
            "/style.css" => web::typed(StatusCode::OK, "text/css", STYLE),
            _ => web::text(StatusCode::NOT_FOUND, "no such page\n"),
        })
    }
}
