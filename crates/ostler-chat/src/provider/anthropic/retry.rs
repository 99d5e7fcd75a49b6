//! When the Messages API is asked again, and after which pause. Pure: dice are an argument.
//!
//! The rules are those of the vendor's own clients: 408, 409, 429 and 5xx; `x-should-retry` has the last word; the
//! pause is what the server says, else 0.5 s doubling up to 8 s, less up to a quarter.

use std::time::Duration;

use reqwest::header::HeaderMap;

/// The longest pause a server can ask for; if it asks for more, the caller learns of it at once.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(8);

/// Whether an answer with this status is worth another try.
pub(super) fn wanted(status: u16, headers: &HeaderMap) -> bool {
    match text(headers, "x-should-retry") {
        Some("true") => true,
        Some("false") => false,
        _ => matches!(status, 408 | 409 | 429 | 500..),
    }
}

/// The pause that the server asks for.
pub(super) fn after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| text(headers, name).and_then(|text| text.trim().parse::<f64>().ok());
    let millis = number("retry-after-ms").map(|millis| millis / 1_000.0);
    let seconds = millis.or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Our own pause before retry number `retry`, from 0. `jitter` is 0.0 to 1.0.
pub(super) fn pause(retry: u32, jitter: f64) -> Duration {
    let full = BASE.saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX)).min(CAP);
    full.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_status_decides_unless_the_server_does() {
        for status in [408, 409, 429, 500, 503, 529] {
            assert!(wanted(status, &headers(&[])), "{status}");
            assert!(!wanted(status, &headers(&[("x-should-retry", "false")])), "{status}");
        }
        for status in [400, 401, 403, 404, 413] {
            assert!(!wanted(status, &headers(&[])), "{status}");
            assert!(wanted(status, &headers(&[("x-should-retry", "true")])), "{status}");
        }
    }

    #[test]
    fn milliseconds_go_before_seconds_and_nonsense_is_skipped() {
        let check = |pairs: &[(&'static str, &'static str)], expected: Option<u64>| {
            assert_eq!(after(&headers(pairs)), expected.map(Duration::from_millis), "{pairs:?}");
        };
        check(&[], None);
        check(&[("retry-after", "3")], Some(3_000));
        check(&[("retry-after-ms", "20"), ("retry-after", "3")], Some(20));
        check(&[("retry-after-ms", "x"), ("retry-after", "1.5")], Some(1_500));
        check(&[("retry-after", "-1")], None);
        check(&[("retry-after", "NaN")], None);
        check(&[("retry-after", "1e300")], None);
        check(&[("retry-after", "Fri, 20 Nov 2026 10:00:00 GMT")], None);
    }

    #[test]
    fn our_own_pause_doubles_up_to_the_cap_and_jitter_only_shortens_it() {
        let full: Vec<_> = (0..6).map(|retry| pause(retry, 0.0).as_millis()).collect();
        assert_eq!(full, [500, 1_000, 2_000, 4_000, 8_000, 8_000]);
        assert_eq!(pause(40, 1.0), Duration::from_secs(6));
    }
}
