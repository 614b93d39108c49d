//! `onebit openapi`: the description of the routes without a running appliance, for programs that generate code.

use std::io::Write;

use super::Failed;
use crate::api::description;

pub(super) fn print(dialects: &[String]) -> Result<(), Failed> {
    let description =
        description(dialects).map_err(|names| format!("the dialects are {}", names.join(", ")))?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &description)?;
    writeln!(out)?;
    Ok(())
}
