//! `sql!`: a query as text, with tables and values in braces.

use std::collections::BTreeMap;

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, LitStr, Result, Token};

/// The module that executes queries, as a line of the section that lists the built-in modules whose steps a module calls.
const CALLS: &[u8] = b"lockstep:sql\n";

pub fn expand(input: TokenStream) -> TokenStream {
    syn::parse2(input)
        .and_then(|query: Query| query.expand())
        .unwrap_or_else(Error::into_compile_error)
}

/// A query, and the expressions for names in braces that are not variables.
struct Query {
    text: LitStr,
    given: BTreeMap<String, Expr>,
}

impl Parse for Query {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let text = input.parse()?;
        let mut given = BTreeMap::new();
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if given.insert(name.to_string(), input.parse()?).is_some() {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
        }
        Ok(Self { text, given })
    }
}

impl Query {
    fn expand(mut self) -> Result<TokenStream> {
        let mut parts = Vec::new();
        let mut values = BTreeMap::new();
        for piece in pieces(&self.text.value()).map_err(|error| Error::new(self.text.span(), error))? {
            match piece {
                Piece::Text(text) => parts.push(quote!(__sql::Part::Text(#text))),
                Piece::Name(name) => {
                    if !values.contains_key(&name) {
                        let value = match self.given.remove(&name) {
                            Some(value) => quote!(#value),
                            None => self.variable(&name)?,
                        };
                        values.insert(name.clone(), value);
                    }
                    parts.push(quote!(__sql::Part::Name(#name)));
                }
            }
        }
        if let Some((name, value)) = self.given.first_key_value() {
            return Err(Error::new_spanned(value, format!("the query does not contain `{{{name}}}`")));
        }
        let names = values.keys();
        // an argument without an implementation is an error at the query
        let arguments = values.values().map(|value| quote_spanned!(self.text.span()=> &(#value)));
        let (calls, len) = (Literal::byte_string(CALLS), CALLS.len());
        Ok(quote! {{
            use ::lockstep::sql as __sql;

            #[cfg(target_family = "wasm")]
            #[used]
            #[unsafe(link_section = "lockstep:calls")]
            static __CALLS: [u8; #len] = *#calls;

            __sql::run(&[#(#parts),*], &[#((#names, #arguments)),*])
        }})
    }

    fn variable(&self, name: &str) -> Result<TokenStream> {
        let ident: Ident = syn::parse_str(name).map_err(|_| {
            let text =
                format!("`{{{name}}}` is not the name of a variable: write `{{name}}`, and `name = {name}` after the query");
            Error::new(self.text.span(), text)
        })?;
        let ident = Ident::new(&ident.to_string(), self.text.span());
        Ok(quote!(#ident))
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Name(String),
}

/// Splits a query at its braces. `{{` and `}}` are braces of the query itself.
fn pieces(query: &str) -> std::result::Result<Vec<Piece>, &'static str> {
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut rest = query;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..];
        if brace.starts_with("{{") || brace.starts_with("}}") {
            text.push_str(&brace[..1]);
            rest = &brace[2..];
        } else if let Some(named) = brace.strip_prefix('{') {
            let (name, after) = named
                .split_once('}')
                .ok_or("a `{` without a `}`: write `{{` for a brace of the query")?;
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(Piece::Name(name.trim().to_owned()));
            rest = after;
        } else {
            return Err("a `}` without a `{`: write `}}` for a brace of the query");
        }
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_split_at_its_braces() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let name = |name: &str| Piece::Name(name.to_owned());
        assert_eq!(pieces("a {b} c").unwrap(), [text("a "), name("b"), text(" c")]);
        assert_eq!(pieces("{ b }{c}").unwrap(), [name("b"), name("c")]);
        assert_eq!(pieces("'{{}}' {b}").unwrap(), [text("'{}' "), name("b")]);
        assert_eq!(pieces("").unwrap(), []);
        assert!(pieces("a {b").is_err());
        assert!(pieces("a } b").is_err());
    }
}
