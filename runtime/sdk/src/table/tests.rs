use super::*;

fn animals() -> Table {
    let table = Table::new([("size", vec![Some(3.0), None, Some(1.5)])]).unwrap();
    table.with("name", vec!["cat", "dog", "a<b"]).unwrap()
}

#[test]
fn columns_are_found_by_name() {
    let table = animals();
    assert_eq!((table.rows(), table.columns()), (3, vec!["size", "name"]));
    assert_eq!(
        table.f64("size").unwrap().iter().collect::<Vec<_>>(),
        [Some(3.0), None, Some(1.5)]
    );
    assert_eq!(
        table.column("colour").unwrap_err().to_string(),
        "there is no column `colour`; the columns are size, name"
    );
    let error = table.f64("name").unwrap_err();
    assert_eq!(format!("{error:#}"), "column `name`: `cat` is not a number");
    assert_eq!(
        table.str("size").unwrap().iter().collect::<Vec<_>>(),
        [Some("3.0"), None, Some("1.5")]
    );
}

#[test]
fn rows_are_picked() {
    let table = animals();
    let names = |table: Table| {
        table
            .str("name")
            .unwrap()
            .iter()
            .flatten()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(table.filter(&[true, false, true]).unwrap()), ["cat", "a<b"]);
    assert_eq!(names(table.take(&[1, 1, 0]).unwrap()), ["dog", "dog", "cat"]);
    assert_eq!(names(table.head(1)), ["cat"]);
    assert_eq!(
        names(Table::concat([&table.head(1), &table.head(9)]).unwrap()),
        ["cat", "cat", "dog", "a<b"]
    );
    assert_eq!(table.select(["name"]).unwrap().columns(), ["name"]);
    assert!(table.filter(&[true]).is_err());
    assert!(table.take(&[3]).is_err());
    assert!(Table::concat([&table, &table.select(["name"]).unwrap()]).is_err());
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    let text = |table: Result<Table>| table.unwrap_err().to_string();
    assert_eq!(
        text(Table::new([("a", vec![1]), ("b", vec![1, 2])])),
        "column `b` has 2 rows, but `a` has 1"
    );
    assert_eq!(
        text(Table::new([("a", vec![1]), ("a", vec![1])])),
        "two columns are called `a`"
    );
}

#[test]
fn csv_is_read_with_its_types_and_nulls() {
    let table = from_csv(b"n,x,s\n1,2.5,a\nNA,,NA\n", &["", "NA"]).unwrap();
    let types: Vec<String> = table
        .0
        .columns()
        .iter()
        .map(|column| column.data_type().to_string())
        .collect();
    assert_eq!(types, ["Int64", "Float64", "Utf8"]);
    assert!(table.0.columns().iter().all(|column| column.is_null(1)));
    let kept = from_csv(b"s\nNA\n", &[""]).unwrap();
    assert_eq!(kept.str("s").unwrap().value(0), "NA");
    assert_eq!(from_csv(b"a,b\n", &[""]).unwrap().columns(), ["a", "b"]);
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table");
    animals().write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(Table::read(&path).unwrap(), animals());
    animals().write(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    std::fs::write(&path, "size,name\n3,cat\n").unwrap();
    assert_eq!(Table::read(&path).unwrap().rows(), 1);
}
