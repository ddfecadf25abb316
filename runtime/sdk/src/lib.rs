//! Write Lockstep steps in Rust: #[step], typed inputs and outputs, tables, metrics, figures.
