//! WebSocket tunnel to a kernel in a pod. The host forwards bytes; protocol and pings are end to end.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper_util::rt::TokioIo;
use lockstep_view::error::Error;
use tokio::io::copy_bidirectional;

use super::declined::Declined;
use super::hosted::Model;
use super::pods::Pod;

/// Connects a client to the kernel `id` in its pod, if there is one.
pub async fn attach(found: Option<(Pod, Model)>, id: &str, mut request: Request) -> Result<Response, Declined> {
    let (pod, _) = found.ok_or_else(|| Declined::no_kernel(id))?;
    // the client's token is not for the pod
    let query = request.uri().query().unwrap_or_default();
    let query: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("token=")).collect();
    let answer = pod
        .channels(id, &query.join("&"), request.headers())
        .await
        .map_err(Error::from)?;
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    let response = response.body(Body::empty()).map_err(Error::host)?;
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // either side may have disconnected
        let (Ok(client), Ok(mut kernel)) = tokio::join!(client, answer.upgrade()) else {
            return;
        };
        let mut client = TokioIo::new(client);
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut kernel) => {}
            () = pod.ended() => {}
        }
    });
    Ok(response)
}
