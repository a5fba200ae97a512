//! Segments: the name that an RF score stands for.
//!
//! Owns the table of patterns, and the check that it covers all scores. Pure: `config` reads the file of
//! `--segment-map`. **No pattern is run per row**: the table is compiled once into a 5x5 grid.

use anyhow::{Context, bail};
use regex::bytes::{Regex, RegexBuilder};
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

/// The segment of each of the 25 RF scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentMap {
    /// By recency score - 1, then frequency score - 1.
    grid: [[String; 5]; 5],
    /// See [`SegmentMap::identity`].
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

    /// A table from the bytes of a file. Each line is a rule: pattern, blank, name. `#` starts a comment. A byte
    /// order mark and the line ends of Windows are ignored. The identity is the SHA-256 of the bytes.
    ///
    /// # Errors
    /// Names the line that is wrong or can never match, or the scores that no pattern matches.
    pub fn from_file(bytes: &[u8]) -> anyhow::Result<Self> {
        let text = std::str::from_utf8(bytes).context("the segment map is not UTF-8")?;
        let identity = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { grid: compile(text.strip_prefix('\u{feff}').unwrap_or(text))?, identity })
    }

    /// The value of `batches.segment_map`.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The segment of a customer with these scores, each 1..=5.
    pub fn segment(&self, recency_score: u8, frequency_score: u8) -> &str {
        &self.grid[usize::from(recency_score) - 1][usize::from(frequency_score) - 1]
    }
}

/// A line of the table.
struct Rule<'a> {
    /// The number of the line.
    line: usize,
    /// The pattern as it is written.
    text: &'a str,
    /// The same, compiled to match a whole score.
    pattern: Regex,
    /// The segment.
    name: &'a str,
}

/// Names the segment of each of the 25 scores: that of the first pattern that matches in full.
fn compile(text: &str) -> anyhow::Result<[[String; 5]; 5]> {
    let rules = text.lines().enumerate().filter_map(|(i, line)| rule(i + 1, line).transpose());
    let rules: Vec<Rule<'_>> = rules.collect::<anyhow::Result<_>>()?;
    let first = |r: usize, f: usize| {
        let score = score(r, f);
        rules.iter().position(|rule| rule.pattern.is_match(score.as_bytes()))
    };
    let grid: [[Option<usize>; 5]; 5] = std::array::from_fn(|r| std::array::from_fn(|f| first(r, f)));
    let cells = || grid.iter().flatten();
    if let Some(i) = (0..rules.len()).find(|&i| cells().all(|&first| first != Some(i))) {
        bail!(why_never(&rules[i], &rules[..i]));
    }
    if cells().any(Option::is_none) {
        let scores = (0..25).map(|i| (i / 5, i % 5)).filter(|&(r, f)| grid[r][f].is_none());
        let scores: Vec<String> = scores.map(|(r, f)| score(r, f)).collect();
        bail!("the segment map matches no segment for the scores {}", scores.join(", "));
    }
    let name = |rule: Option<usize>| rule.map_or_else(String::new, |rule| rules[rule].name.to_owned());
    Ok(grid.map(|row| row.map(name)))
}

/// The RF score of a cell of the grid.
fn score(r: usize, f: usize) -> String {
    format!("{}{}", r + 1, f + 1)
}

/// Why a rule names no segment, of which the rules before it leave it no score.
fn why_never(rule: &Rule<'_>, earlier: &[Rule<'_>]) -> String {
    let Rule { line, text, .. } = rule;
    let matched = |score: &String| rule.pattern.is_match(score.as_bytes());
    let scores = (0..25).map(|i| score(i / 5, i % 5)).find(matched);
    let taken = scores.and_then(|score| earlier.iter().find(|rule| rule.pattern.is_match(score.as_bytes())));
    match taken {
        Some(taken) => format!(
            "line {line} of the segment map: the pattern `{text}` can never match, because the lines before it match \
             its scores first (`{}` in line {})",
            taken.text, taken.line
        ),
        None => format!(
            "line {line} of the segment map: the pattern `{text}` can never match: a score is two digits from 1 to 5"
        ),
    }
}

/// The rule of a line; `None` for a blank line or a comment.
fn rule(number: usize, line: &str) -> anyhow::Result<Option<Rule<'_>>> {
    let line = line.split_once('#').map_or(line, |(rule, _comment)| rule).trim();
    if line.is_empty() {
        return Ok(None);
    }
    let (text, name) = line.split_once(char::is_whitespace).with_context(|| {
        format!("line {number} of the segment map: expected a pattern, a blank and a name")
    })?;
    if name.contains('\0') {
        bail!("line {number} of the segment map: the name contains U+0000, which Postgres cannot store");
    }
    // A score is two ASCII digits, for which `.`, `\d` and `\w` mean the same without the tables of Unicode.
    let pattern = RegexBuilder::new(&format!("^(?:{text})$"))
        .unicode(false)
        .build()
        .with_context(|| format!("line {number} of the segment map: `{text}` is not a pattern"))?;
    Ok(Some(Rule { line: number, text, pattern, name: name.trim() }))
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
        let map = SegmentMap::from_file(b"# mine\n55 best # all fives\n\n..\tall the rest \n").unwrap();
        assert_eq!(map.segment(5, 5), "best");
        assert_eq!(map.segment(5, 4), "all the rest");
        assert_eq!(map.identity().len(), 64);
    }

    #[test]
    fn a_byte_order_mark_and_the_line_ends_of_windows_are_read_over() {
        let plain = "55 best\n# rest\n.. all the rest\n";
        let windows = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
        let [plain, windows] = [plain, &windows].map(|text| SegmentMap::from_file(text.as_bytes()).unwrap());
        assert_eq!(plain.grid, windows.grid);
        assert_ne!(plain.identity(), windows.identity(), "the identity is that of the bytes");
    }

    #[test]
    fn a_rule_that_can_never_match_is_an_error_that_names_line_and_pattern() {
        let cases = [
            ("5 a\n.. b\n", "line 1 of the segment map: the pattern `5` can never match: a score is"),
            (
                "\n[6-9]. a\n.. b\n",
                "line 2 of the segment map: the pattern `[6-9].` can never match: a score is",
            ),
            ("55 a\n\u{feff}5. b\n.. c\n", "line 2 of the segment map: the pattern `\u{feff}5.` can never"),
            (
                ".. a\n55 b\n",
                "line 2 of the segment map: the pattern `55` can never match, because the lines before",
            ),
            ("[1-3]. a\n[3-5]. b\n# c\n3[1-5] c\n", "first (`[1-3].` in line 1)"),
        ];
        for (text, message) in cases {
            let error = SegmentMap::from_file(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn patterns_need_no_tables_of_unicode() {
        let cases = [
            (r"\d5", "15 25 35 45 55"),
            (r"\w1\b|\s|\D", "11 21 31 41 51"),
            (r"(?i)5[a-e4]|(?x:1|2)3", "13 23 54"),
            (r"[[:digit:]&&[^2-5]]1|[^\D1-4]{2}", "11 55"),
            (r"(?:3|\x34)(?P<f>2)|\u00331|(?s:.)5{1}?", "15 25 31 32 35 42 45 55"),
            ("é5|55", "55"),
        ];
        for (pattern, scores) in cases {
            let map = SegmentMap::from_file(format!("{pattern} yes\n.. no\n").as_bytes()).unwrap();
            let all = (1..=5).flat_map(|r| (1..=5).map(move |f| (r, f)));
            let taken = all.filter(|&(r, f)| map.segment(r, f) == "yes").map(|(r, f)| format!("{r}{f}"));
            assert_eq!(taken.collect::<Vec<_>>().join(" "), scores, "{pattern}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said_with_its_line() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "matches no segment for the scores 11, 12"),
            (b"[1-4]. a\n5[1-4] b\n", "matches no segment for the scores 55"),
            (b".. a\n55\n", "line 2"),
            (b"# c\n[1- a\n", "line 2 of the segment map: `[1-` is not a pattern"),
            (b"\xff .. a\n", "not UTF-8"),
            (b"\\p{Nd}. a\n", "line 1 of the segment map: `\\p{Nd}.` is not a pattern"),
            (b"[1\xc3\xa9]. a\n", "line 1"),
        ];
        for (bytes, message) in cases {
            let error = SegmentMap::from_file(bytes).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
