//! Tests with the real librdkafka, over every property that it lists.

#![expect(unsafe_code, reason = "rdkafka does not give access to librdkafka's list of properties")]

use super::*;
use std::collections::BTreeMap;
use std::ffi::CString;

/// A property in librdkafka's own list.
struct Listed {
    /// Its name, without `topic.`.
    name: String,
    /// The property for which this is another name.
    alias_of: Option<String>,
    /// Its default value; may be empty.
    default: String,
    /// Values that it accepts: a range of numbers, or words.
    range: String,
    /// Its type: `boolean`, `integer`, `string` and others.
    kind: String,
    /// Whether it stands in the part of the list for topics.
    is_topic: bool,
}

/// librdkafka's own list, as it is printed for its manual.
fn listed() -> Vec<Listed> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = CString::new(file.path().to_str().unwrap()).unwrap();
    // SAFETY: both strings end in zero; the stream is checked, used only here, and closed.
    unsafe {
        let stream = libc::fopen(path.as_ptr(), c"w".as_ptr());
        assert!(!stream.is_null());
        rdkafka::bindings::rd_kafka_conf_properties_show(stream.cast());
        libc::fclose(stream);
    }
    let text = std::fs::read_to_string(file.path()).unwrap();
    let mut is_topic = false;
    let mut listed = Vec::new();
    for line in text.lines() {
        is_topic |= line.starts_with("## Topic");
        let columns: Vec<&str> = line.splitn(6, " | ").map(str::trim).collect();
        let &[name, _, range, default, _, text] = &columns[..] else { continue };
        if name == "Property" {
            continue;
        }
        let alias_of =
            text.split_once("Alias for `").map(|(_, rest)| rest.split('`').next().unwrap().to_owned());
        let kind = text.rsplit_once("<br>*Type: ").unwrap().1.trim_end_matches('*').to_owned();
        let [name, default, range] = [name, default, range].map(str::to_owned);
        listed.push(Listed { name, alias_of, default, range, kind, is_topic });
    }
    assert!(listed.len() > 150, "{}", listed.len());
    listed
}

impl Listed {
    /// Its unambiguous name, in case the other part of the list has the same.
    fn spelt(&self) -> String {
        if self.is_topic { format!("topic.{}", self.name) } else { self.name.clone() }
    }

    /// Two values, at least one of them not the default; `None` if the property takes no text.
    fn values(&self) -> Option<[String; 2]> {
        let words: Vec<&str> = self.range.split(", ").collect();
        let values = match self.kind.as_str() {
            "boolean" => ["true".to_owned(), "false".to_owned()],
            "integer" | "float" => {
                let (least, most) = self.range.split_once(" .. ")?;
                let inner = if self.default == least {
                    least.parse::<f64>().ok()? + 1.0
                } else {
                    least.parse().ok()?
                };
                [inner.to_string(), most.to_owned()]
            }
            "enum value" | "CSV flags" => [(*words.first()?).to_owned(), (*words.last()?).to_owned()],
            "string" if self.name == "partitioner" => ["murmur2".to_owned(), "fnv1a".to_owned()],
            "string" | "pattern list" => ["one".to_owned(), "another".to_owned()],
            _ => return None,
        };
        Some(values)
    }

    /// Whether it can be set in this build.
    fn is_settable(&self) -> bool {
        let is_reserved_by_name = self.name == "plugin.library.paths";
        let built_in = |values: &[String; 2]| Settings::after(&[(&self.spelt(), &values[0])]).is_ok();
        !is_reserved_by_name && self.values().is_some_and(|values| built_in(&values))
    }
}

#[test]
fn every_name_of_a_reserved_setting_is_refused_and_no_other() {
    let listed = listed();
    // The same setting: the name itself, the name that it is an alias of, and its aliases, each with and
    // without `topic.`.
    let canonical = |property: &Listed| {
        let name = property.alias_of.as_ref().unwrap_or(&property.name);
        format!("{}{name}", if property.is_topic { "topic." } else { "" })
    };
    let is_reserved = |name: &str| RESERVED.iter().any(|reserved| reserved.name == name);
    let reserved: Vec<String> =
        listed.iter().filter(|property| is_reserved(&property.name)).map(canonical).collect();
    let mut refused = 0;
    for property in &listed {
        let mut names = vec![property.spelt()];
        // Without `topic.`, librdkafka looks into the other part of the list first.
        if property.is_topic && !listed.iter().any(|other| !other.is_topic && other.name == property.name) {
            names.push(property.name.clone());
        }
        for name in names {
            let answer = refuse_reserved(&name);
            let expected = reserved.contains(&canonical(property));
            assert_eq!(answer.is_err(), expected, "{name}: {answer:?}");
            refused += usize::from(expected);
        }
    }
    assert!(refused > RESERVED.len(), "{refused}");
}

#[test]
fn another_name_of_a_reserved_setting_is_refused_with_the_setting() {
    let cases = [
        (
            "topic.auto.offset.reset",
            "`topic.auto.offset.reset` sets `auto.offset.reset`, which is reserved: a lost",
        ),
        ("metadata.broker.list", "`metadata.broker.list` sets `bootstrap.servers`, which is reserved: use"),
        ("topic.partitioner", "`topic.partitioner` sets `partitioner`, which is reserved"),
        ("topic.auto.commit.enable", "sets `auto.commit.enable`, which is reserved"),
        ("topic.enable.auto.commit", "sets `auto.commit.enable`, which is reserved"),
        ("allow.auto.create.topics", "`allow.auto.create.topics` is reserved"),
        ("plugin.library.paths", "`plugin.library.paths` is reserved: a plugin"),
        ("test.mock.num.brokers", "`test.mock.num.brokers` is reserved"),
        ("ut_handle_ProduceResponse", "is reserved"),
    ];
    for (name, words) in cases {
        let said = parse_properties(&format!("{name}=1")).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_reserved_setting_that_differs_in_the_end_is_refused() {
    let ours = [("auto.offset.reset", "error"), ("bootstrap.servers", "here:1"), ("client.id", "we")];
    let config = |properties: &[(&str, &str)]| {
        let mut config = ClientConfig::new();
        for (name, value) in properties {
            config.set(*name, *value);
        }
        config
    };
    // `refuse_reserved` would refuse these.
    let changed = [
        [("topic.auto.offset.reset", "earliest"), ours[1], ours[2]],
        [ours[0], ("metadata.broker.list", "there:1"), ours[2]],
        [ours[0], ours[1], ("test.mock.num.brokers", "3")],
    ];
    for (changed, name) in
        changed.iter().zip(["auto.offset.reset", "bootstrap.servers", "test.mock.num.brokers"])
    {
        let said = judge(&config(changed), &config(&ours)).unwrap_err().to_string();
        assert!(said.contains(&format!("`{name}`")), "{said}");
    }
    let harmless = [ours[0], ours[1], ("client.id", "they")];
    assert!(judge(&config(&harmless), &config(&ours)).is_ok());
}

#[test]
fn of_two_properties_for_one_setting_the_last_counts_under_any_name() {
    let listed: Vec<Listed> = listed().into_iter().filter(Listed::is_settable).collect();
    let mut pairs = 0;
    for alias in listed.iter().filter(|property| property.alias_of.is_some()) {
        let is_meant = |other: &&Listed| {
            other.is_topic == alias.is_topic && Some(&other.name) == alias.alias_of.as_ref()
        };
        let meant = listed.iter().find(is_meant).unwrap();
        let [one, other] = alias.values().unwrap();
        for [first, second] in [[alias, meant], [meant, alias]] {
            for [early, late] in [[&one, &other], [&other, &one]] {
                let users = [(first.spelt(), early.clone()), (second.spelt(), late.clone())];
                let expected = [(users[1].0.as_str(), users[1].1.as_str())];
                assert_eq!(last_of_each([], &users), expected, "{users:?}");
                // The user's property overrides the default.
                let ours = [(users[0].0.as_str(), users[0].1.as_str())];
                assert_eq!(last_of_each(ours, &users[1..]), expected, "{users:?}");
            }
        }
        pairs += 1;
    }
    // This build lacks two more.
    assert!(pairs >= 11, "{pairs}");
}

#[test]
fn properties_for_different_settings_are_all_kept() {
    let listed: Vec<Listed> = listed().into_iter().filter(Listed::is_settable).collect();
    let canonical: BTreeMap<String, &Listed> =
        listed.iter().filter(|p| p.alias_of.is_none()).map(|p| (p.spelt(), p)).collect();
    let users: Vec<(String, String)> = canonical
        .iter()
        .map(|(name, property)| (name.clone(), property.values().unwrap()[0].clone()))
        .collect();
    // Neighbours and distant pairs; all pairs would take long.
    for step in [1, 7, 40] {
        for pair in users.iter().zip(users.iter().cycle().skip(step)) {
            let pair = [pair.0.clone(), pair.1.clone()];
            assert_eq!(last_of_each([], &pair).len(), 2, "{pair:?}");
        }
    }
}

#[test]
fn a_client_has_the_same_settings_each_time() {
    let users = [("queue.buffering.max.ms", "3"), ("linger.ms", "7"), ("topic.acks", "all"), ("acks", "-1")];
    let users = users.map(|(name, value)| (name.to_owned(), value.to_owned()));
    for _ in 0..20 {
        let mut config = ClientConfig::new();
        for (name, value) in last_of_each([("linger.ms", "0")], &users) {
            config.set(name, value);
        }
        let native = config.create_native_config().unwrap();
        assert_eq!(native.get("linger.ms").unwrap(), "7");
    }
}

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
fn a_wrong_property_is_named() {
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

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    fs::write(&path, "").unwrap();
    let judged = || {
        let mut config = ClientConfig::new();
        config.set("ssl.ca.location", path.to_str().unwrap());
        usable(&config)
    };
    assert!(judged().is_ok());
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    // Nothing keeps root from reading it.
    let may_read = fs::File::open(&path).is_ok();
    assert_eq!(judged().is_ok(), may_read);
    fs::remove_file(&path).unwrap();
    assert!(judged().unwrap_err().to_string().contains("ca.pem"));
}
