//! `--http`: health, metrics and what a daemon shows itself, over HTTP. The only door to hyper.
//!
//! Owns the server and its bounds. Does not own what is answered (`health`, `metrics`, and a daemon's
//! [`Site`]).
//!
//! **The server has a thread and a runtime of its own**: it answers while the program's loop stands still,
//! and nothing that a client does takes time from the loop. Every request is bounded in size and time, and so
//! is their number: if there are too many connections, the oldest is closed, so that a probe is always
//! answered.

mod address;
mod answers;
mod site;

pub use address::ListenAddress;
pub use site::{Asked, Reply, Site};

use crate::failure::Failure;
use crate::health::Health;
use crate::metrics::Registry;
use answers::Answers;
use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

/// How long the head of a request may take.
const LONGEST_HEAD: Duration = Duration::from_secs(5);
/// How long a connection may last. It serves one request.
const LONGEST_CONNECTION: Duration = Duration::from_secs(10);
/// In bytes, the head of a request.
const LARGEST_HEAD: usize = 16 * 1024;
/// Connections at the same time.
const MOST_CONNECTIONS: usize = 64;
/// A pause when no connection can be accepted: the process has too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts the server. It lives as long as the process. `site` is what the daemon answers itself.
///
/// # Errors
/// The address cannot be used.
pub fn start(
    address: &ListenAddress,
    health: Arc<Health>,
    metrics: Registry,
    site: Option<Site>,
) -> Result<(), Failure> {
    let unusable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there (perhaps a second one of these): choose another port"
            }
            io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "give an address of this machine, for example 127.0.0.1:9187",
        };
        let error = anyhow::Error::new(error).context(format!("--http cannot listen on {address}"));
        Failure::at_work(error, hint.to_owned())
    };
    let listener = address.bind().map_err(unusable)?;
    let local = listener.local_addr().map_err(unusable)?;
    let answers = Arc::new(Answers::new(health, metrics, site, local.ip().to_canonical().is_loopback()));
    let run = move || {
        if let Err(error) = run(listener, &answers) {
            tracing::error!("the server of --http has ended: {error:#}");
        }
    };
    let thread = thread::Builder::new().name("http".to_owned()).spawn(run);
    thread.map_err(|error| Failure::at_work(error, None))?;
    tracing::info!(address = %local, "answering over http");
    Ok(())
}

/// Runs the server on this thread.
fn run(listener: TcpListener, answers: &Arc<Answers>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut connections = VecDeque::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            connections.retain(|connection: &AbortOnDropHandle<()>| !connection.is_finished());
            if connections.len() >= MOST_CONNECTIONS {
                connections.pop_front();
            }
            let serving = tokio::spawn(serve(stream, Arc::clone(answers)));
            connections.push_back(AbortOnDropHandle::new(serving));
        }
    })
}

/// Serves one request.
async fn serve(stream: TcpStream, answers: Arc<Answers>) {
    let service = service_fn(move |request| {
        let answer = answers.answer(&request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .max_buf_size(LARGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // What goes wrong here concerns the client alone.
    if let Ok(Err(error)) = timeout(LONGEST_CONNECTION, connection).await {
        tracing::debug!(%error, "a connection to --http");
    }
}
