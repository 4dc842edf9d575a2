//! How long a server is waited for: pauses between attempts, silence within one.

use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::MirrorError;
use crate::page::header;

/// How often and how long to try one address.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts without any headway before an address is given up.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each.
    pub first_pause: Duration,
    /// No pause is longer, whatever the server asks for.
    pub longest_pause: Duration,
    /// How long to wait for an answer's beginning, and for each next part of it.
    pub silence: Duration,
    /// Bytes a second below which a line counts as dead: measured over `silence`, while nothing but the server is waited
    /// for.
    pub slowest: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_mins(2),
            silence: Duration::from_mins(1),
            slowest: 1024,
        }
    }
}

impl Patience {
    /// Pause after failure number `failure`, counted from 0.
    pub(crate) fn pause(&self, failure: u32, error: &MirrorError) -> Duration {
        let asked = match error {
            MirrorError::Status { wait, .. } => *wait,
            _ => None,
        };
        asked
            .unwrap_or(self.first_pause * 2_u32.saturating_pow(failure.min(16)))
            .max(self.first_pause)
            .min(self.longest_pause)
    }
}

/// An answer's body that ends in an error where the server only drips: each byte comes in time, and the file never.
pub(crate) struct Paced<R> {
    body: R,
    patience: Patience,
    waited: Duration,
    came: u64,
}

impl<R> Paced<R> {
    pub(crate) fn new(body: R, patience: Patience) -> Self {
        Self {
            body,
            patience,
            waited: Duration::ZERO,
            came: 0,
        }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = Instant::now();
        let count = self.body.read(buffer)?;
        self.waited += asked.elapsed();
        self.came += count as u64;
        if self.waited < self.patience.silence || count == 0 {
            return Ok(count);
        }
        let slowest = self.patience.slowest;
        if (self.came as f64) < slowest as f64 * self.waited.as_secs_f64() {
            let problem = format!("fewer than {slowest} bytes a second");
            return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
        }
        (self.waited, self.came) = (Duration::ZERO, 0);
        Ok(count)
    }
}

/// `Retry-After`, which is a number of seconds or a date.
///
/// A date is read against the server's own `Date`, so that a wrong clock on either side does no harm.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let asked = header(headers, RETRY_AFTER.as_str())?;
    if let Ok(seconds) = asked.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| httpdate::parse_http_date(text.trim()).ok();
    let until = date(&asked)?;
    let now = header(headers, DATE.as_str()).and_then(|now| date(&now));
    let now = now.unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_ask_for_a_pause_in_seconds_or_until_a_date() {
        const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
        for (asked, date, seconds) in [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("Sun, 06 Nov 1994 12:00:30 GMT", Some(NOON), Some(30)),
            ("Sunday, 06-Nov-94 12:01:00 GMT", Some(NOON), Some(60)),
            ("Sun, 06 Nov 1994 11:00:00 GMT", Some(NOON), Some(0)),
            ("Sun, 06 Nov 1994 12:00:30 GMT", None, Some(0)),
            ("soon", Some(NOON), None),
            ("-1", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, asked.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            assert_eq!(wait(&headers), seconds.map(Duration::from_secs), "{asked}");
        }
    }

    #[test]
    fn no_pause_is_longer_than_patience_nor_shorter_than_its_first() {
        let patience = Patience::default();
        let pause = |seconds| {
            let error = MirrorError::Status {
                url: String::new(),
                status: 429,
                reason: None,
                wait: Some(Duration::from_secs(seconds)),
            };
            patience.pause(0, &error)
        };
        assert_eq!(pause(0), patience.first_pause);
        assert_eq!(pause(9), Duration::from_secs(9));
        assert_eq!(pause(1 << 40), patience.longest_pause);
    }

    #[test]
    fn a_line_that_only_drips_is_an_error_and_one_that_pauses_is_not() {
        struct Drops(Vec<(u64, usize)>);
        impl Read for Drops {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                let (millis, count) = self.0.pop().unwrap_or((0, 0));
                std::thread::sleep(Duration::from_millis(millis));
                Ok(count)
            }
        }
        let patience = Patience {
            silence: Duration::from_millis(50),
            slowest: 1000,
            ..Patience::default()
        };
        let all = |drops: Vec<(u64, usize)>| {
            let mut body = Paced::new(Drops(drops), patience);
            let mut buffer = [0; 8192];
            loop {
                match body.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        let error = all(vec![(20, 1); 9]).unwrap_err();
        assert!(error.contains("1000 bytes a second"), "{error}");
        // One pause that is long, and much before it.
        all(vec![(0, 8000), (60, 8000), (0, 8000)]).unwrap();
        // However slow, an end is an end.
        all(vec![(60, 0)]).unwrap();
    }
}
