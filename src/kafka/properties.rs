//! `--kafka-property k=v` and `KAFKA_PROPERTIES`: any librdkafka property but the reserved ones.
//!
//! The one idea: **a property is judged by the setting that it changes, not by its name**. librdkafka has several names
//! for many settings, so it is asked which one a name means.

use super::KafkaError;
use super::settings::Settings;
use rdkafka::ClientConfig;
use std::collections::BTreeSet;

/// A setting that carries a guarantee or has a flag of its own.
struct Reserved {
    /// Its usual name.
    name: &'static str,
    /// A value that is not librdkafka's default. Whatever else sets the same when it has this value is the same
    /// setting. Empty where trying is no good: such a setting has no other name (a test says so).
    probe: &'static str,
    /// Why it is not free.
    why: &'static str,
}

const fn reserved(name: &'static str, probe: &'static str, why: &'static str) -> Reserved {
    Reserved { name, probe, why }
}

const PROGRESS: &str = "progress is kept in Postgres";
const TOGETHER: &str = "partition p of the three topics must go to one reader";

const RESERVED: [Reserved; 19] = [
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
    reserved("group.remote.assignor", "range", TOGETHER),
    reserved("statistics.interval.ms", "1000", "they tell when a client has lost its brokers"),
    reserved("enable.idempotence", "true", "a retry must not double a message"),
    reserved("partitioner", "murmur2", "the three messages of a batch must go to the same partition number"),
    reserved("allow.auto.create.topics", "true", "the three topics must have equal partition counts"),
    reserved("delivery.report.only.error", "true", "a batch is sent when the brokers say that they have it"),
    // It would be loaded in order to be tried.
    reserved("plugin.library.paths", "", "a plugin can change every other setting"),
    reserved("test.mock.num.brokers", "1", "it puts made-up brokers in the place of --bootstrap-servers"),
    reserved(
        "ut_handle_ProduceResponse",
        "",
        "it is for librdkafka's own tests, and takes a text for a function",
    ),
];

/// Names what is wrong with a property that means a reserved setting.
fn refuse_reserved(name: &str) -> Result<(), String> {
    if let Some(reserved) = RESERVED.iter().find(|reserved| reserved.name == name) {
        return Err(format!("the property `{name}` is reserved: {}", reserved.why));
    }
    let wrong = |error: KafkaError| error.to_string();
    let plain = Settings::after(&[]).map_err(wrong)?;
    for Reserved { name: reserved, probe, why } in &RESERVED {
        let meant = Settings::after(&[(reserved, probe)]).map_err(wrong)?.differing(&plain);
        // What does not take this value is not the same setting.
        let Ok(set) = Settings::after(&[(name, probe)]) else { continue };
        if !set.differing(&plain).is_disjoint(&meant) {
            return Err(format!("the property `{name}` sets `{reserved}`, which is reserved: {why}"));
        }
    }
    Ok(())
}

/// Compares what a client is configured with in the end with what it has without the user's properties.
///
/// # Errors
/// [`KafkaError::Property`]: a reserved setting is not ours.
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
            let message = format!("something else sets it, and it is reserved: {why}");
            return Err(KafkaError::Property { name: (*name).to_owned(), message });
        }
    }
    Ok(())
}

/// Properties of which each sets another setting: of several that set the same, the last. **rdkafka applies
/// properties in the order of a hash map**, so two for one setting would make a client that is different every time.
pub(super) fn last_of_each<'a>(
    ours: impl IntoIterator<Item = (&'a str, &'a str)>,
    users: &'a [(String, String)],
) -> Vec<(&'a str, &'a str)> {
    let plain = Settings::after(&[]);
    let change = |property| match (Settings::after(&[property]), &plain) {
        (Ok(set), Ok(plain)) => set.differing(plain),
        // It is refused, and named when the client is made.
        _ => BTreeSet::new(),
    };
    let mut last: Vec<_> = ours.into_iter().map(|property| (property, change(property))).collect();
    for (name, value) in users {
        let property = (name.as_str(), value.as_str());
        let changed = change(property);
        last.retain(|(earlier, before)| {
            let is_same = match before.is_empty() || changed.is_empty() {
                // One of them sets what is librdkafka's default, which shows nothing by itself.
                true => does_order_matter(*earlier, property),
                false => !before.is_disjoint(&changed),
            };
            earlier.0 != name && !is_same
        });
        last.push((property, changed));
    }
    last.into_iter().map(|(property, _)| property).collect()
}

/// Whether two properties set the same setting, to different values.
fn does_order_matter(one: (&str, &str), other: (&str, &str)) -> bool {
    match [[one, other], [other, one]].map(|order| Settings::after(&order)) {
        [Ok(one), Ok(other)] => one != other,
        _ => false,
    }
}

/// Parses `k=v,k=v`. A value with commas is put in double quotes; inside them, `""` means `"`.
///
/// # Errors
/// Names what is not `k=v`, and a property that sets what is reserved.
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
        refuse_reserved(name)?;
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
mod tests;
