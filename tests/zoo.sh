#!/usr/bin/env bash
# Plays the suites against every mutant: a wrong variant of a critical line that one build holds and
# CHARTMESH_MUTANT wakes. Each must make a suite fail. Ends "N mutants, N caught".
#
#   ./tests/zoo.sh              all mutants
#   ./tests/zoo.sh NAME...      these
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/chartmesh/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
# So many seeds of the simulation, unless told otherwise.
export CHARTMESH_SEEDS="${CHARTMESH_SEEDS:-8}"
# A suite that does not end has failed.
patience=900

# The suites that are to catch each mutant, the quickest first.
declare -A catchers=(
    [transaction-in-two-batches]="store simulation"
    [applied-position-in-another-batch]="store simulation"
    [success-before-sync]="store simulation"
    [generation-from-current-head]="chartmesh_record"
    [last-writer-wins]="chartmesh_record"
    [tie-broken-by-arrival]="chartmesh_record"
    [plain-version-vector]="chartmesh_record"
    [wiped-voter-keeps-its-id]="region"
    [snapshot-without-its-data]="region"
    [purge-beyond-synced]="region"
    [request-forgotten-at-leader-change]="simulation"
    [decides-before-own-first-entry]="simulation"
    [refusal-without-confirmation]="simulation"
    [origin-kept-after-restart]="region simulation"
    [journal-reopened]="region simulation"
    [journal-not-synced]="region"
    [silent-forgotten]="region"
    [gap-accepted-on-arrival]="mirror"
    [hash-not-checked-on-arrival]="mirror"
    [age-dropped-by-relay]="chartmesh_mirror mirror"
    [posting-of-a-superseded-version]="store"
    [and-as-or]="store"
    [date-precision-dropped]="chartmesh_search"
    [page-key-without-tie-breaker]="store"
    [statement-before-its-journals]="chartmesh_mirror mirror"
)

# The code and this table name the same mutants.
in_code=$(grep -rhoE 'mutant\("[a-z-]+"\)' crates --include='*.rs' | cut -d'"' -f2 | sort -u)
in_table=$(printf '%s\n' "${!catchers[@]}" | sort)
if [ "$in_code" != "$in_table" ]; then
    echo "the mutants in crates/ are not those of this script:" >&2
    diff <(echo "$in_code") <(echo "$in_table") >&2 || true
    exit 1
fi
if [ $# -gt 0 ]; then mutants=("$@"); else mapfile -t mutants <<<"$in_table"; fi
for mutant in "${mutants[@]}"; do
    [ -n "${catchers[$mutant]:-}" ] || { echo "there is no mutant $mutant" >&2; exit 2; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "building all tests, with all mutants asleep"
packages=(-p chartmesh-record -p chartmesh-wire -p chartmesh-store -p chartmesh-region)
packages+=(-p chartmesh-search -p chartmesh-mirror -p chartmesh-tests)
if ! cargo test --release --locked --no-run --features chartmesh-tests/mutants "${packages[@]}" \
    >"$work/build" 2>&1; then
    cat "$work/build" >&2
    exit 1
fi
declare -A executables=()
while read -r path; do
    name=$(basename "$path")
    executables[${name%-*}]=$path
done < <(sed -n 's/^ *Executable .* (\(.*\))$/\1/p' "$work/build")

# Whether a suite passes; what it said is in $work/said.
passes() {
    local suite=$1 folder=tests
    # The suites of the mesh stand in tests/; all others beside the crate of their name.
    [ "$suite" = simulation ] || folder=crates/${suite#chartmesh_}
    [ -n "${executables[$suite]:-}" ] || { echo "no suite $suite is built" >"$work/said"; return 1; }
    # A mutant is to be caught by what it does wrong, not by doing it differently each time.
    (cd "$folder" && timeout "$patience" "${executables[$suite]}" --quiet ${CHARTMESH_MUTANT:+--skip one_seed}) \
        >"$work/said" 2>&1
}

for suite in $(for mutant in "${mutants[@]}"; do tr ' ' '\n' <<<"${catchers[$mutant]}"; done | sort -u); do
    started=$SECONDS
    if ! passes "$suite"; then
        tail -n 60 "$work/said" >&2
        echo "the suite $suite fails without a mutant" >&2
        exit 1
    fi
    printf '%-36s passes (%d s)\n' "$suite" $((SECONDS - started))
done

echo
caught=0
for mutant in "${mutants[@]}"; do
    started=$SECONDS by=""
    for suite in ${catchers[$mutant]}; do
        if ! CHARTMESH_MUTANT=$mutant passes "$suite"; then
            by=$suite
            break
        fi
    done
    if [ -n "$by" ]; then
        caught=$((caught + 1))
        test=$(sed -n 's/^---- \(.*\) stdout ----$/\1/p' "$work/said" | head -n 1)
        printf '%-36s caught by %s: %s (%d s)\n' "$mutant" "$by" "${test##*::}" $((SECONDS - started))
    else
        printf '%-36s NOT CAUGHT (%d s)\n' "$mutant" $((SECONDS - started))
    fi
done

echo
echo "${#mutants[@]} mutants, $caught caught"
[ "$caught" -eq "${#mutants[@]}" ]
