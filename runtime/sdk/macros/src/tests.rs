use quote::quote;

use super::{outputs, step};

/// Returns the compile error for `item` with `#[step(arguments)]`.
fn refusal(arguments: &str, item: &str) -> String {
    let expanded = step::expand(arguments.parse().unwrap(), item.parse().unwrap()).to_string();
    let (_, error) = expanded.split_once("compile_error ! { \"").expect("no error");
    let (message, _) = error.split_once("\" }").unwrap();
    message.replace("\\\"", "\"")
}

#[test]
fn wrong_steps_are_told_what_to_write() {
    for (item, message) in [
        (
            "struct A;",
            "#[step] applies only to a function: fn clean(raw: Table) -> Result<Table> { ... }",
        ),
        (
            "fn a(self) -> Table {}",
            "a step can't be a method: take the value as an argument",
        ),
        ("async fn a() -> Table {}", "a step can't be async: remove `async`"),
        ("unsafe fn a() -> Table {}", "a step can't be unsafe: remove `unsafe`"),
        ("fn a<T>(x: T) -> Table {}", "a step can't be generic: use concrete types"),
        (
            "fn a((x, y): Pair) -> Table {}",
            "an argument of a step must be a plain name, such as `raw: Table`",
        ),
        (
            "fn a(x: &Table) -> Table {}",
            "an argument of a step must be owned: write `Table`",
        ),
        (
            "fn a(x: &[u8]) -> Table {}",
            "an argument of a step must be owned: write `Vec<u8>`",
        ),
        (
            "fn a(x: &str) -> Table {}",
            "an argument of a step must be owned: write `String`",
        ),
        (
            "fn a(x: impl Read) -> Table {}",
            "an argument of a step can't be `impl Trait`: use a concrete type",
        ),
        ("fn a() -> &'static str {}", "a step must return a concrete, owned type"),
        (
            "fn a(#[default = 1] x: u32) -> Table {}",
            "only parameters can have defaults: write `Param<u32>`",
        ),
        (
            "fn a(#[default(1)] x: Param<u32>) -> Table {}",
            "write the default as `#[default = 0.5]`",
        ),
        (
            "fn a(#[default = 1] #[default = 2] x: Param<u32>) -> Table {}",
            "duplicate default: a parameter has only one",
        ),
        (
            "fn a(#[default = f()] x: Param<u32>) -> Table {}",
            "a default must be a number, a string, `true`, `false`, `None` or an array of these",
        ),
    ] {
        assert_eq!(refusal("", item), message, "{item}");
    }
    let takes = "#[step] takes only the name of its output: `output = \"rows\"`";
    assert_eq!(refusal("name = \"x\"", "fn a() -> Table {}"), takes);
    assert_eq!(refusal("rows", "fn a() -> Table {}"), takes);
    let named = "an output's name can contain letters, digits, `_`, `-` and `.`, and can't start with `.`";
    assert_eq!(refusal("output = \"../x\"", "fn a() -> Table {}"), named);
}

#[test]
fn a_step_that_is_refused_is_still_a_function() {
    let expanded = step::expand(
        quote!(),
        quote!(
            async fn a(#[default = 1] x: u8) -> Table {}
        ),
    )
    .to_string();
    assert!(expanded.starts_with("async fn a (x : u8) -> Table { }"), "{expanded}");
}

#[test]
fn wrong_outputs_are_told_what_to_write() {
    let refusal = |item: &str| outputs::expand(item.parse().unwrap()).unwrap_err().to_string();
    assert!(refusal("struct A(Table);").contains("needs named fields"));
    assert!(refusal("enum A { B }").contains("applies only to structs"));
    assert!(refusal("struct A<T> { t: T }").contains("does not support generics"));
}
