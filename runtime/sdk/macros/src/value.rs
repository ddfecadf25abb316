//! `Serialize` and `Deserialize` for crates that depend only on `lockstep`.
//!
//! The output of serde's own derives refers to the crate `serde`, which such a crate does not depend on. A derive macro can't add the
//! attribute `#[serde(crate = "...")]` to the type, but it can add it to a copy of the type's definition and let serde derive for the
//! copy, as for a type of another crate (`#[serde(remote = "...")]`).

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{Attribute, Data, DeriveInput, Fields, GenericParam, Generics, Result, parse_quote};

use crate::attributes::name;

pub fn serialize(item: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    let (ident, copied) = (&item.ident, copied(&item.ident));
    let copy = copy(&item, &parse_quote!(Serialize))?;
    let mut generics = item.generics.clone();
    bound(&mut generics, &parse_quote!(::lockstep::serde::Serialize));
    let (left, right, condition) = generics.split_for_impl();
    let turbofish = right.as_turbofish();
    Ok(quote! {
        const _: () = {
            #copy

            #[automatically_derived]
            impl #left ::lockstep::serde::Serialize for #ident #right #condition {
                fn serialize<__S: ::lockstep::serde::Serializer>(&self, to: __S) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #copied #turbofish ::serialize(self, to)
                }
            }
        };
    })
}

pub fn deserialize(item: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    let (ident, copied) = (&item.ident, copied(&item.ident));
    let copy = copy(&item, &parse_quote!(Deserialize))?;
    let mut generics = item.generics.clone();
    bound(&mut generics, &parse_quote!(::lockstep::serde::Deserialize<'de>));
    let lifetimes = item.generics.lifetimes().map(|lifetime| &lifetime.lifetime);
    generics
        .params
        .insert(0, GenericParam::Lifetime(parse_quote!('de: #(#lifetimes)+*)));
    let (left, _, condition) = generics.split_for_impl();
    let (_, right, _) = item.generics.split_for_impl();
    let turbofish = right.as_turbofish();
    Ok(quote! {
        const _: () = {
            #copy

            #[automatically_derived]
            impl #left ::lockstep::serde::Deserialize<'de> for #ident #right #condition {
                fn deserialize<__D: ::lockstep::serde::Deserializer<'de>>(from: __D) -> ::core::result::Result<Self, __D::Error> {
                    #copied #turbofish ::deserialize(from)
                }
            }
        };
    })
}

fn copied(ident: &Ident) -> Ident {
    format_ident!("__{}", name(ident))
}

/// Returns a copy of the definition with another name and only serde's attributes, for which serde derives `what`.
fn copy(item: &DeriveInput, what: &Ident) -> Result<TokenStream> {
    let mut copy = item.clone();
    keep_serde(&mut copy.attrs);
    let fields: Vec<&mut Fields> = match &mut copy.data {
        Data::Struct(data) => vec![&mut data.fields],
        Data::Enum(data) => {
            data.variants.iter_mut().for_each(|variant| keep_serde(&mut variant.attrs));
            data.variants.iter_mut().map(|variant| &mut variant.fields).collect()
        }
        Data::Union(_) => return Err(syn::Error::new_spanned(item, "a union can't be an artifact")),
    };
    fields.into_iter().flatten().for_each(|field| keep_serde(&mut field.attrs));
    let (ident, remote) = (&item.ident, item.ident.to_string());
    copy.ident = copied(ident);
    let rename = (!renamed(&item.attrs))
        .then(|| name(ident))
        .map(|name| quote!(rename = #name,));
    Ok(quote! {
        #[derive(::lockstep::serde::#what)]
        #[serde(crate = "::lockstep::serde", #rename remote = #remote)]
        #[allow(dead_code, reason = "only its shape is of interest")]
        #copy
    })
}

fn keep_serde(attributes: &mut Vec<Attribute>) {
    attributes.retain(|attribute| attribute.path().is_ident("serde") || attribute.path().is_ident("cfg"));
}

/// Returns whether the type has `#[serde(rename = "...")]`.
fn renamed(attributes: &[Attribute]) -> bool {
    let mut found = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        // serde reports errors in the attribute
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("rename");
            if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<syn::Expr>()?;
            }
            Ok(())
        });
    }
    found
}

fn bound(generics: &mut Generics, bound: &syn::TypeParamBound) {
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(bound.clone());
    }
}
