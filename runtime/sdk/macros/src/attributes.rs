use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use serde_json::Value;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, Ident, Lit, Meta, Result, Type, UnOp};

/// Returns the text of the doc comments among `attributes`.
pub fn doc(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    };
    let lines = attributes.iter().filter_map(line).flat_map(|text| {
        let lines = text
            .lines()
            .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_string());
        if text.is_empty() {
            vec![String::new()]
        } else {
            lines.collect()
        }
    });
    lines.collect::<Vec<_>>().join("\n").trim().to_string()
}

/// Returns the name as text, without the `r#` of a raw identifier.
pub fn name(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").unwrap_or(&text).to_string()
}

/// Returns the type as it is usually written.
pub fn type_name(of: &Type) -> String {
    let mut text = String::new();
    for token in of.to_token_stream().to_string().split_whitespace() {
        let words = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let apart = text.ends_with([',', ';']) || words(text.chars().last()) && words(token.chars().next());
        if apart && !token.starts_with([',', '>', ')']) {
            text.push(' ');
        }
        text.push_str(token);
    }
    text
}

/// The default of a parameter: its JSON, and the `Kind` of that (none for `null`).
pub struct Default {
    json: Value,
    span: Span,
}

impl Default {
    /// Returns the default among `attributes`.
    pub fn among(attributes: &[Attribute]) -> Result<Option<Self>> {
        let mut found = attributes.iter().filter(|attribute| attribute.path().is_ident("default"));
        let (first, second) = (found.next(), found.next());
        if let Some(second) = second {
            return Err(Error::new(second.span(), "duplicate default: a parameter has only one"));
        }
        let Some(attribute) = first else { return Ok(None) };
        match &attribute.meta {
            Meta::NameValue(pair) => Ok(Some(Self {
                json: literal(&pair.value)?,
                span: pair.value.span(),
            })),
            meta => Err(Error::new(meta.span(), "write the default as `#[default = 0.5]`")),
        }
    }

    /// Returns an expression of type `(&str, Option<Kind>)`.
    pub fn tokens(&self) -> TokenStream {
        let json = self.json.to_string();
        let kind = match &self.json {
            Value::Null => return quote!((#json, ::core::option::Option::None)),
            Value::Bool(_) => "Boolean",
            Value::Number(number) if number.is_f64() => "Number",
            Value::Number(_) => "Integer",
            Value::String(_) => "String",
            Value::Array(_) => "List",
            Value::Object(_) => "Struct",
        };
        let kind = Ident::new(kind, self.span);
        quote!((#json, ::core::option::Option::Some(::lockstep::Kind::#kind)))
    }
}

/// Converts a literal to JSON.
fn literal(value: &Expr) -> Result<Value> {
    let refuse = || {
        let text = "a default must be a number, a string, `true`, `false`, `None` or an array of these";
        Error::new(value.span(), text)
    };
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.value().into()),
        Expr::Lit(ExprLit { lit: Lit::Char(one), .. }) => Ok(one.value().to_string().into()),
        Expr::Lit(ExprLit {
            lit: Lit::Bool(flag), ..
        }) => Ok(flag.value.into()),
        Expr::Lit(ExprLit {
            lit: Lit::Int(number), ..
        }) => Ok(number.base10_parse::<u64>()?.into()),
        Expr::Lit(ExprLit {
            lit: Lit::Float(number), ..
        }) => Ok(number.base10_parse::<f64>()?.into()),
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => match literal(&unary.expr)? {
            Value::Number(number) if number.is_f64() => Ok(number.as_f64().map_or(Value::Null, |number| (-number).into())),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Ok((-number).into()),
                None => Err(refuse()),
            },
            _ => Err(refuse()),
        },
        Expr::Array(array) => array.elems.iter().map(literal).collect(),
        Expr::Path(path) if path.path.is_ident("None") => Ok(Value::Null),
        Expr::Group(group) => literal(&group.expr),
        _ => Err(refuse()),
    }
}
