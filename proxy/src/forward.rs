//! The request path, top to bottom.
//!
//! Every request passes through [`forward`] exactly once: checked, routed by one table, asked of
//! one color, answered. It owns the order of things; the steps live in the modules below.
//! Invariant: one client message becomes at most one upstream message at a time, framed anew (I15),
//! and every request ends in exactly one record.

mod attempt;
mod body;
mod exchange;
mod headers;
mod held;
mod present;
mod target;
mod upgrade;

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{ACCEPT, CONNECTION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

pub(crate) use body::{Answer, Upload};
pub(crate) use headers::was_forwarded;
pub(crate) use held::wait;

use crate::client::{self, Choice, Preview};
use crate::error::Fault;
use crate::error::pages::{self, Taste};
use crate::gate::Shut;
use crate::worker::inbound::Inbound;
use crate::worker::lease::Lease;
use crate::worker::watch::Stage;
use attempt::Answered;
use exchange::Exchange;
use held::Passed;
use present::Present;
use target::Target;
use upgrade::Asked;

/// Answers one request of a client.
pub(crate) async fn forward(
    inbound: Arc<Inbound>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    inbound.watch.disarm(Stage::Head);
    let mut exchange = Exchange::begin(&inbound, &request);
    let accept = request.headers().get(ACCEPT).cloned();
    let answered = serve(&inbound, request, &mut exchange).await;
    let mut response = match answered {
        Ok(Served::Answer(answered, choice, asked)) => deliver(exchange, *answered, &choice, asked),
        Ok(Served::Own(response)) => {
            exchange.end_own(response.status());
            response
        }
        Ok(Served::Closed(shut)) => {
            let fault = Fault::Closed(shut.retry_after_s);
            let own = shut.page.clone().or_else(|| inbound.worker.shared.pages.load().of(fault));
            exchange.fail(fault);
            pages::page(fault, Taste::of(accept.as_ref()), exchange.request_id(), own)
        }
        Err(fault) => {
            exchange.fail(fault);
            let own = inbound.worker.shared.pages.load().of(fault);
            pages::page(fault, Taste::of(accept.as_ref()), exchange.request_id(), own)
        }
    };
    if inbound.watch.is_parting() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // With the answer, not between two requests: a client never meets a closed connection.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// What became of a request that did not fail.
enum Served {
    /// An upstream has answered.
    Answer(Box<Answered>, Choice, Asked),
    /// Cutover answers itself.
    Own(Response<Answer>),
    /// The app's gate is closed for this client.
    Closed(Arc<Shut>),
}

async fn serve(
    inbound: &Arc<Inbound>,
    request: Request<Incoming>,
    exchange: &mut Exchange,
) -> Result<Served, Fault> {
    if let Some(rule) = inbound.notes.next() {
        return Err(Fault::Malformed(rule));
    }
    let (mut parts, body) = request.into_parts();
    let present = Present::look(&parts.headers);
    headers::expectation(&parts.headers, present)?;
    let asked = upgrade::asked(&mut parts, present, &body);
    let target = target::read(&mut parts, inbound.local)?;
    headers::seen_before(&parts.headers, present, inbound)?;
    let visitor = client::visitor(&parts.headers, inbound);
    exchange.visitor = visitor;

    let (lease, choice) = match route(inbound, &parts, &body, &target, exchange).await? {
        Way::Free(lease, choice) => (lease, choice),
        Way::Barred(served) => return Ok(served),
    };
    if let Choice::Preview(preview) = &choice {
        return preview_page(preview, &parts);
    }
    inbound.watch.hold(lease.id());
    target::rewrite(&mut parts, lease.route(), &target)?;
    let upload = Upload::new(body, &parts, inbound)?;
    let id = &exchange.request_id;
    headers::to_upstream(&mut parts, present, inbound, &target, visitor, id);
    asked.to_upstream(&mut parts.headers);
    upload.frame(&mut parts.headers);
    exchange.routed(lease, &choice);

    let answered = attempt::ask(inbound, exchange, parts, upload, &asked).await?;
    Ok(Served::Answer(Box::new(answered), choice, asked))
}

/// Where a request may go.
enum Way {
    /// To a color.
    Free(Lease, Choice),
    /// Nowhere: this is its answer.
    Barred(Served),
}

/// Finds the way by one table, which is taken after the request has waited at the gate, if it had
/// to (I1). A color's own address has no gate: probes go that way.
async fn route(
    inbound: &Arc<Inbound>,
    parts: &Parts,
    body: &Incoming,
    target: &Target,
    exchange: &mut Exchange,
) -> Result<Way, Fault> {
    let visitor = exchange.visitor;
    let mut turn = None;
    loop {
        let (lease, choice) = find(inbound, parts, target, visitor)?;
        if lease.app().gate.is_open() || inbound.forced.is_some() {
            return Ok(Way::Free(lease, choice));
        }
        // Boxed: it is rare, and would make every request's future larger.
        match Box::pin(held::pass(inbound, parts, body, visitor, lease, turn)).await? {
            Passed::On(lease) => return Ok(Way::Free(lease, choice)),
            Passed::Again(after) => {
                exchange.waited();
                turn = Some(after);
            }
            Passed::Barred(served) => return Ok(Way::Barred(served)),
        }
    }
}

/// Finds the app, the route and the color by one table, and takes the lease.
fn find(
    inbound: &Arc<Inbound>,
    parts: &Parts,
    target: &Target,
    visitor: client::Visitor,
) -> Result<(Lease, Choice), Fault> {
    loop {
        let local = inbound.worker.current();
        let place = target.find(&local.table, inbound, parts)?;
        let app = local.table.apps.get(place.0).ok_or(Fault::NoRoute)?;
        let choice = client::choose(app, parts, inbound, visitor);
        let color = choice.color(app);
        // The table may have been replaced since: then everything is looked at anew.
        if let Some(lease) = Lease::take(&inbound.worker, &local, place, color) {
            return Ok((lease, choice));
        }
    }
}

/// A preview link was followed: set its cookie and go to the clean address.
fn preview_page(preview: &Preview, parts: &Parts) -> Result<Served, Fault> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Fault::Preview);
    }
    let mut response = Response::new(Answer::Empty);
    *response.status_mut() = StatusCode::FOUND;
    preview.set(response.headers_mut()).ok_or(Fault::Preview)?;
    Ok(Served::Own(response))
}

/// Turns the upstream's answer into the client's.
fn deliver(
    mut exchange: Exchange,
    mut answered: Answered,
    choice: &Choice,
    asked: Asked,
) -> Response<Answer> {
    exchange.head(answered.response.status());
    exchange.leads_to_client(answered.times);
    let inbound = exchange.inbound.clone();
    if answered.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::open(exchange, answered, asked);
    }
    headers::to_client(&mut answered.response, &exchange.method, &inbound);
    if let Some(lease) = exchange.lease() {
        choice.set_cookie(lease.app(), &inbound, answered.response.headers_mut());
    }
    body::stream(exchange, answered)
}
