use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;

fn bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes).unwrap();
    bytes
}

/// Checks that a value is read as it was written.
fn kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let bytes = bytes(&value);
    assert_eq!(read::<T>(&bytes[..]).unwrap(), value);
    // all readers of CBOR can read it
    ciborium::from_reader::<ciborium::Value, _>(&bytes[..]).unwrap();
    ciborium::from_reader::<serde::de::IgnoredAny, _>(&bytes[..]).unwrap();
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Unit;

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Newtype(Option<Unit>);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Variants {
    None,
    Newtype(Option<Option<u8>>),
    Tuple(Option<()>, i128),
    Struct { unit: Option<Unit>, text: Option<String> },
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Fields {
    nested: Option<Option<Option<i32>>>,
    json: Option<Value>,
    variants: Vec<Option<Variants>>,
    keys: BTreeMap<(i8, Option<bool>), Option<()>>,
    #[serde(default)]
    absent: Option<Option<u8>>,
}

#[test]
fn a_some_is_a_some() {
    kept::<Option<Option<i32>>>(Some(None));
    kept::<Option<Option<Option<i32>>>>(Some(Some(None)));
    kept::<Option<Option<Option<i32>>>>(Some(None));
    kept(Some(()));
    kept(Some(Unit));
    kept(Some(Newtype(None)));
    kept(Some(Newtype(Some(Unit))));
    kept(Some(Value::Null));
    kept(vec![Some(Some(1)), Some(None), None]);
    kept(BTreeMap::from([(None, Some(None)), (Some(()), Some(Some("a".to_owned())))]));
    kept((
        Some(Some(u128::MAX)),
        Some(i128::MIN),
        Some(i128::MAX),
        Some(-1_i128),
        Some(u64::MAX as u128),
    ));
    kept(Some(Variants::Tuple(Some(()), i128::MIN)));
}

#[test]
fn other_values_have_the_bytes_of_ciborium() {
    let values = (
        Some(1),
        None::<i32>,
        Some("a"),
        vec![Some(1.5)],
        [(Some('x'), true)],
        json!({"a": [null, 1]}),
        i128::MAX,
    );
    let mut plain = Vec::new();
    ciborium::into_writer(&values, &mut plain).unwrap();
    assert_eq!(bytes(&values), plain);
}

#[test]
fn a_number_keeps_its_bits() {
    for bits in [
        0x7fc0_0000_u32,
        0xffc0_0001,
        0x7f80_0001,
        0x7fff_ffff,
        0x8000_0000,
        0x7f80_0000,
    ] {
        let read: f32 = read(&bytes(&f32::from_bits(bits))[..]).unwrap();
        assert_eq!(read.to_bits(), bits);
    }
    for bits in [
        0x7ff8_0000_0000_0000_u64,
        0xfff8_0000_0000_0001,
        0x7ff0_0000_0000_0001,
        0x8000_0000_0000_0000,
    ] {
        let read: Option<f64> = read(&bytes(&Some(f64::from_bits(bits)))[..]).unwrap();
        assert_eq!(read.map(f64::to_bits), Some(bits));
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Nested { nested: Option<Option<u8>> },
    Large(u128),
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "kind", content = "of")]
enum Adjacent {
    A(Option<()>),
    B,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(tag = "kind")]
enum Internal {
    A { some: Option<u8>, text: String },
    B,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, Option<i32>>,
}

#[test]
fn what_serde_buffers_is_kept_or_reported_when_it_is_written() {
    kept(Untagged::Number(3));
    kept(Untagged::Nested { nested: Some(Some(1)) });
    kept(vec![
        Internal::A {
            some: None,
            text: "a".into(),
        },
        Internal::B,
    ]);
    kept(vec![Adjacent::A(None), Adjacent::B]);
    kept(Flat {
        id: 1,
        rest: BTreeMap::from([("a".into(), None), ("b".into(), Some(2))]),
    });
    for value in [Untagged::Nested { nested: Some(None) }, Untagged::Large(u128::MAX)] {
        let directory = tempfile::tempdir().unwrap();
        let error = crate::Artifact::write_artifact(&value, &directory.path().join("value")).unwrap_err();
        assert!(error.to_string().starts_with("serde can't read this value back"), "{error}");
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct List {
    next: Option<Box<List>>,
}

#[test]
fn depth_is_checked_when_a_value_is_written() {
    let list = |depth| {
        (0..depth).fold(List { next: None }, |list, _| List {
            next: Some(Box::new(list)),
        })
    };
    let deepest = list(DEPTH - 2);
    assert_eq!(read::<List>(&bytes(&deepest)[..]).unwrap(), deepest);
    let error = write(&list(DEPTH - 1), &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "a value is nested more than 250 levels deep");
}

#[test]
fn errors_have_no_words_of_the_encoding() {
    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "never made")]
    struct More {
        x: i32,
        z: Option<Vec<u8>>,
    }
    let error = |value: &BTreeMap<&str, Value>| read::<More>(&bytes(value)[..]).unwrap_err().to_string();
    assert_eq!(error(&BTreeMap::from([("z", json!([1]))])), "missing field `x`");
    assert_eq!(
        error(&BTreeMap::from([("x", json!(1)), ("z", json!([true]))])),
        "invalid type: boolean `true`, expected integer"
    );
    assert_eq!(read::<u8>(&b""[..]).unwrap_err().to_string(), "it ends too early");
}

fn variants() -> impl Strategy<Value = Variants> {
    prop_oneof![
        Just(Variants::None),
        any::<Option<Option<u8>>>().prop_map(Variants::Newtype),
        any::<(Option<()>, i128)>().prop_map(|(unit, number)| Variants::Tuple(unit, number)),
        any::<(bool, Option<String>)>().prop_map(|(unit, text)| Variants::Struct {
            unit: unit.then_some(Unit),
            text
        }),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn fields() -> impl Strategy<Value = Fields> {
    let rest = (
        prop::collection::vec(prop::option::of(variants()), 0..4),
        prop::collection::btree_map(any::<(i8, Option<bool>)>(), any::<Option<()>>(), 0..4),
        any::<Option<Option<u8>>>(),
    );
    (any::<Option<Option<Option<i32>>>>(), prop::option::of(json_value()), rest).prop_map(|(nested, json, rest)| {
        let (variants, keys, absent) = rest;
        Fields {
            nested,
            json,
            variants,
            keys,
            absent,
        }
    })
}

proptest! {
    #[test]
    fn every_value_is_read_as_it_was_written(
        fields in prop::collection::vec(prop::option::of(fields()), 0..3),
        chars in any::<(char, Option<Option<char>>, String)>(),
        sets in prop::collection::btree_set(any::<(u128, Option<()>)>(), 0..4),
        unit in any::<Result<Option<()>, Option<u64>>>(),
    ) {
        kept(fields);
        kept(chars);
        kept::<BTreeSet<_>>(sets);
        kept(unit);
    }
}

/// Checks that a value has the same bytes with serde and without, and is read as it was written.
fn same_in_bulk<T: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(value: &T) {
    let by_serde = bytes(value);
    let mut in_bulk = Vec::new();
    bulk::Value::new(value).unwrap().write(&mut in_bulk).unwrap();
    assert_eq!(in_bulk, by_serde);
    let again = |mut bytes: &[u8]| bulk::read(bulk::of(TypeId::of::<T>()).unwrap(), &mut bytes, 8);
    let again = |bytes: &[u8]| again(bytes).map(|read| *read.downcast::<T>().unwrap());
    let mut written = Vec::new();
    write(&again(&by_serde).unwrap(), &mut written).unwrap();
    assert_eq!(written, by_serde);
    assert_eq!(again(&by_serde[..by_serde.len() - 1]), None);
}

/// Floats of all kinds: short ones, and any bits.
fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<u32>().prop_map(|bits| f32::from_bits(bits).into()),
        (-1000_i16..1000).prop_map(|half| f64::from(half) / 8.0),
        Just(f64::NAN),
        Just(-0.0),
    ]
}

proptest! {
    #[test]
    fn values_in_bulk_have_the_bytes_of_serde(
        floats in prop::collection::vec(float(), 0..40),
        singles in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 0..40),
        integers in prop::collection::vec(any::<(i64, u64, i8, u16)>(), 0..40),
        texts in prop::collection::vec(any::<(Option<String>, f64)>(), 0..10),
        long in (0_usize..200_000).prop_map(|length| "é".repeat(length)),
    ) {
        same_in_bulk(&floats.iter().map(|float| Some(*float).filter(|float| *float > 0.0)).collect::<Vec<_>>());
        same_in_bulk(&vec![floats.clone(), floats.clone()]);
        same_in_bulk(&floats);
        same_in_bulk(&singles);
        same_in_bulk(&integers.iter().map(|number| number.0).collect::<Vec<_>>());
        same_in_bulk(&integers.iter().map(|number| number.1).collect::<Vec<_>>());
        same_in_bulk(&integers.iter().map(|number| number.2).collect::<Vec<_>>());
        same_in_bulk(&integers.iter().map(|number| number.3 as usize).collect::<Vec<_>>());
        same_in_bulk(&texts.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>());
        let named = texts.iter().map(|(text, number)| (text.clone().unwrap_or_default(), *number));
        same_in_bulk(&named.clone().collect::<Vec<_>>());
        same_in_bulk(&named.collect::<BTreeMap<_, _>>());
        same_in_bulk(&vec![long.clone(), "a".into(), long]);
    }
}

#[test]
fn what_is_no_value_in_bulk_is_left_to_serde() {
    let no = |mut bytes: &[u8]| bulk::read(bulk::of(TypeId::of::<Vec<i8>>()).unwrap(), &mut bytes, 8).is_none();
    assert!(no(&bytes(&vec![1000])));
    assert!(no(&bytes(&"text")));
    // of indefinite length
    assert!(no(&[0x9f, 0x01, 0xff]));
    // nothing is allocated by the length that bytes claim
    assert!(no(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]));
    assert!(bulk::of(TypeId::of::<Fields>()).is_none());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("value");
    std::fs::write(&path, [0x9f, 0x01, 0xff]).unwrap();
    assert_eq!(read_file::<Vec<i8>>(&path).unwrap(), [1]);
    std::fs::write(&path, bytes(&vec![1000])).unwrap();
    let error = read_file::<Vec<i8>>(&path).unwrap_err().to_string();
    assert!(error.starts_with("invalid value: integer `1000`"), "{error}");
}
