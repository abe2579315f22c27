#!/usr/bin/env bash
# Builds chartmesh and shows a mesh on this machine, three regions of three nodes: starts them, loads
# generated records, takes a leader, a region and a site away, brings them back, shows and resolves the
# conflict that is left, and compares what all nodes hold. The tour takes under two minutes.
#
#   ./deploy/demo.sh            builds, shows, stops
#   ./deploy/demo.sh --keep     builds, shows, and runs on until Ctrl-C
#   ./deploy/demo.sh ...        anything else goes to `chartmesh demo`: --dir, --port, --data, ...
#
# The first build takes some minutes. What it lacks is installed by apt; nothing else is changed.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/chartmesh/target}"
keep=no
arguments=()
for argument in "$@"; do
    case "$argument" in
    --keep) keep=yes ;;
    -h | --help)
        sed -n '2,10s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) arguments+=("$argument") ;;
    esac
done
[ "$keep" = yes ] || arguments+=(--exit)

"$root/deploy/prerequisites.sh"
# The whole workspace, as the tests build it: a narrower choice would compile its dependencies again.
echo "Building chartmesh (a first build takes about 20 minutes on two cores) ..."
(cd "$root" && cargo build --release --locked --workspace)

# A demo that is kept stands in ./demo-data, where `chartmesh status` looks for it; one that ends leaves
# nothing behind.
case " ${arguments[*]-} " in
*" --dir "* | *" --dir="*) ;;
*)
    if [ "$keep" = no ]; then
        fresh="$(mktemp -d "${TMPDIR:-/tmp}/chartmesh-demo.XXXXXX")"
        trap 'rm -rf "$fresh"' EXIT
        arguments+=(--dir "$fresh")
    fi
    ;;
esac
"$CARGO_TARGET_DIR/release/chartmesh" demo --tour ${arguments[@]+"${arguments[@]}"}
