//! Port forwarding from this machine to the host in a cluster.

use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client};
use lockstep_view::error::{Error, Result};
use lockstep_view::threads::threads;
use serde_json::json;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::pod::{PORT, PORT_NAME};
use super::{connect, error};

/// Selector of host pods.
const HOSTS: &str = "app.kubernetes.io/name=lockstep,app.kubernetes.io/component=host";
/// Secret with the host's token, and its key.
const SECRET: &str = "lockstep-token";
const TOKEN: &str = "LOCKSTEP_TOKEN";
/// Timeout for a connection.
const PATIENCE: Duration = Duration::from_secs(15);

/// A forwarded port to a host in a cluster.
pub struct Forward {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// The host's token, if the user may read its secret.
    pub token: Option<String>,
    /// Runtime for connections.
    _threads: tokio::runtime::Runtime,
}

impl Forward {
    /// Forwards a port of the loopback interface to the host in a namespace of a kubeconfig context. Each connection looks up the pod, so a
    /// host may be replaced. Without a host, clients get an HTTP error with the reason.
    pub fn start(context: Option<&str>, namespace: Option<&str>) -> Result<Self> {
        let threads = threads("forward", 1)?;
        let (listener, client, namespace) = threads.block_on(async {
            let (client, own) = connect(context).await?;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener = listener.map_err(|e| Error::host(format_args!("can't listen on a local port: {e}")))?;
            Ok::<_, Error>((listener, client, namespace.map_or(own, str::to_owned)))
        })?;
        let address = listener.local_addr().map_err(Error::host)?;
        let token = threads.block_on(token(&client, &namespace));
        threads.spawn(async move {
            // runs until the process ends
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(stream, client.clone(), namespace.clone()));
            }
        });
        Ok(Self {
            url: format!("http://{address}"),
            token,
            _threads: threads,
        })
    }
}

async fn token(client: &Client, namespace: &str) -> Option<String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let asked = tokio::time::timeout(PATIENCE, secrets.get_opt(SECRET)).await;
    let token = asked.ok()?.ok()??.data?.remove(TOKEN)?;
    String::from_utf8(token.0).ok().map(|token| token.trim().to_owned())
}

async fn pass_on(mut stream: TcpStream, client: Client, namespace: String) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let reached = tokio::time::timeout(PATIENCE, reach(&pods, &namespace)).await;
    let reached = reached.unwrap_or_else(|_| Err(Error::host("timeout: no response from the cluster")));
    match reached {
        Ok((mut forwarder, port)) => {
            if let Some(mut host) = forwarder.take_stream(port) {
                // client and host see errors themselves
                let _ = copy_bidirectional(&mut stream, &mut host).await;
            }
        }
        Err(error) => {
            let body = json!({ "message": error.to_string() }).to_string();
            let head =
                "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
            // the client may be disconnected
            let _ = stream
                .write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes())
                .await;
        }
    }
}

/// Opens a forwarder to the port of a host's pod.
async fn reach(pods: &Api<Pod>, namespace: &str) -> Result<(kube::api::Portforwarder, u16)> {
    let hosts = pods.list(&ListParams::default().labels(HOSTS)).await.map_err(|e| error(&e))?;
    let host = hosts.items.iter().find(|pod| runs(pod)).ok_or_else(|| {
        Error::host(format_args!("no host is running in namespace {namespace}"))
            .hint("check `kubectl get pods -l app.kubernetes.io/component=host`; select another namespace with --namespace")
    })?;
    let (name, port) = (host.metadata.name.as_deref().unwrap_or_default(), port(host));
    let forwarder = pods.portforward(name, &[port]).await.map_err(|e| error(&e))?;
    Ok((forwarder, port))
}

fn runs(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let is_ready =
        |condition: &k8s_openapi::api::core::v1::PodCondition| condition.type_ == "Ready" && condition.status == "True";
    pod.metadata.deletion_timestamp.is_none() && conditions.is_some_and(|conditions| conditions.iter().any(is_ready))
}

fn port(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some(PORT_NAME));
    named.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(PORT)
}
