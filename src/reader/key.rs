//! How the tables show the key of a message. Pure.

/// A key as text: itself where Postgres can store it, else `\x` and its bytes in hex.
pub fn text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => key.iter().fold(String::from("\\x"), |text, byte| text + &format!("{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_as_text_or_as_hex() {
        assert_eq!(text("schlüssel".as_bytes()), "schlüssel");
        assert_eq!(text(b""), "");
        assert_eq!(text(b"a\0b"), "\\x610062");
        assert_eq!(text(b"\xff\x00"), "\\xff00");
    }
}
