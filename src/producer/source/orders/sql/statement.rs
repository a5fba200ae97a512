//! The statements around a user's query. Pure.
//!
//! **The query stands in the place of a table.** So what is not one query is an error of syntax. The line
//! break behind it ends a comment of its last line.

use super::super::Columns;
use super::kinds::{Id, Kinds, Number, Time};
use chrono::{DateTime, Datelike, Utc};

/// A query, and how its columns are taken at one instant.
pub struct Statement<'a> {
    /// The query, without what ends a statement.
    query: &'a str,
    /// The customer: an expression over the query's columns, as are the next two.
    customer: String,
    /// The time, as it is.
    time: String,
    /// The factors of the amount.
    factors: Vec<String>,
    /// The order.
    order: Option<String>,
    /// How they are taken.
    kinds: &'a Kinds,
    /// The instant, as a literal of the time's kind.
    as_of: String,
}

impl<'a> Statement<'a> {
    /// The statements around `query`, for the orders before `as_of`.
    pub fn new(query: &'a str, columns: &Columns, kinds: &'a Kinds, as_of: DateTime<Utc>) -> Self {
        let factors = columns.amount.iter().map(|name| quoted(name)).collect();
        let order = columns.order.as_ref().zip(kinds.order).map(|(name, kind)| id(name, kind));
        Self {
            query: body(query),
            customer: id(&columns.customer, kinds.customer),
            time: quoted(&columns.time),
            factors,
            order,
            kinds,
            as_of: instant(kinds.time, as_of),
        }
    }

    /// A row per customer: customer, last order, rows, orders, money, and rows that cannot be counted. Of
    /// these only the number is asked for, because each further sum would be computed for each row.
    pub fn aggregation(&self) -> String {
        let zone = if self.kinds.time == Time::WithZone { "timestamptz" } else { "timestamp" };
        let (orders, uncounted) = match self.order {
            None => ("count(*) - count(*) FILTER (WHERE amount < 0)", ""),
            Some(_) => ("count(DISTINCT ordered) FILTER (WHERE amount >= 0)", self.lacks_order()),
        };
        format!(
            "SELECT customer::text, (max(placed) FILTER (WHERE amount >= 0))::{zone}, count(*), {orders}, \
             sum(amount)::float8, count(*) FILTER (WHERE isfinite(placed) IS NOT TRUE OR amount IS NULL{uncounted}) \
             FROM ({}) AS counted GROUP BY customer",
            self.rows()
        )
    }

    /// How many rows are wrong in which way: the ways in words, and a query with a column for each.
    pub fn faults(&self, columns: &Columns) -> (Vec<String>, String) {
        let Self { time, factors, .. } = self;
        let mut faults = vec![
            (format!("`{}` is null", columns.time), format!("{time} IS NULL")),
            (format!("`{}` is infinite", columns.time), format!("NOT isfinite({time})")),
        ];
        for (name, factor) in columns.amount.iter().zip(factors) {
            faults.push((format!("`{name}` is null"), format!("{factor} IS NULL")));
            let not_finite = format!("{factor}::text IN ('NaN', 'Infinity', '-Infinity')");
            faults.push((format!("`{name}` is NaN or infinite"), not_finite));
        }
        if let Some((name, order)) = columns.order.as_ref().zip(self.order.as_ref()) {
            faults.push((format!("`{name}` is empty or null"), format!("coalesce({order}::text, '') = ''")));
        }
        let counts = faults.iter().map(|(_, fault)| format!("count(*) FILTER (WHERE {fault})"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let query = format!("SELECT {counts} FROM ({}\n) AS orders WHERE {}", self.query, self.before());
        (faults.into_iter().map(|(what, _)| what).collect(), query)
    }

    /// The rows before the instant, and those of which that cannot be said.
    fn rows(&self) -> String {
        let Self { query, customer, time, factors, order, .. } = self;
        let is_product = factors.len() > 1;
        let factor = |(name, kind): (&String, &Number)| match kind {
            Number::Float => format!("{name}::text::numeric"),
            Number::Exact if is_product => format!("{name}::numeric"),
            Number::Exact => name.clone(),
        };
        let amount = factors.iter().zip(&self.kinds.amount).map(factor).collect::<Vec<_>>().join(" * ");
        let order = order.as_ref().map(|order| format!(", {order} AS ordered")).unwrap_or_default();
        // What is computed is computed once, and not in each place where it is used. It costs nothing else:
        // workers of a parallel plan do it, too.
        let fence = if amount == factors[0] { "" } else { " OFFSET 0" };
        format!(
            "SELECT {customer} AS customer, {time} AS placed, {amount} AS amount{order} FROM ({query}\n) AS orders \
             WHERE {}{fence}",
            self.before()
        )
    }

    /// A time that is null or infinite is neither before nor after. The parts are comparisons that an index
    /// has.
    fn before(&self) -> String {
        let Self { time, as_of, .. } = self;
        format!("({time} < {as_of} OR {time} IS NULL OR {time} = 'infinity')")
    }

    fn lacks_order(&self) -> &'static str {
        match self.kinds.order {
            Some(Id::Plain) => " OR ordered IS NULL",
            _ => " OR ordered IS NULL OR ordered = ''",
        }
    }
}

/// A name, whatever it consists of.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A column as an id.
fn id(name: &str, kind: Id) -> String {
    let name = quoted(name);
    match kind {
        // Without a collation of another name, the server plans with what it knows of the column.
        Id::Plain | Id::Text => name,
        Id::Collated => format!("{name} COLLATE \"C\""),
        Id::Other => format!("{name}::text COLLATE \"C\""),
    }
}

/// An instant as a literal. Postgres has no year 0.
fn instant(kind: Time, instant: DateTime<Utc>) -> String {
    let (year, era) = match instant.year() {
        year @ 1.. => (year, ""),
        year => (1 - year, " BC"),
    };
    let rest = instant.format("-%m-%d %H:%M:%S%.6f");
    match kind {
        Time::WithZone => format!("TIMESTAMPTZ '{year:04}{rest}+00{era}'"),
        Time::WithoutZone => format!("TIMESTAMP '{year:04}{rest}{era}'"),
    }
}

/// The query without semicolons, comments and blanks at its end. Where this reads a text otherwise than the
/// server, the server refuses it.
fn body(query: &str) -> &str {
    let (mut rest, mut end) = (query, 0);
    while !rest.is_empty() {
        let (length, counts) = token(rest);
        rest = rest.get(length..).unwrap_or_default();
        if counts {
            end = query.len() - rest.len();
        }
    }
    &query[..end]
}

/// How long the first token is, in bytes, and whether it belongs to the query. Whatever is not a comment or a
/// quotation is a token of one character, or a word.
fn token(text: &str) -> (usize, bool) {
    let until = |after: usize, end: &str| {
        let rest = text.get(after..).unwrap_or_default();
        rest.find(end).map_or(text.len(), |place| after + place + end.len())
    };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some('-'), Some('-')) => (until(0, "\n"), false),
        (Some('/'), Some('*')) => (comment(text), false),
        (Some(';'), _) => (1, false),
        (Some(' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}'), _) => (1, false),
        (Some('e' | 'E'), Some('\'')) => (escaped(text), true),
        (Some('\''), _) => (until(1, "'"), true),
        (Some('"'), _) => (until(1, "\""), true),
        (Some('$'), _) => match dollar(text) {
            Some(mark) => (until(mark.len(), mark), true),
            None => (1, true),
        },
        (Some(c), _) if is_of_word(c) => {
            (text.find(|c| !is_of_word(c) && c != '$').unwrap_or(text.len()), true)
        }
        (c, _) => (c.map_or(0, char::len_utf8), true),
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || !c.is_ascii()
}

/// The length of a comment, which may have others in it.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = match (rest.starts_with("/*"), rest.starts_with("*/")) {
            (true, _) => {
                depth += 1;
                2
            }
            (_, true) => {
                depth -= 1;
                2
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a text in which a backslash takes the meaning of the next character: `E'it\'s'`.
fn escaped(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(2).find(|&(_, c)| {
        let ends = c == '\'' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.map_or(text.len(), |(place, _)| place + 1)
}

/// The mark with which a text between dollars begins and ends: `$$`, `$name$`.
fn dollar(text: &str) -> Option<&str> {
    let end = text.get(1..)?.find(|c| !is_of_word(c))? + 1;
    let is_name = !text.get(1..)?.starts_with(|c: char| c.is_ascii_digit());
    (is_name && text.get(end..)?.starts_with('$')).then(|| &text[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_statement_is_no_part_of_the_query() {
        let same = [
            "SELECT 1",
            "SELECT ';' -- x\n, 2",
            "SELECT '--'",
            "SELECT 'it''s; --'",
            r"SELECT E'it\'s; -- \\'",
            "SELECT \"a;--b\"",
            "SELECT $$;--$$",
            "SELECT $x$ $$; -- $x$",
            "SELECT a$b, $1 /* /* */ ; */ , 2",
            "SELECT 1 - -1",
            "SELECT é",
            "SELECT 1; DROP TABLE x",
            "",
        ];
        for query in same {
            assert_eq!(body(query), query);
            for end in [";", " ; ;\n", "-- the end", " --; 'it", ";/* a /* b */ ; */ -- c", "/* open", "\r\t"]
            {
                assert_eq!(body(&format!("{query}{end}")), query, "{query}{end}");
            }
        }
        // What is open has no end.
        for query in ["SELECT 'a; ", "SELECT \"a --", "SELECT $$ ;", r"SELECT E'\';", "SELECT $a$ $A$;"] {
            assert_eq!(body(query), query);
        }
    }

    fn statement(amount: &[Number], order: Option<Id>, time: Time) -> String {
        let amounts = ["a", "b\"c"].into_iter().take(amount.len()).map(str::to_owned).collect();
        let columns = Columns {
            customer: "Who".into(),
            time: "at".into(),
            amount: amounts,
            order: order.map(|_| "no".into()),
        };
        let kinds = Kinds { customer: Id::Collated, time, amount: amount.to_vec(), order };
        let as_of = "2011-12-10T00:30:00.000001Z".parse().unwrap();
        Statement::new("SELECT * FROM t -- all", &columns, &kinds, as_of).aggregation()
    }

    #[test]
    fn a_plain_amount_is_added_up_as_it_is() {
        let sql = statement(&[Number::Exact], None, Time::WithZone);
        let parts = [
            "(max(placed) FILTER (WHERE amount >= 0))::timestamptz",
            "count(*) - count(*) FILTER (WHERE amount < 0)",
            "FROM (SELECT \"Who\" COLLATE \"C\" AS customer, \"at\" AS placed, \"a\" AS amount FROM (SELECT * FROM t\n) AS orders",
            "WHERE (\"at\" < TIMESTAMPTZ '2011-12-10 00:30:00.000001+00' OR",
        ];
        for part in parts {
            assert!(sql.contains(part), "{sql}");
        }
        assert!(!sql.contains("OFFSET"), "{sql}");
    }

    #[test]
    fn what_is_computed_is_computed_once_and_exactly() {
        let sql = statement(&[Number::Exact, Number::Float], Some(Id::Plain), Time::WithoutZone);
        let parts = [
            "\"a\"::numeric * \"b\"\"c\"::text::numeric AS amount, \"no\" AS ordered",
            "OFFSET 0) AS counted",
            "count(DISTINCT ordered) FILTER (WHERE amount >= 0)",
            "OR ordered IS NULL)",
            "< TIMESTAMP '2011-12-10 00:30:00.000001'",
        ];
        for part in parts {
            assert!(sql.contains(part), "{sql}");
        }
    }

    #[test]
    fn a_year_before_the_first_is_one_before_christ() {
        let instant = |text: &str| super::instant(Time::WithoutZone, text.parse().unwrap());
        assert_eq!(instant("0000-02-29T00:00:00Z"), "TIMESTAMP '0001-02-29 00:00:00.000000 BC'");
        assert_eq!(instant("0987-01-01T00:00:00Z"), "TIMESTAMP '0987-01-01 00:00:00.000000'");
    }
}
