//! Cells that begin with `:sql`. They are executed as a call of the SDK's macro `sql!`.

use super::directive::is_variable;
use super::{MARK, directives};

/// Returns the Rust of a cell that begins with `:sql` or `:sql name =`; `None` for any other cell. The query keeps its lines and, from the
/// second line, its columns.
pub fn of_query(code: &str) -> Option<String> {
    let first = directives(code).into_iter().next()?;
    let rest = code[first.start..].strip_prefix(":sql")?;
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let (name, query) = match rest.split_once('=') {
        Some((name, query)) if is_variable(name.trim()) => (Some(name.trim()), query),
        _ => (None, rest),
    };
    let call = call(query.trim_end());
    let before = code[..first.start].trim_start_matches(MARK);
    Some(match name {
        Some(name) => format!("{before}let {name} = {call}?;"),
        None => format!("{before}{call}?"),
    })
}

/// Returns a call of `sql!` with a raw string.
fn call(query: &str) -> String {
    let mut hashes = "#".to_owned();
    while query.contains(&format!("\"{hashes}")) {
        hashes.push('#');
    }
    format!("::lockstep::sql!(r{hashes}\"{query}\"{hashes})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_a_call_in_the_same_lines() {
        let of = |code: &str| of_query(code).unwrap();
        assert_eq!(of(":sql\nselect 1\n"), "::lockstep::sql!(r#\"\nselect 1\"#)?");
        assert_eq!(
            of("// top\n :sql select '\"#'"),
            "// top\n ::lockstep::sql!(r##\" select '\"#'\"##)?"
        );
        assert_eq!(
            of(":sql means =\nselect a = b"),
            "let means = ::lockstep::sql!(r#\"\nselect a = b\"#)?;"
        );
        assert_eq!(of(":sql select a = b"), "::lockstep::sql!(r#\" select a = b\"#)?");
        assert_eq!(of_query(":sqlite\n"), None);
        assert_eq!(of_query(":vars\n:sql select 1"), None);
        assert_eq!(of_query("let x = 1;\n:sql"), None);
    }
}
