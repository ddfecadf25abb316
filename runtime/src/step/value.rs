//! Conversion between JSON and CBOR (RFC 8949), the format of values of serde types.

use serde_json::Value;

/// Returns the CBOR that the SDK writes for a JSON value. Integers and floats differ: `1` is not `1.0`.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    match ciborium::into_writer(value, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => unreachable!("every JSON value can be written as CBOR, and writing to a vector does not fail"),
    }
}

/// Parses CBOR. Returns `None` if JSON can't represent the value exactly, that is, if encoding it gives other bytes.
pub fn decode(bytes: &[u8]) -> Option<Value> {
    let value: Value = ciborium::from_reader(bytes).ok()?;
    (encode(&value) == bytes).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde_json::json;

    fn written(value: &impl Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn json_is_written_as_the_types_of_rust_are() {
        assert_eq!(encode(&json!(50)), written(&50usize));
        assert_eq!(encode(&json!(1.0)), written(&1.0f64));
        assert_ne!(encode(&json!(1)), written(&1.0f64));
        assert_eq!(encode(&json!(["a", "b"])), written(&vec!["a", "b"]));
        assert_eq!(encode(&json!(null)), written(&None::<u8>));
        assert_eq!(decode(&written(&0.1f32)).unwrap(), json!(f64::from(0.1f32)));
    }

    #[test]
    fn what_json_can_not_say_is_refused() {
        assert_eq!(decode(&written(&f64::NAN)), None);
        assert_eq!(
            decode(&written(
                &[(1, 2)].into_iter().collect::<std::collections::BTreeMap<u8, u8>>()
            )),
            None
        );
        assert_eq!(decode(b"text"), None);
    }
}
