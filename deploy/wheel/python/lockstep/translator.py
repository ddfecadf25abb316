"""Registers the papermill translator for Rust on import."""

import threading

from papermill.exceptions import PapermillException
from papermill.models import Parameter
from papermill.translators import Translator, papermill_translators

from lockstep import rust


class Inspected(threading.local):
    """The `let` statements of the last inspected parameters cell, by name."""

    lets = {}


class RustTranslator(Translator):
    """Writes parameters as `let` statements.

    A parameter keeps the type that the parameters cell of the notebook declares, so that later cells still compile.
    papermill inspects that cell and writes the parameters in separate calls; `inspected` passes the types between them.
    """

    inspected = Inspected()

    @classmethod
    def codify(cls, parameters, comment="Parameters"):
        declared, cls.inspected.lets = cls.inspected.lets, {}
        lines = [cls.comment(comment)]
        for name, value in parameters.items():
            try:
                lines.append(rust.let(name, value, declared.get(name)))
            except (ValueError, OverflowError) as error:
                raise PapermillException(f"can't write parameter `{name}` in Rust: {error}") from error
        return "\n".join(lines) + "\n"

    @classmethod
    def translate(cls, val):
        value = rust.plain(val)
        return rust.literal(value, rust.kind_of(value))

    @classmethod
    def comment(cls, cmt_str):
        return "\n".join(f"// {line}".rstrip() for line in cmt_str.splitlines() or [""])

    @classmethod
    def inspect(cls, parameters_cell):
        lets = rust.lets(parameters_cell["source"])
        cls.inspected.lets = {let.name: let for let in lets}
        return [Parameter(let.name, let.kind or "None", let.value, let.comment) for let in lets]


papermill_translators.register("rust", RustTranslator)
