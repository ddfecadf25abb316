"""What papermill loads as it starts, by the entry point `papermill.engine`: an engine called `lockstep`, which is papermill's
own, and with it the translator, for which papermill has no entry point."""

from papermill.engines import NBClientEngine as Engine

from lockstep import translator

__all__ = ["Engine", "translator"]
