//! Two thousand streams at once, of every manner.

use crate::streams::weather;

#[test]
#[ignore = "minutes; tests/run --full runs it"]
fn two_thousand_streams_leave_nothing_behind() {
    weather(2000, 2, 64 << 10);
}
