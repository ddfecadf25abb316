use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse_quote;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Error, Expr, ExprLit, FnArg, GenericArgument, ItemFn, Lit, MetaNameValue, Pat, PatType, PathArguments, Result, ReturnType,
    Token, Type,
};

use crate::attributes::{Default, doc, name, type_name};

/// Expands to the function and the step. If the function can't be a step, expands to the function and a compile error.
pub fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let error = Error::new_spanned(
                &item,
                "#[step] applies only to a function: fn clean(raw: Table) -> Result<Table> { ... }",
            );
            let error = error.into_compile_error();
            return quote!(#item #error);
        }
    };
    let step = register(arguments, &function).unwrap_or_else(Error::into_compile_error);
    for argument in &mut function.sig.inputs {
        if let FnArg::Typed(argument) = argument {
            argument
                .attrs
                .retain(|attribute| !attribute.path().is_ident("doc") && !attribute.path().is_ident("default"));
        }
    }
    quote!(#function #step)
}

fn register(arguments: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    check(function)?;
    let step = name(&function.sig.ident);
    let doc = doc(&function.attrs);
    let call = &function.sig.ident;
    let (mut inputs, mut parameters, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    for argument in &function.sig.inputs {
        let argument = Argument::of(argument)?;
        reads.push(argument.read());
        match argument.parameter {
            Some(_) => parameters.push(argument.declare()),
            None => inputs.push(argument.declare()),
        }
    }
    let returned = Returned::of(function)?;
    let named = output_name(arguments)?;
    let output = named.clone().unwrap_or_else(|| "output".into());
    let (of, type_text) = (&returned.of, type_name(&returned.of));
    let mut ports = quote_spanned!(of.span()=> <#of as __step::Outputs>::PORTS);
    if named.is_some() {
        ports = quote!(#ports.nameable());
    }
    let fallible = returned.fallible.then(|| quote!(?));
    let mut write = quote!(__step::write(__io, #output, #call(#(#reads),*) #fallible));
    if is_unit(of) {
        ports = quote!(__step::Ports::Fields(&[]));
        write = quote!(#call(#(#reads),*) #fallible; ::core::result::Result::Ok(()));
    }
    Ok(quote! {
        const _: () = {
            use ::lockstep::step as __step;

            const INTERFACE: __step::Interface = __step::Interface {
                step: #step,
                doc: #doc,
                inputs: &[#(#inputs),*],
                parameters: &[#(#parameters),*],
                outputs: #ports,
                output: #output,
                returns: #type_text,
            };

            #[cfg(target_family = "wasm")]
            #[used]
            #[unsafe(link_section = "lockstep:interface")]
            static SECTION: [u8; INTERFACE.json_len()] = INTERFACE.json();

            fn run(__io: &::lockstep::Io) -> ::lockstep::Result<()> {
                #write
            }

            __step::inventory::submit! { __step::Step { interface: &INTERFACE, run } }
        };
    })
}

/// Rejects a function that can't be a step.
fn check(function: &ItemFn) -> Result<()> {
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return Err(Error::new_spanned(token, "a step can't be async: remove `async`"));
    }
    if let syn::Safety::Unsafe(token) = &signature.safety {
        return Err(Error::new_spanned(token, "a step can't be unsafe: remove `unsafe`"));
    }
    if !signature.generics.params.is_empty() {
        let text = "a step can't be generic: use concrete types";
        return Err(Error::new_spanned(&signature.generics, text));
    }
    if let Some(token) = &signature.variadic {
        return Err(Error::new_spanned(
            token,
            "a step can't be variadic: use a fixed number of arguments",
        ));
    }
    Ok(())
}

/// An argument of the function.
struct Argument<'a> {
    pattern: &'a PatType,
    name: String,
    /// The `T` of `Param<T>`.
    parameter: Option<&'a Type>,
    default: Option<Default>,
}

impl<'a> Argument<'a> {
    fn of(argument: &'a FnArg) -> Result<Self> {
        let FnArg::Typed(pattern) = argument else {
            return Err(Error::new_spanned(
                argument,
                "a step can't be a method: take the value as an argument",
            ));
        };
        let Pat::Ident(ident) = &*pattern.pat else {
            return Err(Error::new_spanned(
                &pattern.pat,
                "an argument of a step must be a plain name, such as `raw: Table`",
            ));
        };
        if let Type::Reference(reference) = &*pattern.ty {
            let text = format!("an argument of a step must be owned: write `{}`", owned(&reference.elem));
            return Err(Error::new_spanned(reference, text));
        }
        if let Type::ImplTrait(_) = &*pattern.ty {
            return Err(Error::new_spanned(
                &pattern.ty,
                "an argument of a step can't be `impl Trait`: use a concrete type",
            ));
        }
        let parameter = generic(&pattern.ty, "Param");
        let default = Default::among(&pattern.attrs)?;
        if default.is_some() && parameter.is_none() {
            let text = format!("only parameters can have defaults: write `Param<{}>`", type_name(&pattern.ty));
            return Err(Error::new_spanned(&pattern.ty, text));
        }
        Ok(Self {
            pattern,
            name: name(&ident.ident),
            parameter,
            default,
        })
    }

    fn declare(&self) -> TokenStream {
        let (name, doc, of) = (&self.name, doc(&self.pattern.attrs), &self.pattern.ty);
        match self.parameter {
            Some(of) => {
                let default = match &self.default {
                    Some(default) => {
                        let default = default.tokens();
                        quote!(::core::option::Option::Some(#default))
                    }
                    None => quote!(::core::option::Option::None),
                };
                quote_spanned!(of.span()=> __step::parameter::<#of>(#name, #doc, #default))
            }
            None => {
                let type_name = type_name(of);
                quote_spanned!(of.span()=> __step::input::<#of>(#name, #doc, #type_name))
            }
        }
    }

    fn read(&self) -> TokenStream {
        let (name, of) = (&self.name, &self.pattern.ty);
        match self.parameter {
            Some(of) => quote_spanned!(of.span()=> __step::read_parameter::<#of>(__io, #name)?),
            None => quote_spanned!(of.span()=> __step::read::<#of>(__io, #name)?),
        }
    }
}

/// Returns the owned form of the type behind a reference.
fn owned(of: &Type) -> String {
    match (of, type_name(of).as_str()) {
        (_, "str") => "String".to_string(),
        (Type::Slice(slice), _) => format!("Vec<{}>", type_name(&slice.elem)),
        (_, name) => name.to_string(),
    }
}

/// The return type of the function.
struct Returned {
    of: Type,
    fallible: bool,
}

impl Returned {
    fn of(function: &ItemFn) -> Result<Self> {
        let of = match &function.sig.output {
            ReturnType::Default => {
                return Ok(Self {
                    of: parse_quote!(()),
                    fallible: false,
                });
            }
            ReturnType::Type(_, of) => of,
        };
        if let Type::Reference(_) | Type::ImplTrait(_) = &**of {
            return Err(Error::new_spanned(of, "a step must return a concrete, owned type"));
        }
        Ok(match generic(of, "Result") {
            Some(of) => Self {
                of: of.clone(),
                fallible: true,
            },
            None => Self {
                of: (**of).clone(),
                fallible: false,
            },
        })
    }
}

fn is_unit(of: &Type) -> bool {
    matches!(of, Type::Tuple(tuple) if tuple.elems.is_empty())
}

/// Returns the `T` of `outer<T>`, with any path before `outer`.
fn generic<'a>(of: &'a Type, outer: &str) -> Option<&'a Type> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last()?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(of)) if last.ident == outer => Some(of),
        _ => None,
    }
}

/// Returns the name in `#[step(output = "name")]`.
fn output_name(arguments: TokenStream) -> Result<Option<String>> {
    use syn::parse::Parser;
    let pairs = Punctuated::<MetaNameValue, Token![,]>::parse_terminated.parse2(arguments.clone());
    let refuse = |at: &dyn quote::ToTokens| {
        Error::new_spanned(
            at.to_token_stream(),
            "#[step] takes only the name of its output: `output = \"rows\"`",
        )
    };
    let mut named = None;
    for pair in pairs.map_err(|_| refuse(&arguments))? {
        match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if pair.path.is_ident("output") && named.is_none() => {
                named = Some(checked(&text.value()).ok_or_else(|| {
                    Error::new(
                        text.span(),
                        "an output's name can contain letters, digits, `_`, `-` and `.`, and can't start with `.`",
                    )
                })?);
            }
            _ => return Err(refuse(&pair)),
        }
    }
    Ok(named)
}

fn checked(name: &str) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!name.is_empty() && name.len() <= 128 && name.chars().all(plain) && !name.starts_with('.')).then(|| name.to_string())
}
