//! What is asked for: a path and its query become a question, or a sentence about what is wrong with them.
//!
//! Pure. A population that is too long for an address is named by its SHA-256 instead ([`Named`]).

use crate::http::Asked;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;

/// How many snapshots `/api/batches` lists if it is not told.
const USUAL_LIMIT: u16 = 60;
/// How many it lists at most.
const LARGEST_LIMIT: u16 = 1000;

/// A population, as an address names it: by its name, or as `sha256:` and the hash of a name of more than 300
/// bytes. The empty text is none.
pub type Named = String;

/// What stands before the hash of a name.
pub const HASHED: &str = "sha256:";
/// Names of more bytes are named by their hash.
const LONGEST_NAMED: usize = 300;

/// How an address names a population.
pub fn named(population: Option<&str>) -> Named {
    let name = population.unwrap_or_default();
    if name.len() <= LONGEST_NAMED {
        return name.to_owned();
    }
    let hash: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{HASHED}{hash}")
}

/// What is asked of the database. Two equal questions have one answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// The page.
    View(View),
    /// `/api/batches`
    List {
        /// Of which population; `None`: of all.
        population: Option<Named>,
        /// How many, newest first.
        limit: u16,
    },
    /// `/api/batches/ID`
    Batch(i64),
    /// The movements between two batches, as a part of the page.
    Matrix {
        /// The earlier batch.
        from: i64,
        /// The later one.
        to: i64,
    },
    /// `/api/moves`
    Moves {
        /// The earlier batch.
        from: i64,
        /// The later one.
        to: i64,
    },
}

/// What the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// The population; `None`: the first one.
    pub population: Option<Named>,
    /// The batch; `None`: that of the newest snapshot, whichever that is.
    pub batch: Option<i64>,
    /// The earlier batch, if the movements from it are to be shown.
    pub since: Option<i64>,
}

/// What a path stands for.
#[derive(Debug, PartialEq)]
pub enum Route {
    /// The page, and which state of its figures the browser has.
    Page(View, Option<String>),
    /// One of the page's files: media type and content.
    File(&'static str, &'static str),
    /// JSON.
    Api(Question),
    /// JSON that says what is wrong, with the code of HTTP.
    Refused(u16, String),
}

/// What was asked for; `None` if it is not ours.
pub fn route(asked: &Asked) -> Option<Route> {
    let query = Query(&asked.query);
    let route = match asked.path.as_str() {
        "/" => query.view().map(|view| Route::Page(view, query.text("seen"))),
        "/page.css" => Ok(Route::File("text/css; charset=utf-8", include_str!("page.css"))),
        "/page.js" => Ok(Route::File("text/javascript; charset=utf-8", include_str!("page.js"))),
        "/api/batches" => query.list().map(Route::Api),
        "/api/moves" => query.moves().map(Route::Api),
        path => {
            let below = path.strip_prefix("/api/")?;
            return Some(below.strip_prefix("batches/").and_then(|id| id.parse().ok()).map_or_else(
                || Route::Refused(404, "there are /api/batches, /api/batches/ID and /api/moves".to_owned()),
                |id| Route::Api(Question::Batch(id)),
            ));
        }
    };
    Some(route.unwrap_or_else(|what| Route::Refused(400, what)))
}

/// What follows the `?`. Of a name that stands twice the first counts, and unknown names are ignored.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn view(&self) -> Result<View, String> {
        let (batch, since) = (self.id("batch")?, self.id("since")?);
        Ok(View { population: self.text("population"), batch, since })
    }

    fn list(&self) -> Result<Question, String> {
        let limit = match self.text("limit") {
            None => USUAL_LIMIT,
            Some(text) => {
                let limit = text.parse().ok().filter(|limit| (1..=LARGEST_LIMIT).contains(limit));
                limit.ok_or_else(|| format!("`limit` is not a number from 1 to {LARGEST_LIMIT}"))?
            }
        };
        Ok(Question::List { population: self.text("population"), limit })
    }

    fn moves(&self) -> Result<Question, String> {
        let [from, to] = [self.id("from")?, self.id("to")?];
        let (from, to) = from.zip(to).ok_or("`from` and `to` are needed: ids of two batches")?;
        Ok(Question::Moves { from, to })
    }

    /// The id of a batch; `None` if it is not given, or empty.
    fn id(&self, name: &str) -> Result<Option<i64>, String> {
        match self.text(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| format!("`{name}` is not the id of a batch")),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.0.as_bytes());
        // What Postgres cannot store is no name of anything.
        let value = pairs.find(|(found, _)| found == name)?.1;
        Some(value.replace('\0', "\u{fffd}"))
    }
}

/// The address of a view.
pub fn address(view: &View) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let number = |id: Option<i64>| id.map(|id| Cow::Owned(id.to_string()));
    let pairs: [(&str, Option<Cow<'_, str>>); 3] = [
        ("population", view.population.as_deref().map(Cow::Borrowed)),
        ("batch", number(view.batch)),
        ("since", number(view.since)),
    ];
    for (name, value) in pairs.iter().filter_map(|(name, value)| Some((name, value.as_deref()?))) {
        query.append_pair(name, value);
    }
    format!("/?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, query: &str) -> Option<Route> {
        route(&Asked { path: path.to_owned(), query: query.to_owned() })
    }

    #[test]
    fn a_path_with_its_query_is_a_question_or_says_what_is_wrong() {
        let list = |population: Option<&str>, limit| Question::List {
            population: population.map(Into::into),
            limit,
        };
        let sound = [
            ("/api/batches", "", list(None, 60)),
            ("/api/batches", "population=&limit=1000", list(Some(""), 1000)),
            ("/api/batches", "population=K%C3%B6ln+%26+S%C3%BCd&x=1", list(Some("Köln & Süd"), 60)),
            ("/api/batches", "population=a&population=b", list(Some("a"), 60)),
            ("/api/batches/7", "x", Question::Batch(7)),
            ("/api/moves", "to=2&from=10000000001", Question::Moves { from: 10_000_000_001, to: 2 }),
        ];
        for (path, query, question) in sound {
            assert_eq!(of(path, query), Some(Route::Api(question)), "{path} {query}");
        }
        let wrong = [
            ("/api/batches", "limit=0", 400),
            ("/api/batches", "limit=1001", 400),
            ("/api/batches", "limit=", 400),
            ("/api/batches/", "", 404),
            ("/api/batches/x", "", 404),
            ("/api/batches/9223372036854775808", "", 404),
            ("/api/moves", "from=1", 400),
            ("/api/moves", "from=1&to=x", 400),
            ("/api/", "", 404),
            ("/", "batch=1%00", 400),
        ];
        for (path, query, code) in wrong {
            let found = of(path, query);
            assert!(
                matches!(&found, Some(Route::Refused(found, _)) if *found == code),
                "{path} {query}: {found:?}"
            );
        }
        for path in ["/livez", "/api", "/page", "//", ""] {
            assert_eq!(of(path, ""), None, "{path}");
        }
    }

    #[test]
    fn the_address_of_a_view_leads_to_it() {
        let views = [
            View::default(),
            View { population: Some(String::new()), batch: None, since: Some(3) },
            View { population: Some("a&b=\"<c> \u{202e}ü+%".to_owned()), batch: Some(-1), since: None },
        ];
        for view in views {
            let address = address(&view);
            let (path, query) = address.split_once('?').unwrap();
            assert_eq!(of(path, query), Some(Route::Page(view, None)), "{address}");
        }
    }
}
