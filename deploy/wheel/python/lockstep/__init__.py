"""Lockstep for Python: how papermill gives parameters to a notebook of Rust cells. The command `lockstep` comes in the same wheel."""
