//! Arithmetic for the calculator: models guess sums, and a guess is no answer.

/// Longest expression; a person's sum has a few dozen characters.
const CHARS_MAX: usize = 500;

/// Brackets and powers inside one another.
const DEPTH_MAX: usize = 64;

/// Works out an expression of numbers, `+ - * / % ^`, brackets, `pi`, `e` and the functions of [`function`].
///
/// # Errors
/// What is wrong with it, and where.
pub fn calculate(expression: &str) -> Result<f64, String> {
    if expression.chars().count() > CHARS_MAX {
        return Err(format!(
            "the expression is longer than {CHARS_MAX} characters"
        ));
    }
    let mut reader = Reader {
        text: expression.chars().collect(),
        at: 0,
        depth: 0,
    };
    let value = reader.sum()?;
    if let Some(rest) = reader.peek() {
        return Err(format!(
            "`{rest}` is not expected at character {}; give numbers, + - * / % ^, brackets and functions such as sqrt(2)",
            reader.at + 1
        ));
    }
    if value.is_finite() {
        Ok(value)
    } else {
        Err("the result is no finite number; is something divided by zero?".to_owned())
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn peek(&mut self) -> Option<char> {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn sum(&mut self) -> Result<f64, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("the expression has too many brackets inside one another".to_owned());
        }
        let mut value = self.product()?;
        loop {
            match self.peek() {
                Some('+') => {
                    self.at += 1;
                    value += self.product()?;
                }
                Some('-' | '−' | '–') => {
                    self.at += 1;
                    value -= self.product()?;
                }
                _ => break,
            }
        }
        self.depth -= 1;
        Ok(value)
    }

    fn product(&mut self) -> Result<f64, String> {
        let mut value = self.signed()?;
        loop {
            match self.peek() {
                Some('*') if self.text.get(self.at + 1) == Some(&'*') => return Ok(value),
                Some('*' | '×' | '·') => {
                    self.at += 1;
                    value *= self.signed()?;
                }
                Some('/' | '÷') => {
                    self.at += 1;
                    value /= self.signed()?;
                }
                Some('%') => {
                    self.at += 1;
                    // `15%` of something, or a remainder where a number follows.
                    match self.peek() {
                        Some(c) if c.is_ascii_digit() || c == '(' || c == '.' => {
                            value %= self.signed()?;
                        }
                        _ => value /= 100.0,
                    }
                }
                // `2(3+4)` and `2 pi`
                Some(c) if c == '(' || c.is_ascii_alphabetic() => value *= self.power()?,
                _ => return Ok(value),
            }
        }
    }

    fn signed(&mut self) -> Result<f64, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("the expression has too many signs in a row".to_owned());
        }
        let value = match self.peek() {
            Some('-' | '−') => {
                self.at += 1;
                -self.signed()?
            }
            Some('+') => {
                self.at += 1;
                self.signed()?
            }
            _ => self.power()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn power(&mut self) -> Result<f64, String> {
        let base = self.atom()?;
        let doubled = self.peek() == Some('*') && self.text.get(self.at + 1) == Some(&'*');
        if doubled {
            self.at += 2;
        } else if !self.take('^') {
            return Ok(base);
        }
        Ok(base.powf(self.signed()?))
    }

    fn atom(&mut self) -> Result<f64, String> {
        match self.peek() {
            Some('(') => {
                self.at += 1;
                let value = self.sum()?;
                if !self.take(')') {
                    return Err("a bracket is not closed".to_owned());
                }
                Ok(value)
            }
            Some('√') => {
                self.at += 1;
                Ok(self.atom()?.sqrt())
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.word(),
            Some(c) => Err(format!(
                "`{c}` is not expected at character {}",
                self.at + 1
            )),
            None => Err("the expression ends too early".to_owned()),
        }
    }

    fn number(&mut self) -> Result<f64, String> {
        let mut digits = String::new();
        while let Some(&c) = self.text.get(self.at) {
            let next = self.text.get(self.at + 1).copied();
            let after = self.text.get(self.at + 2).copied();
            let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            match c {
                '0'..='9' | '.' => digits.push(c),
                // 1,234,567
                ',' | '_'
                    if digit(next)
                        && digit(after)
                        && digit(self.text.get(self.at + 3).copied()) => {}
                'e' | 'E' if digit(next) || (matches!(next, Some('+' | '-')) && digit(after)) => {
                    digits.push('e');
                    if let Some(sign) = next.filter(|next| !next.is_ascii_digit()) {
                        digits.push(sign);
                        self.at += 1;
                    }
                }
                _ => break,
            }
            self.at += 1;
        }
        digits
            .parse()
            .map_err(|_| format!("`{digits}` is no number"))
    }

    fn word(&mut self) -> Result<f64, String> {
        let mut name = String::new();
        while let Some(c) = self.text.get(self.at).filter(|c| c.is_ascii_alphanumeric()) {
            name.push(c.to_ascii_lowercase());
            self.at += 1;
        }
        match name.as_str() {
            "pi" => return Ok(std::f64::consts::PI),
            "e" => return Ok(std::f64::consts::E),
            _ => {}
        }
        if !self.take('(') {
            return Err(format!("`{name}` is no number; the names are pi and e"));
        }
        let mut arguments = vec![self.sum()?];
        while self.take(',') || self.take(';') {
            arguments.push(self.sum()?);
        }
        if !self.take(')') {
            return Err("a bracket is not closed".to_owned());
        }
        function(&name, &arguments)
    }
}

fn function(name: &str, given: &[f64]) -> Result<f64, String> {
    let value = match (name, given) {
        ("sqrt", [x]) => x.sqrt(),
        ("cbrt", [x]) => x.cbrt(),
        ("abs", [x]) => x.abs(),
        ("round", [x]) => x.round(),
        ("floor", [x]) => x.floor(),
        ("ceil", [x]) => x.ceil(),
        ("exp", [x]) => x.exp(),
        ("ln", [x]) => x.ln(),
        ("log" | "log10", [x]) => x.log10(),
        ("log2", [x]) => x.log2(),
        ("log", [x, base]) => x.log(*base),
        ("sin", [x]) => x.sin(),
        ("cos", [x]) => x.cos(),
        ("tan", [x]) => x.tan(),
        ("pow", [x, y]) => x.powf(*y),
        ("mod", [x, y]) => x % y,
        ("min", [_, ..]) => given.iter().copied().fold(f64::INFINITY, f64::min),
        ("max", [_, ..]) => given.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        _ => {
            return Err(format!(
                "there is no function {name} of {} numbers; there are sqrt cbrt abs round floor ceil exp ln log log2 \
                 sin cos tan pow mod min max",
                given.len()
            ));
        }
    };
    Ok(value)
}

/// A number as people write it: whole where it is whole, without the noise of binary fractions.
pub fn shown(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    if value.abs() >= 1e15 || value.abs() < 1e-6 {
        return format!("{value:e}");
    }
    // Fifteen digits hold without noise; those before the point are some of them.
    let before = value.abs().log10().floor().max(0.0) as usize + 1;
    let text = format!("{value:.*}", 15usize.saturating_sub(before).min(12));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_worked_out() {
        for (text, wanted) in [
            ("2+3*4", 14.0),
            ("(2 + 3) * 4", 20.0),
            ("2^3^2", 512.0),
            ("2**10", 1024.0),
            ("-2^2", -4.0),
            ("15% * 80", 12.0),
            ("17 % 5", 2.0),
            ("1,234 + 1", 1235.0),
            ("sqrt(144) + max(1, 2, 3)", 15.0),
            ("2(3+4)", 14.0),
            ("1.5e3 / 3", 500.0),
            ("10 ÷ 4 × 2", 5.0),
            ("--3", 3.0),
            ("2 * pi", std::f64::consts::TAU),
        ] {
            let got = calculate(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!((got - wanted).abs() < 1e-9, "{text} = {got}");
        }
    }

    #[test]
    fn what_is_no_sum_is_refused_by_name() {
        for text in ["", "2 +", "(1", "1 / 0", "two", "foo(3)", "3 $ 4", "1..2"] {
            assert!(calculate(text).is_err(), "{text}");
        }
        assert!(
            calculate(&"(".repeat(400))
                .unwrap_err()
                .contains("brackets")
        );
        assert!(calculate(&"-".repeat(400)).unwrap_err().contains("signs"));
        assert!(calculate(&"1+".repeat(400)).unwrap_err().contains("longer"));
    }

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        for (value, text) in [
            (84.0, "84"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333333333"),
            (1234.5, "1234.5"),
            (1e20, "1e20"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(shown(value), text);
        }
    }
}
