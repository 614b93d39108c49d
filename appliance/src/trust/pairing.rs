//! Pairing as a pure state machine: a window opens for two minutes, one device claims it with the code, both
//! sides show the same digits, the owner allows or refuses, the device collects its token once.
//!
//! No clock, no randomness and no store in here; all three are handed in. Codes and secrets are kept as hashes.

use sha2::{Digest, Sha256};

use super::secret::{hash, normal, same};
use crate::domain::{PersonId, Scope};
use crate::store::SecretHash;

/// How long a code can be used, and then how long the owner may think.
pub const WINDOW_MS: i64 = 120_000;

/// Wrong typed codes after which a window closes: 5 guesses at 40 bits are one chance in 2 * 10^11.
const TRIES_MAX: u8 = 5;

/// Windows at once; an owner has two hands.
const WINDOWS_MAX: usize = 8;

/// Symbols of the code in the link (130 bits) and of the one that is typed (40 bits).
pub(super) const LINK_SYMBOLS: usize = 26;
pub(super) const TYPED_SYMBOLS: usize = 8;

/// What a window gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose device it becomes.
    pub person: PersonId,
    /// The widest scope.
    pub scope: Scope,
}

/// Where a pairing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The code can be used.
    Open,
    /// A device has used it and waits for the owner.
    Claimed {
        /// What the device calls itself.
        name: String,
        /// From where.
        address: String,
        /// Whether nobody could listen on the way.
        private: bool,
        /// What both sides show.
        digits: String,
    },
    /// The owner allowed it; the device has not fetched its token yet.
    Allowed,
    /// The device has its token.
    Done,
    /// The owner refused, or the digits did not match.
    Refused,
    /// Too many wrong codes.
    Void,
    /// Nobody came, or the owner did not answer, in time.
    Expired,
}

/// What a device hears when it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// The owner has not decided.
    Wait,
    /// It is in; told once.
    Allowed {
        /// What it was given.
        grant: Grant,
        /// Its name.
        name: String,
        /// Whether it came over a private way.
        private: bool,
    },
}

/// Why a step is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// No open window has this code. One answer for wrong, used, expired and void: a guesser learns nothing.
    #[error("this code is wrong, used or expired; let the owner show a new one")]
    Code,
    /// The owner has more windows open than hands.
    #[error("too many pairings are open; close one or wait two minutes")]
    Full,
    /// There is no pairing of that name, or it waits for nobody.
    #[error("no device waits under that name; show a new code")]
    NotWaiting,
    /// The digits are not those of the device that waits.
    #[error(
        "the digits do not match: another device than yours used the code, and it has been refused; show a new code"
    )]
    Digits,
    /// The owner refused.
    #[error("the owner refused this device")]
    Refused,
    /// Nobody answered in time.
    #[error("nobody allowed this device in time; show a new code")]
    Expired,
}

#[derive(Debug)]
struct Window {
    id: String,
    link: SecretHash,
    typed: SecretHash,
    grant: Grant,
    until: i64,
    tries: u8,
    /// The hash of what the claiming device proves itself with.
    claimant: SecretHash,
    name: String,
    address: String,
    private: bool,
    stage: Stage,
}

/// A window as the owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowView {
    /// Its identifier.
    pub id: String,
    /// Where it stands.
    pub stage: Stage,
    /// Unix milliseconds at which the present stage ends.
    pub until: i64,
}

/// All windows.
#[derive(Debug, Default)]
pub(super) struct Pairings {
    windows: Vec<Window>,
}

impl Pairings {
    /// Opens a window for a pair of codes.
    pub(super) fn open(
        &mut self,
        now: i64,
        id: String,
        (link, typed): (&str, &str),
        grant: Grant,
    ) -> Result<(), PairingError> {
        self.tick(now);
        // What has ended stays to be looked at until its room is needed.
        if self.windows.len() == WINDOWS_MAX {
            let ended = self.windows.iter().position(|w| {
                !matches!(
                    w.stage,
                    Stage::Open | Stage::Claimed { .. } | Stage::Allowed
                )
            });
            match ended {
                Some(ended) => drop(self.windows.remove(ended)),
                None => return Err(PairingError::Full),
            }
        }
        self.windows.push(Window {
            id,
            link: hash(link.as_bytes()),
            typed: hash(typed.as_bytes()),
            grant,
            until: now + WINDOW_MS,
            tries: 0,
            claimant: [0; 32],
            name: String::new(),
            address: String::new(),
            private: false,
            stage: Stage::Open,
        });
        Ok(())
    }

    /// A device uses a code. Returns the window's identifier and the digits that the device shows.
    pub(super) fn claim(
        &mut self,
        now: i64,
        code: &str,
        device: Device<'_>,
    ) -> Result<(String, String), PairingError> {
        self.tick(now);
        let code = normal(code).ok_or(PairingError::Code)?;
        let hashed = hash(code.as_bytes());
        // Every open window is compared, and each in the same time.
        let mut found = None;
        for (index, window) in self.windows.iter().enumerate() {
            let fits = same(&window.link, &hashed) | same(&window.typed, &hashed);
            if fits && window.stage == Stage::Open {
                found = Some(index);
            }
        }
        let Some(index) = found else {
            if code.len() < LINK_SYMBOLS {
                self.count_wrong_code();
            }
            return Err(PairingError::Code);
        };
        let window = &mut self.windows[index];
        let digits = digits(&window.link, device.secret, device.ours);
        window.claimant = hash(device.secret.as_bytes());
        window.name = device.name.to_owned();
        window.address = device.address.to_owned();
        window.private = device.private;
        window.until = now + WINDOW_MS;
        window.stage = Stage::Claimed {
            name: device.name.to_owned(),
            address: device.address.to_owned(),
            private: device.private,
            digits: digits.clone(),
        };
        Ok((window.id.clone(), digits))
    }

    /// The owner decides; `digits` are those that the owner saw. Wrong ones refuse the device.
    pub(super) fn decide(
        &mut self,
        now: i64,
        id: &str,
        shown: &str,
        allow: bool,
    ) -> Result<String, PairingError> {
        self.tick(now);
        let window = self
            .windows
            .iter_mut()
            .find(|window| window.id == id)
            .ok_or(PairingError::NotWaiting)?;
        let Stage::Claimed { digits, .. } = &window.stage else {
            if !allow && window.stage == Stage::Open {
                window.stage = Stage::Refused;
                return Ok(String::new());
            }
            return Err(PairingError::NotWaiting);
        };
        let plain = |text: &str| {
            text.chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
        };
        let matching = same(
            &hash(plain(digits).as_bytes()),
            &hash(plain(shown).as_bytes()),
        );
        window.stage = if allow && matching {
            Stage::Allowed
        } else {
            Stage::Refused
        };
        match allow && !matching {
            true => Err(PairingError::Digits),
            false => Ok(window.name.clone()),
        }
    }

    /// The device asks how it stands; only the one that claimed the window can.
    pub(super) fn collect(
        &mut self,
        now: i64,
        id: &str,
        secret: &str,
    ) -> Result<Word, PairingError> {
        self.tick(now);
        let hashed = hash(secret.as_bytes());
        let window = self
            .windows
            .iter_mut()
            .find(|window| window.id == id && same(&window.claimant, &hashed))
            .ok_or(PairingError::NotWaiting)?;
        match window.stage {
            Stage::Claimed { .. } => Ok(Word::Wait),
            Stage::Allowed => {
                window.stage = Stage::Done;
                Ok(Word::Allowed {
                    grant: window.grant.clone(),
                    name: window.name.clone(),
                    private: window.private,
                })
            }
            Stage::Refused | Stage::Void => Err(PairingError::Refused),
            Stage::Expired => Err(PairingError::Expired),
            Stage::Open | Stage::Done => Err(PairingError::NotWaiting),
        }
    }

    /// All windows as the owner sees them.
    pub(super) fn views(&mut self, now: i64) -> Vec<WindowView> {
        self.tick(now);
        let view = |window: &Window| WindowView {
            id: window.id.clone(),
            stage: window.stage.clone(),
            until: window.until,
        };
        self.windows.iter().map(view).collect()
    }

    fn tick(&mut self, now: i64) {
        for window in &mut self.windows {
            let running = matches!(
                window.stage,
                Stage::Open | Stage::Claimed { .. } | Stage::Allowed
            );
            // A clock that was set back must not lengthen a window either.
            if running && (now >= window.until || now < window.until - WINDOW_MS) {
                window.stage = Stage::Expired;
            }
        }
    }

    fn count_wrong_code(&mut self) {
        for window in self.windows.iter_mut().filter(|w| w.stage == Stage::Open) {
            window.tries += 1;
            if window.tries >= TRIES_MAX {
                window.stage = Stage::Void;
            }
        }
    }
}

/// The claiming side.
pub(super) struct Device<'a> {
    /// What it calls itself.
    pub(super) name: &'a str,
    /// From where it comes.
    pub(super) address: &'a str,
    /// Whether nobody could listen.
    pub(super) private: bool,
    /// What it will prove itself with; made for this claim.
    pub(super) secret: &'a str,
    /// The appliance's own certificate authority, so that the digits speak of this box.
    pub(super) ours: &'a [u8],
}

/// Six digits that follow from the code, the device's secret and the box.
fn digits(code: &SecretHash, secret: &str, ours: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(b"onebit pairing digits\0");
    digest.update(code);
    digest.update(hash(secret.as_bytes()));
    digest.update(hash(ours));
    let bytes: [u8; 32] = digest.finalize().into();
    let number = u64::from_be_bytes([
        bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
    ]) % 1_000_000;
    format!("{:03} {:03}", number / 1000, number % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "0123456789ABCDEFGHJKMNPQRS";
    const TYPED: &str = "ABCD1234";

    fn device(secret: &str) -> Device<'_> {
        Device {
            name: "Phone",
            address: "10.0.0.2",
            private: true,
            secret,
            ours: b"ca",
        }
    }

    fn opened(now: i64) -> Pairings {
        let mut pairings = Pairings::default();
        pairings
            .open(now, "w".into(), (LINK, TYPED), grant())
            .unwrap();
        pairings
    }

    fn grant() -> Grant {
        Grant {
            person: PersonId::owner(),
            scope: Scope::Chat,
        }
    }

    #[test]
    fn a_phone_comes_in_once() {
        for code in [LINK, "abcd-1234"] {
            let mut pairings = opened(0);
            let (id, digits) = pairings.claim(1, code, device("s")).unwrap();
            assert_eq!(digits.len(), 7);
            assert_eq!(pairings.collect(2, &id, "s"), Ok(Word::Wait));
            assert_eq!(pairings.decide(3, &id, &digits, true), Ok("Phone".into()));
            let word = pairings.collect(4, &id, "s").unwrap();
            assert!(matches!(word, Word::Allowed { name, .. } if name == "Phone"));
            // Collected once, and nothing can be used again.
            assert_eq!(pairings.collect(5, &id, "s"), Err(PairingError::NotWaiting));
            assert_eq!(
                pairings.claim(5, code, device("t")),
                Err(PairingError::Code)
            );
            assert_eq!(
                pairings.decide(5, &id, &digits, true),
                Err(PairingError::NotWaiting)
            );
        }
    }

    #[test]
    fn of_two_phones_with_one_code_the_first_waits_and_the_second_knows_nothing() {
        let mut pairings = opened(0);
        let (id, first) = pairings.claim(1, LINK, device("first")).unwrap();
        assert_eq!(
            pairings.claim(1, LINK, device("second")),
            Err(PairingError::Code)
        );
        assert_eq!(
            pairings.claim(1, TYPED, device("second")),
            Err(PairingError::Code)
        );
        assert_eq!(
            pairings.collect(2, &id, "second"),
            Err(PairingError::NotWaiting)
        );
        // Another device would have shown other digits.
        let mut other = opened(0);
        assert_ne!(other.claim(1, LINK, device("second")).unwrap().1, first);
    }

    #[test]
    fn wrong_digits_refuse_the_device() {
        let mut pairings = opened(0);
        let (id, digits) = pairings.claim(1, LINK, device("s")).unwrap();
        let wrong = if digits == "000 000" {
            "111111"
        } else {
            "000000"
        };
        assert_eq!(
            pairings.decide(2, &id, wrong, true),
            Err(PairingError::Digits)
        );
        assert_eq!(
            pairings.decide(2, &id, &digits, true),
            Err(PairingError::NotWaiting)
        );
        assert_eq!(pairings.collect(3, &id, "s"), Err(PairingError::Refused));
    }

    #[test]
    fn time_ends_every_stage() {
        let mut pairings = opened(0);
        assert_eq!(
            pairings.claim(WINDOW_MS, LINK, device("s")),
            Err(PairingError::Code)
        );
        let mut pairings = opened(0);
        let (id, digits) = pairings.claim(100, LINK, device("s")).unwrap();
        let late = 100 + WINDOW_MS;
        assert_eq!(
            pairings.decide(late, &id, &digits, true),
            Err(PairingError::NotWaiting)
        );
        assert_eq!(pairings.collect(late, &id, "s"), Err(PairingError::Expired));
        let mut pairings = opened(0);
        let (id, digits) = pairings.claim(100, LINK, device("s")).unwrap();
        pairings.decide(200, &id, &digits, true).unwrap();
        assert_eq!(pairings.collect(late, &id, "s"), Err(PairingError::Expired));
        // Not even a clock that is set back helps.
        assert_eq!(
            opened(0).claim(-1, LINK, device("s")),
            Err(PairingError::Code)
        );
    }

    #[test]
    fn five_wrong_codes_close_the_window() {
        let mut pairings = opened(0);
        for guess in 0..TRIES_MAX {
            let guess = format!("0000000{guess}");
            assert_eq!(
                pairings.claim(1, &guess, device("s")),
                Err(PairingError::Code)
            );
        }
        assert_eq!(
            pairings.claim(1, TYPED, device("s")),
            Err(PairingError::Code)
        );
        assert_eq!(
            pairings.claim(1, LINK, device("s")),
            Err(PairingError::Code)
        );
        assert_eq!(pairings.views(1)[0].stage, Stage::Void);
        // Wrong links cannot close one: nobody guesses 130 bits, and an attacker must not be able to.
        let mut pairings = opened(0);
        for _ in 0..100 {
            let _ = pairings.claim(1, &"0".repeat(LINK_SYMBOLS), device("s"));
        }
        assert!(pairings.claim(1, LINK, device("s")).is_ok());
    }

    #[test]
    fn the_owner_refuses_and_closes() {
        let mut pairings = opened(0);
        let (id, digits) = pairings.claim(1, LINK, device("s")).unwrap();
        pairings.decide(2, &id, &digits, false).unwrap();
        assert_eq!(pairings.collect(3, &id, "s"), Err(PairingError::Refused));
        let mut pairings = opened(0);
        pairings.decide(1, "w", "", false).unwrap();
        assert_eq!(
            pairings.claim(2, LINK, device("s")),
            Err(PairingError::Code)
        );
    }

    #[test]
    fn windows_are_few() {
        let mut pairings = Pairings::default();
        let mut open = |now, n: usize| {
            pairings.open(now, n.to_string(), (&format!("{n:026}"), TYPED), grant())
        };
        for n in 0..WINDOWS_MAX {
            open(0, n).unwrap();
        }
        assert_eq!(open(1, 9), Err(PairingError::Full));
        assert_eq!(open(WINDOW_MS, 9), Ok(()));
    }

    /// Random steps in random order never let a device in that the owner did not allow with its digits.
    #[test]
    fn no_order_of_steps_lets_a_stranger_in() {
        let mut seed = 7u64;
        let mut next = move |n: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for _ in 0..2000 {
            let mut pairings = opened(0);
            let mut now = 1;
            let mut allowed = None;
            let mut known: Option<(String, String, String)> = None;
            for _ in 0..12 {
                now += i64::try_from(next(30_000)).unwrap();
                let who = ["a", "b"][usize::try_from(next(2)).unwrap()];
                match next(5) {
                    0 => {
                        let code =
                            [LINK, TYPED, "00000000", "x"][usize::try_from(next(4)).unwrap()];
                        if let Ok((id, digits)) = pairings.claim(now, code, device(who)) {
                            known = Some((id, digits, who.into()));
                        }
                    }
                    1 | 2 => {
                        if let Some((id, digits, who)) = &known
                            && pairings.decide(now, id, digits, true).is_ok()
                        {
                            allowed = Some(who.clone());
                        }
                    }
                    3 => {
                        let _ = pairings.decide(now, "w", "123456", next(2) == 0);
                    }
                    _ => {
                        if let Ok(Word::Allowed { .. }) = pairings.collect(now, "w", who) {
                            assert_eq!(allowed.as_deref(), Some(who));
                        }
                    }
                }
            }
        }
    }
}
