use proptest::prelude::*;
use serde_json::{Value, json};

use super::scalar::ambiguous;
use super::*;

fn value(text: &str) -> Result<Value, String> {
    let read = documents(text).and_then(|documents| documents[0].read());
    read.map_err(|fault| {
        let mark = fault.mark.unwrap_or_default();
        format!("{}:{}: {}", mark.line, mark.column, fault.message)
    })
}

#[test]
fn values_are_read() {
    for (text, expected) in [
        (
            "{a: 1, b: [x, 'y', \"z\"], c: }",
            json!({ "a": 1, "b": ["x", "y", "z"], "c": null }),
        ),
        ("a: |\n  b\n  c\n", json!({ "a": "b\nc\n" })),
        (
            "- &x {a: 1}\n- *x\n- <<: *x\n  b: 2\n- <<: [*x, {a: 2, c: 3}]\n  a: 0",
            json!([{ "a": 1 }, { "a": 1 }, { "a": 1, "b": 2 }, { "a": 0, "c": 3 }]),
        ),
        (
            "[~, true, False, -3, 1e3, .5, 5., 18446744073709551615]",
            json!([null, true, false, -3, 1000.0, 0.5, 5.0, u64::MAX]),
        ),
        (
            "[yes, 1.2.3, 12:30, 2024-05-01, 007a, '1', !!str 2]",
            json!(["yes", "1.2.3", "12:30", "2024-05-01", "007a", "1", "2"]),
        ),
        ("\u{feff}a: 1", json!({ "a": 1 })),
        ("{1: a, true: b}", json!({ "1": "a", "true": "b" })),
    ] {
        assert_eq!(value(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_can_not_be_read_says_why_and_where() {
    let deep = format!("{}1{}", "[".repeat(201), "]".repeat(201));
    let mut bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n".to_owned();
    let mut chain = "a0: &a0 [1]\n".to_owned();
    for n in 1..250 {
        if n < 9 {
            bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","));
        }
        chain += &format!("a{n}: &a{n} [*a{}]\n", n - 1);
    }
    for (text, expected) in [
        ("a: 1\na: 2", "2:1: the key `a` is here twice"),
        ("a: {b: 1, b: 2}", "1:11: the key `b` is here twice"),
        ("a: *b", "1:4: this alias (`*name`) has no anchor (`&name`) before it"),
        ("a: &a [*a]", "1:8: the alias `*name` refers to a node that contains it"),
        ("<<: 1", "1:5: `<<` merges mappings: write `<<: *name`"),
        ("? [a]\n: b", "1:3: a key is a text, not a list or a mapping"),
        ("a:\n\tb: 1", "2:2: a tab is not indentation in YAML: write spaces"),
        ("a: 'b", "1:4: this quote has no end"),
        ("a: [b", "1:4: this `[` has no end"),
        (
            "a: b: c",
            "1:5: a colon can't be here: check the indentation, or write text with `: ` in quotes",
        ),
        ("a: @b", "1:4: text that starts with `@` must be in quotes"),
        (
            "a: \"\\q\"",
            r"1:4: unknown escape in text in double quotes: write `\\` for a backslash",
        ),
        ("a: !!binary aGk=", "1:13: the tag `!!binary` is not supported: remove it"),
        ("a: !x b", "1:7: the tag `!x` is not supported: remove it"),
        (
            "a: [1, .nan]",
            "1:8: `.nan` is not a number that JSON has: write it in quotes if it is text",
        ),
        (
            "a: -.Inf",
            "1:4: `-.Inf` is not a number that JSON has: write it in quotes if it is text",
        ),
        (
            "a: 1e999",
            "1:4: `1e999` is not a number that JSON has: write it in quotes if it is text",
        ),
        (
            "a: 18446744073709551616",
            "1:4: `18446744073709551616` has more than 64 bits: write it in quotes if it is text",
        ),
        (&deep, "1:201: lists and mappings are nested too deeply here"),
        (&bomb, "6:10: aliases (`*name`) repeat too much: write the values out"),
        (&chain, "200:13: lists and mappings are nested too deeply here"),
    ] {
        assert_eq!(value(text), Err(expected.to_owned()), "{text:.40}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn text_stays_text_and_numbers_keep_their_value(scalar in "[-+.]?[0-9a-fox_.eE+:-]{1,9}") {
        let quoted = format!("'{scalar}'");
        prop_assert_eq!(value(&quoted), Ok(json!(&scalar)));
        let Ok(documents) = documents(&scalar) else {
            return Ok(());
        };
        let [node] = &documents[..] else {
            return Ok(());
        };
        if node.text() != Some(scalar.as_str()) {
            return Ok(());
        }
        if !node.is_null() {
            prop_assert_eq!(node.read::<String>().unwrap(), scalar.clone());
        }
        match node.read::<Value>() {
            Ok(Value::Number(number)) => prop_assert_eq!(number.as_f64(), scalar.parse::<f64>().ok()),
            Ok(Value::String(text)) => {
                prop_assert_eq!(&text, &scalar);
                prop_assert!(scalar.parse::<f64>().is_err());
            }
            Ok(_) | Err(_) => (),
        }
    }
}

#[test]
fn numbers_are_numbers_in_all_versions_of_yaml() {
    for number in [
        "0",
        "-7",
        "1.5",
        "0.25",
        "1e-3",
        "-0.5",
        "18446744073709551615",
        "text",
        "1.2.3",
        "2024-05-01",
        "12:30",
        "0-1",
        "007a",
    ] {
        assert_eq!(ambiguous(number), None, "{number}");
    }
    for text in [
        "01234",
        "007",
        "08",
        "-012",
        "1_000",
        "1_0.5",
        "0b11",
        "0o17",
        "0x1F",
        "+5",
        "12345678901234567890123",
        "00.5",
        "3.14159265358979323846",
    ] {
        assert!(ambiguous(text).is_some(), "{text}");
    }
}
