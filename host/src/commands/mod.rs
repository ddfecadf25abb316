//! The commands: one file each, with its arguments and `run`.

pub mod attach;
pub mod backup;
pub mod build;
pub mod bundle;
pub mod completions;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod export;
pub mod fsck;
pub mod gc;
pub mod inspect;
pub mod kernel;
pub mod lineage;
pub mod log;
pub mod new;
pub mod pin;
pub mod plan;
pub mod provenance;
pub mod run;
pub mod serve;
pub mod show;
pub mod sign;
pub mod token;
pub mod toolchain;
pub mod verify;
