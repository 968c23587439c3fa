//! The backend: every path under `/api`. Rows live in PostgreSQL, uploads in a folder that both
//! copies of the application share.
//!
//! | path | does |
//! |---|---|
//! | `GET /api/health` | asks the database |
//! | `GET /api/whoami` | release, color, container, role, connections opened |
//! | `POST /api/orders`, `GET /api/orders/count` | a row in, how many rows |
//! | `GET`, `PUT /api/uploads/NAME` | a file |
//! | `GET /api/slow?ms=`, `GET /api/stream?n=&ms=`, `GET /api/bytes?n=` | late, bit by bit, large |
//! | `ANY /api/echo`, `GET /api/headers`, `/api/ws` | the body, the headers, a WebSocket back |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::json;

use crate::Failure;
use crate::database::Database;
use crate::faults::Faults;
use crate::settings::Settings;
use crate::socket;
use crate::stop::Stop;
use crate::web::{self, Answer, Body, Pages, query_number};

const UPLOAD_LIMIT: usize = 64 << 20;
const CHUNK: usize = 64 << 10;

struct Backend {
    settings: Settings,
    faults: Arc<Faults>,
    database: Database,
    uploads: PathBuf,
    stop: Stop,
}

pub(crate) async fn run(settings: Settings, stop: Stop) -> Result<(), Failure> {
    let faults = Arc::new(Faults::read(&settings));
    let backend = Arc::new(Backend {
        faults: faults.clone(),
        database: Database::new(&settings)?,
        uploads: settings.text("SHOP_UPLOADS").unwrap_or("/uploads").into(),
        stop: stop.clone(),
        settings: settings.clone(),
    });
    web::serve(&settings, 3001, faults, backend, stop).await
}

impl Pages for Backend {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Failure> {
        let uri = request.uri().clone();
        match (request.method().as_str(), uri.path()) {
            ("GET", "/api/health") => Ok(self.health().await),
            ("GET", "/api/whoami") => Ok(web::json(&self.whoami())),
            ("POST", "/api/orders") => self.order(request).await,
            ("GET", "/api/orders/count") => self.count().await,
            ("GET", "/api/slow") => {
                let wait = query_number(&uri, "ms").unwrap_or(1000).min(600_000);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                Ok(web::json(&self.whoami()))
            }
            ("GET", "/api/stream") => Ok(events(&uri, self.settings.release.clone())),
            ("GET", "/api/bytes") => Ok(bytes(query_number(&uri, "n").unwrap_or(1 << 20))),
            ("GET", "/api/headers") => Ok(web::json(&headers(&request))),
            ("GET", "/api/ws") => {
                socket::accept(request, self.settings.release.clone(), self.stop.clone())
            }
            (_, "/api/echo") => {
                Ok(Response::new(request.into_body().map_err(Failure::from).boxed()))
            }
            (_, path) if path.starts_with("/api/uploads/") => self.upload(request).await,
            _ => Ok(web::text(StatusCode::NOT_FOUND, "no such path\n")),
        }
    }
}

impl Backend {
    async fn health(&self) -> Answer {
        if !self.faults.is_healthy() {
            return web::text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n");
        }
        match self.database.query("SELECT 1", &[]).await {
            Ok(_) => web::json(&json!({ "status": "ok", "release": self.settings.release })),
            Err(error) => {
                eprintln!("shop: health: {error}");
                web::text(StatusCode::SERVICE_UNAVAILABLE, "no database\n")
            }
        }
    }

    fn whoami(&self) -> serde_json::Value {
        json!({
            "release": self.settings.release,
            "color": self.settings.text("CUTOVER_COLOR"),
            "hostname": self.settings.hostname,
            "role": self.settings.role,
            "connections_opened": self.database.opened(),
        })
    }

    async fn order(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let body = request.into_body().collect().await?.to_bytes();
        let item = String::from_utf8_lossy(&body).into_owned();
        let release = &self.settings.release;
        let rows = self
            .database
            .query(
                "INSERT INTO orders (item, release) VALUES ($1, $2) RETURNING id",
                &[&item, release],
            )
            .await?;
        let id: i64 = rows.first().ok_or("the insert returned no row")?.get(0);
        let mut answer = web::json(&json!({ "id": id, "release": release }));
        *answer.status_mut() = StatusCode::CREATED;
        Ok(answer)
    }

    async fn count(&self) -> Result<Answer, Failure> {
        let rows = self.database.query("SELECT count(*) FROM orders", &[]).await?;
        let orders: i64 = rows.first().ok_or("count returned no row")?.get(0);
        Ok(web::json(&json!({ "orders": orders })))
    }

    async fn upload(&self, request: Request<Incoming>) -> Result<Answer, Failure> {
        let name = request.uri().path().trim_start_matches("/api/uploads/").to_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Ok(web::text(StatusCode::BAD_REQUEST, "a plain file name is wanted\n"));
        }
        let path = self.uploads.join(name);
        match *request.method() {
            Method::GET => match tokio::fs::read(&path).await {
                Ok(bytes) => Ok(web::typed(StatusCode::OK, "application/octet-stream", bytes)),
                Err(_) => Ok(web::text(StatusCode::NOT_FOUND, "no such file\n")),
            },
            Method::PUT => store(&path, request.into_body()).await,
            _ => Ok(web::text(StatusCode::METHOD_NOT_ALLOWED, "GET or PUT\n")),
        }
    }
}

/// Written to a temporary name and renamed, so that a reader never sees half a file.
async fn store(path: &Path, body: Incoming) -> Result<Answer, Failure> {
    let bytes = http_body_util::Limited::new(body, UPLOAD_LIMIT).collect().await?.to_bytes();
    let temporary = path.with_extension(format!("part-{}", std::process::id()));
    tokio::fs::write(&temporary, &bytes).await?;
    tokio::fs::rename(&temporary, path).await?;
    Ok(web::text(StatusCode::CREATED, &format!("{} bytes\n", bytes.len())))
}

fn headers(request: &Request<Incoming>) -> serde_json::Value {
    let lines: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": lines,
    })
}

/// Server-sent events: `n` of them (0: without end), one every `ms`.
fn events(uri: &Uri, release: String) -> Answer {
    let count = match query_number(uri, "n").unwrap_or(10) {
        0 => u64::MAX,
        count => count,
    };
    let pause = Duration::from_millis(query_number(uri, "ms").unwrap_or(100));
    let events = stream::iter(0..count).then(move |number| {
        let event = format!("id: {number}\ndata: {release}\n\n");
        async move {
            if number > 0 {
                tokio::time::sleep(pause).await;
            }
            Ok(Frame::data(Bytes::from(event)))
        }
    });
    let mut answer = Response::new(streamed(events));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// `count` bytes in chunks; the byte at offset i is `i % 251`, so that a test can check them all.
fn bytes(count: u64) -> Answer {
    let chunk = CHUNK as u64;
    let chunks = stream::iter(0..count.div_ceil(chunk)).map(move |number| {
        let from = number * chunk;
        let to = count.min(from + chunk);
        let data: Vec<u8> = (from..to).map(|offset| (offset % 251) as u8).collect();
        Ok(Frame::data(Bytes::from(data)))
    });
    let mut answer = Response::new(streamed(chunks));
    let kind = HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn streamed(
    frames: impl Stream<Item = Result<Frame<Bytes>, Failure>> + Send + Sync + 'static,
) -> Body {
    BodyExt::boxed(StreamBody::new(frames))
}
