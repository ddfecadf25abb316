//! Messages as WebSocket frames, as used by clients of a Jupyter server: JSON in a text frame, or, with the subprotocol
//! [`V1`], the parts of a message with their offsets in a binary frame.
//!
//! Format: <https://jupyter-server.readthedocs.io/en/latest/developers/websocket-protocols.html>. Offsets are checked
//! against the frame's length before use.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::jupyter::{Channel, Header, Message};

/// The subprotocol with only binary frames.
pub const V1: &str = "v1.kernel.websocket.jupyter.org";

/// The broadcast channel.
pub const IOPUB: &str = "iopub";

/// The number of parts of a message besides buffers: header, parent header, metadata, content.
const PARTS: usize = 4;

/// An outgoing message, encoded once for all receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    channel: &'static str,
    msg_id: String,
    msg_type: String,
    parts: [Bytes; PARTS],
    buffers: Vec<Bytes>,
}

/// An error decoding a frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// An offset points outside of the frame, or backwards.
    #[error("invalid offsets in the frame")]
    Offsets,
    /// A part is not valid JSON or does not have the expected form.
    #[error("can't parse {what} of the message: {problem}")]
    Json {
        /// which part
        what: &'static str,
        /// what is wrong with it
        problem: String,
    },
}

/// The JSON of a text frame.
#[derive(Deserialize)]
struct Text {
    #[serde(default)]
    channel: Option<String>,
    header: Value,
    #[serde(default)]
    parent_header: Value,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    content: Value,
}

impl Encoded {
    /// Encodes a message for `channel`.
    pub fn new(channel: &'static str, message: &Message) -> Self {
        Self {
            channel,
            msg_id: message.header.msg_id.clone(),
            msg_type: message.header.msg_type.clone(),
            parts: [
                json(&message.header),
                message.parent.as_deref().map_or(Bytes::from_static(b"{}"), json),
                json(&message.metadata),
                json(&message.content),
            ],
            buffers: message.buffers.clone(),
        }
    }

    /// Returns the total length of the parts, without framing.
    pub fn len(&self) -> usize {
        self.parts.iter().chain(&self.buffers).map(Bytes::len).sum()
    }

    /// Always false: a message has a header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the unique id of the message.
    pub fn msg_id(&self) -> &str {
        &self.msg_id
    }

    /// Returns the type of the message, such as `status`.
    pub fn msg_type(&self) -> &str {
        &self.msg_type
    }

    /// Returns a text frame, which can't hold buffers.
    pub fn text(&self) -> String {
        let [header, parent, metadata, content] = self.parts.each_ref().map(|part| String::from_utf8_lossy(part));
        let (id, kind) = (json!(self.msg_id), json!(self.msg_type));
        let channel = self.channel;
        format!(
            "{{\"channel\":\"{channel}\",\"msg_id\":{id},\"msg_type\":{kind},\"header\":{header},\"parent_header\":{parent},\
             \"metadata\":{metadata},\"content\":{content},\"buffers\":[]}}"
        )
    }

    /// Returns a binary frame of [`V1`].
    pub fn binary(&self) -> Vec<u8> {
        let parts = || self.parts.iter().chain(&self.buffers);
        let count = 2 + parts().count();
        let mut offset = 8 * (count + 1);
        let mut frame = Vec::with_capacity(offset + self.channel.len() + self.len());
        let lengths = std::iter::once(self.channel.len()).chain(parts().map(Bytes::len));
        frame.extend((count as u64).to_le_bytes());
        frame.extend((offset as u64).to_le_bytes());
        for length in lengths {
            offset += length;
            frame.extend((offset as u64).to_le_bytes());
        }
        frame.extend(self.channel.as_bytes());
        parts().for_each(|part| frame.extend_from_slice(part));
        frame
    }
}

/// Decodes the channel and the message of a text frame. The default channel is shell.
pub fn decode_text(frame: &str) -> Result<(String, Message), FrameError> {
    from_json(frame.as_bytes(), Vec::new())
}

/// Decodes the channel and the message of a binary frame of [`V1`]: the number of offsets and the offsets, each 64 bits in
/// little-endian order; then channel, header, parent header, metadata, content and buffers.
pub fn decode_v1(frame: &Bytes) -> Result<(String, Message), FrameError> {
    let parts = split(frame, 8, |bytes| {
        usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
    })?;
    let [channel, header, parent, metadata, content, buffers @ ..] = parts.as_slice() else {
        return Err(FrameError::Offsets);
    };
    let channel = std::str::from_utf8(channel).map_err(|problem| invalid("the channel", problem))?;
    let text = Text {
        channel: Some(channel.to_owned()),
        header: parse("the header", header)?,
        parent_header: parse("the parent header", parent)?,
        metadata: parse("the metadata", metadata)?,
        content: parse("the content", content)?,
    };
    message(text, buffers.to_vec())
}

/// Decodes the channel and the message of a binary frame without a subprotocol: the number of offsets and the offsets, each
/// 32 bits in big-endian order; then the JSON of a text frame, and buffers.
pub fn decode_with_buffers(frame: &Bytes) -> Result<(String, Message), FrameError> {
    let read = |bytes: &[u8]| usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok();
    let count = frame.get(..4).and_then(read).ok_or(FrameError::Offsets)?;
    // unlike in V1, the last offset is not the end
    let head = count.checked_add(1).and_then(|words| words.checked_mul(4));
    let head = head.and_then(|end| frame.get(4..end)).ok_or(FrameError::Offsets)?;
    let mut offsets: Vec<usize> = head.chunks_exact(4).filter_map(read).collect();
    offsets.push(frame.len());
    let parts = between(frame, &offsets, 4 + head.len())?;
    let [json, buffers @ ..] = parts.as_slice() else {
        return Err(FrameError::Offsets);
    };
    from_json(json, buffers.to_vec())
}

/// Splits a frame that starts with the number of offsets and the offsets, words of `width` bytes.
fn split(frame: &Bytes, width: usize, read: impl Fn(&[u8]) -> Option<usize>) -> Result<Vec<Bytes>, FrameError> {
    let count = frame.get(..width).and_then(&read).ok_or(FrameError::Offsets)?;
    let end = count.checked_add(1).and_then(|words| words.checked_mul(width));
    let head = end.and_then(|end| frame.get(width..end)).ok_or(FrameError::Offsets)?;
    let offsets: Option<Vec<usize>> = head.chunks_exact(width).map(read).collect();
    between(frame, &offsets.ok_or(FrameError::Offsets)?, width + head.len())
}

/// Returns the parts between consecutive offsets. The first offset must be at least `least`.
fn between(frame: &Bytes, offsets: &[usize], least: usize) -> Result<Vec<Bytes>, FrameError> {
    let in_order = offsets.is_sorted() && offsets.first().is_some_and(|first| *first >= least);
    if !in_order || offsets.last().is_none_or(|last| *last > frame.len()) {
        return Err(FrameError::Offsets);
    }
    Ok(offsets.windows(2).map(|pair| frame.slice(pair[0]..pair[1])).collect())
}

fn from_json(json: &[u8], buffers: Vec<Bytes>) -> Result<(String, Message), FrameError> {
    message(parse("the JSON", json)?, buffers)
}

fn message(mut text: Text, buffers: Vec<Bytes>) -> Result<(String, Message), FrameError> {
    date_as_text(&mut text.header);
    date_as_text(&mut text.parent_header);
    let header = serde_json::from_value(text.header).map_err(|problem| invalid("the header", problem))?;
    let object = |value: Value| if value.is_null() { json!({}) } else { value };
    let message = Message {
        header,
        parent: serde_json::from_value::<Header>(text.parent_header).ok().map(Arc::new),
        metadata: object(text.metadata),
        content: object(text.content),
        buffers,
    };
    Ok((text.channel.unwrap_or_else(|| Channel::Shell.name().to_owned()), message))
}

/// Converts a date in seconds, as written by Jupyter's gateway client, to text.
fn date_as_text(header: &mut Value) {
    if let Some(date) = header.get_mut("date")
        && !date.is_string()
    {
        let seconds = date.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let time = seconds.and_then(|since| UNIX_EPOCH.checked_add(since));
        // RFC 3339 allows no year with five digits
        let time = time.filter(|time| {
            time.duration_since(UNIX_EPOCH)
                .is_ok_and(|since| since.as_secs() < 253_402_300_800)
        });
        *date = time.map_or_else(|| json!(""), |time| json!(humantime::format_rfc3339_micros(time).to_string()));
    }
}

fn parse<T: serde::de::DeserializeOwned>(what: &'static str, json: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(json).map_err(|problem| invalid(what, problem))
}

fn invalid(what: &'static str, problem: impl std::fmt::Display) -> FrameError {
    FrameError::Json {
        what,
        problem: problem.to_string(),
    }
}

/// Serializes headers and values. They are maps with text keys, so this can't fail.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).map_or(Bytes::from_static(b"{}"), Bytes::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(buffers: Vec<Bytes>) -> Message {
        let header = r#"{"msg_id":"1","msg_type":"comm_msg","session":"s","username":"u","date":"d","version":"5.5","subshell_id":"sub"}"#;
        let header: Header = serde_json::from_str(header).unwrap();
        Message {
            parent: Some(Arc::new(header.clone())),
            header,
            metadata: json!({ "cellId": "c" }),
            content: json!({ "code": "\"é\"" }),
            buffers,
        }
    }

    #[test]
    fn frames_round_trip() {
        let plain = message(Vec::new());
        let text = Encoded::new(IOPUB, &plain).text();
        assert_eq!(decode_text(&text), Ok(("iopub".to_owned(), plain)));
        let full = message(vec![Bytes::from_static(b"\0\xff"), Bytes::new()]);
        let binary = Encoded::new("shell", &full).binary();
        assert_eq!(decode_v1(&binary.into()), Ok(("shell".to_owned(), full)));
    }

    /// Expected: `serialize_msg_to_ws_v1([b"{}"] * 4 + [b"\1"], "stdin")` of jupyter_server.
    #[test]
    fn a_binary_frame_matches_jupyter_server() {
        let encoded = Encoded {
            channel: "stdin",
            msg_id: String::new(),
            msg_type: String::new(),
            parts: [b"{}"; 4].map(|part| Bytes::from_static(part)),
            buffers: vec![Bytes::from_static(b"\x01")],
        };
        let words: [u64; 8] = [7, 64, 69, 71, 73, 75, 77, 78];
        let head: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(encoded.binary(), [&head[..], b"stdin{}{}{}{}\x01"].concat());
    }

    #[test]
    fn a_frame_with_buffers_is_read() {
        let json = Encoded::new("shell", &message(Vec::new())).text();
        let words = [2, 12, 12 + u32::try_from(json.len()).unwrap()];
        let head: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let frame = [&head[..], json.as_bytes(), b"\x07\x08"].concat();
        let expected = message(vec![Bytes::from_static(b"\x07\x08")]);
        assert_eq!(decode_with_buffers(&frame.into()), Ok(("shell".to_owned(), expected)));
    }

    #[test]
    fn a_date_may_be_a_number() {
        let date = |date: &str| {
            let frame = format!("{{\"header\":{{\"msg_id\":\"1\",\"msg_type\":\"x\",\"date\":{date}}}}}");
            decode_text(&frame).unwrap().1.header.date
        };
        assert_eq!(date("1700000000.5"), "2023-11-14T22:13:20.500000Z");
        assert_eq!((date("null"), date("1e300"), date("-1")), Default::default());
    }

    #[test]
    fn invalid_offsets_are_rejected() {
        let frame = |words: &[u64], rest: &[u8]| {
            let head: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            decode_v1(&[&head[..], rest].concat().into())
        };
        assert_eq!(frame(&[], b""), Err(FrameError::Offsets));
        assert_eq!(frame(&[u64::MAX], b""), Err(FrameError::Offsets));
        assert_eq!(frame(&[u64::MAX / 8], b"12345678"), Err(FrameError::Offsets));
        assert_eq!(frame(&[6, 56, 56, 56, 56, 56, u64::MAX], b""), Err(FrameError::Offsets));
        assert_eq!(frame(&[6, 56, 61, 60, 62, 62, 62], b"shell{}{}"), Err(FrameError::Offsets));
        assert_eq!(frame(&[6, 0, 8, 8, 8, 8, 8], b""), Err(FrameError::Offsets));
        assert!(matches!(
            frame(&[6, 56, 61, 61, 61, 61, 61], b"shell"),
            Err(FrameError::Json { .. })
        ));
        assert!(decode_with_buffers(&Bytes::from_static(b"\xff\xff\xff\xff")).is_err());
        assert!(decode_with_buffers(&Bytes::from_static(b"\0\0\0\0")).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..400, at in 0usize..400, byte: u8) {
            let _ = decode_v1(&Bytes::from(bytes.clone()));
            let _ = decode_with_buffers(&Bytes::from(bytes.clone()));
            let _ = decode_text(&String::from_utf8_lossy(&bytes));
            let mut frame = Encoded::new("shell", &message(vec![Bytes::from(bytes)])).binary();
            frame.truncate(frame.len().saturating_sub(cut % 100));
            if let Some(there) = frame.get_mut(at) {
                *there = byte;
            }
            let _ = decode_v1(&Bytes::from(frame));
        }

        #[test]
        fn every_message_round_trips(code in any::<String>(), id in any::<String>(), buffers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4)) {
            let mut sent = message(buffers.into_iter().map(Bytes::from).collect());
            sent.header.msg_id = id;
            sent.content = json!({ "code": code });
            prop_assert_eq!(decode_v1(&Encoded::new("control", &sent).binary().into()), Ok(("control".to_owned(), sent.clone())));
            sent.buffers.clear();
            prop_assert_eq!(decode_text(&Encoded::new("control", &sent).text()), Ok(("control".to_owned(), sent)));
        }
    }
}
