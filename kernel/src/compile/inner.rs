//! Finds types whose values can change behind a shared reference.

use std::collections::BTreeSet;

use super::scope::Variable;
use crate::cell::{Item, ItemName, Mentions};

/// The types of std that change behind a shared reference, apart from the atomics.
const CHANGING: [&str; 7] = ["Cell", "Mutex", "OnceCell", "OnceLock", "RefCell", "RwLock", "UnsafeCell"];

/// The crates without such types, apart from those of std; `_` stands for the end of a prefix. Other crates may have them.
const KNOWN: [&str; 22] = [
    "alloc",
    "arrow_",
    "bytes",
    "chrono",
    "core",
    "csv",
    "hashbrown",
    "indexmap",
    "itertools",
    "linfa",
    "linfa_",
    "lockstep",
    "ndarray",
    "num_",
    "plotters",
    "rand",
    "rand_",
    "regex",
    "serde_json",
    "smartcore",
    "std",
    "uuid",
];

fn is_known(root: &str) -> bool {
    KNOWN
        .iter()
        .any(|known| *known == root || known.ends_with('_') && root.starts_with(known))
}

fn is_changing(name: &str) -> bool {
    CHANGING.contains(&name) || name.starts_with("Atomic")
}

/// Returns whether values of the type, as `std::any::type_name` gives it, may change behind a shared reference. `items` are those that a cell
/// can name.
pub(super) fn may_change(type_name: &str, items: &[&Item]) -> bool {
    let roots = type_name.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let mut roots = roots.filter_map(|path| Some(path.split_once("::")?.0));
    if roots.any(|root| !root.is_empty() && root != "cell" && !is_known(root)) {
        return true;
    }
    contains(type_name, items, is_changing)
}

/// Returns whether a type contains another one, as far as its name and the types among `items` say.
pub fn contains(type_name: &str, items: &[&Item], is_it: fn(&str) -> bool) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let words = type_name.split(|c: char| !is_part(c)).filter(|word| !word.is_empty());
    let (mut seen, mut left) = (BTreeSet::new(), words.map(str::to_owned).collect::<Vec<_>>());
    while let Some(name) = left.pop() {
        if is_it(&name) {
            return true;
        }
        if !seen.insert(name.clone()) {
            continue;
        }
        let named = |item: &&&Item| item.is_type() && item.names.contains(&ItemName::Type(name.clone()));
        left.extend(items.iter().filter(named).flat_map(|item| item.mentions.all.iter().cloned()));
    }
    false
}

/// Returns the names of the types among `items` whose values may change behind a shared reference.
pub(super) fn changing_types<'a>(items: &[&'a Item]) -> Vec<&'a str> {
    let types = items.iter().filter(|item| item.is_type());
    let names = types.flat_map(|item| &item.names).filter_map(|name| name.ident());
    names.filter(|name| contains(name, items, is_changing)).collect()
}

/// Returns whether a cell with these statements, which reads these variables, may leave a lock held, or a value shared by several variables.
pub(super) fn may_share(statements: &Mentions, reads: &[&Variable]) -> bool {
    let words = ["Arc", "Rc", "borrow_mut", "lock", "write"];
    let mut mentioned = statements.all.iter();
    let owned = |variable: &&Variable| {
        ["alloc::rc::Rc<", "alloc::sync::Arc<"]
            .iter()
            .any(|owner| variable.type_name.contains(owner))
    };
    mentioned.any(|name| is_changing(name) || words.contains(&name.as_str())) || reads.iter().any(owned)
}

/// Returns whether an item is a `static` that can change.
pub(super) fn is_changing_static(text: &str) -> bool {
    match syn::parse_str::<syn::Item>(text) {
        Ok(syn::Item::Static(item)) => {
            let mutable = matches!(item.mutability, syn::StaticMutability::Mut(_));
            let of = Mentions::of(quote::ToTokens::to_token_stream(&item.ty));
            mutable || of.all.iter().any(|name| is_changing(name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Rust;

    #[test]
    fn types_that_change_are_found() {
        let text = "struct Plain { x: Vec<i32> } struct Log { lines: RefCell<Vec<String>> } enum Either { A(Plain), B(Log) } type Count = Cell<u8>;";
        let rust = Rust::parse(text).unwrap();
        let items: Vec<&Item> = rust.items.iter().collect();
        let may_change = |name: &str| may_change(name, &items);
        for name in [
            "i32",
            "alloc::vec::Vec<core::option::Option<f64>>",
            "cell::Plain",
            "&str",
            "(i32, bool)",
            "lockstep::table::Table",
        ] {
            assert!(!may_change(name), "{name}");
        }
        for name in [
            "core::cell::RefCell<alloc::vec::Vec<i32>>",
            "alloc::sync::Arc<std::sync::poison::mutex::Mutex<i32>>",
            "core::sync::atomic::AtomicU32",
            "alloc::vec::Vec<cell::Either>",
            "cell::Log",
            "dashmap::DashMap<i32, i32>",
        ] {
            assert!(may_change(name), "{name}");
        }
    }

    #[test]
    fn statics_that_change_are_found() {
        for text in [
            "static N: AtomicU32 = AtomicU32::new(0);",
            "static mut N: i32 = 0;",
            "static L: OnceLock<i32> = OnceLock::new();",
        ] {
            assert!(is_changing_static(text), "{text}");
        }
        for text in [
            "static N: i32 = 0;",
            "const N: i32 = 0;",
            "static L: LazyLock<i32> = LazyLock::new(|| 1);",
            "fn f() {}",
        ] {
            assert!(!is_changing_static(text), "{text}");
        }
    }
}
