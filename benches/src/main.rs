//! `make bench`: prints a table of ratios. Each row has our time, the time of a peer or of a physical limit measured in the same run,
//! and their ratio; the last column is the target. Missing a target is not a failure.

mod compute;
mod kernels;
mod latency;
mod measure;
mod pipelines;
mod reading;
mod serving;
mod tables;

use anyhow::{Result, ensure};
use measure::{Surroundings, Table};

type Measure = fn(&Surroundings, &mut Table) -> Result<()>;

fn main() -> Result<()> {
    let surroundings = Surroundings::prepare()?;
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut table = Table::default();
    let mut failed = Vec::new();
    let groups: [(&str, Measure); 7] = [
        ("latency", latency::measure),
        ("compute", compute::measure),
        ("reading", reading::measure),
        ("tables", tables::measure),
        ("pipelines", pipelines::measure),
        ("kernels", kernels::measure),
        ("serving", serving::measure),
    ];
    for (name, measure) in groups {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            eprintln!("measuring {name} ...");
            if let Err(error) = measure(&surroundings, &mut table) {
                failed.push(format!("{name} could not be measured: {error:#}"));
            }
        }
    }
    print!("{table}");
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
