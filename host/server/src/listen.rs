//! Connections: limits, TLS and graceful shutdown.

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

/// Timeout of TLS handshakes and of request heads.
const HEAD: Duration = Duration::from_secs(10);

/// Loads a certificate and its key from PEM files.
pub fn tls(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    // one per process; later calls fail, which is fine
    let _ = rustls::crypto::ring::default_provider().install_default();
    let unreadable =
        |path: &Path, why: &dyn std::fmt::Display| Error::config(format_args!("can't parse {}: {why}", path.display()));
    let pem = fs::read(certificate).map_err(|e| Error::file("read", certificate, &e))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| unreadable(certificate, &e))?;
    if chain.is_empty() {
        return Err(unreadable(certificate, &"no certificate found"));
    }
    let pem = fs::read(key).map_err(|e| Error::file("read", key, &e))?;
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| unreadable(key, &e))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    let mut config = config.map_err(|e| {
        Error::config(format_args!(
            "can't use {} with {}: {e}",
            certificate.display(),
            key.display()
        ))
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves connections of `listener` with `router` until `ending` completes. Then waits up to `grace` for requests in progress.
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
        // further connections wait in the kernel's backlog
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = &mut ending => break,
        };
        let (stream, _) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut ending => break,
        };
        // avoids delays of small packets; failure only costs latency
        let _ = stream.set_nodelay(true);
        let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            match tls {
                None => answer(stream, router, watcher).await,
                Some(tls) => {
                    // drop connections without a TLS handshake
                    if let Ok(Ok(stream)) = tokio::time::timeout(HEAD, tls.accept(stream)).await {
                        answer(stream, router, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    // connections that remain after this are closed
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // the client disconnected, or file descriptors ran out temporarily
            Err(error) => {
                tracing::warn!("can't accept a connection: {error}");
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
    // errors of a connection concern its client only
    let _ = watcher.watch(connection.into_owned()).await;
}

/// Binds `address`. Returns the listener and its actual address.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let failed = |e: io::Error| {
        let hint = match e.kind() {
            io::ErrorKind::AddrInUse => "another process uses this address; select another with --bind ADDRESS:PORT",
            _ => "select another address with --bind ADDRESS:PORT",
        };
        Error::host(format_args!("can't listen on {address}: {e}")).hint(hint)
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
