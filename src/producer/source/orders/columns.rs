//! `--orders-columns`: which column of the orders means what.
//!
//! Pure: a list like `customer=id,amount=Quantity*UnitPrice` becomes the names of columns. A part that the list
//! does not name keeps its default.

use anyhow::{anyhow, bail, ensure};
use std::fmt;
use std::str::FromStr;

/// The names of the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Who ordered.
    pub customer: String,
    /// When.
    pub time: String,
    /// The money of the row: the product of these columns, of which there are one or two.
    pub amount: Vec<String>,
    /// Which order the row belongs to; `None`: each row is an order.
    pub order: Option<String>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            customer: "customer_id".into(),
            time: "ordered_at".into(),
            amount: vec!["amount".into()],
            order: None,
        }
    }
}

/// What a usable list looks like.
const EXAMPLE: &str =
    "give a list like customer=customer_id,time=ordered_at,amount=price*quantity,order=order_id";

/// How a name is written that would otherwise end too early.
const QUOTES: &str = "a name with `,`, `=`, `*` or `\"` stands in double quotes, a quote in it twice";

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { customer, time, amount, order } = self;
        write!(f, "customer=`{customer}`, time=`{time}`, amount=`{}`", amount.join("`*`"))?;
        order.as_ref().map_or(Ok(()), |order| write!(f, ", order=`{order}`"))
    }
}

impl FromStr for Columns {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut columns = Self::default();
        let mut named = Vec::new();
        let mut rest = Rest(text);
        loop {
            let (part, names) = rest.part()?;
            ensure!(!named.contains(&part), "`{part}` is there twice");
            named.push(part);
            columns.set(part, names)?;
            if rest.0.is_empty() {
                return Ok(columns);
            }
            rest.0 = &rest.0[1..];
        }
    }
}

impl Columns {
    /// Gives a part of the list its names, of which there is one at least.
    fn set(&mut self, part: &str, mut names: Vec<String>) -> anyhow::Result<()> {
        if part == "amount" {
            ensure!(names.len() <= 2, "`amount` is the product of two columns at most");
            self.amount = names;
            return Ok(());
        }
        let name = names.pop().filter(|_| names.is_empty());
        let name =
            name.ok_or_else(|| anyhow!("`{part}` is one column; only `amount` can be a product. {QUOTES}"))?;
        match part {
            "customer" => self.customer = name,
            "time" => self.time = name,
            "order" => self.order = Some(name),
            _ => bail!("`{part}` is none of `customer`, `time`, `amount` and `order`; {EXAMPLE}"),
        }
        Ok(())
    }
}

/// What of the list is not read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// A part and its names; a comma or nothing is left behind it.
    fn part(&mut self) -> anyhow::Result<(&'a str, Vec<String>)> {
        let end = self.0.find(['=', ',']).unwrap_or(self.0.len());
        let (part, rest) = self.0.split_at(end);
        let part = part.trim();
        let Some(rest) = rest.strip_prefix('=') else { bail!("`{part}` has no `=NAME`; {EXAMPLE}") };
        self.0 = rest;
        let mut names = vec![self.name(part)?];
        while let Some(rest) = self.0.strip_prefix('*') {
            self.0 = rest;
            names.push(self.name(part)?);
        }
        ensure!(!self.0.starts_with('='), "the name of `{part}` has a `=`: {QUOTES}");
        Ok((part, names))
    }

    /// The name of a column, in quotes or without, and the blanks around it.
    fn name(&mut self, part: &str) -> anyhow::Result<String> {
        let begin = self.0.trim_start();
        let name = if let Some(quoted) = begin.strip_prefix('"') {
            let (name, rest) =
                unquote(quoted).ok_or_else(|| anyhow!("a quote in `{part}` is left open: {QUOTES}"))?;
            self.0 = rest.trim_start();
            name
        } else {
            let (name, rest) = begin.split_at(begin.find(END).unwrap_or(begin.len()));
            self.0 = rest;
            name.trim_end().to_owned()
        };
        ensure!(!name.is_empty(), "the name of `{part}` is empty; {EXAMPLE}");
        let ends = self.0.is_empty() || self.0.starts_with(['=', ',', '*']);
        ensure!(ends, "a quote in `{part}` stands inside of a name: {QUOTES}");
        Ok(name)
    }
}

/// What ends a name without quotes.
const END: [char; 4] = ['=', ',', '*', '"'];

/// The name up to its closing quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), text);
    loop {
        let (piece, behind) = rest.split_once('"')?;
        name += piece;
        let Some(more) = behind.strip_prefix('"') else { return Some((name, behind)) };
        name.push('"');
        rest = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns(customer: &str, time: &str, amount: &[&str], order: Option<&str>) -> Columns {
        Columns {
            customer: customer.into(),
            time: time.into(),
            amount: amount.iter().map(|&name| name.into()).collect(),
            order: order.map(Into::into),
        }
    }

    #[test]
    fn parts_that_are_not_named_keep_their_defaults() {
        let read = |text: &str| text.parse::<Columns>().unwrap();
        assert_eq!(read("customer=customer_id,time=ordered_at,amount=amount"), Columns::default());
        assert_eq!(read("time=at"), columns("customer_id", "at", &["amount"], None));
        assert_eq!(
            read("order=InvoiceNo,amount=Quantity*UnitPrice,time=InvoiceDate,customer=Customer ID"),
            columns("Customer ID", "InvoiceDate", &["Quantity", "UnitPrice"], Some("InvoiceNo"))
        );
    }

    #[test]
    fn blanks_around_a_name_do_not_count_unless_it_is_quoted() {
        let list = r#" customer = a b , time=" t " , amount= "x,y" * "p*q" ,order="say ""no=""""#;
        let expected = columns("a b", " t ", &["x,y", "p*q"], Some(r#"say "no=""#));
        assert_eq!(list.parse::<Columns>().unwrap(), expected);
    }

    #[test]
    fn what_is_no_list_of_columns_is_refused() {
        let wrong = [
            ("", "`` has no `=NAME`"),
            ("customer", "`customer` has no `=NAME`"),
            ("customer=a,", "`` has no `=NAME`"),
            ("customer=a,time", "`time` has no `=NAME`"),
            ("customer=", "the name of `customer` is empty"),
            ("customer= ,time=t", "the name of `customer` is empty"),
            (r#"customer="""#, "the name of `customer` is empty"),
            ("amount=a*", "the name of `amount` is empty"),
            ("amount=*a", "the name of `amount` is empty"),
            ("amount=a*b*c", "two columns at most"),
            ("customer=a*b", "`customer` is one column"),
            ("price=a", "`price` is none of"),
            ("=a", "`` is none of"),
            ("Customer=a", "`Customer` is none of"),
            ("time=a,time=a", "`time` is there twice"),
            ("time=a=b", "has a `=`"),
            (r#"time="a"#, "left open"),
            (r#"time="a"b"#, "inside of a name"),
            (r#"time=a"b""#, "inside of a name"),
        ];
        for (text, why) in wrong {
            let error = text.parse::<Columns>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_names_can_be_written(
            [customer, time, price, count, order] in proptest::array::uniform5("[ -~é\n]{1,6}")
        ) {
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let list = format!(
                "customer={},time={},amount={}*{},order={}",
                quoted(&customer), quoted(&time), quoted(&price), quoted(&count), quoted(&order)
            );
            let read = list.parse::<Columns>().unwrap();
            prop_assert_eq!(read, columns(&customer, &time, &[&price, &count], Some(&order)));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(customer|time|amount|order|[=,*\" a]){0,12}") {
            let _ = text.parse::<Columns>();
        }
    }
}
