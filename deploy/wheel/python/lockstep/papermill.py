"""The entry point `papermill.engine`, which papermill loads at startup. The engine `lockstep` is papermill's own; loading it
registers the translator, for which papermill has no entry point."""

from papermill.engines import NBClientEngine as Engine

from lockstep import translator

__all__ = ["Engine", "translator"]
