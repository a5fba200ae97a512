//! The page at `/` of `--http`, and the same as JSON: what the newest snapshot says, and what the reader
//! does.
//!
//! Owns the answers, not the server. Needs to know this: **the server's thread never waits for Postgres**. A
//! thread of the page's own asks the database (`worker`), and what it finds lies on a desk until it is not
//! true any more (`desk`). What the reader does is written into every answer as it is at that moment.
//!
//! **No answer contains a customer's id or a payload**: only counts, sums and names of segments and
//! populations.

mod answers;
mod desk;
mod draw;
mod format;
mod frames;
mod json;
mod queries;
mod request;
mod view;
mod worker;

use super::Options;
use super::vitals::Vitals;
use crate::failure::Failure;
use crate::health::Status;
use crate::http::{Asked, Reply, Site};
use answers::{Answer, Told};
use desk::{Desk, LONGEST_WAIT};
use frames::Frames;
use futures_util::FutureExt as _;
use request::{Question, Route, View, route};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use worker::Worker;

/// How long movements may keep a browser waiting that asks again by itself.
const MOVES_SOON: Duration = Duration::from_millis(200);

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// See the module.
struct Page {
    /// Questions and answers.
    desk: Arc<Desk>,
    /// What the reader does.
    vitals: Arc<Vitals>,
    /// Whose batches are shown.
    group: String,
    /// Pages that were sent a moment ago.
    frames: Frames,
}

/// Starts the page's thread. Returns what the server calls.
///
/// # Errors
/// There is no thread to be had.
pub fn start(options: &Options, vitals: &Arc<Vitals>) -> Result<Site, Failure> {
    let desk = Arc::new(Desk::default());
    let worker = Worker::new(Arc::clone(&desk), options.database.clone(), options.group_id.clone());
    let thread = thread::Builder::new().name("page".to_owned()).spawn(move || worker.run());
    thread.map_err(|error| Failure::at_work(error, None))?;
    let (vitals, group) = (Arc::clone(vitals), options.group_id.clone());
    let page = Arc::new(Page { desk, vitals, group, frames: Frames::default() });
    Ok(Arc::new(move |asked: &Asked| {
        let route = route(asked)?;
        let page = Arc::clone(&page);
        Some(async move { page.answer(route).await }.boxed())
    }))
}

impl Page {
    async fn answer(&self, route: Route) -> Reply {
        match route {
            Route::Page(view, seen) => self.page(view, seen.as_deref()).await,
            Route::File(media_type, content) => {
                Reply { status: 200, media_type, body: content.as_bytes().into(), age: None }
            }
            Route::Api(question) => {
                let told = self.desk.ask(question, LONGEST_WAIT).await;
                match (&told.answer, &told.trouble) {
                    (Some(answer), None) => {
                        Reply { age: told.age(), ..reply(answer.status, JSON, &answer.body) }
                    }
                    (_, trouble) => {
                        let why = trouble.as_ref().map_or("no answer", |trouble| trouble.what.as_str());
                        reply(503, JSON, &json::problem(503, why).body)
                    }
                }
            }
            Route::Refused(status, why) => reply(status, JSON, &json::problem(status, &why).body),
        }
    }
    /// The page; without the figures if the browser has them already, which are `seen`.
    async fn page(&self, view: View, seen: Option<&str>) -> Reply {
        let told = self.desk.ask(Question::View(view), LONGEST_WAIT).await;
        let patience = if seen.is_some() { MOVES_SOON } else { LONGEST_WAIT };
        let matrix = match told.answer.as_ref().and_then(|answer| answer.compared) {
            Some((from, to)) => Some(self.matrix(from, to, patience).await),
            None => None,
        };
        let Some(answer) = &told.answer else {
            let reader = self.reader(&told);
            let body = view::frame(&self.group, &reader, "", "", "").into_bytes();
            return reply(503, HTML, &body.into());
        };
        let tag = matrix
            .as_ref()
            .map_or_else(|| answer.tag.clone(), |matrix| format!("{}{}", answer.tag, matrix.tag));
        let (has_seen, is_old) = (seen == Some(&tag), told.trouble.is_some() || told.of.is_some());
        let body = self.frames.get((&tag, has_seen, is_old), || {
            let reader = self.reader(&told);
            let (snapshot, matrix) = match &matrix {
                _ if has_seen => ("", ""),
                Some(matrix) => (text(&answer.body), text(&matrix.body)),
                None => (text(&answer.body), ""),
            };
            view::frame(&self.group, &reader, snapshot, matrix, &tag)
        });
        reply(answer.status, HTML, &body)
    }

    /// The movements between two batches, or why there are none.
    async fn matrix(&self, from: i64, to: i64, patience: Duration) -> Arc<Answer> {
        let told = self.desk.ask(Question::Matrix { from, to }, patience).await;
        told.answer.unwrap_or_else(|| {
            let why = told.trouble.map_or_else(String::new, |trouble| trouble.what);
            Arc::new(view::no_matrix(503, &format!("they are not known yet: {why}")))
        })
    }

    /// What the reader does now. **While its loop stands still, it does not count as ready**, as for
    /// `/readyz`.
    fn reader(&self, told: &Told) -> String {
        let mut status: Status = self.vitals.health.status();
        if status.ready && !self.vitals.health.is_alive() {
            (status.ready, status.why) = (false, Some("the loop stands still".to_owned()));
        }
        view::reader(&status, &self.vitals.figures(), told)
    }
}

/// An answer that was made for this question.
fn reply(status: u16, media_type: &'static str, body: &Arc<[u8]>) -> Reply {
    Reply { status, media_type, body: Arc::clone(body), age: None }
}

/// Answers are made from text.
fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap_or_default()
}
