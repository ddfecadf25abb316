use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, NullArray};

use super::*;

fn animals() -> Table {
    let table = Table::new([("size", vec![Some(3.0), None, Some(1.5)])]).unwrap();
    table.with("<name>", vec![Some("cat\n"), None, Some("\"a\"<b")]).unwrap()
}

fn wide(columns: usize, text: &str) -> Table {
    Table::new((0..columns).map(|index| (format!("c{index}"), vec![text]))).unwrap()
}

fn counting(rows: i64) -> Table {
    Table::new([("n", Int64Array::from_iter_values(0..rows))]).unwrap()
}

/// Returns the summaries of the pages of HTML.
fn page_titles(html: &str) -> Vec<&str> {
    let titles = html.split("<summary>").skip(1);
    titles
        .filter_map(|rest| rest.split_once("</summary>"))
        .map(|(title, _)| title)
        .collect()
}

#[test]
fn text_has_names_types_and_values() {
    assert_eq!(
        animals().to_string(),
        "   size  <name>
Float64  Utf8
    3.0  cat\\n
   null  null
    1.5  \"a\"<b
3 rows × 2 columns
"
    );
}

#[test]
fn html_has_names_types_and_values() {
    assert_eq!(
        animals().html(),
        "<div style=\"overflow-x:auto\">
<table style=\"font-variant-numeric:tabular-nums;margin-left:0\">
<thead>
<tr><th style=\"text-align:right\">size<br><small style=\"font-weight:normal;opacity:0.6\">Float64</small></th>\
<th style=\"text-align:left\">&lt;name&gt;<br><small style=\"font-weight:normal;opacity:0.6\">Utf8</small></th></tr>
</thead>
<tbody>
<tr><td style=\"text-align:right\">3.0</td><td style=\"text-align:left\">cat\\n</td></tr>
<tr><td style=\"text-align:right;opacity:0.6\">null</td><td style=\"text-align:left;opacity:0.6\">null</td></tr>
<tr><td style=\"text-align:right\">1.5</td><td style=\"text-align:left\">&quot;a&quot;&lt;b</td></tr>
</tbody>
</table>
</div>
<p>3 rows × 2 columns</p>
"
    );
}

#[test]
fn long_tables_are_paged() {
    let bounds = |rows: usize| pages(rows).into_iter().map(|page| (page.start, page.end)).collect::<Vec<_>>();
    assert_eq!(bounds(0), [(0, 0)]);
    assert_eq!(bounds(20), [(0, 20)]);
    assert_eq!(bounds(21), [(0, 20), (20, 21)]);
    assert_eq!(bounds(210), [(0, 20), (20, 80), (80, 140), (140, 200), (200, 210)]);
    assert_eq!(bounds(1000), [(0, 20), (20, 80), (80, 140), (140, 200), (980, 1000)]);

    let html = counting(1_000_000).html();
    assert_eq!(
        page_titles(&html),
        ["rows 21–80", "rows 81–140", "rows 141–200", "rows 999,981–1,000,000"]
    );
    assert_eq!(html.matches("<tr>").count(), 220 + 5);
    assert!(html.contains("<td style=\"text-align:right\">999999</td>"));
    assert!(html.ends_with("<p>1,000,000 rows × 1 column, 999,780 rows not shown</p>\n"));
    assert!(html.len() < 16 * 1024);

    let text = counting(1_000_000).to_string();
    assert_eq!(text.lines().count(), 20 + 3);
    assert!(text.ends_with("   19\n1,000,000 rows × 1 column, 999,980 rows not shown\n"));
}

#[test]
fn html_is_bounded_in_bytes() {
    let text = "<".repeat(4 * CELL + 1);
    let table = Table::new((0..100).map(|index| (format!("c{index}"), vec![text.as_str(); 30]))).unwrap();
    let html = table.html();
    assert!((MOST..MOST + 64 * 1024).contains(&html.len()), "{}", html.len());
    assert!(html.ends_with("<p>30 rows × 100 columns, 26 rows not shown</p>\n"));
    assert!(table.to_string().len() < 16 * 1024);
}

#[test]
fn wide_tables_lose_their_middle() {
    let html = wide(500, "x").html();
    assert_eq!(html.matches("<th").count(), COLUMNS + 1 + 1, "with <thead>");
    assert!(html.contains(">c19<br>") && html.contains("<th>…</th>") && html.contains(">c480<br>"));
    assert!(!html.contains(">c20<br>") && !html.contains(">c479<br>"));
    assert!(html.ends_with("<p>1 row × 500 columns</p>\n"));

    assert_eq!(
        wide(20, "long enough").to_string(),
        "\
c0           c1           c2           c3           …  c17          c18          c19
Utf8         Utf8         Utf8         Utf8         …  Utf8         Utf8         Utf8
long enough  long enough  long enough  long enough  …  long enough  long enough  long enough
1 row × 20 columns
"
    );
    assert!(wide(500, "x").to_string().lines().all(|line| line.chars().count() <= LINE));
    assert!(wide(16, "x").to_string().lines().all(|line| !line.contains('…')));
    assert_eq!(
        wide(2, &"x".repeat(99)).to_string().lines().nth(2).unwrap(),
        format!("{0}…  {0}…", "x".repeat(29))
    );
}

#[test]
fn columns_fit_from_both_ends() {
    assert_eq!(fitting(&[]), (0, 0));
    assert_eq!(fitting(&[48, 50]), (2, 0));
    assert_eq!(fitting(&[30, 30, 30, 30]), (2, 1));
    assert_eq!(fitting(&[1; 34]), (34, 0));
    assert_eq!(fitting(&[1; LINE / GAP]), (17, 16));
}

#[test]
fn nulls_are_seen_whatever_keeps_them() {
    let names: DictionaryArray<Int32Type> = [Some("a"), None].into_iter().collect();
    let nothing = NullArray::new(2);
    let columns: [(&str, ArrayRef); 2] = [("names", Arc::new(names)), ("nothing", Arc::new(nothing))];
    let html = Table::new(columns).unwrap().html();
    assert_eq!(html.matches(";opacity:0.6\">null</td>").count(), 3);
    assert!(html.contains("Dictionary(Int32, Utf8)"));
}

#[test]
fn a_table_may_be_empty() {
    assert_eq!(counting(0).to_string(), "    n\nInt64\n0 rows × 1 column\n");
    let none = Table::new::<String, Vec<f64>>([]).unwrap();
    assert_eq!(none.to_string(), "\n\n0 rows × 0 columns\n");
    assert!(none.html().ends_with("<p>0 rows × 0 columns</p>\n"));
}

#[test]
fn digits_are_grouped() {
    let groups = [0, 999, 1000, 123_456, 1_234_567].map(grouped);
    assert_eq!(groups, ["0", "999", "1,000", "123,456", "1,234,567"]);
}
