//! Connections: limits, TLS and graceful shutdown.

use std::fs;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lockstep_view::error::{Error, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Timeout of TLS handshakes and of request heads.
const HEAD: Duration = Duration::from_secs(10);

/// The certificate and key of the host. They can be replaced while it serves.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Loads a certificate and its key from PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        Ok(Self {
            acceptor: RwLock::new(acceptor(certificate, key)?),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Loads the files again, for new connections. After an error, everything is as before.
    pub fn reload(&self) -> Result<()> {
        let new = acceptor(&self.certificate, &self.key)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
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

/// Serves connections of `listener` with `router` until `ending` completes. `places` are those of connections. Then waits up to `grace` for requests in progress.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
    places: Arc<Semaphore>,
    ending: impl Future<Output = ()>,
    grace: Duration,
) {
    let (end, ends) = watch::channel(false);
    let mut ending = pin!(ending);
    loop {
        // further connections wait in the kernel's backlog
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = &mut ending => break,
        };
        // the semaphore is never closed
        let Ok(place) = place else { break };
        let (stream, address) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut ending => break,
        };
        // avoids delays of small packets; failure only costs latency
        let _ = stream.set_nodelay(true);
        let (router, tls, ends) = (router.clone(), tls.as_ref().map(|tls| tls.acceptor()), ends.clone());
        let peer = Peer(address);
        let stream = Held { stream, _place: place };
        tokio::spawn(async move {
            match tls {
                None => answer(stream, peer, router, ends).await,
                Some(tls) => {
                    // drop connections without a TLS handshake
                    if let Ok(Ok(stream)) = tokio::time::timeout(HEAD, tls.accept(stream)).await {
                        answer(stream, peer, router, ends).await;
                    }
                }
            }
        });
    }
    drop((listener, ends));
    end.send_replace(true);
    // connections that remain after this are closed
    let _ = tokio::time::timeout(grace, end.closed()).await;
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

/// Answers the requests of a connection, in HTTP/1.1. A head must arrive within [`HEAD`], counted from the start of the connection or from
/// the response before it.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    mut ends: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(64 << 10);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    // errors of a connection concern its client only
    let is_over = tokio::select! {
        _ = connection.as_mut() => true,
        _ = ends.wait_for(|ends| *ends) => false,
    };
    if !is_over {
        // after the response in progress
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// The address of the client, or of a proxy before it. Every request has it as an extension.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A connection with its place among the maximum number, also when it has become a WebSocket.
struct Held {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context, pieces: &[IoSlice]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
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
