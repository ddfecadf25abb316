use std::fmt::{self, Write};

use wasmtime::WasmBacktrace;

/// Maximum length of a name that is demangled, in bytes. What a name expands to can be exponentially longer.
const MANGLED: usize = 4096;
/// Maximum length of a name that is shown, in bytes.
const SHOWN: usize = 1024;
/// Maximum number of functions that are inlined into one another at one place.
const INLINED: usize = 32;

/// Describes a backtrace. All names are the module's, so they are bounded.
pub(super) fn describe(backtrace: &WasmBacktrace) -> String {
    let mut text = "error while executing at wasm backtrace:".to_owned();
    for (number, frame) in backtrace.frames().iter().enumerate() {
        let function = match frame.func_name() {
            Some(name) => demangled(name),
            None => format!("<wasm function {}>", frame.func_index()),
        };
        text += &format!("\n  {number:>3}: ");
        if let Some(offset) = frame.module_offset() {
            text += &format!("{offset:#8x} - ");
        }
        if frame.symbols().is_empty() {
            let module = frame.module().name().map_or("<unknown>".to_owned(), cut);
            text += &format!("{module}!{function}");
        }
        for (level, symbol) in frame.symbols().iter().take(INLINED).enumerate() {
            let name = match symbol.name() {
                Some(name) => demangled(name),
                None if level == 0 => function.clone(),
                None => "<inlined function>".to_owned(),
            };
            let before = if level == 0 { "" } else { "\n                - " };
            text += &format!("{before}{name}");
            if let Some(file) = symbol.file() {
                text += &format!("\n                    at {}", cut(file));
                for number in [symbol.line(), symbol.column()].iter().map_while(Option::as_ref) {
                    text += &format!(":{number}");
                }
            }
        }
    }
    text
}

/// Returns the name of a function in Rust or C++ as in its source, or the name itself.
fn demangled(name: &str) -> String {
    let mut shown = Bounded::default();
    if name.len() <= MANGLED {
        // an error means that the name is too long, or that it can't be demangled
        if let Ok(rust) = rustc_demangle::try_demangle(name) {
            let _ = write!(shown, "{rust}");
        } else if let Ok(cpp) = cpp_demangle::Symbol::new(name) {
            let _ = cpp.structured_demangle(&mut shown, &cpp_demangle::DemangleOptions::default());
        }
    }
    if shown.text.is_empty() {
        return cut(name);
    }
    shown.text
}

fn cut(text: &str) -> String {
    let mut shown = Bounded::default();
    let _ = shown.write_str(text);
    shown.text
}

/// A text that ends in an ellipsis when it gets too long. Further writing fails.
#[derive(Default)]
struct Bounded {
    text: String,
    is_full: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.is_full {
            return Err(fmt::Error);
        }
        let fits = more.floor_char_boundary(SHOWN - self.text.len());
        self.text.push_str(&more[..fits]);
        if fits < more.len() {
            self.is_full = true;
            self.text.push('…');
            return Err(fmt::Error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_demangled_within_bounds() {
        assert_eq!(demangled("_ZN3foo3barEv"), "foo::bar()");
        assert_eq!(
            demangled("_ZN4core3fmt9Formatter3pad17h1234567890abcdefE"),
            "core::fmt::Formatter::pad::h1234567890abcdef"
        );
        assert_eq!(demangled("main"), "main");
        assert_eq!(demangled(&"é".repeat(5000)).len(), SHOWN + "…".len());
        // each parameter is a pair of the one before
        let pairs: String = (0..60).map(|n| format!("St4pairIS{0}_S{0}_E", number(n))).collect();
        for name in [
            format!("_Z1fSt4pairIiiE{pairs}"),
            "_Z".repeat(9000),
            format!("_ZN{}E", "1a".repeat(2000)),
        ] {
            assert!(demangled(&name).len() <= SHOWN + "…".len());
        }
    }

    /// Returns the number of a substitution in base 36.
    fn number(n: u32) -> String {
        match n {
            0 => String::new(),
            1..=36 => char::from_digit(n - 1, 36).unwrap().to_ascii_uppercase().to_string(),
            _ => format!("1{}", char::from_digit(n - 37, 36).unwrap().to_ascii_uppercase()),
        }
    }
}
