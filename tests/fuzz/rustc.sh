#!/bin/sh
# What `.ci/fuzz` has cargo call in place of rustc: this package, its targets and what reads JSON for it are instrumented for
# libFuzzer; all other crates are built as they are, which takes half the time.
crate=
before=
for argument; do
  [ "$before" = --crate-name ] && crate=$argument
  before=$argument
done
case $crate in
  agentcom | checks | serde_json | jsonc_parser | hub_frames | sidecar_frames | queue_json | config_json | pm2_lists | documents)
    # The flags of cargo-fuzz, without its address sanitizer, which needs a nightly compiler (and this code is safe).
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
  *) exec "$@" ;;
esac
