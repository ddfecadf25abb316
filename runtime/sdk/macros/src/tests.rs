use quote::quote;

use super::{outputs, step};

/// What the compiler says about `item` with `#[step(arguments)]`.
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
            "#[step] goes on a function: fn clean(raw: Table) -> Result<Table> { ... }",
        ),
        (
            "fn a(self) -> Table {}",
            "a step is a function of its own, not a method: take the value as an argument",
        ),
        (
            "async fn a() -> Table {}",
            "a step can't be async: it has nothing to wait for. Remove `async`",
        ),
        ("unsafe fn a() -> Table {}", "a step can't be unsafe. Remove `unsafe`"),
        (
            "fn a<T>(x: T) -> Table {}",
            "a step can't be generic: its inputs and outputs have one type each. Name the types",
        ),
        (
            "fn a((x, y): Pair) -> Table {}",
            "an argument of a step needs a plain name, such as `raw: Table`",
        ),
        ("fn a(x: &Table) -> Table {}", "a step owns its arguments: write `Table`"),
        ("fn a(x: &[u8]) -> Table {}", "a step owns its arguments: write `Vec<u8>`"),
        ("fn a(x: &str) -> Table {}", "a step owns its arguments: write `String`"),
        (
            "fn a(x: impl Read) -> Table {}",
            "an argument of a step has one type: name it",
        ),
        (
            "fn a() -> &'static str {}",
            "a step returns a type that owns what it holds: name it",
        ),
        (
            "fn a(#[default = 1] x: u32) -> Table {}",
            "only parameters have defaults: write `Param<u32>`",
        ),
        (
            "fn a(#[default(1)] x: Param<u32>) -> Table {}",
            "write the default as `#[default = 0.5]`",
        ),
        (
            "fn a(#[default = 1] #[default = 2] x: Param<u32>) -> Table {}",
            "a parameter has one default: remove this one",
        ),
        (
            "fn a(#[default = f()] x: Param<u32>) -> Table {}",
            "a default is a number, a text, `true`, `false`, `None` or an array of them",
        ),
    ] {
        assert_eq!(refusal("", item), message, "{item}");
    }
    let takes = "#[step] takes `output = \"rows\"`, the name of its output, or nothing";
    assert_eq!(refusal("name = \"x\"", "fn a() -> Table {}"), takes);
    assert_eq!(refusal("rows", "fn a() -> Table {}"), takes);
    let named = "an output's name is made of letters, digits, `_`, `-` and `.`, and starts with none of the last";
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
    assert!(refusal("enum A { B }").contains("is for structs"));
    assert!(refusal("struct A<T> { t: T }").contains("can't be generic"));
}
