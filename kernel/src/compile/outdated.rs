use std::collections::BTreeSet;

use quote::ToTokens;
use syn::{Attribute, Fields};

use super::map::CellRef;
use super::scope::{Held, Scope, Variable};
use super::types::CRATE;
use crate::cell::{Item, ItemName};

/// A type that was defined again, with another content, since a variable of it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outdated {
    /// The type.
    pub type_name: String,
    /// The version that binds the variable.
    pub made_by: usize,
    /// The cell that defines the type now.
    pub now: CellRef,
}

/// Returns the type of a stored variable that has changed since. `now` are the items that a cell can name, each with its cell and text.
///
/// Without this check a value might be read as another one: a field that is gone would be dropped.
pub(super) fn outdated(scope: &Scope, variable: &Variable, now: &[(CellRef, &Item, &str)]) -> Option<Outdated> {
    if variable.held == Held::Remade {
        return None;
    }
    let version = scope.versions().get(variable.made_by)?;
    let own = version.rust.items.iter().map(|item| (item, version.text.as_str()));
    let used = version.uses.iter().filter_map(|used| {
        let of = scope.versions().get(used.version)?;
        let items = of.rust.items.iter().filter(|item| item.range == (used.start..used.end));
        Some(items.map(|item| (item, of.text.as_str())))
    });
    let then: Vec<(&Item, &str)> = own.chain(used.flatten()).collect();
    let defines = |item: &Item, name: &str| item.names.iter().any(|of| matches!(of, ItemName::Type(of) if of == name));

    let own_crate = format!("{CRATE}::");
    let parts = variable
        .type_name
        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let mut left: Vec<String> = parts
        .filter_map(|part| part.strip_prefix(&own_crate).map(str::to_owned))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = left.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some((item, text)) = then.iter().find(|(item, _)| defines(item, &name)) else {
            continue;
        };
        left.extend(item.mentions.all.iter().cloned());
        if let Some((place, now, now_text)) = now.iter().find(|(_, item, _)| defines(item, &name))
            && let (Some(old), Some(new)) = (defined(item, text, &name), defined(now, now_text, &name))
            && !reads(&new, &old)
        {
            return Some(Outdated {
                type_name: name,
                made_by: first_maker(scope, variable),
                now: *place,
            });
        }
    }
    None
}

/// Returns the version that binds the variable; later ones may have changed its value.
fn first_maker(scope: &Scope, variable: &Variable) -> usize {
    let mut maker = variable.made_by;
    while let Some(version) = scope.versions().get(maker)
        && version.rust.variables().iter().all(|binding| binding.name != variable.name)
        && let Some(read) = version.reads.get(&variable.name)
    {
        maker = read.made_by;
    }
    maker
}

/// Returns the definition of a type by an item of `text`.
fn defined(item: &Item, text: &str, name: &str) -> Option<syn::Item> {
    let is_it = |item: &syn::Item| match item {
        syn::Item::Struct(item) => item.ident == name,
        syn::Item::Enum(item) => item.ident == name,
        syn::Item::Type(item) => item.ident == name,
        _ => false,
    };
    syn::parse_str(item.definition(text)).ok().filter(is_it)
}

/// Returns whether values of the type `old` are values of the type `new`: the same fields, and at least the same variants.
fn reads(new: &syn::Item, old: &syn::Item) -> bool {
    match (new, old) {
        (syn::Item::Struct(new), syn::Item::Struct(old)) => {
            serde(&new.attrs) == serde(&old.attrs) && has_fields(&new.fields, &old.fields)
        }
        (syn::Item::Enum(new), syn::Item::Enum(old)) => {
            let is_there = |old: &syn::Variant| {
                let same = |new: &&syn::Variant| new.ident == old.ident && serde(&new.attrs) == serde(&old.attrs);
                new.variants
                    .iter()
                    .find(same)
                    .is_some_and(|new| has_fields(&new.fields, &old.fields))
            };
            serde(&new.attrs) == serde(&old.attrs) && old.variants.iter().all(is_there)
        }
        (syn::Item::Type(new), syn::Item::Type(old)) => text(&new.ty) == text(&old.ty),
        _ => false,
    }
}

/// Returns whether `new` has the fields of `old`, and no others but for those with a default of serde's.
fn has_fields(new: &Fields, old: &Fields) -> bool {
    let described = |field: &syn::Field| (field.ident.clone(), text(&field.ty), serde(&field.attrs));
    match (new, old) {
        (Fields::Named(new), Fields::Named(old)) => {
            let is_kept = |old: &syn::Field| new.named.iter().any(|new| described(new) == described(old));
            let is_known = |new: &syn::Field| {
                let has_default = serde(&new.attrs).iter().any(|attribute| attribute.contains("default"));
                has_default || old.named.iter().any(|old| old.ident == new.ident)
            };
            old.named.iter().all(is_kept) && new.named.iter().all(is_known)
        }
        (Fields::Unnamed(new), Fields::Unnamed(old)) => new.unnamed.iter().map(described).eq(old.unnamed.iter().map(described)),
        (Fields::Unit, Fields::Unit) => true,
        _ => false,
    }
}

/// Returns the attributes by which serde encodes values differently.
fn serde(attributes: &[Attribute]) -> Vec<String> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("serde"))
        .map(text)
        .collect()
}

fn text(tokens: &impl ToTokens) -> String {
    tokens.to_token_stream().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_type_are_read_as_a_type_that_has_all_their_fields() {
        for (new, old, same) in [
            (
                "#[derive(Clone)] pub struct A { pub x: i32, y: u8 }",
                "struct A { y: u8, x: i32 }",
                true,
            ),
            ("struct A { x: i32 }", "struct A { x: i32, y: u8 }", false),
            ("struct A { x: i32, y: u8 }", "struct A { x: i32 }", false),
            ("struct A { x: i32, #[serde(default)] y: u8 }", "struct A { x: i32 }", true),
            ("struct A { x: f64 }", "struct A { x: i32 }", false),
            ("struct A(i32, i32);", "struct A(i32, i32);", true),
            ("struct A(i32, u8);", "struct A(u8, i32);", false),
            ("enum A { C, B(i32), D }", "enum A { B(i32), C }", true),
            ("enum A { C }", "enum A { B(i32), C }", false),
            ("enum A { B }", "struct A;", false),
            ("type A = f64;", "type A = f32;", false),
            ("#[serde(rename = \"b\")] struct A;", "struct A;", false),
        ] {
            let item = |text| syn::parse_str(text).unwrap();
            assert_eq!(reads(&item(new), &item(old)), same, "{new} / {old}");
        }
    }
}
