//! The corpora of the fuzz targets: what once showed a fault, and what leads into the depths of a parser.

use std::fs;
use std::path::Path;

use lockstep_fuzz::TARGETS;

#[test]
fn nothing_in_the_corpora_shows_a_fault() {
    let corpora = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"));
    for (name, target) in TARGETS {
        let files: Vec<_> = fs::read_dir(corpora.join(name)).unwrap().collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let file = file.unwrap().path();
            eprintln!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}
