use std::collections::BTreeSet;

use crate::cell::{Item, Kind, Mentions};

/// Returns the items that a piece of source needs: those that it mentions, directly or indirectly, and those needed without
/// a mention (traits in scope, implementations).
pub(super) fn reach<'a>(items: &[(usize, &'a Item)], mentions: &Mentions) -> Vec<(usize, &'a Item)> {
    let defined: BTreeSet<&str> = items
        .iter()
        .filter(|(_, item)| !matches!(item.kind, Kind::Use { .. }))
        .flat_map(|(_, item)| &item.names)
        .filter_map(|name| name.ident())
        .collect();
    let mut mentioned = mentions.all.clone();
    let mut taken = vec![false; items.len()];
    loop {
        let mut grew = false;
        for ((_, item), taken) in items.iter().zip(&mut taken) {
            if !*taken && is_needed(item, &mentioned, &defined) {
                *taken = true;
                grew = true;
                mentioned.extend(item.mentions.all.iter().cloned());
                // An implementation reached by a method's name also needs its type.
                mentioned.extend(item.names.iter().filter_map(|name| name.ident()).map(str::to_owned));
            }
        }
        if !grew {
            break;
        }
    }
    let taken = items.iter().zip(taken).filter(|(_, taken)| *taken);
    taken.map(|(item, _)| *item).collect()
}

fn is_needed(item: &Item, mentioned: &BTreeSet<String>, defined: &BTreeSet<&str>) -> bool {
    let named = item
        .names
        .iter()
        .filter_map(|name| name.ident())
        .any(|name| mentioned.contains(name));
    match &item.kind {
        Kind::Impl { of } => of
            .iter()
            .filter(|name| defined.contains(name.as_str()))
            .all(|name| mentioned.contains(name)),
        Kind::Use { may_be_trait, .. } => {
            // A `use` of the session's own modules is only taken if they are needed anyway.
            let own = item
                .mentions
                .all
                .iter()
                .any(|name| defined.contains(name.as_str()) && !mentioned.contains(name));
            named || (*may_be_trait && !own)
        }
        _ => named || item.reached_by.iter().any(|name| mentioned.contains(name)) || item.names.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Rust;

    fn reached(items: &str, code: &str) -> Vec<String> {
        let rust = Rust::parse(items).unwrap();
        let all: Vec<_> = rust.items.iter().map(|item| (0, item)).collect();
        let reached = reach(&all, &Mentions::of(code.parse().unwrap()));
        reached.iter().map(|(_, item)| items[item.range.clone()].to_owned()).collect()
    }

    #[test]
    fn takes_only_needed_items() {
        let items = "struct A; struct B(A); fn f() -> B { g() } fn g() -> B { B(A) } fn h() {}";
        assert_eq!(
            reached(items, "f()"),
            ["struct A;", "struct B(A);", "fn f() -> B { g() }", "fn g() -> B { B(A) }"]
        );
        assert_eq!(reached(items, "h()"), ["fn h() {}"]);
    }

    #[test]
    fn implementations_come_with_their_types_and_traits_with_their_methods() {
        let items = "trait Twice { fn twice(self) -> i32; } impl Twice for i32 { fn twice(self) -> i32 { 2 * self } } struct C; impl C {}";
        assert_eq!(reached(items, "3.twice()").len(), 2);
        assert_eq!(reached(items, "C"), ["struct C;", "impl C {}"]);
    }

    #[test]
    fn a_use_that_may_be_a_trait_is_always_taken() {
        let items = "use std::io::Read; use std::collections::HashMap; use std::mem::swap;";
        assert_eq!(reached(items, "1"), ["Read"]);
        assert_eq!(reached(items, "swap(HashMap)"), ["Read", "HashMap", "swap"]);
    }
}
