//! Segments: the name that an RF score stands for.
//!
//! Owns the table of patterns and its check for holes. Pure; the file of `--segment-map` is read
//! elsewhere. **No pattern is run per row**: the table is compiled once into a 5x5 grid.

use anyhow::{Context, bail};
use regex::Regex;
use sha2::{Digest, Sha256};

/// The table of the original script: pattern over the RF score, blank, name.
const DEFAULT: &str = "\
[1-2][1-2]  hibernating
[1-2][3-4]  at_risk
[1-2]5      cant_lose
3[1-2]      about_to_sleep
33          need_attention
[3-4][4-5]  loyal_customers
41          promising
51          new_customers
[4-5][2-3]  potential_loyalists
5[4-5]      champions
";

/// Which segment each of the 25 RF scores stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMap {
    /// By recency score - 1, then frequency score - 1.
    grid: [[String; 5]; 5],
    identity: String,
}

impl SegmentMap {
    /// The built-in table; its identity is `default`.
    ///
    /// # Errors
    /// None in a build whose tests pass.
    pub fn built_in() -> anyhow::Result<Self> {
        Ok(Self { grid: compile(DEFAULT)?, identity: "default".into() })
    }

    /// A table from the bytes of a file: a line per rule, pattern, blank, name; `#` starts a comment.
    /// Its identity is the SHA-256 of the bytes.
    ///
    /// # Errors
    /// Names the line that is wrong, or the scores that no pattern matches.
    pub fn from_file(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes).context("the segment map is not UTF-8")?;
        let identity = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { grid: compile(text)?, identity })
    }

    /// What stands in `batches.segment_map`.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The segment of a customer with these scores, each 1..=5.
    pub fn segment(&self, recency_score: u8, frequency_score: u8) -> &str {
        &self.grid[usize::from(recency_score) - 1][usize::from(frequency_score) - 1]
    }
}

/// Runs every pattern over the 25 scores; the first that matches in full names the segment.
fn compile(text: &str) -> anyhow::Result<[[String; 5]; 5]> {
    let rules = text.lines().enumerate().filter_map(|(i, line)| rule(i + 1, line).transpose());
    let rules: Vec<(Regex, &str)> = rules.collect::<anyhow::Result<_>>()?;

    let mut unmatched = Vec::new();
    let mut name = |r: usize, f: usize| {
        let score = format!("{}{}", r + 1, f + 1);
        let rule = rules.iter().find(|(pattern, _)| pattern.is_match(&score));
        rule.map_or_else(|| (unmatched.push(score), String::new()).1, |(_, name)| (*name).to_owned())
    };
    let grid = std::array::from_fn(|r| std::array::from_fn(|f| name(r, f)));
    if !unmatched.is_empty() {
        bail!("the segment map matches no segment for the scores {}", unmatched.join(", "));
    }
    Ok(grid)
}

/// One line: nothing (blank or comment), or a pattern and its name.
fn rule(number: usize, line: &str) -> anyhow::Result<Option<(Regex, &str)>> {
    let line = line.split_once('#').map_or(line, |(rule, _comment)| rule).trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (pattern, name) = line.split_once(char::is_whitespace).with_context(|| {
        format!("line {number} of the segment map: expected a pattern, a blank and a name")
    })?;
    if name.contains('\0') {
        bail!("line {number} of the segment map: the name contains U+0000, which Postgres cannot store");
    }
    let pattern = Regex::new(&format!("^(?:{pattern})$"))
        .with_context(|| format!("line {number} of the segment map: `{pattern}` is not a pattern"))?;
    Ok(Some((pattern, name.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_names_all_25_scores() {
        let map = SegmentMap::built_in().unwrap();
        let expected = [
            ["hibernating", "hibernating", "at_risk", "at_risk", "cant_lose"],
            ["hibernating", "hibernating", "at_risk", "at_risk", "cant_lose"],
            ["about_to_sleep", "about_to_sleep", "need_attention", "loyal_customers", "loyal_customers"],
            ["promising", "potential_loyalists", "potential_loyalists", "loyal_customers", "loyal_customers"],
            ["new_customers", "potential_loyalists", "potential_loyalists", "champions", "champions"],
        ];
        for r in 1..=5 {
            for f in 1..=5 {
                assert_eq!(map.segment(r, f), expected[usize::from(r) - 1][usize::from(f) - 1], "{r}{f}");
            }
        }
        assert_eq!(map.identity(), "default");
    }

    #[test]
    fn the_first_pattern_that_matches_in_full_wins() {
        let map =
            SegmentMap::from_file(b"# mine\n5 never\n55 best # all fives\n\n..\tall the rest \n").unwrap();
        assert_eq!(map.segment(5, 5), "best");
        assert_eq!(map.segment(5, 4), "all the rest");
        assert_eq!(map.identity().len(), 64);
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said_with_its_line() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "matches no segment for the scores 11, 12"),
            (b"[1-4]. a\n5[1-4] b\n", "matches no segment for the scores 55"),
            (b".. a\n55\n", "line 2"),
            (b"# c\n[1- a\n", "line 2 of the segment map: `[1-` is not a pattern"),
            (b"\xff .. a\n", "not UTF-8"),
        ];
        for (bytes, message) in cases {
            let error = SegmentMap::from_file(bytes).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
