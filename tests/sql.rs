//! SQL in steps and cells.

use std::path::Path;

use serde_json::{Value, json};

use crate::notebook::{execute, text};
use crate::setup::Place;

const CSV: &str = "Species,mass\nAdelie,3700\nGentoo,5000\nAdelie,3900\nGentoo,\nChinstrap,3500\n";

/// Returns the output `rows` of a run, as rows of JSON.
fn rows(place: &Place, ran: &Value) -> Value {
    let digest = ran["outputs"]["rows"]["digest"].as_str().unwrap_or_else(|| panic!("{ran}"));
    place.json(&["show", digest])["rows"].clone()
}

#[test]
fn a_step_queries_its_tables() {
    let place = Place::new();
    let steps = place.path("steps");
    std::fs::create_dir_all(steps.join("src")).unwrap();
    let manifest = "[package]\nname = \"steps\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
                    [dependencies]\nlockstep = { package = \"lockstep-sdk\", version = \"0.1\" }\n";
    std::fs::write(steps.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(
        steps.join("src/lib.rs"),
        r#"
        use lockstep::prelude::*;

        #[step(output = "rows")]
        pub fn means(penguins: Csv, #[default = 0] min: Param<i64>, #[default = ""] without: Param<String>) -> Result<Table> {
            let colors = Table::new([("kind", vec!["Adelie", "Gentoo"])])?.with("color", vec!["{red}", "blue"])?;
            sql!(
                "select p.Species, c.color, avg(p.mass) as mass, count(*) as birds
                 from {penguins} p join {colors} c on p.Species = c.kind
                 where p.mass > {min} and p.Species <> {without} and c.color <> '{{}}'
                 group by 1, 2
                 order by 1",
            )
        }

        #[step(output = "rows")]
        pub fn nothing(penguins: Table) -> Result<Table> {
            sql!("select Species, null as nothing from {t} where false", t = penguins.head(2))
        }
        "#,
    )
    .unwrap();
    std::fs::write(place.path("penguins.csv"), CSV).unwrap();
    let built = place
        .lockstep(&["build"])
        .arg(&steps)
        .arg("-o")
        .arg(place.path("steps.wasm"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let run = |step: &str, more: &[&str]| {
        let what = format!("{}#{step}", place.path("steps.wasm").display());
        let input = format!("penguins={}", place.path("penguins.csv").display());
        place.json(&[&["run", &what, "--input", &input][..], more].concat())
    };
    let ran = run("means", &[]);
    assert_eq!(
        rows(&place, &ran),
        json!([["Adelie", "{red}", 3800.0, 2], ["Gentoo", "blue", 5000.0, 1]])
    );
    // the module of the query is part of the run key
    assert!(ran["run"]["modules"]["lockstep:sql"].is_string(), "{ran}");
    let ran = run("means", &["-p", "min=3800", "-p", "without=Gentoo' or 1=1 --"]);
    assert_eq!(
        rows(&place, &ran),
        json!([["Adelie", "{red}", 3900.0, 1], ["Gentoo", "blue", 5000.0, 1]])
    );
    let again = run("means", &["-p", "min=3800", "-p", "without=Gentoo' or 1=1 --", "--no-cache"]);
    assert_eq!(again["record"], ran["record"]);
    let ran = run("nothing", &[]);
    assert_eq!(rows(&place, &ran), json!([]));
    let shown = place.json(&["show", ran["outputs"]["rows"]["digest"].as_str().unwrap()]);
    assert_eq!(shown["columns"][0], json!({"name": "Species", "type": "Utf8"}));

    // and it travels with a bundle
    let record = ran["record"].as_str().unwrap();
    let bundle = place.path("bundle");
    place.json(&["bundle", "create", record, "-o", bundle.to_str().unwrap()]);
    let elsewhere = Place::new();
    let replayed = elsewhere.json(&["bundle", "replay", Path::new(&bundle).to_str().unwrap()]);
    assert_eq!(replayed["equal"], true, "{replayed}");
}

#[test]
fn cells_query_variables() {
    let place = Place::new();
    std::fs::write(place.path("penguins.csv"), CSV).unwrap();
    let cells = [
        ":input raw = penguins.csv\nlet penguins = raw.table()?;\nlet min = 3600;",
        ":sql\nselect Species, max(mass) as mass\nfrom {penguins}\nwhere mass > {min}\ngroup by Species order by Species",
        ":sql heavy = select * from {penguins} where mass > 4000",
        "heavy.rows() + sql!(\"select 1 from {penguins}\")?.rows()",
        ":sql select spices from {penguins}",
        ":sql\nselect *\nfrm {penguins}",
        ":sql drop table {penguins}",
        ":sql select * from penguins",
        ":sql select * from {missing}",
        ":sql select {raw",
    ];
    let ran = execute(&place, &cells.map(str::to_owned), true);
    let said: Vec<String> = ran.iter().map(text).collect();
    assert!(said[1].contains("Adelie") && said[1].contains("5000"), "{}", said[1]);
    assert!(!said[1].contains("Chinstrap"), "{}", said[1]);
    assert_eq!((said[2].as_str(), said[3].as_str()), ("", "6"));
    assert!(said[4].contains("spices") && said[4].contains("Species"), "{}", said[4]);
    assert!(said[5].contains("Line: 3"), "{}", said[5]);
    assert!(said[6].contains("DDL not supported"), "{}", said[6]);
    assert!(said[7].contains("write {penguins} for the variable"), "{}", said[7]);
    assert!(said[8].contains("cannot find value `missing`"), "{}", said[8]);
    assert!(said[9].contains("a `{` without a `}`"), "{}", said[9]);
}
