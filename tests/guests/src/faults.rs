//! Steps that end badly.

use std::hint::black_box;
use std::io::Write;

use lockstep::prelude::*;

/// Returns an error with a cause.
#[step]
pub fn error() -> Result<Text> {
    let missing = std::fs::read("/in/nothing").context("the first thing did not work");
    Ok(Text(missing?.len().to_string()))
}

/// Panics.
#[step]
pub fn panic(at: Param<usize>) -> Text {
    let few = [1, 2, 3];
    println!("before");
    Text(few[*at].to_string())
}

/// Ends with an exit code.
#[step]
pub fn exit(code: Param<i32>) -> Text {
    eprintln!("leaving");
    std::process::exit(*code)
}

/// Ends well without writing its output.
#[step]
pub fn forgets() -> Text {
    std::process::exit(0)
}

/// Calls itself for ever, with a large frame, so that Rust's own stack in linear memory ends first.
#[step]
pub fn recursion() -> Text {
    #[expect(unconditional_recursion, reason = "that is the fault")]
    fn down(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        black_box(down(depth + 1)) + frame[depth as usize % 64]
    }
    Text(down(0).to_string())
}

/// Takes memory until there is none.
#[step]
pub fn hunger() -> Text {
    let mut all = Vec::new();
    loop {
        all.push(black_box(vec![1u8; 64 << 20]));
    }
}

/// Never ends.
#[step]
pub fn endless() -> Text {
    loop {
        black_box(());
    }
}

/// Never ends, sleeping.
#[step]
pub fn sleeps() -> Text {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1000));
    }
}

/// Never ends, reading.
#[step]
pub fn reads(input: Bytes) -> Text {
    loop {
        black_box(std::fs::read("/in/input").map(|bytes| bytes.len() + input.len()).ok());
    }
}

/// Never stops talking.
#[step]
pub fn talks() -> Text {
    loop {
        println!("{}", "and another thing ".repeat(100));
    }
}

/// Never stops writing.
#[step]
pub fn writes() -> Result<Text> {
    let mut file = std::fs::File::create("/out/output")?;
    let block = vec![7; 1 << 20];
    loop {
        file.write_all(&block)?;
    }
}
