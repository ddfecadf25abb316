//! A bucket for tests of crates that can't start a real S3 server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

/// Starts a server with an empty bucket that may be read but not written. Returns its port.
pub fn read_only() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = Vec::new();
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                let mut bytes = [0; 4096];
                match client.read(&mut bytes) {
                    Ok(count @ 1..) => request.extend(&bytes[..count]),
                    _ => break,
                }
            }
            let line = String::from_utf8_lossy(&request)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            let (status, body) = match line.split(' ').next() {
                Some("GET") if line.contains("list-type=2") => ("200 OK", "<ListBucketResult></ListBucketResult>"),
                Some("GET" | "HEAD") => ("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>"),
                _ => (
                    "403 Forbidden",
                    "<Error><Code>AccessDenied</Code><Message>read only</Message></Error>",
                ),
            };
            let body = if line.starts_with("HEAD") { "" } else { body };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = client.write_all(answer.as_bytes());
            // unread bytes would reset the connection
            let _ = client.shutdown(Shutdown::Write);
            let _ = std::io::copy(&mut client, &mut std::io::sink());
        }
    });
    port
}
