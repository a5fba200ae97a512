//! `--kafka-property k=v` and `KAFKA_PROPERTIES`: any librdkafka property but the reserved ones.

/// Properties that carry a guarantee or have a flag of their own, and why they are not free.
const RESERVED: [(&str, &str); 15] = [
    ("bootstrap.servers", "use --bootstrap-servers"),
    ("metadata.broker.list", "use --bootstrap-servers"),
    ("group.id", "use --group-id"),
    ("transactional.id", "use --transactional-id"),
    ("isolation.level", "only committed batches may be read"),
    ("enable.auto.commit", "progress is kept in Postgres"),
    ("auto.commit.enable", "progress is kept in Postgres"),
    ("enable.auto.offset.store", "progress is kept in Postgres"),
    ("auto.offset.reset", "a lost position must stop the reader, not move it"),
    ("partition.assignment.strategy", "partition p of the three topics must go to one reader"),
    ("group.protocol", "partition p of the three topics must go to one reader"),
    ("group.remote.assignor", "partition p of the three topics must go to one reader"),
    ("statistics.interval.ms", "they tell when a client has lost its brokers"),
    ("enable.idempotence", "a retry must not double a message"),
    ("partitioner", "the three messages of a batch must go to the same partition number"),
];

/// Parses `k=v,k=v`. A value with commas is put in double quotes; inside them, `""` means `"`.
///
/// # Errors
/// Names what is not `k=v`, and a property that is reserved.
pub fn parse_properties(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut properties = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // What is wrong may be the rest of a password: it is not shown.
        let number = properties.len() + 1;
        let (name, after) = rest.split_once('=').ok_or_else(|| {
            format!("property {number} is not NAME=VALUE (a value with commas needs double quotes)")
        })?;
        let name = name.trim();
        if name.is_empty() {
            return Err(format!("property {number} has no name before the `=`"));
        }
        if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
            return Err(format!("the property `{name}` is reserved: {why}"));
        }
        let (value, after) = value(after).map_err(|what| format!("property `{name}`: {what}"))?;
        properties.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(properties)
}

/// The value that `text` starts with, and what follows its comma.
fn value(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_once(',').unwrap_or((text, ""));
        return Ok((value.trim().to_owned(), rest));
    };
    let mut value = String::new();
    let mut rest = quoted;
    loop {
        let (piece, after) = rest.split_once('"').ok_or("the closing quote is missing")?;
        value.push_str(piece);
        match after.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None if after.is_empty() => return Ok((value, "")),
            None => {
                let rest = after.strip_prefix(',').ok_or("expected a comma behind the closing quote")?;
                return Ok((value, rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_with_and_without_quotes() {
        let cases: [(&str, &[(&str, &str)]); 6] = [
            ("", &[]),
            ("a=b", &[("a", "b")]),
            ("a=b, c=d=e,", &[("a", "b"), ("c", "d=e")]),
            (r#"a="x,y",b=z"#, &[("a", "x,y"), ("b", "z")]),
            (r#"a="say ""hi""""#, &[("a", r#"say "hi""#)]),
            ("a=", &[("a", "")]),
        ];
        for (text, expected) in cases {
            let parsed = parse_properties(text).unwrap();
            let parsed: Vec<(&str, &str)> = parsed.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("nonsense", "not NAME=VALUE"),
            ("=x", "no name"),
            ("isolation.level=read_uncommitted", "`isolation.level` is reserved"),
            ("a=b,enable.idempotence=false", "`enable.idempotence` is reserved"),
            (r#"a="x"#, "`a`: the closing quote is missing"),
            (r#"a="x"y"#, "`a`: expected a comma"),
        ];
        for (text, message) in cases {
            let error = parse_properties(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
