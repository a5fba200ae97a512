//! The file `.env`: which one counts, and which of its values do not say what they seem to.
//!
//! dotenvy owns the format. **It replaces `$NAME` by the variable of that name, and by nothing if there is
//! none**, so a password with a `$` silently loses its end. Values are never shown: they may be passwords.

use crate::failure::Failure;
use anyhow::anyhow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// They stand for `$` and `\$` in a text that dotenvy reads without replacing anything.
const DOLLAR: char = '\u{e000}';
const ESCAPED: char = '\u{e001}';

/// The `.env` that was read, if there is one.
#[derive(Debug, Default)]
pub struct EnvFile {
    /// Where it is.
    path: Option<PathBuf>,
    /// The variables that come from it: those that were not set before.
    defined: BTreeSet<String>,
    /// What is to be warned of, once log lines can be written.
    warnings: Vec<String>,
}

impl EnvFile {
    /// Reads `.env` in the current folder or the nearest above. Variables that are set keep their values.
    /// `is_ours` tells the variables that the program uses.
    ///
    /// # Errors
    /// It cannot be read, or a line is not NAME=VALUE.
    pub(super) fn load(is_ours: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let Some(path) = nearest().map_err(|error| unreadable(&error, None))? else {
            return Ok(Self::default());
        };
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&error, Some(&path)))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let is_set = |name: &str| env::var_os(name).is_some();
        let lost = losses(text, is_set, is_ours);
        let warnings = lost.iter().map(|(line, name)| warning(*line, name)).collect();
        let defined = pairs(text).into_iter().map(|(name, _)| name).filter(|name| !is_set(name)).collect();
        dotenvy::from_path(&path).map_err(|error| match error {
            dotenvy::Error::LineParse(part, _) => malformed(text, &part, &path),
            error => unreadable(&error, Some(&path)),
        })?;
        Ok(Self { path: Some(path), defined, warnings })
    }

    /// Where it is; `None` if there is none.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether a variable comes from it.
    pub(super) fn defines(&self, name: &str) -> bool {
        self.defined.contains(name)
    }

    /// Logs what is wrong with it, and that it is in a folder above.
    pub fn log(&self) {
        let Some(path) = &self.path else { return };
        let path = path.display();
        self.warnings.iter().for_each(|warning| tracing::warn!(env_file = %path, "{warning}"));
        if env::current_dir().is_ok_and(|here| !self.is_in(&here)) {
            tracing::info!(env_file = %path, "variables come from a `.env` in a folder above");
        }
    }

    fn is_in(&self, folder: &Path) -> bool {
        self.path.as_deref().and_then(Path::parent) == Some(folder)
    }
}

/// The `.env` that counts.
fn nearest() -> io::Result<Option<PathBuf>> {
    for folder in env::current_dir()?.ancestors() {
        let path = folder.join(".env");
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => return Ok(Some(path)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}

fn unreadable(error: &dyn std::error::Error, path: Option<&Path>) -> Failure {
    let name = path.map_or_else(|| ".env".to_owned(), |path| path.display().to_string());
    let hint = "it is in this directory or one above; it must be a readable file in UTF-8".to_owned();
    Failure::configuration(anyhow!("{error}").context(format!("cannot read `{name}`")), hint)
}

/// The failure for a line that dotenvy cannot read. Its own message quotes the line, which may hold a
/// password.
fn malformed(text: &str, part: &str, path: &Path) -> Failure {
    let first = part.lines().next().unwrap_or_default();
    let line = text.lines().position(|line| line.contains(first)).map_or(0, |index| index + 1);
    let hint = "a line is NAME=VALUE; a value with blanks, # or $ needs single quotes".to_owned();
    Failure::configuration(anyhow!("line {line} of `{}` is not NAME=VALUE", path.display()), hint)
}

fn warning(line: usize, name: &str) -> String {
    format!(
        "`{name}` in line {line} of `.env` has a `$` that stands for a variable, and no such variable is set: that part of \
         the value is left out. If it is meant as it stands, put the value in single quotes"
    )
}

/// What a line of the file defines.
struct Definition {
    /// The number of the line.
    line: usize,
    /// The variable.
    name: String,
    /// The variables that its value takes in.
    references: Vec<String>,
    /// Whether one of them stands for nothing.
    is_lossy: bool,
}

/// Line and name of each variable whose value has a `$NAME` that stands for nothing, if the program uses it or a
/// value that takes it in.
fn losses(text: &str, is_set: impl Fn(&str) -> bool, is_ours: impl Fn(&str) -> bool) -> Vec<(usize, String)> {
    let (mut taken_in, mut lost) = (BTreeSet::new(), Vec::new());
    // From the last to the first: a value takes in only what stands above it.
    for Definition { line, name, references, is_lossy } in definitions(text, &is_set).into_iter().rev() {
        if is_set(&name) || !(is_ours(&name) || taken_in.contains(&name)) {
            continue;
        }
        taken_in.extend(references);
        if is_lossy {
            lost.push((line, name));
        }
    }
    lost.reverse();
    lost
}

/// The lines of a file in their order.
fn definitions(text: &str, is_set: impl Fn(&str) -> bool) -> Vec<Definition> {
    let (read, marked) = (pairs(text), pairs(&mark(text)));
    let (mut defined, mut count, mut found) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
    for ((name, value), (_, marked)) in read.into_iter().zip(marked) {
        let occurrence = count.entry(name.clone()).and_modify(|n| *n += 1).or_insert(0);
        let plain = marked.replace(DOLLAR, "$");
        let is_changed = value != plain.replace(ESCAPED, "$") && value != plain.replace(ESCAPED, "\\$");
        let references = marked.split(DOLLAR).skip(1).filter(|_| is_changed);
        let references: Vec<String> = references.map(|text| reference(text).to_owned()).collect();
        let is_known = |name: &String| is_set(name) || defined.contains(name);
        let is_lossy = !references.iter().all(is_known);
        let line = line_of(text, &name, *occurrence);
        defined.insert(name.clone());
        found.push(Definition { line, name, references, is_lossy });
    }
    found
}

/// The variables that dotenvy reads up to its first error.
fn pairs(text: &str) -> Vec<(String, String)> {
    dotenvy::from_read_iter(text.as_bytes()).map_while(Result::ok).collect()
}

/// The text with marks in place of every `$`.
fn mark(text: &str) -> String {
    let (mut marked, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(char) = chars.next() {
        match char {
            '$' => marked.push(DOLLAR),
            '\\' => match chars.next() {
                Some('$') => marked.push(ESCAPED),
                next => marked.extend(['\\'].into_iter().chain(next)),
            },
            char => marked.push(char),
        }
    }
    marked
}

/// The name at the beginning of what follows a `$`.
fn reference(text: &str) -> &str {
    if let Some((name, _)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return name;
    }
    text.split(|char: char| !char.is_alphanumeric()).next().unwrap_or_default()
}

/// The number of the line that defines a variable, after `earlier` others that do.
fn line_of(text: &str, name: &str, earlier: usize) -> usize {
    let defines = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line);
        line.split_once('=').is_some_and(|(left, _)| left.trim() == name)
    };
    text.lines().enumerate().filter(|(_, line)| defines(line)).nth(earlier).map_or(0, |(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dollar_that_stands_for_nothing_is_found_with_its_line() {
        let is_set = |name: &str| name == "RFM_SET";
        let cases: [(&str, &[usize]); 16] = [
            ("A=pa$word", &[1]),
            ("A=\"pa$word x\"", &[1]),
            ("A='pa$word'", &[]),
            ("A=pa\\$word", &[]),
            ("A='pa\\$word'", &[]),
            ("A=\"pa\\$word\"", &[]),
            ("A=${NONE}x", &[1]),
            ("A=pa$$word", &[1]),
            ("A=word$", &[1]),
            ("B=x\nA=${B}y$B", &[]),
            ("A=$B\nB=x", &[1]),
            ("A=$RFM_SET", &[1]),
            ("# A=$x\r\nexport A=x\r\nA = y$z\r\n", &[3]),
            ("A=x # costs $5", &[]),
            ("A='x'\nC='1\n2'\nB=a$b", &[4]),
            ("A=$x\nnonsense\nB=$y", &[1]),
        ];
        for (text, expected) in cases {
            let lines: Vec<usize> =
                losses(text, is_set, |_| true).into_iter().map(|(line, _)| line).collect();
            assert_eq!(lines, expected, "{text}");
        }
    }

    #[test]
    fn a_dollar_counts_in_what_the_program_uses_and_in_what_that_takes_in() {
        let (is_set, is_ours) = (|name: &str| name == "RFM_SET", |name: &str| name.starts_with("URL"));
        let cases: [(&str, &[usize]); 9] = [
            ("PW=a$b", &[]),
            ("PW=a$b\nURL=x${PW}y", &[1]),
            ("PW=a$b\nURL=x$PW/y", &[1]),
            ("PW=a$b\nQ=$PW\nURL=$Q", &[1]),
            ("PW=a$b\nURL=x\nPW=c$d", &[]),
            ("URL=$PW\nPW=a$b", &[1]),
            ("PW=a$b\nURL='$PW'", &[]),
            // What is set already is not taken from the file.
            ("RFM_SET=a$b\nURL=${RFM_SET}", &[]),
            ("PW=a$b\nRFM_SET=$PW\nURL=${RFM_SET}", &[]),
        ];
        for (text, expected) in cases {
            let lines: Vec<usize> = losses(text, is_set, is_ours).into_iter().map(|(line, _)| line).collect();
            assert_eq!(lines, expected, "{text}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_not_shown() {
        let text = "A=x\nB=my secret\n";
        let error = dotenvy::from_read_iter(text.as_bytes()).find_map(Result::err).unwrap();
        let dotenvy::Error::LineParse(part, _) = error else { panic!("{error}") };
        let failure = malformed(text, &part, Path::new("/x/.env"));
        let shown = format!("{:#}", failure.error);
        assert_eq!(shown, "line 2 of `/x/.env` is not NAME=VALUE");
    }
}
