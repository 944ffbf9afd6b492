//! The HTTP server of the Prometheus endpoint: `/metrics`, and a page that points there.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as BlockingListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::accept;
use crate::prometheus;
use crate::publish::Published;

/// Connections served at once; more wait in the accept queue.
const CONNECTIONS: usize = 64;
/// How long a client may take to send its request's head, and an idle connection may stay.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

const INDEX: &str = "<!doctype html><title>lbstatd</title><h1>lbstatd</h1><p><a href=\"/metrics\">Metrics</a></p>\n";

/// Listens on this address.
///
/// # Errors
/// In one line, naming the address, the reason and the remedy.
pub fn bind(address: SocketAddr) -> anyhow::Result<BlockingListener> {
    let listener = BlockingListener::bind(address).map_err(|error| {
        anyhow::anyhow!("cannot listen for Prometheus on {address}: {error}: choose another address with --prometheus")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until dropped.
///
/// # Errors
/// The runtime's, when it cannot watch the socket.
pub async fn serve(listener: BlockingListener, published: Arc<Published>) -> io::Result<Infallible> {
    let listener = TcpListener::from_std(listener)?;
    let serve = |(stream, _)| {
        let published = published.clone();
        async move {
            let service = service_fn(|request| answer(request, published.clone()));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!("Prometheus connection: {error}");
            }
        }
    };
    Ok(accept::each(CONNECTIONS, "a Prometheus connection", || listener.accept(), serve).await)
}

async fn answer(request: Request<Incoming>, published: Arc<Published>) -> Result<Response<Full<Bytes>>, Infallible> {
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, body) = match request.uri().path() {
        _ if !reading => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".to_owned()),
        "/metrics" => {
            let snapshot = published.load();
            // A page for thousands of servers takes milliseconds of pure computing.
            match tokio::task::spawn_blocking(move || prometheus::exposition(&snapshot)).await {
                Ok(page) => (StatusCode::OK, prometheus::CONTENT_TYPE, page),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
            }
        }
        "/" => (StatusCode::OK, "text/html; charset=utf-8", INDEX.to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "not here: see /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if !reading {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Ok(response)
}
