//! The proc macros of the lockstep crate.

mod attributes;
mod outputs;
mod step;
#[cfg(test)]
mod tests;
mod value;

use proc_macro::TokenStream;

/// Makes a step of a function. The function stays as it is and can be called as before.
///
/// - Arguments of type `Param<T>` are parameters, all others are inputs. Their doc comments are kept, and `#[default = ...]` with
///   a literal gives a parameter its default.
/// - It returns `T` or `Result<T>`, where `T` is one output, a struct with `#[derive(Outputs)]` for several, or `()`.
/// - `#[step(output = "rows")]` names a single output, which else is called `output`.
#[proc_macro_attribute]
pub fn step(arguments: TokenStream, item: TokenStream) -> TokenStream {
    step::expand(arguments.into(), item.into()).into()
}

/// Makes a struct what a step can return to have several outputs: one for each field, named as the field, with its doc comment.
#[proc_macro_derive(Outputs)]
pub fn outputs(item: TokenStream) -> TokenStream {
    outputs::expand(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// serde's `Serialize`, for a crate that depends on `lockstep` alone. It takes the same attributes.
#[proc_macro_derive(Serialize, attributes(serde))]
pub fn serialize(item: TokenStream) -> TokenStream {
    value::serialize(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// serde's `Deserialize`, for a crate that depends on `lockstep` alone. It takes the same attributes.
#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(item: TokenStream) -> TokenStream {
    value::deserialize(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
