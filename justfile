# Short names for the commands that count. No logic: what needs an `if` is a script or a test.

# Fast checks
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Everything
test *ARGS:
    tests/run {{ARGS}}

# The page, into web/dist
web:
    npm --prefix web ci --ignore-scripts
    npm --prefix web run build

# The appliance from this checkout
run *ARGS:
    cargo run --package onebit -- serve {{ARGS}}

# What an owner types
install *ARGS:
    ./install.sh --source {{ARGS}}

# The programs we compare ourselves with
peers:
    benches/peers/build
