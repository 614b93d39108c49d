//! Two hundred deaths with -9 while documents come in and are read.

#[test]
#[ignore = "minutes: tests/run --full"]
fn two_hundred_kills_lose_nothing_and_show_nothing_half() {
    crate::kills::kill_while_reading(200);
}
