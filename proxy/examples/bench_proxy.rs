//! A bare data plane for `bench/compare.py`: one address, one worker, one or more upstreams.
//!
//! `bench_proxy LISTEN UPSTREAM...`; it runs until its standard input ends.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use cutover_model::{AppName, Color, Salt, ServiceName, Split};
use cutover_proxy::message::{
    AppSpec, ByColor, ColorSpec, CookieSpec, Deadlines, EndpointSpec, RouteSpec, Sticky,
    StripPrefix,
};
use cutover_proxy::{Proxy, ProxySettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = arguments.next().ok_or("an address to listen on")?.parse()?;
    let upstreams: Vec<SocketAddr> =
        arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    let service = ServiceName::new("web")?;
    let endpoint =
        |at: &SocketAddr| EndpointSpec { id: at.to_string(), ip: at.ip(), port: Some(at.port()) };
    let color = ColorSpec {
        release: None,
        upstreams: BTreeMap::from([(service.clone(), upstreams.iter().map(endpoint).collect())]),
    };
    let route = RouteSpec {
        host: None,
        path: "/".into(),
        on: None,
        service,
        port: 0,
        strip_prefix: StripPrefix::Keep,
    };
    // Both colors serve, so that each request is given a color by its client's slot.
    let split = Split { stable: Color::Blue, weight: "10%".parse()? };
    let spec = AppSpec {
        app: AppName::new("bench")?,
        routes: vec![route],
        split,
        salt: Salt(1),
        colors: ByColor { blue: color.clone(), green: color },
        sticky: Sticky::Cookie(CookieSpec::default()),
        deadlines: Deadlines::default(),
        ports: Vec::new(),
    };
    let mut settings = ProxySettings::new(vec![listen], [7; 32]);
    settings.workers = NonZeroUsize::MIN;
    settings.tables = vec![spec];
    let _proxy = Proxy::start(settings, Vec::new())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
