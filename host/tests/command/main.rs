//! Tests of the `lockstep` command, each with its own directory, store and home: output and exit codes.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../../../tests/bucket.rs"]
mod bucket;
mod bundle;
mod care;
mod compiling;
mod dashboard;
mod door;
mod errors;
mod jobs;
mod kubeflow;
mod origins;
mod pipelines;
mod place;
mod programs;
mod registry;
mod remote;
mod schedules;
mod serve;
mod shared;
mod showing;
mod signing;
mod steps;
mod verify;
