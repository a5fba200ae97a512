//! How the values of flags are read: names, and times such as `60s`.

use crate::reader::customer_ids::IdRule;
use crate::reader::quintile::Ties;
use crate::telemetry::LogFormat;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::time::Duration;

/// `--log-format`
pub(super) fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"])
        .map(|name| if name == "json" { LogFormat::Json } else { LogFormat::Text })
}

/// `--ties`
pub(super) fn ties() -> impl TypedValueParser<Value = Ties> {
    PossibleValuesParser::new(Ties::ALL.map(Ties::name)).try_map(|name| name.parse::<Ties>())
}

/// `--customer-ids`
pub(super) fn customer_ids() -> impl TypedValueParser<Value = IdRule> {
    PossibleValuesParser::new(IdRule::ALL.map(IdRule::name)).try_map(|name| name.parse::<IdRule>())
}

/// Parses `60s`, `2min`, `500ms`. A bare number means seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}: give a time like 60s, 2min or 500ms"))
}

/// The longest time for which rows can be asked to be kept: Postgres counts back from now, and knows no time before
/// 4713 BC.
const LONGEST: Duration = Duration::from_secs(1000 * 31_557_600);

/// Parses a time as [`duration`] does, which must not be 0, nor longer than 1000 years.
pub(super) fn longer_than_nothing(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("give a time like 30days or 12h; 0 keeps nothing".to_owned()),
        time if time > LONGEST => Err("give at most 1000years".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_can_be_kept_for_a_time_that_postgres_can_count_back() {
        assert!(longer_than_nothing("1000years").is_ok());
        assert!(longer_than_nothing("90days").is_ok());
        for (text, why) in [("0", "keeps nothing"), ("1001years", "at most"), ("100000years", "at most")] {
            assert!(longer_than_nothing(text).is_err_and(|error| error.contains(why)), "{text}");
        }
    }
}
