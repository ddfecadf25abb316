"""Lockstep for Python: papermill parameters for Rust cells. The same wheel contains the command `lockstep`."""
