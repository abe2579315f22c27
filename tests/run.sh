#!/usr/bin/env bash
# Installs what is missing and runs everything that must pass.
#
#   ./tests/run.sh              format, lints, docs, licences, all tests
#   ./tests/run.sh --quick      the same without the rounds on real processes
#   ./tests/run.sh --clients    public FHIR clients against running nodes; installs them first
#   ./tests/run.sh --zoo        runs the suite against every mutant; ends "N mutants, N caught"
#   ./tests/run.sh --seed N     only the simulation, with this seed
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/chartmesh/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
mode=full
while [ $# -gt 0 ]; do
    case "$1" in
    --quick) mode=quick ;;
    --clients) mode=clients ;;
    --zoo) mode=zoo ;;
    --seed)
        [ $# -ge 2 ] || { echo "--seed needs a number" >&2; exit 2; }
        export CHARTMESH_SEED="$2"
        mode=seed
        shift
        ;;
    -h | --help)
        sed -n '2,8s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *)
        echo "unknown option $1; see ./tests/run.sh --help" >&2
        exit 2
        ;;
    esac
    shift
done

started=$SECONDS
step() { printf '\n== %s (%d s so far)\n' "$1" "$((SECONDS - started))"; }

step "installing what is missing"
./deploy/prerequisites.sh

if [ "$mode" = zoo ]; then
    step "the zoo: every mutant must be caught"
    exec ./tests/zoo.sh
fi

if [ "$mode" = clients ]; then
    step "the clients, in the versions that stand in tests/clients"
    export CHARTMESH_CLIENTS="${CARGO_TARGET_DIR%/*}/clients"
    mkdir -p "$CHARTMESH_CLIENTS/node"
    python3 -m venv "$CHARTMESH_CLIENTS/venv"
    "$CHARTMESH_CLIENTS/venv/bin/pip" install --quiet --requirement tests/clients/requirements.txt
    cp tests/clients/package.json "$CHARTMESH_CLIENTS/node/"
    npm install --silent --no-audit --no-fund --prefix "$CHARTMESH_CLIENTS/node"
    CARGO_TARGET_DIR="$CHARTMESH_CLIENTS/rust" \
        cargo build --locked --manifest-path tests/clients/rust/Cargo.toml
    cargo build --release --locked --workspace --all-targets
    exec cargo test --release --locked --workspace --test processes clients:: -- --test-threads 1
fi

if [ "$mode" = seed ]; then
    step "the simulation with seed $CHARTMESH_SEED"
    exec cargo test --release --locked --workspace --test simulation
fi

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --release --locked --workspace --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps --quiet

step "licences, sources, bans"
if ! cargo deny --version >/dev/null 2>&1; then
    cargo install cargo-deny --version "^0.20" --locked --quiet \
        --target-dir "${CARGO_TARGET_DIR%/*}/tools"
fi
cargo deny --log-level error check bans licenses sources

step "tests"
# With the tests, so that all is compiled once: what they need changes features of what is shared.
cargo build --release --locked --workspace --all-targets
if [ "$mode" = quick ]; then export CHARTMESH_QUICK=1; fi
cargo test --release --locked --workspace

step "done"
