//! The Jupyter kernel: messages, cells, compiler, session.
