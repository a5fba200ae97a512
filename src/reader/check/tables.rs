//! The tables, and what is in them.

use super::Subject;
use crate::checklist::{Answer, Findings, Outcome};
use crate::postgres::Pooler;
use crate::reader::session::SessionError;
use crate::reader::store::MOST_COUNTED;

pub(super) fn tables(subject: &mut Subject) -> Outcome {
    let looked = subject.store()?.look_at_tables();
    let (pending, warnings) = looked.map_err(|error| subject.failed(error))?;
    if pending.is_empty() {
        subject.has_tables = true;
        let mut found = Findings::default();
        warnings
            .into_iter()
            .for_each(|warning| found.warn(warning, "see docs/guide.md, Versions, rights and connections"));
        return Ok(found.answer("as they should be"));
    }
    let pending = pending.join(", ");
    let some = subject.store()?.has_any_table();
    if some.map_err(|error| subject.failed(error))? {
        return Ok(Answer::warn(
            format!("of an earlier version; the next start of a reader runs {pending}"),
            "see CHANGELOG.md for what that changes, and make a backup before",
        ));
    }
    Ok(Answer::Ok(format!("there are none; the first start of a reader makes them ({pending})")))
}

pub(super) fn windows(subject: &mut Subject) -> Outcome {
    let missing = subject.tables()?.missing_for_windows();
    let missing = missing.map_err(|error| subject.failed(error))?;
    if missing.is_empty() {
        return Ok(Answer::Ok("the functions and the table for them are there".to_owned()));
    }
    Ok(Answer::failed(
        format!("missing: {missing}"),
        "a copy of single tables lacks them: take them from the database that it is of (pg_dump --schema-only)",
    ))
}

pub(super) fn right_to_expire(subject: &mut Subject) -> Outcome {
    let retain = subject.options.retention.retain;
    let store = subject.tables()?;
    let Some(retain) = retain else {
        return Ok(Answer::Ok("not needed without --retain".to_owned()));
    };
    let checked = store.check_right_to_expire();
    checked.map_err(|error| subject.failed(error))?;
    Ok(Answer::Ok(format!("rows may be taken away after {}", humantime::format_duration(retain))))
}

/// What is asked behind it uses the edges that it has read.
pub(super) fn edges(subject: &mut Subject) -> Outcome {
    let (rules, edges_from) = (subject.options.rules.clone(), subject.options.edges_from);
    let Some(id) = edges_from else {
        return Ok(Answer::Ok(match subject.options.rules.edges.identity() {
            "quintiles" => "quintiles".to_owned(),
            file => format!("those of the file {file}"),
        }));
    };
    let read = subject.tables()?.with_edges(&rules, edges_from);
    subject.options.rules = read.map_err(|error| subject.failed(error))?;
    Ok(Answer::Ok(format!("those of batch {id}")))
}

pub(super) fn commit(subject: &mut Subject) -> Outcome {
    let rules = subject.options.rules.clone();
    subject.tables()?;
    if !subject.is_writable {
        return Err(Answer::skipped("the server does not accept writes"));
    }
    if subject.way.is_some_and(|way| way.pooler == Some(Pooler::Full)) {
        return Err(Answer::skipped("the pooler has no free connection to the server"));
    }
    let tried = subject.tables()?.try_commit(&rules);
    tried.map_err(|error| refused(subject, error))?;
    Ok(Answer::Ok("all that a commit writes was tried and rolled back".to_owned()))
}

/// What a refused statement means. It has a code, so it would be refused again.
fn refused(subject: &Subject, error: impl Into<SessionError>) -> Answer {
    match subject.failed(error) {
        Answer::Failed { what, hint } if hint.starts_with("the reader would wait") => Answer::failed(
            what,
            "repair the cause (a right on a column, a constraint, a trigger, a lock): the reader could store nothing",
        ),
        answer => answer,
    }
}

pub(super) fn rows(subject: &mut Subject) -> Outcome {
    let found = subject.tables()?.find_contradictions();
    let bare = found.map_err(|error| subject.failed(error))?;
    let mut found = Findings::default();
    bare.into_iter()
        .for_each(|bare| found.warn(bare, "nothing has to be done if the rows were deleted on purpose"));
    Ok(found.answer("the tables agree with each other"))
}

pub(super) fn rules(subject: &mut Subject) -> Outcome {
    let rules = subject.options.rules.clone();
    let now = [rules.ties.name(), rules.segments.identity(), rules.edges.identity()];
    let [ties, map, edges] = now;
    let all = format!("ties {ties}, segment map {map}, edges {edges}");
    let stored = subject.tables()?.stored_rules();
    let Some(stored) = stored.map_err(|error| subject.failed(error))? else {
        return Ok(Answer::Ok(all));
    };
    let mut found = Findings::default();
    let before = [stored.ties, stored.segment_map, stored.edges_from];
    for (what, (now, before)) in ["ties", "segment map", "edges"].into_iter().zip(now.into_iter().zip(before))
    {
        if now != before {
            found.warn(
                format!("{what} {now}, and the newest batch of the group was scored under {before}"),
                "scores and segments before and after cannot be compared; check --ties, --segment-map and --edges",
            );
        }
    }
    Ok(found.answer(format!("{all}, as before")))
}

pub(super) fn dead_letters(subject: &mut Subject) -> Outcome {
    let letters = subject.tables()?.dead_letters();
    let letters = letters.map_err(|error| subject.failed(error))?;
    if letters.is_empty() {
        return Ok(Answer::Ok("none".to_owned()));
    }
    let counted: i64 = letters.iter().map(|refused| refused.n).sum();
    let named: Vec<String> =
        letters.iter().map(|refused| format!("{} {}", refused.n, refused.reason)).collect();
    let or_more = if counted == MOST_COUNTED { " or more" } else { "" };
    Ok(Answer::warn(
        format!("{counted}{or_more}: {}", named.join(", ")),
        "look at reason and detail in `dead_letters`; `reader rescore` scores them again",
    ))
}
