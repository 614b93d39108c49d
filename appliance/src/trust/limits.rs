//! How often somebody may try: one bucket of tries for each address or device. Pure; the clock is handed in.

use std::collections::HashMap;
use std::net::IpAddr;

/// Buckets that are remembered. An attacker with more addresses than this empties nobody's bucket but the
/// fullest ones, which are forgotten first.
const BUCKETS_MAX: usize = 8192;

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Tries at once.
    pub(super) burst: f64,
    /// Tries a minute afterwards.
    pub(super) minute: f64,
}

/// Buckets of one rate.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Rate,
    buckets: HashMap<String, (f64, i64)>,
}

impl Limiter {
    pub(super) fn new(rate: Rate) -> Limiter {
        Limiter {
            rate,
            buckets: HashMap::new(),
        }
    }

    /// Takes one try.
    ///
    /// # Errors
    /// The seconds after which the next try is there.
    pub(super) fn take(&mut self, who: &str, now_ms: i64) -> Result<(), u32> {
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(who) {
            let rate = self.rate;
            self.buckets
                .retain(|_, bucket| level(rate, *bucket, now_ms) < rate.burst * 0.9);
            if self.buckets.len() >= BUCKETS_MAX {
                return Err(60); // everybody is trying at once: nobody new may
            }
        }
        let bucket = self
            .buckets
            .entry(who.to_owned())
            .or_insert((self.rate.burst, now_ms));
        let left = level(self.rate, *bucket, now_ms);
        if left >= 1.0 {
            *bucket = (left - 1.0, now_ms);
            return Ok(());
        }
        *bucket = (left, now_ms);
        let wait_s = (1.0 - left) * 60.0 / self.rate.minute;
        Err((wait_s.ceil() as u32).max(1))
    }
}

fn level(rate: Rate, (left, at_ms): (f64, i64), now_ms: i64) -> f64 {
    let minutes = now_ms.saturating_sub(at_ms).max(0) as f64 / 60_000.0;
    (left + minutes * rate.minute).min(rate.burst)
}

/// Whom an address counts as: a network hands one machine a whole /64 of IPv6 addresses.
pub(super) fn who(address: &str) -> String {
    match address
        .parse::<IpAddr>()
        .map(|address| address.to_canonical())
    {
        Ok(IpAddr::V6(address)) => {
            let s = address.segments();
            format!("{:x}:{:x}:{:x}:{:x}::/64", s[0], s[1], s[2], s[3])
        }
        Ok(address) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_run_out_and_come_back() {
        let mut limiter = Limiter::new(Rate {
            burst: 3.0,
            minute: 6.0,
        });
        for _ in 0..3 {
            assert_eq!(limiter.take("a", 0), Ok(()));
        }
        assert_eq!(limiter.take("a", 0), Err(10));
        assert_eq!(limiter.take("b", 0), Ok(()));
        assert_eq!(limiter.take("a", 10_000), Ok(()));
        assert_eq!(limiter.take("a", 10_000), Err(10));
        // A clock that goes backwards gives nothing.
        assert!(limiter.take("a", -1_000_000).is_err());
    }

    #[test]
    fn many_addresses_neither_grow_the_table_nor_empty_a_bucket() {
        let mut limiter = Limiter::new(Rate {
            burst: 1.0,
            minute: 1.0,
        });
        assert!(limiter.take("victim", 0).is_ok());
        for n in 0..2 * BUCKETS_MAX {
            let _ = limiter.take(&n.to_string(), 0);
        }
        assert!(limiter.buckets.len() <= BUCKETS_MAX);
        assert!(limiter.take("victim", 0).is_err());
    }

    #[test]
    fn one_network_is_one_machine() {
        assert_eq!(who("2001:db8:1:2:3:4:5:6"), who("2001:db8:1:2::9"));
        assert_ne!(who("2001:db8:1:2::9"), who("2001:db8:1:3::9"));
        assert_eq!(who("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
