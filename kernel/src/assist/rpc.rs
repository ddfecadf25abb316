//! JSON-RPC messages with the framing of the Language Server Protocol ("Base Protocol").

use std::io::{self, BufRead, Read, Write};

use serde_json::Value;

/// The maximum length of a message, in bytes.
const LONGEST: usize = 64 << 20;

/// Writes a message.
pub(super) fn write(to: &mut impl Write, message: &Value) -> io::Result<()> {
    let body = message.to_string();
    write!(to, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    to.flush()
}

/// Reads a message; `None` at the end of the stream.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Value>> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if from.by_ref().take(1024).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok(),
            Some(_) => {}
            None => break,
        }
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "missing or invalid Content-Length");
    let length = length.filter(|length| *length <= LONGEST).ok_or_else(malformed)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use serde_json::json;

    use super::*;

    /// A reader that returns one byte at a time, as a pipe may.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn messages_round_trip_for_any_chunk_size() {
        let messages = [
            json!({ "id": 1, "method": "é" }),
            json!({}),
            json!({ "result": "a\r\n\r\nb" }),
        ];
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| write(&mut bytes, message).unwrap());
        for capacity in [1, 7, 4096] {
            let mut reader = BufReader::with_capacity(capacity, Slow(&bytes));
            for message in &messages {
                assert_eq!(read(&mut reader).unwrap().as_ref(), Some(message));
            }
            assert_eq!(read(&mut reader).unwrap(), None);
        }
    }

    #[test]
    fn framing_follows_the_protocol() {
        let mut bytes = Vec::new();
        write(&mut bytes, &json!({ "a": "é" })).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "Content-Length: 10\r\n\r\n{\"a\":\"é\"}");
    }

    #[test]
    fn other_headers_are_ignored_and_malformed_messages_rejected() {
        let mut good = &b"Content-Type: x; charset=utf-8\r\ncontent-length:2\r\n\r\n{}"[..];
        assert_eq!(read(&mut good).unwrap(), Some(json!({})));
        for bad in [
            "\r\n",
            "Content-Length: 999999999999\r\n\r\n",
            "Content-Length: 5\r\n\r\n{}",
            "Content-Length: 2\r\n\r\n{]",
        ] {
            assert!(read(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
