"""Lockstep for Python: how papermill gives parameters to Rust cells. The command `lockstep` comes in the same wheel."""
