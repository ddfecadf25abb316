mod operations;

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
    assert_eq!(names(table.filter([true, false, true]).unwrap()), ["cat", "a<b"]);
    assert_eq!(names(table.take(&[1, 1, 0]).unwrap()), ["dog", "dog", "cat"]);
    assert_eq!(names(table.head(1)), ["cat"]);
    assert_eq!(
        names(Table::concat([&table.head(1), &table.head(9)]).unwrap()),
        ["cat", "cat", "dog", "a<b"]
    );
    assert_eq!(table.select(["name"]).unwrap().columns(), ["name"]);
    assert!(table.filter([true]).is_err());
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
        "columns 1 and 2 are both called `a`"
    );
}

#[test]
fn csv_is_read_with_its_types_and_nulls() {
    let table = from_csv(b"n,x,s\n1,2.5,a\nNA,,NA\n", &CsvOptions::default()).unwrap();
    let types: Vec<String> = table
        .0
        .columns()
        .iter()
        .map(|column| column.data_type().to_string())
        .collect();
    assert_eq!(types, ["Int64", "Float64", "Utf8"]);
    assert!(table.0.columns().iter().all(|column| column.is_null(1)));
    let kept = from_csv(b"s\nNA\n", &CsvOptions::default().nulls([""])).unwrap();
    assert_eq!(kept.str("s").unwrap().value(0), "NA");
    assert_eq!(from_csv(b"a,b\n", &CsvOptions::default()).unwrap().columns(), ["a", "b"]);
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table");
    animals().write_artifact(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(Table::read(&path).unwrap(), animals());
    animals().write_artifact(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    std::fs::write(&path, "size,name\n3,cat\n").unwrap();
    assert_eq!(Table::read(&path).unwrap().rows(), 1);
}

/// Returns the fields of a table as text, `∅` for nulls, or the error.
fn csv(bytes: impl AsRef<[u8]>) -> String {
    csv_with(bytes, &CsvOptions::default())
}

fn csv_with(bytes: impl AsRef<[u8]>, options: &CsvOptions) -> String {
    let table = match from_csv(bytes.as_ref(), options) {
        Ok(table) => table,
        Err(error) => return format!("{error:#}").replace("not a table: neither Arrow, Parquet nor CSV: ", "error: "),
    };
    shown(&table)
}

fn shown(table: &Table) -> String {
    let columns: Vec<_> = table.columns().iter().map(|name| table.str(name).unwrap()).collect();
    let row = |row: usize| {
        let cells = columns.iter().map(|column| match column.is_null(row) {
            true => "∅",
            false => column.value(row),
        });
        cells.collect::<Vec<_>>().join("|")
    };
    let rows = (0..table.rows()).map(row);
    [table.columns().join("|")]
        .into_iter()
        .chain(rows)
        .collect::<Vec<_>>()
        .join("/")
}

#[test]
fn lines_of_csv_have_one_meaning() {
    assert_eq!(csv("a,b\n1,x\n"), "a|b/1|x");
    assert_eq!(csv("\u{feff}a,b\r\n1,x\r\n"), "a|b/1|x", "a byte order mark and CRLF");
    assert_eq!(csv("a,b\r1,x\r2,y"), "a|b/1|x/2|y");
    assert_eq!(csv("a,b\n\n1,x\n\n"), "a|b/1|x", "a blank line has no fields");
    for ending in ["\n", "\r\n"] {
        let lines = |text: &str| csv(text.replace('\n', ending));
        assert_eq!(lines("a\n7\n\n8\n"), "a/7/∅/8", "a blank line of one column is a null");
        assert_eq!(lines("a\n\n\n8"), "a/∅/∅/8");
        assert_eq!(lines("a\n\"x\n\ny\"\n"), format!("a/x{ending}{ending}y"));
        assert_eq!(lines("a\n8\n\n"), "a/8/∅");
    }
    assert_eq!(csv("a\r\n1\n\n2\r\n"), "a/1/∅/2", "mixed endings");
    assert_eq!(csv("a,b\n"), "a|b");
}

#[test]
fn csv_that_is_malformed_is_refused_with_its_line() {
    assert_eq!(csv(""), "error: there is no header line with the names of the columns");
    assert_eq!(csv("\n"), "error: there is no header line with the names of the columns");
    assert_eq!(csv("a,b\n1,2\n3,4,5\n"), "error: line 3 has 3 fields, but the header has 2");
    assert_eq!(csv("a,b\n1,2\n3\n"), "error: line 3 has 1 field, but the header has 2");
    assert_eq!(csv("x,y,x\n1,2,3\n"), "error: columns 1 and 3 are both called `x`");
    assert_eq!(csv(",a\n0,1\n"), "error: column 1 has no name");
    let unclosed = |line| format!("error: line {line}: the field that starts with `\"` has no closing `\"`");
    assert_eq!(csv("a,b\n1,2\n3,\"x\n4,5\n"), unclosed(3));
    assert_eq!(csv("a,b\n1,2\n\"x\",\"y \"\"\n"), unclosed(3));
    assert_eq!(csv("a\n1\n\"x\n2\n"), unclosed(3));
    assert_eq!(csv("a,b\n1,2\n3,\"x\n\"\n"), "a|b/1|2/3|x\n");
    assert_eq!(csv("a,b\n1,5\"\n"), "a|b/1|5\"", "a quote within a field is text");
    assert_eq!(
        csv(b"a,b\nM\xfcller,1\n"),
        "line 2, column `a`: not UTF-8 text: convert the file, for example with `iconv -f LATIN1 -t UTF-8`"
    );
    let utf16 = "error: it is not UTF-8 text: convert it, for example with `iconv -f UTF-16 -t UTF-8`";
    assert_eq!(csv(b"\xff\xfea\0\n\0"), utf16);
    assert_eq!(csv(b"\0a\0\n"), utf16);
}

#[test]
fn options_of_csv_are_followed() {
    let options = CsvOptions::default()
        .separator(b';')
        .nulls(["-"])
        .column("zip", ColumnType::Text);
    assert_eq!(csv_with("zip;n\n1010;-\n;2\n", &options), "zip|n/1010|∅/|2");
    assert_eq!(
        csv_with("zip;n\n", &options.clone().column("m", ColumnType::Float)),
        "there is no column `m`; the columns are zip, n"
    );
    let typed = CsvOptions::default().column("n", ColumnType::Integer);
    let error = from_csv(b"n\n1\n2.5\n", &typed).unwrap_err();
    assert_eq!(format!("{error:#}"), "line 3, column `n`: `2.5` is not an integer");
    assert_eq!(
        "money".parse::<ColumnType>().unwrap_err().to_string(),
        "`money` is not a type; the types are boolean, integer, float, date, time, text"
    );
}

#[test]
fn rows_of_a_struct_say_which_columns_they_need() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    enum Color {
        Red,
        Green,
    }
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Row {
        zip: String,
        price: Option<f64>,
        count: u8,
        color: Color,
        #[serde(default)]
        sold: bool,
    }
    let directory = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path = directory.path().join("rows.csv");
        std::fs::write(&path, text).unwrap();
        Rows::<Row>::read(&path).map_err(|error| format!("{error:#}"))
    };
    let rows = read("zip,price,count,color\n007,1,3,Red\n12,,4,Green\n").unwrap();
    let row = |zip: &str, price, count, color| Row {
        zip: zip.into(),
        price,
        count,
        color,
        sold: false,
    };
    assert_eq!(
        rows.0,
        [row("007", Some(1.0), 3, Color::Red), row("12", None, 4, Color::Green)]
    );
    let path = directory.path().join("rows.arrow");
    rows.write_artifact(&path).unwrap();
    assert_eq!(Table::read(&path).unwrap().str("zip").unwrap().value(0), "007");
    assert_eq!(Rows::<Row>::read(&path).unwrap(), rows);
    let empty = Rows::<Row>(Vec::new());
    empty.write_artifact(&path).unwrap();
    assert_eq!(
        Table::read(&path).unwrap().columns(),
        ["zip", "price", "count", "color", "sold"]
    );

    let error = read("zip,price,count,color\n1,a,3,Red\n").unwrap_err();
    assert!(error.ends_with("line 2, column `price`: `a` is not a float"), "{error}");
    let error = read("zip,price,color\n1,2,Red\n").unwrap_err();
    assert!(error.contains("count"), "{error}");
    let error = read("zip,price,count,color\n1,2,3,Red\n1,2,300,Red\n").unwrap_err();
    assert!(error.contains("row 1, field `count`"), "{error}");
    let error = read("zip,price,count,color\n1,2,3,Blue\n").unwrap_err();
    assert!(error.contains("field `color`"), "{error}");
}
