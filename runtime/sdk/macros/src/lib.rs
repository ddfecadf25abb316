//! The proc macros of the lockstep crate.

mod attributes;
mod outputs;
mod sql;
mod step;
#[cfg(test)]
mod tests;
mod value;

use proc_macro::TokenStream;

/// Turns a function into a step. The function itself is unchanged and can still be called.
///
/// - Arguments of type `Param<T>` are parameters, all others are inputs. Their doc comments become part of the interface.
///   `#[default = ...]` with a literal sets the default of a parameter.
/// - The function returns `T` or `Result<T>`, where `T` is one output, a struct with `#[derive(Outputs)]` for several, or `()`.
/// - `#[step(output = "rows")]` sets the name of a single output. The default is `output`.
#[proc_macro_attribute]
pub fn step(arguments: TokenStream, item: TokenStream) -> TokenStream {
    step::expand(arguments.into(), item.into()).into()
}

/// Implements `Outputs` for a struct, so that a step can return several outputs: one per field, with its name and doc comment.
#[proc_macro_derive(Outputs)]
pub fn outputs(item: TokenStream) -> TokenStream {
    outputs::expand(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Derives serde's `Serialize`, for crates that depend only on `lockstep`. Supports the same attributes.
#[proc_macro_derive(Serialize, attributes(serde))]
pub fn serialize(item: TokenStream) -> TokenStream {
    value::serialize(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Derives serde's `Deserialize`, for crates that depend only on `lockstep`. Supports the same attributes.
#[proc_macro_derive(Deserialize, attributes(serde))]
pub fn deserialize(item: TokenStream) -> TokenStream {
    value::deserialize(item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Runs a SQL query of tables: one `select` statement, in DataFusion's dialect. Returns a `Result<Table>`.
///
/// `{name}` is a table (`Table`, `Csv` or `Bytes`) or a value (a number, a boolean, a string or an `Option` of one): a variable, or
/// an argument `name = ...` after the query, as in `format!`. Values are passed to the query and never become part of its text.
/// `{{` and `}}` are braces. Names of columns are matched as they are written.
///
/// Runs in the sandbox only. The rows of a query without `order by` are in an order that depends only on the query and its tables.
#[proc_macro]
pub fn sql(query: TokenStream) -> TokenStream {
    sql::expand(query.into()).into()
}
