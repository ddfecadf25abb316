"""Tests how the wheel's Python writes and reads parameters in Rust."""

import datetime
import subprocess
import sys
import unittest

from lockstep import rust, translator  # must be first: this imports papermill, which imports it in turn
from papermill.exceptions import PapermillException
from papermill.translators import papermill_translators

CELL = """\
:input raw = penguins.csv
use std::collections::BTreeMap; // not a variable
fn half(x: f64) -> f64 { let y = x / 2.0; y }
let alpha: f64 = 0.1; // how fast; see https://example.org/
let mut names: Vec<String> = vec![
    "a;".into(), // the first
    "b".into(),
]; /* whose they are */
let rows = 10_usize; let r#type = "a // b"; // two on a line
// not a comment of any
let letter: char = ';';
let depth = half(3.0);
let (one, two) = (1, 2);
let unfinished = [1
"""


def named(cell):
    return {let.name: let for let in rust.lets(cell)}


class Writing(unittest.TestCase):
    def test_values_get_inferred_types(self):
        for value, expected in [
            (True, "bool = true"),
            (-5, "i64 = -5"),
            (2**64 - 1, "u64 = 18446744073709551615"),
            (0.1, "f64 = 0.1"),
            (1e300, "f64 = 1e+300"),
            (float("inf"), "f64 = f64::INFINITY"),
            (float("-inf"), "f64 = f64::NEG_INFINITY"),
            (float("nan"), "f64 = f64::NAN"),
            ("", 'String = String::from("")'),
            ('a"b\\c\n{}ö\u202e', 'String = String::from("a\\"b\\\\c\\n{}ö\\u{202e}")'),
            (None, "Option<String> = None"),
            ([], "Vec<String> = vec![]"),
            ([1, 2], "Vec<i64> = vec![1, 2]"),
            ((1, 2.5), "Vec<f64> = vec![1.0, 2.5]"),
            ([1, None], "Vec<Option<i64>> = vec![Some(1), None]"),
            ([[], [1], [2.5]], "Vec<Vec<f64>> = vec![vec![], vec![1.0], vec![2.5]]"),
            ({}, "std::collections::BTreeMap<String, String> = std::collections::BTreeMap::from([])"),
            (
                {"a": 1, 2: 2.5},
                "std::collections::BTreeMap<String, f64> = "
                'std::collections::BTreeMap::from([(String::from("a"), 1.0), (String::from("2"), 2.5)])',
            ),
            ([1, "a"], 'serde_json::Value = serde_json::from_str(r#"[1, "a"]"#)?'),
            ([True, 1], 'serde_json::Value = serde_json::from_str(r#"[true, 1]"#)?'),
            ({"a": 1, "b": "x#"}, 'serde_json::Value = serde_json::from_str(r#"{"a": 1, "b": "x#"}"#)?'),
            ([1, '"#\u202e'], 'serde_json::Value = serde_json::from_str(r##"[1, "\\"#\\u202e"]"##)?'),
            (datetime.date(2026, 11, 24), 'String = String::from("2026-11-24")'),
        ]:
            self.assertEqual(rust.let("x", value), f"let x: {expected};")

    def test_names(self):
        self.assertEqual(rust.let("type", 1), "let r#type: i64 = 1;")
        for name in ("a-b", "1a", "", "_", "self", True):
            with self.assertRaisesRegex(ValueError, "variable name"):
                rust.let(name, 1)

    def test_values_that_rust_can_not_represent(self):
        for value in (2**64, -(2**63) - 1, [1, 2**70]):
            with self.assertRaisesRegex(ValueError, "64-bit"):
                rust.let("x", value)
        with self.assertRaisesRegex(ValueError, "infinity"):
            rust.let("x", [float("inf"), "a"])

    def test_a_declared_type_is_kept(self):
        for kind, value, expected in [
            ("usize", 5, "5"),
            ("f64", 1, "1.0"),
            ("f32", float("nan"), "f32::NAN"),
            ("&str", "a", '"a"'),
            ("&'static str", "a", '"a"'),
            ("Option<f64>", 1, "Some(1.0)"),
            ("Option<&str>", None, "None"),
            ("std::vec::Vec<Option<f32>>", [1, None], "vec![Some(1.0), None]"),
            ("[[f64; 2]; 1]", [[1, 2]], "[[1.0, 2.0]]"),
            ("&[u8]", [1], "&[1]"),
            ("HashMap<String, Vec<f64>>", {"a": [1]}, 'std::collections::HashMap::from([(String::from("a"), vec![1.0])])'),
            ("serde_json::Value", {"a": 1}, 'serde_json::from_str(r#"{"a": 1}"#)?'),
            ("usize", "a", 'String::from("a")'),
        ]:
            declared = rust.Let("x", True, kind, "", "")
            self.assertEqual(rust.let("x", value, declared), f"let mut x: {kind} = {expected};")
        self.assertEqual(rust.let("x", 1, rust.Let("x", False, None, "f()", "")), "let x: i64 = 1;")


class Reading(unittest.TestCase):
    def test_the_lets_of_a_cell(self):
        read = [(let.name, let.mutable, let.kind, let.comment) for let in rust.lets(CELL)]
        self.assertEqual(
            read,
            [
                ("alpha", False, "f64", "how fast; see https://example.org/"),
                ("names", True, "Vec<String>", "whose they are"),
                ("rows", False, "usize", ""),
                ("type", False, "&str", "two on a line"),
                ("letter", False, "char", ""),
                ("depth", False, None, ""),
            ],
        )
        self.assertEqual(named(CELL)["alpha"].value, "0.1")
        self.assertEqual(named(CELL)["type"].value, '"a // b"')

    def test_a_type_may_contain_an_equals_sign(self):
        for kind in ("Box<dyn Iterator<Item = u8>>", "fn(u8) -> Vec<u8>", "Table<K = (u8, f64)>", "[u8; 2]"):
            for space in (" ", ""):
                let = named(f"let x: {kind}{space}= a >= b;")["x"]
                self.assertEqual((let.kind, let.value), (kind, "a >= b"))
        self.assertEqual(named("let x = a >= b;")["x"].value, "a >= b")

    def test_types_are_inferred_from_literals(self):
        for value, kind in [
            ("true", "bool"),
            ("-1_000", "i32"),
            ("1e3", "f64"),
            ("2.", "f64"),
            ("7u8", "u8"),
            ("1.5f32", "f32"),
            ('r#"a"#', "&str"),
            ('String::from("a")', "String"),
            ('"a".to_string()', "String"),
            ("a + 1", None),
        ]:
            self.assertEqual(named(f"let x = {value};")["x"].kind, kind, value)


class Papermill(unittest.TestCase):
    def setUp(self):
        self.translator = papermill_translators.find_translator("lockstep", "rust")

    def test_papermill_finds_the_translator(self):
        self.assertIs(self.translator, translator.RustTranslator)
        found = "from papermill.translators import papermill_translators as t; t.find_translator('lockstep', 'rust')"
        subprocess.run([sys.executable, "-c", found], check=True)

    def test_parameters_are_inspected(self):
        found = self.translator.inspect({"source": CELL})
        self.assertEqual(found[0]._asdict(), {
            "name": "alpha",
            "inferred_type_name": "f64",
            "default": "0.1",
            "help": "how fast; see https://example.org/",
        })
        self.assertEqual(found[-1].inferred_type_name, "None")

    def test_inspected_types_are_used_once(self):
        self.translator.inspect({"source": "let rows: usize = 1;"})
        self.assertEqual(self.translator.codify({"rows": 2}, "One\ntwo"), "// One\n// two\nlet rows: usize = 2;\n")
        self.assertEqual(self.translator.codify({"rows": 2}), "// Parameters\nlet rows: i64 = 2;\n")

    def test_an_error_names_the_parameter(self):
        with self.assertRaisesRegex(PapermillException, "can't write parameter `rows` in Rust: .*64-bit"):
            self.translator.codify({"rows": 2**64})


unittest.main()
