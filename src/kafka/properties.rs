//! `--kafka-property k=v` and `KAFKA_PROPERTIES`: any librdkafka property except the reserved ones.
//!
//! **A property is judged by the setting that it changes, not by its name.** librdkafka has several names for
//! many settings, so it is asked which setting a name means.

use super::KafkaError;
use super::settings::Settings;
use rdkafka::ClientConfig;
use std::collections::BTreeSet;
use std::{fs, io};

/// A setting that carries a guarantee or has its own flag.
struct Reserved {
    /// Its usual name.
    name: &'static str,
    /// A value that is not librdkafka's default. Another property that has the same effect with this value
    /// means the same setting. Empty if the setting cannot be tried; then it has no other name (there is a
    /// test for that).
    probe: &'static str,
    /// Why the user may not set it.
    why: &'static str,
}

const fn reserved(name: &'static str, probe: &'static str, why: &'static str) -> Reserved {
    Reserved { name, probe, why }
}

const PROGRESS: &str = "progress is kept in Postgres";
const TOGETHER: &str = "partition p of the three topics must go to one reader";

const RESERVED: [Reserved; 20] = [
    reserved("bootstrap.servers", "probe:1", "use --bootstrap-servers"),
    reserved("group.id", "probe", "use --group-id"),
    reserved("transactional.id", "probe", "use --transactional-id"),
    reserved("isolation.level", "read_uncommitted", "only committed batches may be read"),
    reserved("enable.auto.commit", "false", PROGRESS),
    reserved("auto.commit.enable", "false", PROGRESS),
    reserved("enable.auto.offset.store", "false", PROGRESS),
    reserved("auto.offset.reset", "error", "a lost position must stop the reader, not move it"),
    reserved("partition.assignment.strategy", "range", TOGETHER),
    reserved("group.protocol", "consumer", TOGETHER),
    reserved("group.protocol.type", "probe", "only consumers can be members of the group"),
    reserved("group.remote.assignor", "range", TOGETHER),
    reserved("statistics.interval.ms", "1000", "they show when a client has lost its brokers"),
    reserved("enable.idempotence", "true", "a retry must not double a message"),
    reserved("partitioner", "murmur2", "the three messages of a batch must go to the same partition number"),
    reserved("allow.auto.create.topics", "true", "the three topics must have equal partition counts"),
    reserved("delivery.report.only.error", "true", "a batch counts as sent once the brokers confirm it"),
    // Trying it would load the plugin.
    reserved("plugin.library.paths", "", "a plugin can change every other setting"),
    reserved("test.mock.num.brokers", "1", "it replaces --bootstrap-servers with simulated brokers"),
    reserved(
        "ut_handle_ProduceResponse",
        "",
        "it is for librdkafka's own tests, and would call the text as a function",
    ),
];

/// Refuses a property that means a reserved setting, and says why.
fn refuse_reserved(name: &str) -> Result<(), String> {
    if let Some(reserved) = RESERVED.iter().find(|reserved| reserved.name == name) {
        return Err(format!("the property `{name}` is reserved: {}", reserved.why));
    }
    let wrong = |error: KafkaError| error.to_string();
    let plain = Settings::after(&[]).map_err(wrong)?;
    for Reserved { name: reserved, probe, why } in &RESERVED {
        let meant = Settings::after(&[(reserved, probe)]).map_err(wrong)?.differing(&plain);
        // A property that does not accept this value is another setting.
        let Ok(set) = Settings::after(&[(name, probe)]) else { continue };
        if !set.differing(&plain).is_disjoint(&meant) {
            return Err(format!("the property `{name}` sets `{reserved}`, which is reserved: {why}"));
        }
    }
    Ok(())
}

/// Compares the final settings of a client with those that it has without the user's properties.
///
/// # Errors
/// [`KafkaError::Property`]: a reserved setting differs.
pub(super) fn judge(configured: &ClientConfig, ours: &ClientConfig) -> Result<(), KafkaError> {
    let changed = Settings::of_client(configured)?.differing(&Settings::of_client(ours)?);
    if changed.is_empty() {
        return Ok(());
    }
    let plain = Settings::after(&[])?;
    for Reserved { name, probe, why } in &RESERVED {
        let mut meant = Settings::after(&[(name, probe)])?.differing(&plain);
        meant.insert((*name).to_owned());
        if !changed.is_disjoint(&meant) {
            let message = format!("another property sets it, and it is reserved: {why}");
            return Err(KafkaError::Property { name: (*name).to_owned(), message });
        }
    }
    Ok(())
}

/// Settings that name a file. librdkafka's own error names OpenSSL's function, not the file.
const FILES: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.crl.location",
    "ssl.keystore.location",
];

/// Checks what librdkafka accepts but cannot use, or refuses with a sentence that helps nobody.
///
/// # Errors
/// [`KafkaError::Property`] names a file that cannot be opened, and a SASL mechanism that cannot work.
pub(super) fn usable(configured: &ClientConfig) -> Result<(), KafkaError> {
    let settings = Settings::of_client(configured)?;
    let wrong = |name: &str, message: String| Err(KafkaError::Property { name: name.to_owned(), message });
    for name in FILES {
        // librdkafka looks for the CA in the usual places itself if the value is `probe`.
        let Some(file) = settings.get(name).filter(|file| !file.is_empty() && *file != "probe") else {
            continue;
        };
        if let Err(error) = open(file) {
            return wrong(name, format!("`{file}`: {error}"));
        }
    }
    let is_sasl = settings.get("security.protocol").is_some_and(|protocol| protocol.starts_with("sasl"));
    let mechanism = settings.get("sasl.mechanisms").unwrap_or_default();
    let without_token = settings.get("enable.sasl.oauthbearer.unsecure.jwt") != Some("true");
    match mechanism {
        "GSSAPI" if is_sasl => wrong(
            "sasl.mechanism",
            "GSSAPI, the default, is not built in; set it to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512".to_owned(),
        ),
        "OAUTHBEARER" if is_sasl && without_token => wrong(
            "sasl.mechanism",
            "this program cannot fetch the token that OAUTHBEARER needs; set it to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Opens a file or a folder. A pipe is left for the one that reads it.
fn open(file: &str) -> io::Result<()> {
    let found = fs::metadata(file)?;
    if found.is_file() || found.is_dir() {
        fs::File::open(file)?;
    }
    Ok(())
}

/// The properties without those that a later one overrides, under whatever name. **rdkafka applies properties
/// in the order of a hash map**, so with two for one setting the client would differ from start to start.
pub(super) fn last_of_each<'a>(
    ours: impl IntoIterator<Item = (&'a str, &'a str)>,
    users: &'a [(String, String)],
) -> Vec<(&'a str, &'a str)> {
    let plain = Settings::after(&[]);
    let change = |property| match (Settings::after(&[property]), &plain) {
        (Ok(set), Ok(plain)) => set.differing(plain),
        // Creating the client will refuse this property and name it.
        _ => BTreeSet::new(),
    };
    let mut last: Vec<_> = ours.into_iter().map(|property| (property, change(property))).collect();
    for (name, value) in users {
        let property = (name.as_str(), value.as_str());
        let changed = change(property);
        last.retain(|(earlier, before)| {
            let is_same = match before.is_empty() || changed.is_empty() {
                // One of them sets librdkafka's default, so it changes nothing by itself.
                true => does_order_matter(*earlier, property),
                false => !before.is_disjoint(&changed),
            };
            earlier.0 != name && !is_same
        });
        last.push((property, changed));
    }
    last.into_iter().map(|(property, _)| property).collect()
}

/// Whether two properties set the same setting to different values.
fn does_order_matter(one: (&str, &str), other: (&str, &str)) -> bool {
    match [[one, other], [other, one]].map(|order| Settings::after(&order)) {
        [Ok(one), Ok(other)] => one != other,
        _ => false,
    }
}

/// Parses `k=v,k=v`. A value with commas needs double quotes; inside them, `""` means `"`.
///
/// # Errors
/// Names an item that is not `k=v`, and a property that means a reserved setting.
pub fn parse_properties(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut properties = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // The text is not shown: it may be the rest of a password.
        let number = properties.len() + 1;
        let (name, after) = rest.split_once('=').ok_or_else(|| {
            format!("property {number} is not NAME=VALUE (a value with commas needs double quotes)")
        })?;
        let name = name.trim();
        if name.is_empty() {
            return Err(format!("property {number} has no name before the `=`"));
        }
        refuse_reserved(name)?;
        let (value, after) = value(after).map_err(|what| format!("property `{name}`: {what}"))?;
        properties.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(properties)
}

/// The value at the start of `text`, and what follows its comma.
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
                let rest = after.strip_prefix(',').ok_or("expected a comma after the closing quote")?;
                return Ok((value, rest));
            }
        }
    }
}

#[cfg(test)]
mod tests;
