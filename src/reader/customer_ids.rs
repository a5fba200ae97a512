//! What `--customer-ids` asks of the ids of a batch: that they are there, and that they differ.
//!
//! Owns the rule and the search for what breaks it. Does not own the ids (`message`). Pure.
//!
//! **Ids are compared as fingerprints first**: those of a million take 8 MB and a sort. Only ids whose fingerprints
//! repeat are compared as text, so the answer is exact, and in a sound batch there is nothing to compare.

use crate::message::CustomerIds;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// What is asked of the ids of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdRule {
    /// Nothing.
    #[default]
    Any,
    /// Every customer has one, which is not the empty text.
    Required,
    /// The same, and no two customers have the same one.
    Unique,
}

impl IdRule {
    /// All of them.
    pub const ALL: [IdRule; 3] = [IdRule::Any, IdRule::Required, IdRule::Unique];

    /// The word of `--customer-ids`.
    pub fn name(self) -> &'static str {
        match self {
            IdRule::Any => "any",
            IdRule::Required => "required",
            IdRule::Unique => "unique",
        }
    }

    /// Looks for the first breach of the rule by the ids of a batch, if it has any.
    ///
    /// # Errors
    /// The breach.
    pub fn check(self, ids: Option<&CustomerIds>) -> Result<(), Breach> {
        if self == IdRule::Any {
            return Ok(());
        }
        let ids = ids.ok_or(Breach::NoIds)?;
        if let Some(element) = ids.iter().position(str::is_empty) {
            return Err(Breach::Empty { element });
        }
        match if self == IdRule::Unique { first_repeated(ids) } else { None } {
            Some((earlier, element)) => Err(Breach::Repeated { element, earlier }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for IdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for IdRule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        IdRule::ALL
            .into_iter()
            .find(|rule| rule.name() == name)
            .ok_or_else(|| format!("no such rule: `{name}`"))
    }
}

/// How ids break a rule. It never quotes an id: what is said of a dead letter is logged, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// No message has ids.
    #[error("no message has `customer_id`")]
    NoIds,
    /// An id is empty.
    #[error("`customer_id`: element {element} is empty")]
    Empty {
        /// The first of them.
        element: usize,
    },
    /// An id stands twice.
    #[error("`customer_id`: element {element} repeats element {earlier}")]
    Repeated {
        /// The first that stands before it already.
        element: usize,
        /// Where it stands before.
        earlier: usize,
    },
}

/// The first id that stands before it already, and where it first stands.
fn first_repeated(ids: &CustomerIds) -> Option<(usize, usize)> {
    if is_ascending(ids) {
        return None;
    }
    let mut sorted: Vec<u64> = ids.fingerprints().collect();
    sorted.sort_unstable();
    let mut repeated: Vec<u64> =
        sorted.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    drop(sorted);
    if repeated.is_empty() {
        return None;
    }
    repeated.dedup();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (element, (id, fingerprint)) in ids.iter().zip(ids.fingerprints()).enumerate() {
        if repeated.binary_search(&fingerprint).is_ok()
            && let Some(earlier) = seen.insert(id, element)
        {
            return Some((earlier, element));
        }
    }
    None
}

/// Whether each id stands behind the one before it, in the order of bytes. That is how snapshots of orders come.
fn is_ascending(ids: &CustomerIds) -> bool {
    ids.iter().zip(ids.iter().skip(1)).all(|(id, next)| id < next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids<T: fmt::Display>(ids: impl IntoIterator<Item = T>) -> CustomerIds {
        let mut all = CustomerIds::default();
        ids.into_iter().for_each(|id| all.push(id));
        all
    }

    #[test]
    fn the_first_breach_is_found() {
        let none: [&str; 0] = [];
        let cases: [(IdRule, Option<CustomerIds>, Option<Breach>); 9] = [
            (IdRule::Any, None, None),
            (IdRule::Any, Some(ids(["", "a", "a"])), None),
            (IdRule::Required, None, Some(Breach::NoIds)),
            (IdRule::Required, Some(ids(["b", "a", "a"])), None),
            (IdRule::Required, Some(ids(["b", "", ""])), Some(Breach::Empty { element: 1 })),
            (IdRule::Unique, None, Some(Breach::NoIds)),
            (IdRule::Unique, Some(ids(none)), None),
            (IdRule::Unique, Some(ids(["b", "b", ""])), Some(Breach::Empty { element: 2 })),
            (
                IdRule::Unique,
                Some(ids(["c", "b", "a", "b", "c"])),
                Some(Breach::Repeated { element: 3, earlier: 1 }),
            ),
        ];
        for (rule, ids, wanted) in cases {
            assert_eq!(rule.check(ids.as_ref()).err(), wanted, "{rule} {ids:?}");
        }
    }

    #[test]
    fn an_integer_and_its_decimal_string_are_one_id() {
        let mut both = ids([12]);
        both.push("7");
        both.push("12");
        assert_eq!(IdRule::Unique.check(Some(&both)), Err(Breach::Repeated { element: 2, earlier: 0 }));
    }

    proptest! {
        #[test]
        fn a_repeated_id_is_found_where_a_naive_search_finds_it(ids_of in prop::collection::vec(0..40u8, 0..30)) {
            let naive = ids_of.iter().enumerate().find_map(|(element, id)| {
                let earlier = ids_of[..element].iter().position(|other| other == id)?;
                Some((earlier, element))
            });
            prop_assert_eq!(first_repeated(&ids(ids_of)), naive);
        }
    }
}
