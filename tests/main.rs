//! Integration tests, in one binary so that linking is done once.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod browser;
mod bundles;
mod clients;
mod cluster;
mod dashboard;
mod determinism;
mod docs;
mod examples;
mod formats;
mod fuzz;
mod gateway;
mod host;
mod house;
mod kill;
mod kubeflow;
mod limits;
mod notebook;
mod parity;
mod pipelines;
mod programs;
mod setup;
mod sql;
mod uses;
