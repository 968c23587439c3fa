//! Public ports that are carried by connection: bytes, half-closes, colors, bounds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cutover_model::{Color, Split};
use cutover_proxy::ProxySettings;
use cutover_proxy::message::{Drain, GateChange, Hold, PortSpec, Rest, StripPrefix};
use tokio_util::sync::CancellationToken;

use super::gate::{change, hold, open, waiting};
use super::harness::{PATIENCE, Site, app, nobody, runtime, service, settings, spec, until};

/// Greets with a name, then sends back what it gets; says goodbye at the end of the stream.
fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                stream.write_all(name.as_bytes()).unwrap();
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..read]).is_err() {
                        return;
                    }
                }
                stream.write_all(b"bye").unwrap_or(());
            });
        }
    });
    address
}

struct Carried {
    site: Site,
    port: SocketAddr,
    stop: CancellationToken,
}

fn carried(
    blue: &[SocketAddr],
    green: &[SocketAddr],
    with: impl Fn(&mut ProxySettings),
) -> Carried {
    let mut shop = spec("shop", blue, green);
    let port = PortSpec { service: service(), port: 0 };
    shop.ports = vec![port.clone()];
    assert_eq!(shop.routes[0].strip_prefix, StripPrefix::Keep);
    let mut settings = settings(vec![shop]);
    with(&mut settings);
    let site = Site::start(settings);
    let stop = CancellationToken::new();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let port = site.proxy.add_port(app("shop"), port, any, stop.clone()).unwrap();
    Carried { site, port, stop }
}

impl Carried {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn drain(&self, deadline: Duration, rest: Rest) -> cutover_proxy::message::Drained {
        let drain = Drain { app: app("shop"), color: Color::Blue, deadline, rest };
        runtime().block_on(self.site.proxy.drain(drain))
    }
}

fn reads(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

fn echoes(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    reads(stream, text);
}

#[test]
fn bytes_pass_and_half_a_connection_may_close_first() {
    let carried = carried(&[echo("blue ")], &[], |_| {});
    let mut stream = carried.connect();
    // The server speaks first, as many protocols want.
    reads(&mut stream, "blue ");
    echoes(&mut stream, "one");
    let piece: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (mut writer, copy) = (stream.try_clone().unwrap(), piece.clone());
    let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
    let mut back = vec![0; piece.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == piece);
    writing.join().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    reads(&mut stream, "bye");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    until("the lease is given back", || {
        carried.site.proxy.switch().in_flight(&app("shop"), Color::Blue) == Default::default()
    });
    until("the place is free", || carried.site.proxy.counts().connections == 0);
}

#[test]
fn new_connections_follow_stable_and_old_ones_stay_until_a_drain_ends_them() {
    let carried = carried(&[echo("blue ")], &[echo("green")], |_| {});
    let mut old = carried.connect();
    reads(&mut old, "blue ");
    // A weight is a matter of requests: connections go to stable.
    carried.site.shift("shop", super::harness::split(Color::Blue, 9_900));
    for _ in 0..5 {
        reads(&mut carried.connect(), "blue ");
    }
    carried.site.shift("shop", Split::all(Color::Green));
    reads(&mut carried.connect(), "green");
    echoes(&mut old, "still there");
    until("the others have ended", || {
        carried.site.proxy.switch().in_flight(&app("shop"), Color::Blue).tunnels == 1
    });
    let drained = carried.drain(Duration::from_millis(30), Rest::Leave);
    assert_eq!((drained.tunnels, drained.left), (1, 1));
    echoes(&mut old, "and still");
    assert_eq!(carried.drain(Duration::from_millis(30), Rest::End).left, 1);
    assert!(matches!(old.read(&mut [0]), Ok(0) | Err(_)));
    reads(&mut carried.connect(), "green");
}

#[test]
fn an_endpoint_that_refuses_is_passed_over_and_none_at_all_closes() {
    let both = carried(&[nobody(), echo("blue ")], &[], |_| {});
    for _ in 0..5 {
        reads(&mut both.connect(), "blue ");
    }
    let none = carried(&[nobody()], &[], |_| {});
    assert!(matches!(none.connect().read(&mut [0]), Ok(0) | Err(_)));
    until("its place is free", || none.site.proxy.counts().connections == 0);
}

#[test]
fn connections_are_bounded_and_idle_ones_end() {
    let carried = carried(&[echo("blue ")], &[], |settings| {
        settings.limits.connections = cutover_proxy::Connections::Asked(2);
        settings.timeouts.tunnel_idle = Duration::from_millis(300);
    });
    let mut first = carried.connect();
    let mut second = carried.connect();
    reads(&mut first, "blue ");
    reads(&mut second, "blue ");
    assert!(matches!(carried.connect().read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(carried.site.proxy.counts().refused, 1);
    // Nothing comes any more.
    assert!(matches!(first.read(&mut [0]), Ok(0) | Err(_)));
    assert!(matches!(second.read(&mut [0]), Ok(0) | Err(_)));
    reads(&mut carried.connect(), "blue ");
}

#[test]
fn a_new_connection_waits_at_the_gate_and_goes_where_stable_is_then() {
    let carried = carried(&[echo("blue ")], &[echo("green")], |_| {});
    change(&carried.site, GateChange::Hold(Hold { ..hold(1) })).unwrap();
    let mut stream = carried.connect();
    waiting(&carried.site, 1);
    carried.site.shift("shop", Split::all(Color::Green));
    open(&carried.site, 1);
    reads(&mut stream, "green");
}

#[test]
fn a_taken_port_is_refused_and_a_stopped_one_is_free_again() {
    let carried = carried(&[echo("blue ")], &[], |_| {});
    let port = PortSpec { service: service(), port: 0 };
    let again = || {
        let stop = CancellationToken::new();
        carried.site.proxy.add_port(app("shop"), port.clone(), carried.port, stop)
    };
    let refused = again().unwrap_err().to_string();
    assert!(refused.contains(&format!("port {} is taken", carried.port.port())), "{refused}");
    let mut open = carried.connect();
    reads(&mut open, "blue ");
    carried.stop.cancel();
    until("the port is free", || again().is_ok());
    echoes(&mut open, "goes on");
}
