//! Presentation of runs, plans and artifacts: names, results, contents by media type, differences and errors.
//!
//! Independent of the commands, the server and the cluster. Everything has a text form for people and a JSON form for programs.

pub mod artifacts;
pub mod columns;
pub mod content;
pub mod difference;
pub mod error;
pub mod events;
pub mod executed;
pub mod export;
pub mod graph;
pub mod guard;
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
pub mod terminal;
pub mod threads;
