//! Connections: accepted, bounded in number and time, over TLS if so set up, and let go when the host ends.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use lockstep_view::error::{Error, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Who has not sent the head of a request, or shaken hands, after so long is let go.
const HEAD: Duration = Duration::from_secs(10);

/// What TLS needs, from two files of PEM.
pub fn tls(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    // a process has one: whichever comes first serves all
    let _ = rustls::crypto::ring::default_provider().install_default();
    let unreadable =
        |path: &Path, why: &dyn std::fmt::Display| Error::config(format_args!("{} can't be read: {why}", path.display()));
    let pem = fs::read(certificate).map_err(|e| Error::file("read", certificate, &e))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| unreadable(certificate, &e))?;
    if chain.is_empty() {
        return Err(unreadable(certificate, &"it has no certificate"));
    }
    let pem = fs::read(key).map_err(|e| Error::file("read", key, &e))?;
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| unreadable(key, &e))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    let mut config =
        config.map_err(|e| Error::config(format_args!("{} and {} don't fit: {e}", certificate.display(), key.display())))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Answers connections of `listener` with `router` until `ending` is over, and then waits, no longer than `grace`, for those that are
/// being answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    connections: usize,
    ending: impl Future<Output = ()>,
    grace: Duration,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(connections));
    let mut ending = pin!(ending);
    loop {
        // who finds no place waits in the system's queue
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = &mut ending => break,
        };
        let (stream, _) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut ending => break,
        };
        // what is small must not wait for what was before to be acknowledged; without this things are only slower
        let _ = stream.set_nodelay(true);
        let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            match tls {
                None => answer(stream, router, watcher).await,
                Some(tls) => {
                    // who does not shake hands is a stranger
                    if let Ok(Ok(stream)) = tokio::time::timeout(HEAD, tls.accept(stream)).await {
                        answer(stream, router, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    // those that are still there after this are cut off
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // a client that left at once, or no file descriptors for the moment
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, watcher: Watcher) {
    let mut http = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 << 10);
    let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router));
    // how a client ends is the client's affair
    let _ = watcher.watch(connection.into_owned()).await;
}

/// Listens on `address`.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let failed = |e: io::Error| {
        let hint = match e.kind() {
            io::ErrorKind::AddrInUse => "another process listens there; --bind ADDRESS:PORT takes another",
            _ => "--bind ADDRESS:PORT takes another",
        };
        Error::host(format_args!("can't listen on {address}: {e}")).hint(hint)
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
