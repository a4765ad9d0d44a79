//! The admin port: which answers there are, and what is refused.
//!
//! Only GET and HEAD, and nothing changes by either. Whoever connects is bounded: in number, in the
//! time for a request and its answer, in the length of a head. A page of another origin can read
//! nothing (there is no CORS), and over loopback the Host must be this host: a name that an
//! attacker points at 127.0.0.1 is refused.

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::page::PAGE;
use super::state::State;
use super::{metrics, rend};
use crate::base::clock::Clock;
use crate::report::{self, Event, Topic};

/// Connections at once; others wait in the kernel's queue.
const CONNECTIONS: usize = 256;

/// Longest time of a connection. A scraper that keeps its connection opens another then.
const CONNECTION: Duration = Duration::from_secs(30);

/// Longest time for a head to arrive, or between two.
const HEAD: Duration = Duration::from_secs(5);

/// Longest head.
const HEAD_BYTES: usize = 16 * 1024;

static ACCEPT: Topic = Topic::new();

/// Answers whoever connects, for ever.
pub async fn serve(listener: TcpListener, state: Rc<State>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            let text = format_args!("--admin: there are no metrics: {error}");
            return report::tell(Event::AdminFailed.line(text));
        }
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let clock = Clock::start();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                ACCEPT.report(clock.read(), || {
                    let text = format_args!("--admin: a connection failed: {error}");
                    Event::AdminFailed.line(text)
                });
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A page of another origin reaches this host by a name of its own (DNS rebinding).
        let is_local = stream.local_addr().is_ok_and(|own| own.ip().to_canonical().is_loopback());
        let state = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            let _permit = permit;
            let answer = service_fn(|request| {
                let response = answer(&request, is_local, &state);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
            // How it ends is the client's business.
            let _ = timeout(CONNECTION, http.serve_connection(TokioIo::new(stream), answer)).await;
        });
    }
}

fn answer(request: &Request<Incoming>, is_local: bool, state: &State) -> Response<Full<Bytes>> {
    let refuse = |status, line: &str| respond(status, "text/plain; charset=utf-8", line.to_owned());
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if is_local && !is_this_host(request) {
        let line = "the Host must be an IP address or localhost\n";
        return refuse(StatusCode::MISDIRECTED_REQUEST, line);
    }
    match request.uri().path() {
        "/" => respond(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
        "/metrics" => {
            let format = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
            respond(StatusCode::OK, format, metrics::text(state))
        }
        "/metrics/rend" => respond(StatusCode::OK, "text/plain", rend::text(state.view())),
        "/feed" => match since(request.uri().query()) {
            Some(seq) => match serde_json::to_string(&state.feed(seq)) {
                Ok(json) => respond(StatusCode::OK, "application/json", json),
                Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "no numbers\n"),
            },
            None => refuse(StatusCode::BAD_REQUEST, "expected /feed?since=NUMBER\n"),
        },
        "/health" => match state.view().shared().is_ready.load(Relaxed) {
            true => refuse(StatusCode::OK, "ready\n"),
            false => refuse(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        },
        _ => {
            refuse(StatusCode::NOT_FOUND, "there are /, /metrics, /metrics/rend, /feed, /health\n")
        }
    }
}

/// The number in `since=NUMBER`; 0 without a query.
fn since(query: Option<&str>) -> Option<u64> {
    match query {
        None | Some("") => Some(0),
        Some(query) => query.strip_prefix("since=")?.parse().ok(),
    }
}

/// Whether the client has reached this host by an address, or as localhost.
fn is_this_host(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.or(request.uri().host()) else { return true };
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn respond(status: StatusCode, format: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_TYPE, format),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
