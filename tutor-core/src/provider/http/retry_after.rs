//! How long a server asks to wait.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// The longest wait that is believed; longer ones are cut to it.
const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The wait that `retry-after-ms` or `retry-after` (seconds, or a date) asks for.
///
/// `None` if there is no such header, or what it says is not a positive time.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let millis = text(RETRY_AFTER_MS).and_then(|ms| positive(ms, 1e-3));
    millis.or_else(|| {
        let value = text(RETRY_AFTER)?;
        positive(value, 1.0).or_else(|| {
            let until = httpdate::parse_http_date(value).ok()?;
            // The server's own clock, if it tells: ours may be off.
            let now = text(DATE)
                .and_then(|date| httpdate::parse_http_date(date).ok())
                .unwrap_or_else(wall_clock);
            until
                .duration_since(now)
                .ok()
                .filter(|wait| !wait.is_zero())
                .map(|wait| wait.min(MAX_WAIT))
        })
    })
}

fn positive(text: &str, unit: f64) -> Option<Duration> {
    let seconds = text.parse::<f64>().ok()? * unit;
    (seconds.is_finite() && seconds > 0.0).then(|| {
        Duration::try_from_secs_f64(seconds)
            .unwrap_or(MAX_WAIT)
            .min(MAX_WAIT)
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a date in a header can only be compared with the wall clock"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn wait(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                )
            })
            .collect();
        retry_after(&headers)
    }

    #[test]
    fn milliseconds_come_before_seconds_and_seconds_before_dates() {
        assert_eq!(
            wait(&[("retry-after", "2"), ("retry-after-ms", "1873")]),
            Some(Duration::from_millis(1873))
        );
        assert_eq!(
            wait(&[("retry-after", "2"), ("retry-after-ms", "NaN")]),
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            wait(&[("retry-after", " 0.5 ")]),
            Some(Duration::from_millis(500))
        );
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn a_date_is_compared_with_the_servers_clock_if_it_tells() {
        let until = ("retry-after", "Wed, 21 Oct 2015 07:28:10 GMT");
        assert_eq!(
            wait(&[until, ("date", "Wed, 21 Oct 2015 07:28:00 GMT")]),
            Some(Duration::from_secs(10))
        );
        assert_eq!(wait(&[until]), None);
        assert!(
            wait(&[("retry-after", "Wed, 21 Oct 2099 07:28:00 GMT")]).unwrap()
                > Duration::from_secs(60)
        );
    }

    #[test]
    fn nonsense_is_no_wait() {
        for value in ["soon", "NaN", "inf", "-inf", "-5", "0", "", "1e", "\u{e9}"] {
            assert_eq!(wait(&[("retry-after", value)]), None, "{value}");
            assert_eq!(wait(&[("retry-after-ms", value)]), None, "{value}");
        }
        assert_eq!(wait(&[("retry-after", "1e30")]), Some(MAX_WAIT));
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "[ -~]{0,40}", number in any::<f64>()) {
            for value in [value, number.to_string()] {
                let wait = wait(&[("retry-after", &value), ("retry-after-ms", &value)]);
                prop_assert!(wait.is_none_or(|wait| wait <= MAX_WAIT));
            }
        }
    }
}
