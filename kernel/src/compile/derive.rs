//! Automatic `Debug`, `Serialize` and `Deserialize` for the types of a notebook, so that values can be shown and stored, and `Bulk`, so that
//! many values are stored fast.
//!
//! The implementations apply if all fields have the trait; a type that holds a closure has none of them. Rust rejects a bound
//! that is always false, unless it is higher-ranked: hence `for<'__a>`. A field with a recursive type gets no bound, because
//! the bound would be cyclic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::Visit;
use syn::{Fields, Generics};

use crate::cell::{Item, ItemName, Mentions};

/// The types of a notebook.
pub(super) struct Types<'a> {
    items: &'a [&'a Item],
    /// The names that each type mentions.
    mentions: BTreeMap<&'a str, &'a BTreeSet<String>>,
}

/// A struct, or a variant of an enum.
struct Shape {
    /// `Self`, or `Self::Variant`.
    path: String,
    name: String,
    kind: Kind,
    fields: Vec<Field>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unit,
    Newtype,
    Tuple,
    Struct,
}

struct Field {
    /// The name in source: `x`, `r#type`, `0`.
    name: String,
    type_text: String,
    /// Whether its type gets a bound, because it is not recursive.
    is_bound: bool,
}

impl<'a> Types<'a> {
    /// Collects the types among all active items.
    pub fn new(items: &'a [&'a Item]) -> Self {
        let named = |item: &'a Item| {
            let names = item.names.iter().filter_map(move |name| match name {
                ItemName::Type(name) => Some((name.as_str(), &item.mentions.all)),
                _ => None,
            });
            names.collect::<Vec<_>>()
        };
        Self {
            items,
            mentions: items.iter().flat_map(|item| named(item)).collect(),
        }
    }

    /// Returns the implementations for an item with this text, each with type and trait; empty if it is not a struct or enum.
    pub fn derive(&self, text: &str) -> Vec<(String, &'static str, String)> {
        let Ok(item) = syn::parse_str::<syn::Item>(text) else {
            return Vec::new();
        };
        let (attributes, ident, generics, shapes) = match &item {
            syn::Item::Struct(item) => {
                let shape = self.shape("Self".to_owned(), &item.ident, &item.fields, &item.ident);
                (&item.attrs, &item.ident, &item.generics, vec![shape])
            }
            syn::Item::Enum(item) => {
                let variant = |variant: &syn::Variant| {
                    self.shape(
                        format!("Self::{}", variant.ident),
                        &variant.ident,
                        &variant.fields,
                        &item.ident,
                    )
                };
                (
                    &item.attrs,
                    &item.ident,
                    &item.generics,
                    item.variants.iter().map(variant).collect(),
                )
            }
            _ => return Vec::new(),
        };
        let has = |wanted: &str| derives(attributes, wanted) || self.implements(wanted, &ident.to_string());
        let is_enum = matches!(item, syn::Item::Enum(_));
        let made = Made {
            ident: ident.to_string(),
            generics,
            shapes: &shapes,
            is_enum,
        };
        let borrows = generics.lifetimes().next().is_some() || refers(&item);
        let mut texts = Vec::new();
        if !has("Debug") {
            texts.push(("Debug", made.debug()));
        }
        if !has("Serialize") && !borrows {
            texts.push(("Serialize", made.serialize()));
        }
        if !has("Deserialize") && !borrows {
            texts.push(("Deserialize", made.deserialize()));
        }
        let by_serde = ["Serialize", "Deserialize"].map(|of| derives(attributes, of) || !has(of));
        if by_serde == [true; 2] && !borrows && !has("Bulk") && made.is_bulk() && !has_attributes_of_serde(&item) {
            texts.push(("Bulk", made.bulk()));
            if made.is_never_null() {
                texts.push(("NotNull", made.not_null()));
            }
        }
        let of = shown(&made.ident).to_owned();
        texts
            .into_iter()
            .map(|(implements, text)| (of.clone(), implements, text))
            .collect()
    }

    fn shape(&self, path: String, name: &syn::Ident, fields: &Fields, of: &syn::Ident) -> Shape {
        let kind = match fields {
            Fields::Unit => Kind::Unit,
            Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 => Kind::Newtype,
            Fields::Unnamed(_) => Kind::Tuple,
            Fields::Named(_) => Kind::Struct,
        };
        let field = |(index, field): (usize, &syn::Field)| Field {
            name: field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string),
            type_text: field.ty.to_token_stream().to_string(),
            is_bound: !self.leads_to(field.ty.to_token_stream(), &of.to_string()),
        };
        Shape {
            path,
            name: name.to_string(),
            kind,
            fields: fields.iter().enumerate().map(field).collect(),
        }
    }

    /// Returns whether a type mentions another, directly or indirectly.
    fn leads_to(&self, from: TokenStream, wanted: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut left: Vec<String> = Mentions::of(from).all.into_iter().collect();
        while let Some(name) = left.pop() {
            if name == wanted || name == "Self" {
                return true;
            }
            if seen.insert(name.clone())
                && let Some(mentions) = self.mentions.get(name.as_str())
            {
                left.extend(mentions.iter().cloned());
            }
        }
        false
    }

    /// Returns whether a cell has an `impl` of the trait for the type.
    fn implements(&self, wanted: &str, type_name: &str) -> bool {
        let is_it = |header: &str| {
            let Some((of, for_type)) = header.split_once(" for ") else {
                return false;
            };
            let of = of.split('<').next().unwrap_or_default();
            let for_type = for_type.split('<').next().unwrap_or_default();
            let last = |path: &str| path.trim().rsplit(' ').next().map(str::to_owned);
            last(of).as_deref() == Some(wanted) && last(for_type).as_deref() == Some(type_name)
        };
        let names = self.items.iter().flat_map(|item| &item.names);
        names
            .into_iter()
            .any(|name| matches!(name, ItemName::Impl(header) if is_it(header)))
    }
}

fn derives(attributes: &[syn::Attribute], wanted: &str) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        // rustc reports syntax errors.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.segments.last().is_some_and(|segment| segment.ident == wanted);
            Ok(())
        });
    }
    found
}

/// Returns whether the type contains a reference, so that its values can't be deserialized.
fn refers(item: &syn::Item) -> bool {
    struct References(bool);
    impl Visit<'_> for References {
        fn visit_type_reference(&mut self, _: &syn::TypeReference) {
            self.0 = true;
        }
    }
    let mut references = References(false);
    references.visit_item(item);
    references.0
}

/// Returns whether an attribute of serde may change how the type is written.
fn has_attributes_of_serde(item: &syn::Item) -> bool {
    struct Attributes(bool);
    impl Visit<'_> for Attributes {
        fn visit_attribute(&mut self, attribute: &syn::Attribute) {
            self.0 |= attribute.path().is_ident("serde");
        }
    }
    let mut attributes = Attributes(false);
    attributes.visit_item(item);
    attributes.0
}

/// A type to write implementations for.
struct Made<'a> {
    ident: String,
    generics: &'a Generics,
    shapes: &'a [Shape],
    is_enum: bool,
}

impl Made<'_> {
    /// Returns `impl<..> TRAIT for TYPE where ..`. Every field must satisfy `bound`, with its type in place of `{}`.
    fn header(&self, lifetime: &str, of: &str, bound: &str) -> String {
        let (parameters, arguments, given) = self.generics.split_for_impl();
        let parameters = parameters.to_token_stream().to_string();
        let parameters = parameters.trim_start_matches('<').trim_end_matches('>').trim();
        let parameters: Vec<_> = [lifetime, parameters].into_iter().filter(|part| !part.is_empty()).collect();
        let mut text = format!(
            "impl<{}> {of} for {} {} where ",
            parameters.join(", "),
            self.ident,
            arguments.to_token_stream()
        );
        if let Some(given) = given {
            let predicates = given.predicates.to_token_stream().to_string();
            let _ = write!(text, "{}, ", predicates.trim_end_matches([',', ' ']));
        }
        let fields = self.shapes.iter().flat_map(|shape| &shape.fields);
        let types: BTreeSet<_> = fields.filter(|f| f.is_bound).map(|f| f.type_text.as_str()).collect();
        for type_text in types {
            text.push_str(&bound.replace("{}", type_text));
            text.push_str(", ");
        }
        text
    }

    /// Returns whether the type can be written without serde: it is not recursive, and its values are not written as null.
    fn is_bulk(&self) -> bool {
        let is_unit = !self.is_enum && self.shapes.iter().all(|shape| shape.kind == Kind::Unit);
        !self.shapes.is_empty() && !is_unit && self.shapes.iter().flat_map(|shape| &shape.fields).all(|field| field.is_bound)
    }

    /// Returns whether no value is written as null. A newtype is written as its field, which may be.
    fn is_never_null(&self) -> bool {
        self.is_enum || self.shapes.iter().all(|shape| shape.kind != Kind::Newtype)
    }

    fn not_null(&self) -> String {
        let header = self.header(
            "",
            "::lockstep::cell::NotNull",
            "for<'__a> {}: ::lockstep::cell::BulkIn<'__a>",
        );
        header + "{}\n"
    }

    fn bulk(&self) -> String {
        let mut text = self.header("", "::lockstep::cell::Bulk", "for<'__a> {}: ::lockstep::cell::BulkIn<'__a>");
        text.push_str("{ fn write(&self, __to: &mut ::lockstep::cell::Sink<'_>) -> ::std::io::Result<()> { match self { ");
        for shape in self.shapes {
            let _ = write!(text, "{} => {{ ", shape.pattern());
            if self.is_enum && shape.kind != Kind::Unit {
                text.push_str("__to.map(1)?; ");
            }
            if self.is_enum {
                let _ = write!(text, "__to.text({:?})?; ", shown(&shape.name));
            }
            match shape.kind {
                Kind::Unit | Kind::Newtype => {}
                Kind::Tuple => drop(write!(text, "__to.array({})?; ", shape.fields.len())),
                Kind::Struct => drop(write!(text, "__to.map({})?; ", shape.fields.len())),
            }
            for (at, field) in shape.fields.iter().enumerate() {
                if shape.kind == Kind::Struct {
                    let _ = write!(text, "__to.text({:?})?; ", shown(&field.name));
                }
                let _ = write!(text, "::lockstep::cell::Bulk::write(__{at}, __to)?; ");
            }
            text.push_str("} ");
        }
        text.push_str("} ::std::result::Result::Ok(()) } fn read(__from: &mut ::lockstep::cell::Source<'_>) -> ::std::option::Option<Self> { ");
        match (self.is_enum, self.shapes) {
            (false, [shape]) => text.push_str(&shape.read()),
            _ => {
                let names: String = self
                    .shapes
                    .iter()
                    .map(|shape| format!("{:?}, ", shown(&shape.name)))
                    .collect();
                let _ = write!(text, "match __from.variant(&[{names}])? {{ ");
                for (index, shape) in self.shapes.iter().enumerate() {
                    let _ = write!(text, "({index}, {}) => {{ {} }} ", shape.kind != Kind::Unit, shape.read());
                }
                text.push_str("_ => ::std::option::Option::None, }");
            }
        }
        text.push_str(" } }\n");
        text
    }

    fn debug(&self) -> String {
        let mut text = self.header("", "::std::fmt::Debug", "for<'__a> &'__a {}: ::std::fmt::Debug");
        text.push_str("{ fn fmt(&self, __f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result { match self { ");
        for shape in self.shapes {
            let name = shown(&shape.name);
            let _ = write!(text, "{} => ", shape.pattern());
            match shape.kind {
                Kind::Unit => drop(write!(text, "__f.write_str({name:?}), ")),
                Kind::Struct => {
                    let _ = write!(text, "__f.debug_struct({name:?})");
                    for (at, field) in shape.fields.iter().enumerate() {
                        let _ = write!(text, ".field({:?}, &__{at})", shown(&field.name));
                    }
                    text.push_str(".finish(), ");
                }
                Kind::Newtype | Kind::Tuple => {
                    let _ = write!(text, "__f.debug_tuple({name:?})");
                    (0..shape.fields.len()).for_each(|at| text.push_str(&format!(".field(&__{at})")));
                    text.push_str(".finish(), ");
                }
            }
        }
        if self.shapes.is_empty() {
            text.push_str("_ => ::std::result::Result::Ok(()), ");
        }
        text.push_str("} } }\n");
        text
    }

    fn serialize(&self) -> String {
        let mut text = self.header("", "::serde::Serialize", "for<'__a> &'__a {}: ::serde::Serialize");
        text.push_str(
            "{ fn serialize<__S: ::serde::Serializer>(&self, __s: __S) -> ::std::result::Result<__S::Ok, __S::Error> { match self { ",
        );
        for (index, shape) in self.shapes.iter().enumerate() {
            let fields: String = (0..shape.fields.len()).map(|at| format!("&__{at}, ")).collect();
            let variant = match self.is_enum {
                true => format!("::std::option::Option::Some(({index}, {:?}))", shown(&shape.name)),
                false => "::std::option::Option::None".to_owned(),
            };
            let _ = write!(
                text,
                "{} => ::lockstep::cell::auto::write(__s, {:?}, {variant}, {}, &[{fields}]), ",
                shape.pattern(),
                shown(&self.ident),
                shape.described(),
            );
        }
        if self.shapes.is_empty() {
            text.push_str("_ => ::std::unreachable!(), ");
        }
        text.push_str("} } }\n");
        text
    }

    fn deserialize(&self) -> String {
        let mut text = self.header(
            "'__de",
            "::serde::Deserialize<'__de>",
            "for<'__a> ::lockstep::cell::auto::Field<'__a, {}>: ::serde::Deserialize<'__de>",
        );
        text.push_str(
            "{ fn deserialize<__D: ::serde::Deserializer<'__de>>(__d: __D) -> ::std::result::Result<Self, __D::Error> { ",
        );
        let (mut arms, mut makes) = (String::new(), String::new());
        for (index, shape) in self.shapes.iter().enumerate() {
            let mut fields = String::new();
            for (at, field) in shape.fields.iter().enumerate() {
                let _ = write!(
                    text,
                    "let mut __{index}_{at} = ::std::option::Option::None::<{}>; ",
                    field.type_text
                );
                let _ = write!(
                    arms,
                    "({index}, {at}) => __{index}_{at} = ::std::option::Option::Some(::lockstep::cell::auto::read_field::<{}>(__d)?), ",
                    field.type_text
                );
                let _ = write!(
                    fields,
                    "{}: ::lockstep::cell::auto::given(__{index}_{at}, {:?})?, ",
                    field.name,
                    shown(&field.name)
                );
            }
            let _ = write!(makes, "{index} => {} {{ {fields} }}, ", shape.path);
        }
        let shapes: String = self
            .shapes
            .iter()
            .map(|shape| format!("({:?}, {}), ", shown(&shape.name), shape.described()))
            .collect();
        let _ = writeln!(
            text,
            "let __made = ::lockstep::cell::auto::read(__d, {:?}, {}, const {{ &[{shapes}] }}, \
             &mut |__variant, __field, __d| {{ match (__variant, __field) {{ {arms}_ => {{}} }} ::std::result::Result::Ok(()) }})?; \
             ::std::result::Result::Ok(match __made {{ {makes}_ => ::std::unreachable!() }}) }} }}",
            shown(&self.ident),
            self.is_enum,
        );
        text
    }
}

impl Shape {
    /// Returns code that reads the value without serde, after the name of a variant.
    fn read(&self) -> String {
        let mut text = match self.kind {
            Kind::Unit | Kind::Newtype => String::new(),
            Kind::Tuple => format!("__from.array({})?; ", self.fields.len()),
            Kind::Struct => format!("__from.map({})?; ", self.fields.len()),
        };
        let mut fields = String::new();
        for (at, field) in self.fields.iter().enumerate() {
            if self.kind == Kind::Struct {
                let _ = write!(text, "__from.name({:?})?; ", shown(&field.name));
            }
            let _ = write!(
                text,
                "let __{at} = <{} as ::lockstep::cell::Bulk>::read(__from)?; ",
                field.type_text
            );
            let _ = write!(fields, "{}: __{at}, ", field.name);
        }
        let _ = write!(text, "::std::option::Option::Some({} {{ {fields} }})", self.path);
        text
    }

    /// Returns a pattern that binds the fields to `__0`, `__1`, ...
    fn pattern(&self) -> String {
        let fields = self.fields.iter().enumerate();
        let fields: String = fields.map(|(at, field)| format!("{}: __{at}, ", field.name)).collect();
        format!("{} {{ {fields}}}", self.path)
    }

    /// Returns the shape as a `lockstep::cell::auto::Shape`.
    fn described(&self) -> String {
        let kind = match self.kind {
            Kind::Unit => return "::lockstep::cell::auto::Shape::Unit".to_owned(),
            Kind::Newtype => return "::lockstep::cell::auto::Shape::Newtype".to_owned(),
            Kind::Tuple => format!("Tuple({})", self.fields.len()),
            Kind::Struct => {
                let names: String = self
                    .fields
                    .iter()
                    .map(|field| format!("{:?}, ", shown(&field.name)))
                    .collect();
                format!("Struct(&[{names}])")
            }
        };
        format!("::lockstep::cell::auto::Shape::{kind}")
    }
}

/// Returns the name without `r#`.
fn shown(name: &str) -> &str {
    name.trim_start_matches("r#")
}
