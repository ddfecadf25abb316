//! A canonical encoding, with one byte sequence per value: JSON without white space, object keys sorted by their UTF-8 bytes.
//!
//! Integers are written in full (64 bits survive, unlike in RFC 8785), other numbers as the shortest text that parses to the same
//! double. Keys are sorted here because the order of `serde_json::Map` depends on a Cargo feature that any crate of the build can
//! enable.

use serde::Serialize;
use serde_json::Value;

/// Returns the canonical JSON of `value`. Fails only for map keys that are not strings. NaN and infinities become null, as always in
/// serde_json.
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    write(&mut out, &serde_json::to_value(value)?)?;
    Ok(out)
}

fn write(out: &mut Vec<u8>, value: &Value) -> Result<(), serde_json::Error> {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(out, item)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push(b'{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, key)?;
                out.push(b':');
                write(out, item)?;
            }
            out.push(b'}');
        }
        scalar => serde_json::to_writer(&mut *out, scalar)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_numbers_survive() {
        let value = json!({"b": [1, 2.5, -0.0], "a": {"z": u64::MAX, "é": null, "e": "\n\"é"}});
        let text = String::from_utf8(canonical_json(&value).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"a":{"e":"\n\"é","z":18446744073709551615,"é":null},"b":[1,2.5,-0.0]}"#
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300f64).prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn encoding_is_stable(value in any_value()) {
            let once = canonical_json(&value).unwrap();
            let read: Value = serde_json::from_slice(&once).unwrap();
            prop_assert_eq!(canonical_json(&read).unwrap(), once);
        }

        #[test]
        fn different_values_differ(a in any_value(), b in any_value()) {
            let same = canonical_json(&a).unwrap() == canonical_json(&b).unwrap();
            prop_assert_eq!(same, a == b);
        }
    }
}
