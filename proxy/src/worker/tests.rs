//! A worker that falls: what it loses, what it keeps, and that it begins again.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use std::collections::BTreeMap;

use cutover_model::{ReleaseId, Salt, ServiceName, Split};

use super::*;
use crate::Proxy;
use crate::message::{
    AppSpec, ByColor, ColorSpec, CookieSpec, Deadlines, EndpointSpec, RouteSpec, Sticky,
    StripPrefix,
};

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A web server of one thread for each connection, which it keeps open.
fn upstream() -> SocketAddr {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 4_096];
                while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
            });
        }
    });
    address
}

fn shop(endpoint: SocketAddr) -> AppSpec {
    let service = ServiceName::new("web").unwrap();
    let endpoint =
        EndpointSpec { id: "web-1".into(), ip: endpoint.ip(), port: Some(endpoint.port()) };
    let color = |release| ColorSpec {
        release: Some(ReleaseId(release)),
        upstreams: BTreeMap::from([(service.clone(), vec![endpoint.clone()])]),
    };
    AppSpec {
        app: AppName::new("shop").unwrap(),
        routes: vec![RouteSpec {
            host: None,
            path: "/".into(),
            on: None,
            service: service.clone(),
            port: 0,
            strip_prefix: StripPrefix::Keep,
        }],
        split: Split::all(Color::Blue),
        salt: Salt(1),
        colors: ByColor { blue: color(1), green: color(2) },
        sticky: Sticky::Cookie(CookieSpec::default()),
        deadlines: Deadlines::default(),
        ports: Vec::new(),
    }
}

#[test]
fn a_worker_that_falls_begins_again_on_its_own_sockets() {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut settings = ProxySettings::new(vec![any], [7; 32]);
    settings.workers = NonZeroUsize::MIN;
    settings.tables = vec![shop(upstream())];
    let proxy = Proxy::start(settings, Vec::new()).unwrap();
    let address = proxy.addresses()[0];
    let stop = CancellationToken::new();
    let app = AppName::new("shop").unwrap();
    let of_color = proxy.add_color_listener(app, Color::Green, any, stop.clone()).unwrap();
    for round in 1..=3 {
        let mut open = connect(address);
        assert_eq!(ask(&mut open), "HTTP/1.1 200");
        proxy.orders[0].try_send(Order::Fall).unwrap();
        // It may wait in the socket until the worker is back; it is not refused.
        assert_eq!(ask(&mut connect(address)), "HTTP/1.1 200");
        assert_eq!(ask(&mut connect(of_color)), "HTTP/1.1 200");
        until("it is counted", || proxy.counts().worker_restarts == round);
        let mut bytes = Vec::new();
        open.read_to_end(&mut bytes).ok();
        until("what it had is closed and given back", || proxy.counts().connections == 0);
    }
    stop.cancel();
    until("a color's address that ends is closed", || TcpStream::connect(of_color).is_err());
    assert_eq!(ask(&mut connect(address)), "HTTP/1.1 200");
    runtime().block_on(proxy.shutdown(PATIENCE));
    until("a stop closes the sockets", || TcpStream::connect(address).is_err());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
