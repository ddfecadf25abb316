"""Conversion of Python values to Rust, and parsing of the `let` statements of a cell."""

import itertools
import json
import math
import re
from typing import NamedTuple

VALUE = "serde_json::Value"
MAP = "std::collections::BTreeMap"
FLOATS = ("f32", "f64")
# not allowed as raw identifiers
NO_NAMES = ("_", "self", "Self", "super", "crate")
KEYWORDS = frozenset(
    "abstract as async await become box break const continue do dyn else enum extern false final fn for gen if impl in let"
    " loop macro match mod move mut override priv pub ref return static struct trait true try type typeof unsafe unsized use"
    " virtual where while yield".split()
)


class Let(NamedTuple):
    """A `let` statement. `kind` is the declared type, the type of the literal, or None."""

    name: str
    mutable: bool
    kind: "str | None"
    value: str
    comment: str


def let(name, value, declared=None):
    """Returns the statement that assigns `value` to the variable `name`. Its type is that of the statement `declared`, or inferred
    from the value. The compiler checks whether the value fits."""
    value = plain(value)
    kind = declared and declared.kind or kind_of(value)
    mutable = "mut " if declared and declared.mutable else ""
    return f"let {mutable}{identifier(name)}: {kind} = {literal(value, kind)};"


def identifier(name):
    """Returns the identifier of a variable. Keywords become raw identifiers, such as `r#type`."""
    if not isinstance(name, str) or not name.isidentifier() or name in NO_NAMES:
        raise ValueError(f"`{name}` is not a valid variable name in Rust")
    return f"r#{name}" if name in KEYWORDS else name


def plain(value):
    """Converts the value to JSON types: tuples become lists; keys and other types, such as dates, become strings."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    # convert subclasses of numbers, as other packages define them
    for number in (int, float):
        if isinstance(value, number):
            return number(value)
    return str(value)


def kind_of(*values):
    """Returns the common Rust type of the values. Without values, as for an empty list, returns `String`."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        kind = kind_of(*present)
        return kind if kind == VALUE else f"Option<{kind}>"
    types = {type(value) for value in present}
    if types <= {str}:
        return "String"
    if types == {bool}:
        return "bool"
    if types == {int}:
        return integer(present)
    if types <= {int, float}:
        return "f64"
    if types == {list}:
        return around("Vec<{}>", itertools.chain.from_iterable(present))
    if types == {dict}:
        return around(MAP + "<String, {}>", itertools.chain.from_iterable(value.values() for value in present))
    return VALUE


def around(outer, values):
    """Returns the type `outer` with the common type of the items, or JSON if they have none."""
    inner = kind_of(*values)
    return VALUE if inner == VALUE else outer.format(inner)


def integer(values):
    if all(-(2**63) <= value < 2**63 for value in values):
        return "i64"
    if all(0 <= value < 2**64 for value in values):
        return "u64"
    raise ValueError(f"{max(values, key=abs)} is too large for a 64-bit integer: pass it as a string")


def literal(value, kind):
    """Returns the expression for `value` with the type `kind`."""
    head, inner = parts(kind)
    if head == "Value":
        return f"serde_json::from_str({document(value)})?"
    if head == "Option":
        return "None" if value is None else f"Some({literal(value, inner[-1])})"
    if isinstance(value, dict):
        entries = (f"({literal(key, 'String')}, {literal(item, inner[-1])})" for key, item in value.items())
        return f"std::collections::{head}::from([{', '.join(entries)}])"
    if isinstance(value, list):
        items = ", ".join(literal(item, inner[-1]) for item in value)
        return f"vec![{items}]" if head == "Vec" else f"{head}[{items}]"
    if isinstance(value, str):
        return text(value) if head == "&str" else f"String::from({text(value)})"
    if isinstance(value, bool):
        return "true" if value else "false"
    return floating(value, head) if isinstance(value, float) or head in FLOATS else str(value)


def parts(kind):
    """Returns the last segment of a type and its type arguments: `Vec` and f64 of `std::vec::Vec<f64>`, `&` and f64 of `&[f64]`.
    Returns an empty type argument for a type without brackets."""
    kind = re.sub(r"&\s*'\w+\s*", "&", kind.strip())
    generic = re.fullmatch(r"(?:\w+\s*::\s*)*(\w+)\s*<(.*)>", kind, re.DOTALL)
    if generic:
        return generic[1], split(generic[2])
    sequence = re.fullmatch(r"(&?)\[(.*?)(?:;[^;\]]*)?\]", kind, re.DOTALL)
    if sequence:
        return sequence[1], [sequence[2]]
    return kind.rpartition("::")[2], [""]


def split(kinds):
    """Splits types at commas outside brackets."""
    found, depth = [""], 0
    for letter in kinds:
        depth += (letter in "<([") - (letter in ">)]")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [kind.strip() for kind in found if kind.strip()]


def floating(value, kind):
    kind = kind if kind in FLOATS else "f64"
    value = float(value)
    if math.isnan(value):
        return f"{kind}::NAN"
    if math.isinf(value):
        return f"{kind}::INFINITY" if value > 0 else f"{kind}::NEG_INFINITY"
    return repr(value)


def text(value):
    """Returns a string literal. Escapes quotes, backslashes and unprintable characters."""
    escapes = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
    shown = (escapes.get(letter) or (letter if letter.isprintable() else f"\\u{{{ord(letter):x}}}") for letter in value)
    return f'"{"".join(shown)}"'


def document(value):
    """Returns the value as JSON in a raw string literal."""
    try:
        json_text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ValueError("a collection of mixed types is passed as JSON, which has no infinity or NaN") from None
    json_text = "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in json_text)
    fence = "#"
    while f'"{fence}' in json_text:
        fence += "#"
    return f'r{fence}"{json_text}"{fence}'


TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    | \b[bc]?r(?P<fence>\#*)".*?"(?P=fence)
    | "(?:\\.|[^"\\])*"
    | '(?:\\[^']+|\\'|[^'\\])'
    | .""",
    re.DOTALL | re.VERBOSE,
)
LET = re.compile(r"let\s+(?P<mut>mut\s+)?(?:r\#)?(?P<name>\w+)\s*(?P<rest>[:=].*)", re.DOTALL)


def lets(cell):
    """Returns the `let` statements of a cell that name one variable, each with the comment on its line. Skips what it can't
    parse."""
    found = []
    for statement, comment in statements(re.sub(r"(?m)^:.*$", "", cell)):
        read = LET.fullmatch(statement)
        at = equals(read["rest"]) if read else None
        if at is not None:
            value = read["rest"][at + 1 :].strip()
            kind = read["rest"][1:at].strip() or kind_of_literal(value)
            found.append(Let(read["name"], bool(read["mut"]), kind, value, comment))
    return found


def equals(text):
    """Returns the place of the `=` between a type and a value, which is outside of all brackets: `: Box<dyn Iterator<Item = u8>> = x`."""
    depth = 0
    for at, letter in enumerate(text):
        if letter == "=" and depth == 0:
            return at
        if letter in "<([{":
            depth += 1
        elif letter in ")]}" or letter == ">" and text[at - 1] not in "-=":
            depth -= 1
    return None


def statements(code):
    """Returns the statements without comments, each with the comment that follows on its line."""
    found, statement, depth = [], "", 0
    for token in TOKEN.finditer(code):
        word = token[0]
        if token["comment"]:
            if found and not statement.strip() and "\n" not in statement:
                found[-1] = (found[-1][0], re.sub(r"^//[/!]?|^/\*|\*/$", "", word).strip())
            continue
        depth += (word in "([{") - (word in ")]}")
        statement += word
        item_ends = word == "}" and not statement.lstrip().startswith("let")
        if depth == 0 and (word == ";" or item_ends):
            found.append((statement.strip().rstrip(";"), ""))
            statement = ""
    return found


def kind_of_literal(value):
    """Returns the type of a literal, or None if the expression is not a literal."""
    if value in ("true", "false"):
        return "bool"
    if re.fullmatch(r'"(?:\\.|[^"\\])*"|r(#*)".*"\1', value, re.DOTALL):
        return "&str"
    if re.fullmatch(r'String::from\(.*\)|".*"\.(to_string|to_owned|into)\(\)', value, re.DOTALL):
        return "String"
    number = re.fullmatch(r"-?\d[\d_]*(?P<fraction>\.[\d_]*)?(?P<exponent>[eE][+-]?[\d_]+)?(?P<suffix>[iuf]\w+)?", value)
    if not number:
        return None
    return number["suffix"] or ("f64" if number["fraction"] or number["exponent"] else "i32")
