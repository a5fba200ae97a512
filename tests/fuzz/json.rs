//! JSON, naively: the grammar of RFC 8259, implemented a second time to judge the decoder.
//!
//! Also reads the three bare words that Python writes. Numbers keep their text. A string that is not Unicode
//! (half of a surrogate pair) is `None`.

#[derive(Clone, Debug)]
pub enum Json {
    Null,
    Bool,
    /// `NaN`, `Infinity` or `-Infinity`.
    Word,
    Number(String),
    Text(Option<String>),
    Array(Vec<Json>),
    Object(Vec<(Option<String>, Json)>),
}

/// The value that `text` stands for, if it is valid.
pub fn parse(text: &str) -> Option<Json> {
    let mut reader = Reader { rest: text };
    let value = reader.value()?;
    reader.blanks();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Takes `word` if it comes next.
    fn take(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self) -> Option<Json> {
        self.blanks();
        for (word, value) in [
            ("null", Json::Null),
            ("true", Json::Bool),
            ("false", Json::Bool),
            ("NaN", Json::Word),
            ("Infinity", Json::Word),
            ("-Infinity", Json::Word),
        ] {
            if self.take(word) {
                return Some(value);
            }
        }
        match self.rest.chars().next()? {
            '"' => self.text().map(Json::Text),
            '[' => self.array(),
            '{' => self.object(),
            _ => self.number().map(Json::Number),
        }
    }

    fn array(&mut self) -> Option<Json> {
        self.take("[");
        let mut elements = Vec::new();
        self.blanks();
        if self.take("]") {
            return Some(Json::Array(elements));
        }
        loop {
            elements.push(self.value()?);
            self.blanks();
            if self.take("]") {
                return Some(Json::Array(elements));
            }
            self.take(",").then_some(())?;
        }
    }

    fn object(&mut self) -> Option<Json> {
        self.take("{");
        let mut fields = Vec::new();
        self.blanks();
        if self.take("}") {
            return Some(Json::Object(fields));
        }
        loop {
            self.blanks();
            let name = self.rest.starts_with('"').then(|| self.text())??;
            self.blanks();
            self.take(":").then_some(())?;
            fields.push((name, self.value()?));
            self.blanks();
            if self.take("}") {
                return Some(Json::Object(fields));
            }
            self.take(",").then_some(())?;
        }
    }

    fn digits(&mut self, into: &mut String) -> Option<()> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        into.push_str(&self.rest[..end]);
        self.rest = &self.rest[end..];
        (end > 0).then_some(())
    }

    fn number(&mut self) -> Option<String> {
        let mut number = String::new();
        if self.take("-") {
            number.push('-');
        }
        if self.take("0") {
            number.push('0');
        } else {
            self.digits(&mut number)?;
        }
        if self.take(".") {
            number.push('.');
            self.digits(&mut number)?;
        }
        if self.take("e") || self.take("E") {
            number.push('e');
            if self.take("-") {
                number.push('-');
            } else {
                self.take("+");
            }
            self.digits(&mut number)?;
        }
        Some(number)
    }

    /// `None`: not a string at all; `Some(None)`: one that is not Unicode.
    fn text(&mut self) -> Option<Option<String>> {
        self.take("\"");
        let (mut units, mut one) = (Vec::new(), [0; 2]);
        loop {
            let c = self.rest.chars().next()?;
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '"' => return Some(String::from_utf16(&units).ok()),
                '\\' => units.push(self.escaped()?),
                c if c < ' ' => return None,
                c => units.extend_from_slice(c.encode_utf16(&mut one)),
            }
        }
    }

    /// The UTF-16 unit that the escape stands for.
    fn escaped(&mut self) -> Option<u16> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        let plain = match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let hex = self.rest.get(..4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
                self.rest = &self.rest[4..];
                return u16::from_str_radix(hex, 16).ok();
            }
            _ => return None,
        };
        Some(plain as u16)
    }
}
