//! The determinism table: every probe has the same results when run again, from two directories, with two stores, at two
//! optimisation levels, and on the Pulley interpreter, which stands in for another processor.

use lockstep_runtime::run::Reuse;
use lockstep_runtime::sandbox::{EngineOptions, Target};
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::Store;

use crate::parity::ending;
use crate::setup::{Place, over, runtime};

/// Limits memory, so that the memory probe and the interpreter end soon.
fn limits() -> Limits {
    Limits {
        memory: 256 << 20,
        ..Limits::default()
    }
}

#[test]
fn probes_have_the_same_results_everywhere() {
    let first = runtime(&EngineOptions::default());
    let directory = tempfile::tempdir().unwrap();
    let others = [
        ("again", runtime(&EngineOptions::default())),
        (
            "a store on disk",
            over(Store::open(directory.path()).unwrap(), &EngineOptions::default()),
        ),
        (
            "not optimised",
            runtime(&EngineOptions {
                optimise: false,
                ..EngineOptions::default()
            }),
        ),
        (
            "on Pulley",
            runtime(&EngineOptions {
                target: Target::Pulley,
                ..EngineOptions::default()
            }),
        ),
    ];
    for guest in ending() {
        let expected = guest.sandboxed(&first, &limits());
        for (how, other) in &others {
            let ran = guest.sandboxed(other, &limits());
            let text = |ran: &lockstep_runtime::run::Ran, store: &Store| {
                let output = ran
                    .record
                    .outputs
                    .get("output")
                    .map(|output| store.get(&output.digest).unwrap());
                output.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            assert_eq!(
                text(&ran, &other.store),
                text(&expected, &first.store),
                "{} {how}",
                guest.step
            );
            assert_eq!(ran.record, expected.record, "{} {how}", guest.step);
        }
        let again = first
            .run(
                &expected.record.run,
                Reuse::Nothing,
                &limits(),
                &Default::default(),
                &mut |_, _| (),
            )
            .unwrap();
        assert_eq!(again.digest, expected.digest, "{} run again", guest.step);
    }
}

#[test]
fn commands_from_two_directories_with_two_environments_agree() {
    let places = [Place::new(), Place::new()];
    for guest in ending() {
        let [one, two] = places.each_ref().map(|place| {
            let arguments = guest.arguments(place);
            let mut command = place.lockstep(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            command
                .arg("--json")
                .env("LEAK", place.directory.path())
                .env("TZ", "Asia/Tokyo");
            let output = command.output().unwrap();
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["record"].clone()
        });
        assert!(one.is_string() && one == two, "{}: {one} {two}", guest.step);
    }
}

#[test]
fn only_the_seed_changes_randomness() {
    let memory = runtime(&EngineOptions::default());
    let with_seed = |step, seed| {
        let mut run = crate::setup::Guest::new(step).run(&memory.store);
        run.seed = seed;
        crate::setup::digests(
            &memory
                .run(&run, Reuse::Records, &limits(), &Default::default(), &mut |_, _| ())
                .unwrap(),
        )
    };
    assert_ne!(with_seed("randomness", 0), with_seed("randomness", 1));
    assert_eq!(with_seed("clocks", 0), with_seed("clocks", 1));
}
