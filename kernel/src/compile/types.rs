//! Converts type names from `std::any::type_name` to types in source.

use std::collections::BTreeSet;

use crate::cell::{Item, Kind};

/// The crate name of a compiled cell: its own types are `cell::Row`.
pub(super) const CRATE: &str = "cell";

/// Types of the SDK that a variable may have.
const OURS: [&str; 10] = [
    "Bytes",
    "Csv",
    "Directory",
    "Encoded",
    "Figure",
    "Json",
    "Metrics",
    "Rows",
    "Table",
    "Text",
];

/// The public paths of standard types, by the path from `type_name`, whose modules are often private.
const STANDARD: [(&str, &str); 18] = [
    ("alloc::boxed::Box", "::std::boxed::Box"),
    ("alloc::collections::btree::map::BTreeMap", "::std::collections::BTreeMap"),
    ("alloc::collections::btree::set::BTreeSet", "::std::collections::BTreeSet"),
    ("alloc::collections::vec_deque::VecDeque", "::std::collections::VecDeque"),
    ("alloc::rc::Rc", "::std::rc::Rc"),
    ("alloc::string::String", "::std::string::String"),
    ("alloc::sync::Arc", "::std::sync::Arc"),
    ("alloc::vec::Vec", "::std::vec::Vec"),
    ("core::ops::range::Range", "::std::ops::Range"),
    ("core::ops::range::RangeInclusive", "::std::ops::RangeInclusive"),
    ("core::option::Option", "::std::option::Option"),
    ("core::result::Result", "::std::result::Result"),
    ("core::time::Duration", "::std::time::Duration"),
    ("std::collections::hash::map::HashMap", "::std::collections::HashMap"),
    ("std::collections::hash::set::HashSet", "::std::collections::HashSet"),
    ("std::path::PathBuf", "::std::path::PathBuf"),
    ("core::cmp::Reverse", "::std::cmp::Reverse"),
    ("serde_json::value::Value", "::serde_json::Value"),
];

const PRIMITIVES: [&str; 17] = [
    "bool", "char", "f32", "f64", "i128", "i16", "i32", "i64", "i8", "isize", "str", "u128", "u16", "u32", "u64", "u8", "usize",
];

/// Returns the names of items that may be types.
pub(super) fn named<'a>(items: impl Iterator<Item = &'a Item>) -> BTreeSet<&'a str> {
    let names = items.filter(|item| item.kind == Kind::Other).flat_map(|item| &item.names);
    names.filter_map(|name| name.ident()).collect()
}

/// Returns the type as written in source, and the session's types in it. `None` if it can't be named: closures, types behind
/// private modules, trait objects.
pub(super) fn say(type_name: &str, items: &BTreeSet<&str>) -> Option<(String, BTreeSet<String>)> {
    let parsed: syn::Type = syn::parse_str(type_name).ok()?;
    let mut named = BTreeSet::new();
    let text = say_type(&parsed, items, &mut named)?;
    Some((text, named))
}

/// Returns whether a type can be named without the session's types.
pub fn is_sayable(type_name: &str) -> bool {
    say(type_name, &BTreeSet::new()).is_some()
}

fn say_type(parsed: &syn::Type, items: &BTreeSet<&str>, named: &mut BTreeSet<String>) -> Option<String> {
    match parsed {
        syn::Type::Path(path) if path.qself.is_none() => say_path(&path.path, items, named),
        syn::Type::Tuple(tuple) => {
            let parts: Option<Vec<_>> = tuple.elems.iter().map(|e| say_type(e, items, named)).collect();
            Some(format!(
                "({})",
                parts?.iter().map(|part| format!("{part}, ")).collect::<String>().trim_end()
            ))
        }
        syn::Type::Slice(slice) => Some(format!("[{}]", say_type(&slice.elem, items, named)?)),
        syn::Type::Array(array) => {
            let length = quote::ToTokens::to_token_stream(&array.len);
            Some(format!("[{}; {length}]", say_type(&array.elem, items, named)?))
        }
        syn::Type::Reference(reference) if reference.mutability.is_none() => {
            Some(format!("&'static {}", say_type(&reference.elem, items, named)?))
        }
        _ => None,
    }
}

fn say_path(path: &syn::Path, items: &BTreeSet<&str>, named: &mut BTreeSet<String>) -> Option<String> {
    let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
    let (last, before) = path
        .segments
        .iter()
        .collect::<Vec<_>>()
        .split_last()
        .map(|(l, b)| (*l, b.to_vec()))?;
    if before.iter().any(|segment| !segment.arguments.is_none()) {
        return None;
    }
    let joined = names.join("::");
    let base = match &names[..] {
        [primitive] if PRIMITIVES.contains(&primitive.as_str()) => primitive.clone(),
        [krate, item] if krate == CRATE && items.contains(item.as_str()) => {
            named.insert(item.clone());
            format!("crate::{item}")
        }
        [krate, .., item] if krate == "lockstep" && OURS.contains(&item.as_str()) => format!("::lockstep::cell::types::{item}"),
        // The common short forms: `Vec<f64>`, `serde_json::Value`.
        [name] => STANDARD
            .iter()
            .find(|(_, public)| public.ends_with(&format!("::{name}")))?
            .1
            .to_owned(),
        _ => {
            let known = STANDARD
                .iter()
                .find(|(said, public)| *said == joined || public.trim_start_matches("::") == joined);
            known?.1.to_owned()
        }
    };
    match &last.arguments {
        syn::PathArguments::None => Some(base),
        syn::PathArguments::AngleBracketed(arguments) => {
            let parts: Option<Vec<_>> = arguments
                .args
                .iter()
                .map(|argument| match argument {
                    syn::GenericArgument::Type(parsed) => say_type(parsed, items, named),
                    _ => None,
                })
                .collect();
            Some(format!("{base}<{}>", parts?.join(", ")))
        }
        syn::PathArguments::Parenthesized(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_types_that_can_be_named() {
        let items = BTreeSet::from(["Row"]);
        let said = |name: &str| say(name, &items).map(|(text, _)| text);
        for (name, text) in [
            ("f64", Some("f64")),
            ("&str", Some("&'static str")),
            ("(i32,)", Some("(i32,)")),
            ("()", Some("()")),
            ("alloc::vec::Vec<cell::Row>", Some("::std::vec::Vec<crate::Row>")),
            ("lockstep::table::Table", Some("::lockstep::cell::types::Table")),
            (
                "std::collections::hash::map::HashMap<alloc::string::String, [(i32, u8); 3]>",
                Some("::std::collections::HashMap<::std::string::String, [(i32, u8,); 3]>"),
            ),
            ("Vec<f64>", Some("::std::vec::Vec<f64>")),
            (
                "lockstep::Json<serde_json::Value>",
                Some("::lockstep::cell::types::Json<::serde_json::Value>"),
            ),
            ("lockstep::table::Column", None),
            ("Model", None),
            ("cell::Gone", None),
            ("cell::main::{{closure}}", None),
            ("core::iter::adapters::map::Map<core::ops::range::Range<i32>, F>", None),
            ("alloc::boxed::Box<dyn core::fmt::Debug>", None),
        ] {
            assert_eq!(said(name).as_deref(), text, "{name}");
        }
    }
}
