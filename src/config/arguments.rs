//! From arguments and variables to flags.
//!
//! **An argument that belongs to no flag is not shown.** It may be an address with a password.

use super::EnvFile;
use super::rivals;
use crate::failure::Failure;
use anyhow::anyhow;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, Parser};
use std::env;
use std::ffi::OsString;

/// Parses flags. An empty variable counts as unset, because many tools can set a variable to nothing but
/// cannot unset it.
///
/// # Errors
/// An argument is none of the program's. About anything else, clap prints the error and exits here.
pub(super) fn parse<T: Parser>(
    args: impl IntoIterator<Item = OsString>,
    env_file: &EnvFile,
) -> Result<T, Failure> {
    let args: Vec<OsString> = args.into_iter().collect();
    let is_empty = |arg: &Arg| arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
    let is_beaten = |arg: &Arg| rivals::is_beaten(arg, &args, env_file);
    let command =
        T::command().mut_args(|arg| if is_empty(&arg) || is_beaten(&arg) { arg.env(None) } else { arg });
    let args = word_first(&command, args);
    // A command takes all flags of its program.
    let command = command.mut_args(|arg| arg.global(true));
    let parsed =
        command.try_get_matches_from(&args).and_then(|mut found| T::from_arg_matches_mut(&mut found));
    parsed.or_else(|error| match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => Err(unknown(&error)),
        ErrorKind::ValueValidation => Err(wrong_word(&error).unwrap_or_else(|| error.exit())),
        _ => error.exit(),
    })
}

/// The arguments with the word of a command in front of all flags. (Clap takes flags on both sides of it, but
/// of a flag that stands on both sides only the last, also of one that is repeatable.)
fn word_first(program: &Command, args: Vec<OsString>) -> Vec<OsString> {
    // Without its commands, the program takes the first word that is no flag's value, and all behind it.
    let mut flags = Command::new("flags").allow_external_subcommands(true);
    flags = flags.args(program.get_arguments().cloned());
    let found = flags.try_get_matches_from(&args);
    let Some((word, rest)) = found.as_ref().ok().and_then(ArgMatches::subcommand) else { return args };
    let behind = rest.get_raw("").map_or(0, Iterator::count);
    let place = args.len().saturating_sub(behind + 1);
    if place == 0 || program.get_subcommands().all(|command| command.get_name() != word) {
        return args;
    }
    let mut args = args;
    args[1..=place].rotate_right(1);
    args
}

/// The failure for a word behind a command that cannot be read; `None` if it is a flag's value. Clap's own
/// message quotes it, and it may be an address that was meant for a flag.
fn wrong_word(error: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = arg.strip_prefix(['<', '['])?.split(['>', ']']).next()?;
    let what = anyhow!(
        "one of the words behind the command is no {name} (it is not shown, since it may hold a password)"
    );
    Some(Failure::configuration(what, "a flag is given as --FLAG VALUE; --help lists all".to_owned()))
}

/// The failure for an argument that clap does not know. Clap's own message quotes it.
fn unknown(error: &clap::Error) -> Failure {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let name = text(ContextKind::InvalidArg).and_then(flag_name);
    let what = match name {
        Some(name) => anyhow!("there is no flag `{name}`"),
        None => anyhow!("an argument belongs to no flag (it is not shown, since it may hold a password)"),
    };
    let command = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(similar)) => similar.first().map(String::as_str),
        _ => None,
    };
    let hint = match (text(ContextKind::SuggestedArg).or(command), name) {
        (Some(similar), _) => format!("there is `{similar}`; --help lists all flags"),
        (None, Some(_)) => "--help lists all flags".to_owned(),
        (None, None) => {
            "give it as --FLAG VALUE, and a property as --kafka-property NAME=VALUE; a value with blanks \
                         needs quotes"
                .to_owned()
        }
    };
    Failure::configuration(what, hint)
}

/// The name of a flag, without a value; `None` of what does not look like a flag.
fn flag_name(arg: &str) -> Option<&str> {
    let name = arg.split('=').next().unwrap_or_default();
    let is_name =
        |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    match name.strip_prefix("--") {
        Some(rest) => is_name(rest).then_some(name),
        // What follows one letter is its value.
        None => name.get(..2).filter(|name| name.strip_prefix('-').is_some_and(is_name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Producer, Reader, ReaderFlags};
    use clap::Subcommand;

    /// The failure for these arguments.
    fn failure<T: Parser + std::fmt::Debug>(args: &[&str]) -> Failure {
        let args = [&["program"], args].concat().into_iter().map(OsString::from);
        parse::<T>(args, &EnvFile::default()).unwrap_err()
    }

    #[test]
    fn an_argument_that_belongs_to_no_flag_is_not_shown() {
        let cases: [(&[&str], &str, &str); 9] = [
            (&["postgres://rfm:hunter2@h/d"], "an argument belongs to no flag", "--FLAG VALUE"),
            (&["--kafka-property", "sasl.password", "hunter2"], "an argument belongs", "NAME=VALUE"),
            (&["--recency-topic", "a", "hunter2", "--nothing"], "an argument belongs", "--FLAG VALUE"),
            (&["--password=hunter2"], "there is no flag `--password`", "--help"),
            (&["--group=hunter2"], "there is no flag `--group`", "`--group-id`"),
            (&["--postgres://rfm:hunter2@h/d"], "an argument belongs to no flag", "--FLAG VALUE"),
            (&["-phunter2"], "there is no flag `-p`", "--help"),
            (&["-§hunter2"], "an argument belongs to no flag", "--FLAG VALUE"),
            (&["--", "hunter2"], "an argument belongs to no flag", "--FLAG VALUE"),
        ];
        for (args, what, hint) in cases {
            for failure in [failure::<Reader>(args), failure::<Producer>(args)] {
                let (said, hints) = (format!("{:#}", failure.error), failure.hint.unwrap());
                assert_eq!(failure.exit_code, 2, "{args:?}");
                assert!(said.contains(what), "{args:?}: {said}");
                // Only the reader has this one.
                assert!(hints.contains(hint) || args[0].starts_with("--group"), "{args:?}: {hints}");
                assert!(!said.contains("hunter2") && !hints.contains("hunter2"), "{said} {hints}");
            }
        }
    }

    /// A program with a command.
    #[derive(Debug, Parser)]
    struct Program {
        #[command(subcommand)]
        command: Option<Word>,
        #[command(flatten)]
        flags: ReaderFlags,
    }

    #[derive(Debug, PartialEq, Subcommand)]
    enum Word {
        Redo {
            ids: Vec<i64>,
            #[arg(long)]
            dry_run: bool,
        },
    }

    fn program(args: &[&str]) -> Program {
        let args = [&["program"], args].concat().into_iter().map(OsString::from);
        parse(args, &EnvFile::default()).unwrap()
    }

    #[test]
    fn a_command_takes_all_flags_on_both_sides_of_its_word() {
        let (group, a, b) =
            (["--group-id", "redo"], ["--kafka-property", "a=1"], ["--kafka-property", "b=2"]);
        let ids = ["redo", "7", "8"];
        for args in [
            [&group[..], &a, &b, &ids, &["--dry-run"]].concat(),
            [&group[..], &a, &ids, &["--dry-run"], &b].concat(),
            [&a[..], &["redo", "--dry-run"], &group, &b, &ids[1..]].concat(),
            [&ids[..], &["--dry-run"], &a, &b, &group].concat(),
        ] {
            let Program { command, flags } = program(&args);
            assert_eq!(command, Some(Word::Redo { ids: vec![7, 8], dry_run: true }), "{args:?}");
            assert_eq!((flags.group_id.as_str(), flags.kafka.kafka_property.len()), ("redo", 2), "{args:?}");
        }
        let Program { command, flags } = program(&group);
        assert_eq!((command, flags.group_id.as_str()), (None, "redo"), "the value of a flag is no command");
    }

    #[test]
    fn a_word_behind_a_command_that_cannot_be_read_is_not_shown() {
        for args in [&["redo", "7", "postgres://u:hunter2@h/d"][..], &["redo", "hunter2", "--dry-run"]] {
            let said = format!("{:#}", failure::<Program>(args).error);
            assert!(said.contains("is no IDS") && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_word_that_is_no_command_is_not_shown() {
        for (word, hint) in [("hunter2", "--FLAG VALUE"), ("redoo", "there is `redo`")] {
            let failure = failure::<Program>(&["--group-id", "a", word]);
            let (said, hints) = (format!("{:#}", failure.error), failure.hint.unwrap());
            assert!(hints.contains(hint) && !said.contains(word) && !hints.contains(word), "{said} {hints}");
        }
    }
}
