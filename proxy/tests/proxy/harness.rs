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
pub const PATIENCE: Duration = Duration::from_secs(10);

pub fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

pub fn service() -> ServiceName {
    ServiceName::new("web").unwrap()
}

pub fn weight(points: u16) -> Weight {
    Weight::from_basis_points(points).unwrap()
}

pub fn split(stable: Color, points: u16) -> Split {
    Split { stable, weight: weight(points) }
}

pub fn endpoint(address: SocketAddr) -> EndpointSpec {
    EndpointSpec { id: address.to_string(), ip: address.ip(), port: Some(address.port()) }
}

pub fn route(host: Option<&str>, path: &str) -> RouteSpec {
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
pub fn spec(name: &str, blue: &[SocketAddr], green: &[SocketAddr]) -> AppSpec {
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
    }
}

pub fn settings(tables: Vec<AppSpec>) -> ProxySettings {
    let mut settings =
        ProxySettings::new(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], [7; 32]);
    settings.workers = NonZeroUsize::new(2).unwrap();
    settings.tables = tables;
    settings
}

/// A running proxy and the address of its first listener.
pub struct Site {
    pub proxy: Proxy,
    pub address: SocketAddr,
}

impl Site {
    pub fn start(settings: ProxySettings) -> Self {
        let proxy = Proxy::start(settings, Vec::new()).unwrap();
        let address = proxy.addresses()[0];
        Self { proxy, address }
    }

    pub fn of(spec: AppSpec) -> Self {
        Self::start(settings(vec![spec]))
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.client().ask(&format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
    }

    pub fn shift(&self, name: &str, to: Split) -> cutover_proxy::message::Acknowledged {
        let change = cutover_proxy::message::Change::Split { split: to, salt: Salt(1) };
        let publish = Publish { app: app(name), changes: vec![change], based_on: None };
        self.proxy.switch().apply(publish).unwrap()
    }
}

/// Waits until a condition holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A message as it stood on the wire.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub start: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body was framed in chunks.
    pub chunked: bool,
}

impl Message {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let matching = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        matching.map(|(_, v)| v.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub type Answer = Message;

impl Message {
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
    }
}

/// Reads the head of a message; `None` at the end of the stream.
pub fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Message>> {
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
pub fn read_body(
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
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        let head = request.starts_with("HEAD ");
        self.answer_to(head)
    }

    pub fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    fn answer_to(&mut self, head: bool) -> Answer {
        self.try_answer(head).unwrap().expect("an answer, not the end of the connection")
    }

    pub fn head(&mut self) -> Answer {
        read_head(&mut self.reader).unwrap().expect("a head")
    }

    pub fn try_answer(&mut self, head: bool) -> std::io::Result<Option<Answer>> {
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
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads to the end of the stream; a reset counts as the end.
    pub fn rest(&mut self) -> Vec<u8> {
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
pub struct Served<'a> {
    pub request: Message,
    pub stream: &'a mut TcpStream,
    pub reader: &'a mut BufReader<TcpStream>,
    /// The number of the connection that it came on, from 0.
    pub connection: usize,
    /// The number of the request on its connection, from 0.
    pub number: usize,
}

impl Served<'_> {
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Then {
        match self.stream.write_all(bytes.as_ref()) {
            Ok(()) => Then::Keep,
            Err(_) => Then::Close,
        }
    }

    /// A plain 200 with this body.
    pub fn ok(&mut self, body: &str) -> Then {
        self.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    pub fn body(&mut self) -> bool {
        read_body(self.reader, &mut self.request, false).is_ok()
    }
}

/// What an upstream does after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
}

type Serve = dyn Fn(&mut Served<'_>) -> Then + Send + Sync;

/// A small blocking HTTP server.
pub struct Upstream {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Message>>>,
    pub connections: Arc<AtomicUsize>,
    pub closed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Upstream {
    /// Serves each request head with `serve`, which reads the body itself if it wants to.
    pub fn raw(serve: impl Fn(&mut Served<'_>) -> Then + Send + Sync + 'static) -> Self {
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
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let (seen, serve, closed) = (seen.clone(), serve.clone(), closed.clone());
                std::thread::spawn(move || {
                    serve_connection(stream, number, &seen, &*serve);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        upstream
    }

    /// Reads the body, then serves.
    pub fn start(serve: impl Fn(&mut Served<'_>) -> Then + Send + Sync + 'static) -> Self {
        Self::raw(move |served| if served.body() { serve(served) } else { Then::Close })
    }

    /// Answers every request with this text.
    pub fn says(text: &'static str) -> Self {
        Self::start(move |served| served.ok(text))
    }

    pub fn requests(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn closed(&self) -> usize {
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

fn serve_connection(
    mut stream: TcpStream,
    connection: usize,
    seen: &Mutex<Vec<Message>>,
    serve: &Serve,
) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut number = 0;
    while let Ok(Some(request)) = read_head(&mut reader) {
        let mut served =
            Served { request, stream: &mut stream, reader: &mut reader, connection, number };
        let at = {
            let mut seen = seen.lock().unwrap();
            seen.push(served.request.clone());
            seen.len() - 1
        };
        let then = serve(&mut served);
        seen.lock().unwrap()[at] = served.request;
        if then == Then::Close {
            return;
        }
        number += 1;
    }
}

/// An address on which nothing listens.
pub fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).unwrap();
    listener.local_addr().unwrap()
}
