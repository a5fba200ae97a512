//! Where the quotes of a row are. Pure.
//!
//! `csv-core` finds some meaning in any bytes: text behind a closing quote belongs to the cell. **Here that is an
//! error**, because a quote that is missing can otherwise join rows without a sign.

use memchr::{memchr, memchr_iter};

/// What was seen of a row.
#[derive(Clone, Copy, Debug)]
pub struct Quotes {
    /// What the next byte can be.
    state: State,
    /// The line that was reached.
    line: u64,
    /// The line of the last quote that opened a cell.
    opened: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first of a cell.
    Begin,
    /// One of a cell without quotes.
    Plain,
    /// One of a cell in quotes.
    Quoted,
    /// What follows a quote in such a cell.
    Closed,
}

/// There is text behind a closing quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The line on which it is.
    pub line: u64,
    /// The line on which the quote was opened.
    pub opened: u64,
}

impl Quotes {
    /// Nothing of a row that begins on a line.
    pub fn new(line: u64) -> Self {
        Self { state: State::Begin, line, opened: line }
    }

    /// Sees more of the row.
    pub fn see(&mut self, bytes: &[u8], delimiter: u8) -> Result<(), Stray> {
        let mut rest = bytes;
        while let [byte, behind @ ..] = rest {
            let is_end = [delimiter, b'\r', b'\n'].contains(byte);
            (self.state, rest) = match self.state {
                State::Begin if *byte == b'"' => {
                    self.opened = self.line;
                    (State::Quoted, behind)
                }
                State::Begin | State::Plain => {
                    let end = memchr(delimiter, rest);
                    end.map_or((State::Plain, &[][..]), |end| (State::Begin, &rest[end + 1..]))
                }
                State::Quoted => {
                    let end = memchr(b'"', rest);
                    self.line += memchr_iter(b'\n', &rest[..end.unwrap_or(rest.len())]).count() as u64;
                    end.map_or((State::Quoted, &[][..]), |end| (State::Closed, &rest[end + 1..]))
                }
                State::Closed if *byte == b'"' => (State::Quoted, behind),
                State::Closed if is_end => (State::Begin, behind),
                State::Closed => return Err(Stray { line: self.line, opened: self.opened }),
            };
        }
        Ok(())
    }

    /// The line of the quote that is open.
    pub fn open(&self) -> Option<u64> {
        (self.state == State::Quoted).then_some(self.opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the pieces of a row that begins on line 5 show, in one piece and byte by byte.
    fn seen(row: &str) -> Result<Option<u64>, Stray> {
        let mut whole = Quotes::new(5);
        let seen = whole.see(row.as_bytes(), b',').map(|()| whole.open());
        let mut bytes = Quotes::new(5);
        let in_bytes = row.bytes().try_for_each(|byte| bytes.see(&[byte], b',')).map(|()| bytes.open());
        assert_eq!(seen, in_bytes, "{row:?}");
        seen
    }

    #[test]
    fn an_open_quote_is_known_with_its_line() {
        for closed in ["a,b\n", "\"a\",\"b\"\r\n", "\"a\"\"\",b\n", "\"\",\"\"", "5\" pipe,b", "a \"b\"\n"] {
            assert_eq!(seen(closed), Ok(None), "{closed:?}");
        }
        assert_eq!(seen("\"a,b\n"), Ok(Some(5)));
        assert_eq!(seen("\"a\n\n\",\"b"), Ok(Some(7)));
        assert_eq!(seen("\"a\n\"\"\n\"\""), Ok(Some(5)));
    }

    #[test]
    fn text_behind_a_closing_quote_is_found() {
        assert_eq!(seen("\"a\"b"), Err(Stray { line: 5, opened: 5 }));
        assert_eq!(seen("\"a\" ,b"), Err(Stray { line: 5, opened: 5 }));
        assert_eq!(seen("x,\"a,b\n\"x\",b"), Err(Stray { line: 6, opened: 5 }));
    }
}
