//! Guests that run forever or use up a resource end at the limit or at an interrupt, with the right outcome.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use lockstep_runtime::run::{Ran, Reuse};
use lockstep_runtime::sandbox::{EngineOptions, Interrupt};
use lockstep_runtime::step::{Failure, Limit, Limits, Outcome};

use crate::setup::{GUESTS, Guest, Place, python, runtime};

fn run(guest: &Guest, limits: Limits) -> Ran {
    guest.sandboxed(&runtime(&EngineOptions::default()), &limits)
}

fn reached(limit: Limit, value: u64) -> Outcome {
    Outcome::Failed(Failure::Limit { limit, value })
}

#[test]
fn each_limit_ends_a_run_and_is_named() {
    let (fuel, memory) = (50_000_000, 300 << 20);
    let endless = run(
        &Guest::new("endless"),
        Limits {
            fuel,
            ..Limits::default()
        },
    );
    assert_eq!(endless.record.outcome, reached(Limit::Fuel, fuel));
    let sleeps = run(
        &Guest::new("sleeps"),
        Limits {
            fuel,
            ..Limits::default()
        },
    );
    assert_eq!(sleeps.record.outcome, reached(Limit::Fuel, fuel));
    let hunger = run(
        &Guest::new("hunger"),
        Limits {
            memory,
            ..Limits::default()
        },
    );
    assert_eq!(hunger.record.outcome, reached(Limit::Memory, memory));
    let talks = run(
        &Guest::new("talks"),
        Limits {
            log: 1 << 20,
            ..Limits::default()
        },
    );
    assert_eq!(talks.record.outcome, reached(Limit::Log, 1 << 20));
    let writes = run(
        &Guest::new("writes"),
        Limits {
            output: 64 << 20,
            ..Limits::default()
        },
    );
    assert_eq!(writes.record.outcome, reached(Limit::Output, 64 << 20));
}

#[test]
fn an_interrupt_from_another_thread_ends_any_guest() {
    let memory = runtime(&EngineOptions::default());
    for guest in [
        Guest::new("endless"),
        Guest::new("sleeps"),
        Guest::new("reads").input("input", vec![1; 8 << 20]),
    ] {
        let interrupt = Interrupt::default();
        let run = guest.run(&memory.store);
        // compile first, so that only the guest's time is measured
        memory
            .engine
            .load(&memory.store.get(&run.module).unwrap(), &run.module)
            .unwrap();
        let (ended, asked) = std::thread::scope(|scope| {
            let (memory, run, on) = (&memory, &run, interrupt.clone());
            let thread = scope.spawn(move || {
                let ran = memory
                    .run(run, Reuse::Records, &Limits::default(), &on, &mut |_, _| ())
                    .unwrap();
                (ran.record.outcome.to_string(), Instant::now())
            });
            std::thread::sleep(Duration::from_millis(300));
            let asked = Instant::now();
            interrupt.trigger();
            (thread.join().unwrap(), asked)
        });
        assert_eq!(ended.0, "interrupted", "{}", guest.step);
        // the documented maximum is 100 ms; allow more for a busy machine
        assert!(
            ended.1 - asked < Duration::from_secs(1),
            "{} took {:?}",
            guest.step,
            ended.1 - asked
        );
    }
}

#[test]
fn the_outcome_has_the_guests_failure_message() {
    let outcome = |guest: Guest| run(&guest, Limits::default()).record.outcome;
    let Outcome::Failed(Failure::Panic { message, location }) = outcome(Guest::new("panic").parameter("at", "9")) else {
        panic!("not a panic")
    };
    assert_eq!(message, "index out of bounds: the len is 3 but the index is 9");
    assert!(
        location.as_deref().is_some_and(|at| at.contains("src/faults.rs:")),
        "{location:?}"
    );
    let Outcome::Failed(Failure::Exit { code: 1, message }) = outcome(Guest::new("error")) else {
        panic!("not an exit")
    };
    assert!(message.starts_with("error: the first thing did not work"), "{message}");
    assert_eq!(
        outcome(Guest::new("exit").parameter("code", "200")),
        Outcome::Failed(Failure::Exit {
            code: 200,
            message: "leaving".into()
        })
    );
    assert_eq!(
        outcome(Guest::new("forgets")),
        Outcome::Failed(Failure::MissingOutput { name: "output".into() })
    );
}

/// An input of 600 MB is read line by line, and neither guest nor host holds all of it in memory.
#[test]
fn a_large_input_takes_no_memory() {
    let place = Place::new();
    let line = "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400\n".repeat(16 << 10);
    let mut file = std::fs::File::create(place.path("large.csv")).unwrap();
    let mut written = 0;
    while written < 600 << 20 {
        file.write_all(line.as_bytes()).unwrap();
        written += line.len();
    }
    // Compile the module first, so that its memory use is not measured.
    std::fs::write(place.path("small.csv"), "1\n").unwrap();
    let step = format!("{}#count", GUESTS.display());
    assert_eq!(
        place.json(&["run", &step, "--input", "lines=small.csv"])["outcome"]["is"],
        "succeeded"
    );
    let measure = "import resource, subprocess, sys\n\
                   done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n\
                   print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let command = place.lockstep(&["run", &step, "--input", "lines=large.csv"]);
    let output = Command::new(python())
        .args(["-c", measure])
        .arg(command.get_program())
        .args(command.get_args())
        .env("LOCKSTEP_STORE", place.store())
        .current_dir(place.directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (code, kilobytes) = text.trim().split_once(' ').unwrap();
    assert_eq!(code, "0", "{}", String::from_utf8_lossy(&output.stderr));
    assert!(kilobytes.parse::<u64>().unwrap() < 200 << 10, "{kilobytes} kB");
}
