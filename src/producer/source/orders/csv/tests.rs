//! Whole files: their bytes become totals, or the error that a person needs.

use super::*;
use crate::producer::source::orders::LeftOut;
use bigdecimal::{BigDecimal, Signed};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};

/// 1 January 2012.
fn as_of() -> DateTime<Utc> {
    "2012-01-01T00:00:00Z".parse().unwrap()
}

fn columns(list: &str) -> Columns {
    list.parse().unwrap()
}

/// The totals of a text whose columns are `c`, `t`, `a`.
fn totals(text: impl AsRef<[u8]>) -> anyhow::Result<Totals> {
    add_up(text.as_ref(), &columns("customer=c,time=t,amount=a"), as_of())
}

/// What is said of a text that cannot be read.
fn refusal(text: impl AsRef<[u8]>) -> String {
    format!("{:#}", totals(text).unwrap_err())
}

/// The customers with their three numbers.
fn customers(totals: &Totals) -> Vec<(String, [f64; 3])> {
    let columns = &totals.columns;
    let numbers = columns.recency.iter().zip(&columns.frequency).zip(&columns.monetary);
    let numbers = numbers.map(|((&recency, &frequency), &monetary)| [recency, frequency, monetary]);
    totals.ids.iter().map(str::to_owned).zip(numbers).collect()
}

fn one(text: &str) -> [f64; 3] {
    let totals = totals(text).unwrap();
    assert_eq!(totals.ids.len(), 1, "{text}");
    customers(&totals)[0].1
}

/// Gives a few bytes at a time.
struct Drip<'a> {
    bytes: &'a [u8],
    most: usize,
}

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.most.min(buffer.len());
        self.bytes.read(&mut buffer[..most])
    }
}

#[test]
fn orders_are_added_up_per_customer_in_the_order_of_their_ids() {
    let text = "t,c,a\n2011-12-31,b,1.10\n2011-12-01,a,2\n2011-12-30T23:59:59Z,b,0.90\n2011-11-01,ab,-0.00\n";
    let totals = totals(text).unwrap();
    let expected = [("a", [31.0, 1.0, 2.0]), ("ab", [61.0, 1.0, 0.0]), ("b", [1.0, 2.0, 2.0])];
    assert_eq!(customers(&totals), expected.map(|(id, numbers)| (id.to_owned(), numbers)));
    assert_eq!((totals.orders, totals.left_out), (4, LeftOut::default()));
    assert!(totals.columns.monetary[1].is_sign_positive());
}

#[test]
fn only_orders_before_the_instant_count_and_a_day_has_86_400_seconds() {
    let day = |time: &str| totals(format!("c,t,a\nx,{time},1\n")).unwrap().columns.recency;
    assert_eq!(day("2012-01-01"), [0.0; 0]);
    assert_eq!(day("2011-12-31T23:59:59.9999999Z"), [0.0]);
    assert_eq!(day("2011-12-31T00:00:00.000000001Z"), [0.0]);
    assert_eq!(day("2011-12-31T00:00:00"), [1.0]);
    assert_eq!(day("2011-12-30T23:59:59.999999999Z"), [1.0]);
    assert_eq!(day("2012-01-01T00:30:00+01:00"), [0.0]);
    assert_eq!(day("2011-12-31T23:00:00-01:00"), [0.0; 0]);
    let later = totals("c,t,a\nx,2013-01-01,1\n,2013-01-01,1\n").unwrap();
    assert_eq!((later.orders, later.left_out), (0, LeftOut::default()));
}

#[test]
fn a_refund_counts_for_the_money_only() {
    let refund = "c,t,a\nx,2011-12-01,10\nx,2011-12-31,-2.5\n";
    assert_eq!(one(refund), [31.0, 1.0, 7.5]);
    let totals = totals("c,t,a\nx,2011-12-01,-1\ny,2011-12-01,0\n,2011-12-01,-1\n,2011-12-01,5\n").unwrap();
    assert_eq!(customers(&totals), [("y".to_owned(), [31.0, 1.0, 0.0])]);
    assert_eq!((totals.orders, totals.left_out), (4, LeftOut { no_customer: 2, refunds_only: 1 }));
}

#[test]
fn distinct_orders_of_a_customer_count_once_if_they_are_named() {
    let text = "c,t,a,o\nx,2011-12-01,1,7\nx,2011-12-02,1,7\ny,2011-12-02,1,7\nx,2011-12-03,-1,8\nx,2011-12-04,1,9\n";
    let totals = add_up(text.as_bytes(), &columns("customer=c,time=t,amount=a,order=o"), as_of()).unwrap();
    assert_eq!(totals.columns.frequency, [2.0, 1.0]);
    let empty =
        add_up(&b"c,t,a,o\n,2013-12-01,1,\n"[..], &columns("customer=c,time=t,amount=a,order=o"), as_of());
    assert_eq!(empty.unwrap_err().to_string(), "line 2, column `o`: is empty");
}

#[test]
fn an_amount_can_be_a_product() {
    let product = columns("customer=c,time=t,amount=n*p");
    let read = |text: &str| add_up(text.as_bytes(), &product, as_of());
    let text = "c,t,n,p\nx,2011-12-01,3,0.1\nx,2011-12-01,-1,0.05\n";
    assert_eq!(read(text).unwrap().columns.monetary, [0.25]);
    let wrong = read("c,t,n,p\nx,2011-12-01,3,£1\n").unwrap_err().to_string();
    assert!(wrong.starts_with("line 2, column `p`: `£1` is no amount"), "{wrong}");
    let great = read("c,t,n,p\nx,2011-12-01,1e200,1e200\n").unwrap_err().to_string();
    assert!(great.starts_with("line 2, column `n` times column `p`: the product is too great"), "{great}");
}

#[test]
fn money_is_exact_and_rounded_once() {
    let cents = "c,t,a\n".to_owned() + &"x,2011-12-01,0.1\n".repeat(10);
    assert_eq!(one(&cents)[2], 1.0);
    let cancelled = "c,t,a\nx,2011-12-01,1e300\nx,2011-12-01,0.3\nx,2011-12-01,-1e300\n";
    assert_eq!(one(cancelled)[2], 0.3);
    let beyond = refusal("c,t,a\nx,2011-12-01,1.7e308\nx,2011-12-01,1.7e308\n");
    assert_eq!(
        beyond,
        "the amounts of a customer add up to a number that 64-bit floating point does not have"
    );
}

#[test]
fn ids_are_what_stands_between_the_delimiters() {
    let text = "c,t,a\n\" a\",2011-12-01,1\na ,2011-12-01,1\n\"a,b\",2011-12-01,1\n\"say \"\"a\"\"\",2011-12-01,1\né,2011-12-01,1\n";
    let totals = totals(text).unwrap();
    assert_eq!(totals.ids.iter().collect::<Vec<_>>(), [" a", "a ", "a,b", "say \"a\"", "é"]);
}

#[test]
fn the_header_shows_the_delimiter() {
    let with = |delimiter: &str| one(&"c|t|a\nx|2011-12-01|1.5\n".replace('|', delimiter));
    for delimiter in [",", ";", "\t"] {
        assert_eq!(with(delimiter), [31.0, 1.0, 1.5]);
    }
    // Commas make more cells, but with semicolons there are the columns that are named.
    assert_eq!(one("c;t;a;x,y,z,w,v\nx;2011-12-01;1;,\n"), [31.0, 1.0, 1.0]);
}

#[test]
fn byte_order_mark_line_ends_and_empty_lines_do_not_matter() {
    let expected = one("c,t,a\nx,2011-12-01,1\n");
    let same = [
        "\u{feff}c,t,a\nx,2011-12-01,1\n",
        "\u{feff}\"c\",t,a\nx,2011-12-01,1\n",
        "c,t,a\r\nx,2011-12-01,1\r\n",
        "c,t,a\nx,2011-12-01,1",
        "c,t,a\rx,2011-12-01,1",
        "\n\r\nc,t,a\n\n\r\nx,2011-12-01,1\n\n",
        "\"c\",\"t\",\"a\"\n\"x\",\"2011-12-01\",\"1\"",
    ];
    for text in same {
        assert_eq!(one(text), expected, "{text:?}");
    }
}

#[test]
fn a_header_alone_has_no_customers() {
    assert_eq!(totals("c,t,a\n").unwrap(), Totals::default());
    assert_eq!(totals("c,t,a").unwrap(), Totals::default());
}

#[test]
fn what_is_no_csv_with_these_columns_is_refused_with_what_it_has() {
    for empty in ["", "\n", "\u{feff}", "\r\n\r\n"] {
        assert_eq!(refusal(empty), "there is nothing in it, not even a header");
    }
    let lacks = refusal("id,t,total\nx,2011-12-01,1\n");
    assert_eq!(
        lacks,
        "line 1: the header has no column `c`, `a`; it has `id`, `t`, `total`; --orders-columns says which to read"
    );
    assert!(refusal("id|t|total\n").contains("it has `id|t|total`; columns are separated by commas"));
    assert!(refusal("c,t,a,c\n").contains("line 1: the header has two columns `c`"));
    assert!(refusal(b"c,t,a,\xe9\n").contains("line 1: the header is not UTF-8"));
    let many: String = (0..200).map(|column| format!("n{column},")).collect();
    let long = refusal(format!("{many}{}\n", "n".repeat(1000)));
    assert!(long.len() < 400 && long.contains("`n19` and 181 more"), "{long}");
}

#[test]
fn orders_without_a_header_are_not_quoted() {
    for text in ["anna,2011-12-01,5\n", "anna,31/12/2011,$5\n", "anna,yesterday,-5\n"] {
        let refusal = refusal(text);
        assert!(refusal.starts_with("line 1 has values and not the names of columns"), "{refusal}");
        assert!(!refusal.contains("anna"), "{refusal}");
    }
}

#[test]
fn a_row_with_another_number_of_cells_than_the_header_is_refused() {
    let few = refusal("c,t,a\nx,2011-12-01,1\n\nx,2011-12-01\n");
    assert_eq!(few, "line 4: too few cells: 2, and the header has 3");
    let many = refusal("c,t,a\r\nx,2011-12-01,1,5\r\n");
    assert!(many.starts_with("line 2: too many cells: 4, and the header has 3; a cell with"), "{many}");
    assert!(refusal("c,t,a\n\"x\ny\",1\n").contains("the row ends in line 3: is a quote missing"));
}

#[test]
fn a_cell_that_cannot_be_read_is_named_and_told_what_is_read() {
    let amount =
        |amount: &str| refusal(format!("c,t,a\n\"x\ny\",2011-12-01,1\nanna,2011-12-01,\"{amount}\"\n"));
    let hint =
        "is no amount: digits with a decimal point, like -1234.56, without separators, blanks or currency";
    for wrong in [
        "1.234,56", "$5", " 5", "5 ", "1 000", "1_000", "0x10", "NaN", "Infinity", "1e", "e5", ".", "-",
        "1,5",
    ] {
        assert_eq!(amount(wrong), format!("line 4, column `a`: `{wrong}` {hint}"));
    }
    assert_eq!(amount(""), "line 4, column `a`: the amount is empty");
    assert!(amount("1e1000000").contains("`1e1000000` is too great"));
    assert!(amount("1e-99999999999999999999").contains("has more than 16383 decimal places"));
    let long = amount(&"x".repeat(1000));
    assert!(long.contains(&format!("`{}`…", "x".repeat(40))) && !long.contains(&"x".repeat(41)), "{long}");
    let time = refusal("c,t,a\nanna,31/12/2010,1\n");
    assert!(time.starts_with("line 2, column `t`: `31/12/2010` is no time: 2010-12-31, "), "{time}");
    assert!(time.contains("DuckDB") && !time.contains("anna"), "{time}");
    assert_eq!(refusal("c,t,a\nanna,,1\n"), "line 2, column `t`: the time is empty");
}

#[test]
fn rows_that_do_not_count_must_be_readable_too() {
    assert!(refusal("c,t,a\nx,2030-01-01,?\n").starts_with("line 2, column `a`"));
    assert!(refusal("c,t,a\n,2011-01-01,?\n").starts_with("line 2, column `a`"));
}

#[test]
fn text_that_postgres_cannot_store_is_refused() {
    assert!(refusal(b"c,t,a\nx\xff,2011-12-01,1\n").contains("line 2, column `c`: the text is not UTF-8"));
    assert!(refusal("c,t,a\nx\0,2011-12-01,1\n").contains("line 2, column `c`: the id has a U+0000"));
    // A column that is not read may have anything.
    assert_eq!(totals(b"c,t,a,x\nx,2011-12-01,1,\xff\0\n").unwrap().ids.len(), 1);
}

#[test]
fn a_quote_that_is_left_open_is_reported_where_it_begins() {
    let open = "a quote is left open; a quote inside of a quoted cell is written twice";
    assert_eq!(refusal("c,t,a\nx,2011-12-01,\"1\n"), format!("line 2: {open}"));
    assert_eq!(refusal("c,t,a\n\"x\ny\",2011-12-01,\"1\nx"), format!("line 3: {open}"));
    assert_eq!(refusal("c,t,\"a\nx,1,1\n"), format!("line 1: {open}"));
    let endless = "c,t,a\n\"x\ny\",\"".to_owned() + &"2011-12-01,1\n".repeat(200_000);
    assert!(refusal(endless).starts_with("line 3: a quote is left open, for more than 1 MiB; "));
    assert_eq!(refusal("c,t,a\n".to_owned() + &"x".repeat(1 << 21)), "line 2: the row is longer than 1 MiB");
    // Such a row would otherwise be a customer with a long name.
    let joined = refusal("c,t,a\n\"x,2011-12-01,1\n\"y\",2011-12-01,1\n");
    assert!(
        joined.starts_with("line 3: text stands behind a closing quote: is a quote left open in line 2? ")
    );
    // A quote inside of a cell without quotes is one like any other character.
    assert_eq!(totals("c,t,a\n5\" pipe,2011-12-01,1\n").unwrap().ids.iter().next(), Some("5\" pipe"));
}

#[test]
fn a_row_may_be_nearly_a_mebibyte_long() {
    let id = "i".repeat((1 << 20) - 100);
    for quote in ["", "\""] {
        let totals = totals(format!("c,t,a\n{quote}{id}{quote},2011-12-01,1\nx,2011-12-01,1\n")).unwrap();
        assert_eq!(totals.ids.iter().next(), Some(&id[..]));
    }
}

#[test]
fn the_reading_thread_says_what_is_wrong_far_behind_the_beginning() {
    let rows: String = (0..50_000).map(|row| format!("c{},2011-12-01,1.5\n", row % 1000)).collect();
    let sound = totals(format!("c,t,a\n{rows}")).unwrap();
    assert_eq!((sound.orders, sound.ids.len()), (50_000, 1000));
    assert!(sound.columns.monetary.iter().all(|&money| money == 75.0));
    let wrong = refusal(format!("c,t,a\n{rows}x,2011-12-01,?\n{rows}"));
    assert!(wrong.starts_with("line 50002, column `a`: `?`"), "{wrong}");
}

fn path_input(path: &std::path::Path) -> Input {
    Input::File(path.to_owned())
}

/// What is said of a file that cannot be read.
fn file_refusal(path: &std::path::Path) -> String {
    let columns = columns("customer=c,time=t,amount=a");
    let refusal = format!("{:#}", read(&path_input(path), &columns, as_of()).unwrap_err());
    assert_eq!(check(&path_input(path), &columns).unwrap_err().to_string(), refusal);
    refusal
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(file_refusal(&directory.path().join("later.csv")), "there is no such file (yet)");
    assert_eq!(file_refusal(directory.path()), "it is a directory: give the path of a CSV file");
    let of_another_format = [
        (&b"PK\x03\x04rest"[..], "it is a ZIP archive or a spreadsheet's own format: save it as CSV"),
        (b"PAR1rest", "it is a Parquet file: DuckDB makes CSV of it, as in the guide"),
        (b"BZh9rest", "it is compressed by bzip2: gzip and zstd are read"),
        (b"\xfd7zXZrest", "it is compressed by xz: gzip and zstd are read"),
        (b"\xff\xfec\0", "it is UTF-16: save it as UTF-8"),
        (
            b"c,t,30d_spend\n",
            "line 1: the header has no column `a`; it has `c`, `t`, `30d_spend`; --orders-columns says which to read",
        ),
        (b"", "there is nothing in it, not even a header"),
        (
            b"c,t\n",
            "line 1: the header has no column `a`; it has `c`, `t`; --orders-columns says which to read",
        ),
    ];
    for (bytes, why) in of_another_format {
        let path = directory.path().join("orders");
        fs::write(&path, bytes).unwrap();
        assert_eq!(file_refusal(&path), why);
    }
}

#[test]
fn check_looks_at_the_header_only() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"c,t,a\nx,never,?\n").unwrap();
    check(&path_input(file.path()), &columns("customer=c,time=t,amount=a")).unwrap();
    check(&Input::StandardInput, &columns("customer=c,time=t,amount=a")).unwrap();
}

const PLAIN: &[u8] = b"c,t,a\nx,2011-12-01,1\ny,2011-12-02,2\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

/// The totals of a file with these bytes.
fn of_file(bytes: &[u8]) -> anyhow::Result<Totals> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    read(&path_input(file.path()), &columns("customer=c,time=t,amount=a"), as_of())
}

#[test]
fn compressed_files_are_known_by_their_first_bytes() {
    let expected = of_file(PLAIN).unwrap();
    assert_eq!(expected.ids.len(), 2);
    let (begin, end) = PLAIN.split_at(9);
    let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
    let same = [
        gzip(PLAIN),
        zstd(PLAIN),
        [gzip(begin), gzip(end)].concat(),
        [zstd(begin), zstd(end)].concat(),
        [skipped, zstd(PLAIN)].concat(),
    ];
    for bytes in same {
        assert_eq!(of_file(&bytes).unwrap(), expected);
    }
}

#[test]
fn a_compressed_file_that_is_cut_short_is_refused() {
    let rows: String = (0..100_000).map(|row| format!("c{row},2011-12-01,{row}\n")).collect();
    let text = format!("c,t,a\n{rows}");
    for (form, bytes) in [("gzip", gzip(text.as_bytes())), ("zstd", zstd(text.as_bytes()))] {
        for length in [bytes.len() - 1, bytes.len() / 2, 10] {
            let refusal = format!("{:#}", of_file(&bytes[..length]).unwrap_err());
            assert!(
                refusal.ends_with(&format!(": the {form} data ends in the middle")),
                "{length}: {refusal}"
            );
        }
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2..][..100].fill(0xaa);
        let refusal = format!("{:#}", of_file(&damaged).unwrap_err());
        assert!(
            refusal.contains(&format!("the {form} data is damaged")) || refusal.contains("line"),
            "{refusal}"
        );
    }
}

/// The totals of a file that changes when its first bytes have been read.
fn change_while_read(change: impl FnOnce(&std::path::Path)) -> anyhow::Result<Totals> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.csv");
    fs::write(&path, PLAIN).unwrap();
    let (bytes, watch) = input::open(&path_input(&path)).unwrap();
    change(&path);
    let totals = add_up(bytes, &columns("customer=c,time=t,amount=a"), as_of());
    watch.check()?;
    totals
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_refused() {
    let truncated = change_while_read(|path| fs::write(path, &PLAIN[..10]).unwrap());
    let appended = change_while_read(|path| {
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"z,2011-12-01,1\n").unwrap();
    });
    let rewritten = change_while_read(|path| {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        (&file).write_all(PLAIN).unwrap();
        // The clock of the file system is too coarse for a test: two writes may fall into one tick.
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
    });
    for changed in [truncated, appended, rewritten] {
        let refusal = changed.unwrap_err().to_string();
        assert!(refusal.starts_with("it was written to while it was read (36 bytes before, "), "{refusal}");
        assert!(refusal.contains("renaming"), "{refusal}");
    }
}

#[test]
fn a_file_that_is_replaced_by_renaming_is_read_to_its_end_as_it_was() {
    let totals = change_while_read(|path| {
        let other = path.with_extension("new");
        fs::write(&other, "c,t,a\n").unwrap();
        fs::rename(other, path).unwrap();
    });
    assert_eq!(totals.unwrap(), of_file(PLAIN).unwrap());
}

/// An order as the model knows it.
#[derive(Clone, Debug)]
struct Order {
    customer: String,
    /// In seconds before the instant; negative: behind it.
    before: i64,
    amount: String,
    order: u8,
}

fn any_order() -> impl Strategy<Value = Order> {
    let amount = prop_oneof![
        4 => "[-+]?[0-9]{1,4}(\\.[0-9]{0,2})?",
        1 => "-?[0-9]{1,30}\\.[0-9]{1,30}",
        1 => "-?[0-9]{1,3}(\\.[0-9]{1,3})?[eE][-+]?[0-9]{1,2}",
        1 => Just("-0.00".to_owned()),
    ];
    let before = prop_oneof![4 => 1..10_000_000_i64, 1 => -3..3_i64];
    ("[a-c]{0,2}|[é\",;\n\r ]{1,3}", before, amount, 0..6_u8)
        .prop_map(|(customer, before, amount, order)| Order { customer, before, amount, order })
}

/// What the orders add up to, as plainly as can be.
fn model(orders: &[Order], is_named: bool) -> (Vec<(String, [u64; 3])>, u64, LeftOut) {
    type Sums = (Option<i64>, u64, BTreeSet<u8>, BigDecimal);
    let mut customers: BTreeMap<&[u8], Sums> = BTreeMap::new();
    let (mut count, mut left_out) = (0, LeftOut::default());
    for order in orders.iter().filter(|order| order.before > 0) {
        count += 1;
        if order.customer.is_empty() {
            left_out.no_customer += 1;
            continue;
        }
        let amount: BigDecimal = order.amount.parse().unwrap();
        let customer = customers.entry(order.customer.as_bytes()).or_default();
        if !amount.is_negative() {
            customer.0 = Some(customer.0.map_or(order.before, |last| last.min(order.before)));
            customer.1 += 1;
            customer.2.insert(order.order);
        }
        customer.3 += amount;
    }
    let mut rows = Vec::new();
    for (id, (last, orders, distinct, money)) in customers {
        let Some(last) = last else {
            left_out.refunds_only += 1;
            continue;
        };
        let orders = if is_named { distinct.len() as u64 } else { orders };
        let money = money.to_plain_string().parse::<f64>().unwrap() + 0.0;
        let numbers = [(last / 86_400) as f64, orders as f64, money].map(f64::to_bits);
        rows.push((String::from_utf8(id.to_vec()).unwrap(), numbers));
    }
    (rows, count, left_out)
}

/// A cell as CSV has it; in quotes if it must be, or if asked for.
fn cell(text: &str, is_quoted: bool) -> String {
    if is_quoted || text.contains([',', ';', '\t', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

proptest! {
    #[test]
    fn any_orders_add_up_to_what_the_model_says(
        orders in prop::collection::vec(any_order(), 0..40), quotes in any::<u64>(),
        delimiter in prop::sample::select(vec![",", ";", "\t"]), line_end in prop::sample::select(vec!["\n", "\r\n"]),
        is_named: bool, most in 1..60_usize,
    ) {
        let mut quotes = quotes;
        let mut quoted = || { quotes = quotes.rotate_left(1); quotes & 3 == 0 };
        let mut text = ["o", "a", "c", "t"].join(delimiter) + line_end;
        for order in &orders {
            let time = (as_of() - chrono::TimeDelta::seconds(order.before)).to_rfc3339();
            let cells = [order.order.to_string(), order.amount.clone(), order.customer.clone(), time];
            text += &(cells.map(|text| cell(&text, quoted())).join(delimiter) + line_end);
        }
        let columns = columns(if is_named { "customer=c,time=t,amount=a,order=o" } else { "customer=c,time=t,amount=a" });
        let totals = add_up(Drip { bytes: text.as_bytes(), most }, &columns, as_of()).unwrap();
        let found = customers(&totals).into_iter().map(|(id, numbers)| (id, numbers.map(f64::to_bits))).collect();
        prop_assert_eq!((found, totals.orders, totals.left_out), model(&orders, is_named));
    }
}
