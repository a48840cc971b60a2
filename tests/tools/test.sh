#!/usr/bin/env bash
# Runs every test (`npm test`). With arguments it is `cargo test` with these: `npm test -- --test hub roles::`.
#
# Most tests wait for processes, so they are built unoptimized. Those of the decisions alone compute, so the decisions are
# built once more, optimized and without the programs, and those tests run beside the others, on what processor time these
# leave. `cargo test` runs the same tests from one build, and takes longer.
#
#   npm test -- --build    only builds
set -uo pipefail
cd "$(dirname "$0")/../.."
# They wait more than they compute.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((4 * $(getconf _NPROCESSORS_ONLN)))}
if [ "$#" -gt 0 ] && [ "$*" != --build ]; then exec cargo test "$@"; fi

# Every test target but those of the decisions.
waiting=$(cd tests && ls -d -- *.rs */main.rs | sed -E 's,(/main)?\.rs$,,' | grep -vxE 'liveness|model_check|states_doc' | sed 's/^/--test=/')
# The programs that some tests run are built with them; one needs the feature, so all have it.
# shellcheck disable=SC2086 # words
others() { cargo test --features crash-points --no-fail-fast --lib --bins $waiting "$@"; }
programs() {
  cargo build --profile test --features crash-points --example agentcom-sidecar-crash-points --example agentcom-load
}
optimized=(--config profile.test.package.agentcom-sidecar.opt-level=2 --no-default-features --no-fail-fast)
explorations() { cargo test "${optimized[@]}" --features scheduler,codec --test states_doc --test liveness --test model_check "$@"; }
machine() { cargo test "${optimized[@]}" --lib "$@"; }

others --no-run && programs || exit 1
[ "$#" -eq 0 ] || exit 0

live=$(mktemp) said=$(mktemp)
trap 'rm -f "$live" "$said"' EXIT
{
  # Cargo builds one thing at a time in a folder: the others begin first.
  until grep -q '^ *Running' "$live" || ! kill -0 "$$"; do sleep 0.2; done
  outcome=0
  machine || outcome=1
  explorations || outcome=1
  exit "$outcome"
} > "$said" 2>&1 &
decisions=$!
renice -n 10 "$decisions" > /dev/null 2>&1
outcome=0
# Those of the machine run in the optimized build.
EXAMPLES_ARE_BUILT=1 others -- --skip machine:: 2>&1 | tee "$live" || outcome=1
wait "$decisions" || outcome=1
cat "$said"
cargo test --doc --features crash-points || outcome=1
exit "$outcome"
