//! What people and programs are shown: what they call things, what runs and plans came to, artifacts by their media type, and where they differ.
//!
//! It knows no command, no server and no cluster. What is shown to people is text; the same for programs is JSON.

pub mod artifacts;
pub mod columns;
pub mod content;
pub mod difference;
pub mod error;
pub mod events;
pub mod executed;
pub mod export;
pub mod graph;
pub mod lineage;
pub mod logs;
pub mod module;
pub mod needs;
pub mod plan;
pub mod print;
pub mod progress;
pub mod provenance;
pub mod quantity;
pub mod record;
pub mod report;
pub mod runs;
pub mod threads;
