//! Times as Go writes them: RFC 3339, and the year 1 for "never".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Deserialize as _, Deserializer, Error as _};
use serde::ser::Serializer;
use tercet_machine::UnixTime;

/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn serialize<S: Serializer>(
    time: &Option<UnixTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        None => serializer.serialize_str(NEVER),
        Some(time) => serializer.collect_str(&text(*time)),
    }
}

/// A time in whole seconds.
pub(super) fn text(time: UnixTime) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<UnixTime>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == NEVER {
        return Ok(None);
    }
    parse(&text)
        .map(Some)
        .ok_or_else(|| D::Error::custom(format_args!("{text:?} is no RFC 3339 time since 1970")))
}

/// Reads a time in UTC or with an offset (`+02:00`).
fn parse(text: &str) -> Option<UnixTime> {
    let (local, offset) = match text.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => {
            let (local, sign) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let minutes = |text: &str| {
                let (hours, minutes) = text.split_once(':')?;
                Some(hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?)
            };
            let offset = match sign.split_at_checked(1)? {
                ("+", rest) => minutes(rest)?,
                ("-", rest) => -minutes(rest)?,
                _ => return None,
            };
            (local, offset)
        }
    };
    let time: SystemTime = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let millis = time.duration_since(UNIX_EPOCH).ok()?.as_millis();
    let utc = i64::try_from(millis).ok()?.checked_sub(offset * 60_000)?;
    u64::try_from(utc).ok().map(UnixTime::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_zone() {
        let at = UnixTime::from_secs(1_700_000_000);
        for same in [
            "2023-11-14T22:13:20Z",
            "2023-11-15T00:13:20+02:00",
            "2023-11-14T16:43:20-05:30",
        ] {
            assert_eq!(parse(same), Some(at), "{same}");
        }
        assert_eq!(
            parse("2023-11-14T22:13:20.5Z").unwrap().as_millis() % 1000,
            500
        );
        for wrong in [
            "",
            "Z",
            "yesterday",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20+xx:00",
            "é2:00",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(text(at).to_string(), "2023-11-14T22:13:20Z");
    }
}
