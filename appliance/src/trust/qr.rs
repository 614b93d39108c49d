//! Pictures of a link that a camera reads.

use qrcode::types::Color;
use qrcode::{EcLevel, QrCode};

use super::TrustError;

/// Light modules around a code, which cameras need.
const QUIET: usize = 4;

/// A code as rows of dark (`true`) and light modules, with its quiet zone.
///
/// # Errors
/// The text is longer than a code can hold.
pub fn modules(text: &str) -> Result<Vec<Vec<bool>>, TrustError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M)
        .map_err(|error| TrustError::Certificate(format!("a QR code cannot hold this: {error}")))?;
    let width = code.width();
    let colors = code.to_colors();
    let size = width + 2 * QUIET;
    let mut rows = vec![vec![false; size]; size];
    for (index, color) in colors.into_iter().enumerate() {
        rows[index / width + QUIET][index % width + QUIET] = color == Color::Dark;
    }
    Ok(rows)
}

/// The code as the path of a drawing with one unit for each module: its size, and the path's `d`.
///
/// # Errors
/// The text is longer than a code can hold.
pub fn path(text: &str) -> Result<(usize, String), TrustError> {
    let rows = modules(text)?;
    let mut d = String::new();
    for (y, row) in rows.iter().enumerate() {
        let mut x = 0;
        while x < row.len() {
            let run = row[x..].iter().take_while(|dark| **dark).count();
            if run > 0 {
                d.push_str(&format!("M{x} {y}h{run}v1h-{run}z"));
            }
            x += run.max(1);
        }
    }
    Ok((rows.len(), d))
}

/// The code for a terminal: two rows of modules in each line, dark on light whatever the terminal's colours.
///
/// # Errors
/// The text is longer than a code can hold.
pub fn terminal(text: &str) -> Result<String, TrustError> {
    let rows = modules(text)?;
    let mut out = String::new();
    for pair in rows.chunks(2) {
        out.push_str("\x1b[38;5;16;48;5;231m");
        for (x, &top) in pair[0].iter().enumerate() {
            let bottom = pair.get(1).is_some_and(|row| row[x]);
            out.push(match (top, bottom) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        out.push_str("\x1b[0m\n");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_draws_every_dark_module_once() {
        let text = "https://192.168.1.20:8443/pair#c=0123456789ABCDEFGHJKMNPQRS";
        let rows = modules(text).unwrap();
        let dark = rows.iter().flatten().filter(|dark| **dark).count();
        let (size, d) = path(text).unwrap();
        assert_eq!(size, rows.len());
        let drawn: usize = d
            .split('h')
            .skip(1)
            .filter_map(|run| run.split('v').next()?.parse::<usize>().ok())
            .sum();
        assert_eq!(drawn, dark);
        assert!(rows[..QUIET].iter().flatten().all(|dark| !dark));
        assert!(modules(&"x".repeat(5000)).is_err());
    }

    #[test]
    fn a_terminal_shows_two_rows_a_line() {
        let rows = modules("a").unwrap().len();
        assert_eq!(terminal("a").unwrap().lines().count(), rows.div_ceil(2));
    }
}
