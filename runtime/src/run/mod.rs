//! The run: key, lookup, execute, record.
