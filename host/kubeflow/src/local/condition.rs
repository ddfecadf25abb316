//! Conditions in the subset of CEL that the SDK generates: `int(inputs.parameter_values['depth']) > 3 && !(inputs.parameter_values['how'] == 'fast')`.

use std::collections::BTreeMap;

use lockstep_runtime::pipeline::{Comparison, Operand, When};
use lockstep_view::error::{Error, Result};
use serde_json::Value;

/// Maximum number of `(` and `!`, which bounds the nesting depth.
const DEEPEST: usize = 200;

/// Conversion of a value; `None` if it is not possible.
type Cast = fn(&Value) -> Option<Value>;

const CASTS: [(&str, Cast); 2] = [("int(", integer), ("double(", double)];

/// Parses a condition and substitutes parameters. Returns comparisons that must all hold.
pub fn read(text: &str, parameters: &BTreeMap<String, Value>) -> Result<Vec<When>> {
    let of_condition = |error: Error| error.of(format_args!("condition `{text}`"));
    if text.matches(['(', '!']).count() > DEEPEST {
        return Err(of_condition(Error::config("too complex")));
    }
    let mut reader = Reader { rest: text, parameters };
    let term = reader.whole().map_err(of_condition)?;
    term.conditions().map_err(of_condition)
}

/// Syntax tree of a condition.
enum Term {
    Value(Value),
    Compared(When),
    Not(Box<Term>),
    All(Vec<Term>),
    Any(Vec<Term>),
}

impl Term {
    /// Returns the comparisons that must hold.
    fn conditions(self) -> Result<Vec<When>> {
        match self {
            Self::All(terms) => {
                let conditions: Vec<Vec<When>> = terms.into_iter().map(Self::conditions).collect::<Result<_>>()?;
                Ok(conditions.into_iter().flatten().collect())
            }
            Self::Compared(when) => checked(when),
            Self::Not(term) => match *term {
                Self::Compared(when) => checked(When {
                    is: opposite(when.is),
                    ..when
                }),
                other => Ok(vec![is_true(!other.truth()?)]),
            },
            other => Ok(vec![is_true(other.truth()?)]),
        }
    }

    fn truth(&self) -> Result<bool> {
        let value = self.value()?;
        value
            .as_bool()
            .ok_or_else(|| Error::config(format_args!("{value} is not a boolean")))
    }

    fn value(&self) -> Result<Value> {
        Ok(match self {
            Self::Value(value) => value.clone(),
            Self::Compared(when) => Value::from(when.holds(None).map_err(Error::config)?),
            Self::Not(term) => Value::from(!term.truth()?),
            Self::All(terms) => Value::from(!among(terms, false)?),
            Self::Any(terms) => Value::from(among(terms, true)?),
        })
    }
}

/// Whether one of the terms is `truth`. Does not evaluate the terms after it.
fn among(terms: &[Term], truth: bool) -> Result<bool> {
    for term in terms {
        if term.truth()? == truth {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Checks that a comparison can be evaluated.
fn checked(when: When) -> Result<Vec<When>> {
    when.holds(None).map_err(Error::config)?;
    Ok(vec![when])
}

fn is_true(truth: bool) -> When {
    When {
        left: Operand::Value(Value::from(truth)),
        is: Comparison::Equal,
        right: Value::from(true),
    }
}

/// Returns the negated comparison.
fn opposite(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::NotEqual,
        Comparison::NotEqual => Comparison::Equal,
        Comparison::AtMost => Comparison::Greater,
        Comparison::AtLeast => Comparison::Less,
        Comparison::Less => Comparison::AtLeast,
        Comparison::Greater => Comparison::AtMost,
    }
}

fn integer(value: &Value) -> Option<Value> {
    let integer = match value {
        Value::Number(number) => number.as_i64().or_else(|| Some(number.as_f64()?.trunc() as i64)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    integer.map(Value::from)
}

fn double(value: &Value) -> Option<Value> {
    let double: Option<f64> = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    double.map(Value::from)
}

/// Parser of a condition.
struct Reader<'a> {
    rest: &'a str,
    parameters: &'a BTreeMap<String, Value>,
}

impl Reader<'_> {
    fn whole(&mut self) -> Result<Term> {
        let term = self.any()?;
        match self.rest.trim_start().is_empty() {
            true => Ok(term),
            false => Err(self.unknown()),
        }
    }

    fn any(&mut self) -> Result<Term> {
        let (first, mut more) = (self.all()?, Vec::new());
        while self.takes("||") {
            more.push(self.all()?);
        }
        Ok(joined(first, more, Term::Any))
    }

    fn all(&mut self) -> Result<Term> {
        let (first, mut more) = (self.compared()?, Vec::new());
        while self.takes("&&") {
            more.push(self.compared()?);
        }
        Ok(joined(first, more, Term::All))
    }

    fn compared(&mut self) -> Result<Term> {
        let left = self.operand()?;
        let Some((_, is)) = Comparison::ALL.iter().find(|(sign, _)| self.takes(sign)) else {
            return Ok(left);
        };
        let right = self.operand()?;
        Ok(Term::Compared(When {
            left: Operand::Value(left.value()?),
            is: *is,
            right: right.value()?,
        }))
    }

    fn operand(&mut self) -> Result<Term> {
        if self.takes("!") {
            return Ok(Term::Not(Box::new(self.operand()?)));
        }
        if self.takes("(") {
            return self.closed();
        }
        if let Some((name, cast)) = CASTS.iter().find(|(name, _)| self.takes(name)) {
            let value = self.closed()?.value()?;
            let made = cast(&value).ok_or_else(|| Error::config(format_args!("{name}{value}) is not a number")));
            return made.map(Term::Value);
        }
        if self.takes("inputs.parameter_values[") {
            return self.parameter().map(Term::Value);
        }
        self.literal().map(Term::Value)
    }

    /// Parses a term and the closing parenthesis.
    fn closed(&mut self) -> Result<Term> {
        let term = self.any()?;
        match self.takes(")") {
            true => Ok(term),
            false => Err(self.unknown()),
        }
    }

    fn parameter(&mut self) -> Result<Value> {
        let Value::String(name) = self.literal()? else {
            return Err(self.unknown());
        };
        if !self.takes("]") {
            return Err(self.unknown());
        }
        let value = self.parameters.get(&name).cloned();
        value.ok_or_else(|| Error::config(format_args!("parameter `{name}` has no value")))
    }

    /// Parses a quoted string, a number or a boolean.
    fn literal(&mut self) -> Result<Value> {
        self.rest = self.rest.trim_start();
        for quote in ['\'', '"'] {
            if let Some(within) = self.rest.strip_prefix(quote) {
                let (text, rest) = within.split_once(quote).ok_or_else(|| self.unknown())?;
                self.rest = rest;
                return Ok(Value::from(text));
            }
        }
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let end = self.rest.find(|c: char| !is_of_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let value = serde_json::from_str(word).map_err(|_| self.unknown())?;
        self.rest = rest;
        Ok(value)
    }

    /// Consumes `sign`, if it is next.
    fn takes(&mut self, sign: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn unknown(&self) -> Error {
        let error = match self.rest.trim() {
            "" => Error::config("unexpected end"),
            rest => Error::config(format_args!("unexpected `{rest}`")),
        };
        error.hint("supported: comparisons as generated by the SDK, with parameters, strings without quotes in them, numbers and booleans")
    }
}

/// Joins terms; returns a single term unchanged.
fn joined(first: Term, more: Vec<Term>, join: fn(Vec<Term>) -> Term) -> Term {
    match more.is_empty() {
        true => first,
        false => join(std::iter::once(first).chain(more).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(text: &str) -> Result<(Vec<String>, bool), String> {
        let parameters = json!({ "n": 3, "x": 0.5, "how": "fast", "ok": true, "pipelinechannel--item": "2" });
        let parameters = serde_json::from_value(parameters).unwrap();
        let text = text.replace('$', "inputs.parameter_values");
        let whens = read(&text, &parameters).map_err(|error| error.message().to_owned())?;
        let holds = whens.iter().all(|when| when.holds(None).unwrap());
        Ok((whens.iter().map(When::to_string).collect(), holds))
    }

    #[test]
    fn conditions_of_the_sdk_are_told() {
        for (text, parts, holds) in [
            ("$['how'] == 'fast'", vec![r#""fast" == "fast""#], true),
            ("$['how'] != \"slow\"", vec![r#""fast" != "slow""#], true),
            ("int($['n']) >= 3", vec!["3 >= 3"], true),
            ("double(int($['n'])) > 3.5", vec!["3.0 > 3.5"], false),
            ("$['x'] < 5e-01", vec!["0.5 < 0.5"], false),
            ("$['ok'] == true", vec!["true == true"], true),
            ("$['pipelinechannel--item'] == '2'", vec![r#""2" == "2""#], true),
            ("int($['pipelinechannel--item']) <= -2", vec!["2 <= -2"], false),
            (
                "!($['how'] == 'fast') && int($['n']) >= 3",
                vec![r#""fast" != "fast""#, "3 >= 3"],
                false,
            ),
            (
                "!($['how'] == 'a') && !(int($['n']) > 3)",
                vec![r#""fast" != "a""#, "3 <= 3"],
                true,
            ),
            ("$['n'] == 1 || $['n'] == 3 && $['ok']", vec!["true == true"], true),
            ("!($['n'] == 3 || $['ok'])", vec!["false == true"], false),
            ("!($['n'] == 3 && $['x'] > 1) == true", vec!["true == true"], true),
            ("'a && (b' == 'a && (b'", vec![r#""a && (b" == "a && (b""#], true),
            ("$['ok']", vec!["true == true"], true),
        ] {
            let parts = parts.into_iter().map(str::to_owned).collect();
            assert_eq!(told(text), Ok((parts, holds)), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_read_says_why() {
        for (text, why) in [
            ("$['m'] == 1", "parameter `m` has no value"),
            ("$['n'] ==", "unexpected end"),
            ("'a'b\"c' != $['how']", "unexpected `b\"c' != inputs.parameter_values['how']`"),
            ("$['n'] + 1 == 2", "unexpected `+ 1 == 2`"),
            ("'fast' == $['n']", "can't compare \"fast\" and 3 with `==`"),
            ("int($['how']) == 1", "int(\"fast\") is not a number"),
            ("$['how']", "\"fast\" is not a boolean"),
            (
                "size($['how']) == 1",
                "unexpected `size(inputs.parameter_values['how']) == 1`",
            ),
            ("($['n'] == 1", "unexpected end"),
        ] {
            let error = told(text).unwrap_err();
            let text = text.replace('$', "inputs.parameter_values");
            assert_eq!(error, format!("condition `{text}`: {why}"));
        }
        assert!(told(&"(".repeat(1000)).unwrap_err().ends_with(": too complex"));
    }
}
