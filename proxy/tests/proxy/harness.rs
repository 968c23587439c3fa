//! Upstreams, clients and proxies for tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cutover_model::{AppName, Color, ReleaseId, Salt, ServiceName, Split, Weight};
use cutover_proxy::message::{
    AppSpec, ByColor, ColorSpec, CookieSpec, Deadlines, EndpointSpec, Publish, RouteSpec, Sticky,
    StripPrefix,
};
use cutover_proxy::{Proxy, ProxySettings};

/// The longest that any condition may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

pub(crate) fn service() -> ServiceName {
    ServiceName::new("web").unwrap()
}

pub(crate) fn weight(points: u16) -> Weight {
    Weight::from_basis_points(points).unwrap()
}

pub(crate) fn split(stable: Color, points: u16) -> Split {
    Split { stable, weight: weight(points) }
}

pub(crate) fn endpoint(address: SocketAddr) -> EndpointSpec {
    EndpointSpec { id: address.to_string(), ip: address.ip(), port: Some(address.port()) }
}

pub(crate) fn route(host: Option<&str>, path: &str) -> RouteSpec {
    RouteSpec {
        host: host.map(Into::into),
        path: path.into(),
        on: None,
        service: service(),
        port: 0,
        strip_prefix: StripPrefix::Keep,
    }
}

/// An app with one route for everything; blue is stable and has everything.
pub(crate) fn spec(name: &str, blue: &[SocketAddr], green: &[SocketAddr]) -> AppSpec {
    let color = |addresses: &[SocketAddr], release| ColorSpec {
        release: Some(ReleaseId(release)),
        upstreams: BTreeMap::from([(
            service(),
            addresses.iter().copied().map(endpoint).collect::<Vec<_>>(),
        )]),
    };
    AppSpec {
        app: app(name),
        routes: vec![route(None, "/")],
        split: Split::all(Color::Blue),
        salt: Salt(1),
        colors: ByColor { blue: color(blue, 1), green: color(green, 2) },
        sticky: Sticky::Cookie(CookieSpec::default()),
        deadlines: Deadlines::default(),
        ports: Vec::new(),
    }
}

pub(crate) fn settings(tables: Vec<AppSpec>) -> ProxySettings {
    let mut settings =
        ProxySettings::new(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], [7; 32]);
    settings.workers = NonZeroUsize::new(2).unwrap();
    settings.tables = tables;
    settings
}

/// A running proxy and the address of its first listener.
pub(crate) struct Site {
    pub(crate) proxy: Proxy,
    pub(crate) address: SocketAddr,
}

impl Site {
    pub(crate) fn start(settings: ProxySettings) -> Self {
        let proxy = Proxy::start(settings, Vec::new()).unwrap();
        let address = proxy.addresses()[0];
        Self { proxy, address }
    }

    pub(crate) fn of(spec: AppSpec) -> Self {
        Self::start(settings(vec![spec]))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.client().ask(&format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
    }

    pub(crate) fn shift(&self, name: &str, to: Split) -> cutover_proxy::message::Acknowledged {
        let change = cutover_proxy::message::Change::Split { split: to, salt: Salt(1) };
        let publish = Publish { app: app(name), changes: vec![change], based_on: None };
        self.proxy.switch().apply(publish).unwrap()
    }
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A message as it stood on the wire.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The body was framed in chunks.
    pub(crate) chunked: bool,
}

impl Message {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let matching = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        matching.map(|(_, v)| v.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) type Answer = Message;

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }
}

/// Reads the head of a message; `None` at the end of the stream.
pub(crate) fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Message>> {
    let mut message = Message::default();
    if reader.read_line(&mut message.start)? == 0 {
        return Ok(None);
    }
    message.start = message.start.trim_end().to_owned();
    message.fields = read_fields(reader)?;
    Ok(Some(message))
}

fn read_fields(reader: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(fields) };
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Reads the body that the head announces. `open` is whether it may last until the end of stream.
pub(crate) fn read_body(
    reader: &mut impl BufRead,
    message: &mut Message,
    open: bool,
) -> std::io::Result<()> {
    if message.field("transfer-encoding").is_some() {
        message.chunked = true;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim().split(';').next().unwrap(), 16)
                .map_err(|_| std::io::Error::other(format!("chunk size {line:?}")))?;
            if size == 0 {
                message.trailers = read_fields(reader)?;
                return Ok(());
            }
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            message.body.extend_from_slice(&chunk[..size]);
        }
    }
    if let Some(length) = message.field("content-length") {
        message.body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut message.body)?;
    } else if open {
        reader.read_to_end(&mut message.body)?;
    }
    Ok(())
}

/// A client with one connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        let head = request.starts_with("HEAD ");
        self.answer_to(head)
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    fn answer_to(&mut self, head: bool) -> Answer {
        self.try_answer(head).unwrap().expect("an answer, not the end of the connection")
    }

    pub(crate) fn head(&mut self) -> Answer {
        read_head(&mut self.reader).unwrap().expect("a head")
    }

    pub(crate) fn try_answer(&mut self, head: bool) -> std::io::Result<Option<Answer>> {
        let Some(mut answer) = read_head(&mut self.reader)? else { return Ok(None) };
        while (100..200).contains(&answer.status()) && answer.status() != 101 {
            answer = read_head(&mut self.reader)?.expect("a final answer");
        }
        if !head && !matches!(answer.status(), 101 | 204 | 304) {
            read_body(&mut self.reader, &mut answer, true)?;
        }
        Ok(Some(answer))
    }

    /// Reads exactly this many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads to the end of the stream; a reset counts as the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the connection was not closed; so far: {bytes:?}")
            }
            _ => bytes,
        }
    }
}

/// One request at an upstream.
pub(crate) struct Served<'a> {
    pub(crate) request: Message,
    pub(crate) stream: &'a mut TcpStream,
    pub(crate) reader: &'a mut BufReader<TcpStream>,
    /// The number of the request on its connection, from 0.
    pub(crate) number: usize,
    seen: &'a Mutex<Vec<Message>>,
    at: usize,
}

impl Served<'_> {
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> Then {
        match self.stream.write_all(bytes.as_ref()) {
            Ok(()) => Then::Keep,
            Err(_) => Then::Close,
        }
    }

    /// A plain 200 with this body.
    pub(crate) fn ok(&mut self, body: &str) -> Then {
        self.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Reads the body and shows it to the test before anything is answered.
    pub(crate) fn body(&mut self) -> bool {
        let whole = read_body(self.reader, &mut self.request, false).is_ok();
        self.seen.lock().unwrap()[self.at] = self.request.clone();
        whole
    }
}

/// What an upstream does after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Close,
}

type Serve = dyn Fn(&mut Served<'_>) -> Then + Send + Sync;

/// A small blocking HTTP server.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<Message>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) closed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Upstream {
    /// Serves each request head with `serve`, which reads the body itself if it wants to.
    pub(crate) fn raw(serve: impl Fn(&mut Served<'_>) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
            closed: Arc::default(),
            stop: Arc::default(),
        };
        let (stop, connections) = (upstream.stop.clone(), upstream.connections.clone());
        let closed = upstream.closed.clone();
        let (seen, serve) = (upstream.seen.clone(), Arc::new(serve) as Arc<Serve>);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let (seen, serve, closed) = (seen.clone(), serve.clone(), closed.clone());
                std::thread::spawn(move || {
                    serve_connection(stream, &seen, &*serve);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        upstream
    }

    /// Reads the body, then serves.
    pub(crate) fn start(serve: impl Fn(&mut Served<'_>) -> Then + Send + Sync + 'static) -> Self {
        Self::raw(move |served| if served.body() { serve(served) } else { Then::Close })
    }

    /// Answers every request with this text.
    pub(crate) fn says(text: &'static str) -> Self {
        Self::start(move |served| served.ok(text))
    }

    pub(crate) fn requests(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address));
    }
}

fn serve_connection(mut stream: TcpStream, seen: &Mutex<Vec<Message>>, serve: &Serve) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut number = 0;
    while let Ok(Some(request)) = read_head(&mut reader) {
        let at = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let mut served =
            Served { request, stream: &mut stream, reader: &mut reader, number, seen, at };
        let then = serve(&mut served);
        if then == Then::Close {
            return;
        }
        number += 1;
    }
}

/// An address on which nothing listens.
pub(crate) fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// How many attempts of an app ended in a class.
pub(crate) fn count(proxy: &Proxy, class: cutover_proxy::message::Class) -> u64 {
    let counts = proxy.counts().outcomes;
    counts.iter().filter(|row| row.class == class).map(|row| row.requests).sum()
}

/// Attempts that charge a color.
pub(crate) fn charged(proxy: &Proxy) -> u64 {
    let counts = proxy.counts().outcomes;
    counts.iter().filter(|row| row.class.is_failure()).map(|row| row.requests).sum()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
