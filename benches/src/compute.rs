//! Computation in the sandbox compared with the same source compiled natively, and the cost of each safeguard.

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::BufReader;
use std::time::Duration;

use anyhow::Result;
use lockstep_runtime::sandbox::{Engine, EngineOptions, Instrumentation};
use lockstep_runtime::store::Store;
use serde_json::json;

use crate::measure::{Surroundings, Table, execute, median, runtime_over};

const MULTIPLICATIONS: usize = 4;
const CSV_BYTES: usize = 50 << 20;

pub fn measure(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    let csv = surroundings.directory.path().join("rows.csv");
    std::fs::write(&csv, rows(CSV_BYTES))?;
    let times = json!(MULTIPLICATIONS);

    let native = median(5, || {
        black_box(work::multiply(black_box(MULTIPLICATIONS)));
        Ok(())
    })?;
    let native_groups = median(5, || {
        black_box(work::group_by(BufReader::new(File::open(&csv)?))?);
        Ok(())
    })?;
    let all = Instrumentation::default();
    let without = [
        ("", all),
        (
            "without canonical NaNs",
            Instrumentation {
                canonical_nans: false,
                ..all
            },
        ),
        ("without fuel", Instrumentation { fuel: false, ..all }),
    ];
    let mut matrix: Vec<(&str, Duration)> = Vec::new();
    let mut groups: Vec<(&str, Duration)> = Vec::new();
    for (which, instrumentation) in without {
        let store = Store::open(&surroundings.directory.path().join("compute"))?;
        let runtime = runtime_over(
            Engine::with_instrumentation(&EngineOptions::default(), instrumentation)?,
            store,
        );
        let multiply = surroundings.step(&runtime.store, "multiply", None, &[("times", times.clone())])?;
        let input = runtime.store.import(&csv)?;
        let group_tables = surroundings.step(&runtime.store, "group_tables", Some(input.clone()), &[])?;
        matrix.push((which, median(5, || execute(&runtime, &multiply).map(drop))?));
        groups.push((which, median(5, || execute(&runtime, &group_tables).map(drop))?));
        if which.is_empty() {
            let group_by = surroundings.step(&runtime.store, "group_by", Some(input), &[])?;
            groups.push(("by the crate csv", median(5, || execute(&runtime, &group_by).map(drop))?));
        }
    }
    for (title, target, peer, native, ours) in [
        (
            "blocked matmul f64, 512 x 512",
            "<= 1.5",
            "native, same source",
            native,
            matrix,
        ),
        (
            "CSV group-by, 50 MB",
            "<= 1.3",
            "the crate csv, native",
            native_groups,
            groups,
        ),
    ] {
        for (which, time) in ours {
            let title = if which.is_empty() {
                title.to_owned()
            } else {
                format!("  {which}")
            };
            table.ratio(&title, time, peer, native, if which.is_empty() { target } else { "" });
        }
    }
    Ok(())
}

/// Returns at least `bytes` bytes of CSV, with a text to group by and a number in each row.
pub fn rows(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 100);
    text.push_str("id,carrier,delay,origin,distance\n");
    let carriers = ["AA", "B6", "DL", "EV", "MQ", "UA", "US", "WN", "9E", "FL"];
    let mut state = 1u64;
    let mut id = 0;
    while text.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 33;
        let delay = (random % 40_000) as f64 / 100.0 - 100.0;
        id += 1;
        let carrier = carriers[random as usize % carriers.len()];
        // writing to a String can't fail
        let _ = writeln!(text, "{id},{carrier},{delay},JFK,{}", random % 5000);
    }
    text
}
