use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Result};

use crate::attributes::{doc, name, type_name};

pub fn expand(item: TokenStream) -> Result<TokenStream> {
    let item: DeriveInput = syn::parse2(item)?;
    let refuse = |text| Err(Error::new_spanned(&item.ident, text));
    let fields = match &item.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if !fields.named.is_empty() => &fields.named,
            _ => {
                return refuse(
                    "#[derive(Outputs)] needs named fields, one per output: struct Parts { train: Table, test: Table }",
                );
            }
        },
        _ => return refuse("#[derive(Outputs)] applies only to structs with named fields, one per output"),
    };
    if !item.generics.params.is_empty() {
        return refuse("#[derive(Outputs)] does not support generics: an output has one type");
    }
    let ident = &item.ident;
    let (mut ports, mut writes) = (Vec::new(), Vec::new());
    for field in fields {
        let (Some(field_ident), field_type) = (&field.ident, &field.ty) else {
            continue;
        };
        let (name, doc, type_name) = (name(field_ident), doc(&field.attrs), type_name(field_type));
        ports.push(quote!(::lockstep::step::output::<#field_type>(#name, #doc, #type_name)));
        writes.push(quote!(::lockstep::Artifact::write_artifact(&self.#field_ident, &out.join(#name))?;));
    }
    Ok(quote! {
        impl ::lockstep::Outputs for #ident {
            const PORTS: ::lockstep::step::Ports = ::lockstep::step::Ports::Fields(&[#(#ports),*]);

            fn write_outputs(self, out: &::std::path::Path, _name: &str) -> ::lockstep::Result<()> {
                #(#writes)*
                ::core::result::Result::Ok(())
            }
        }
    })
}
