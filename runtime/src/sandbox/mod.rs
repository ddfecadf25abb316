//! The deterministic world that a guest runs in. The only place that names wasmtime.
