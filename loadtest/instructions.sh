#!/usr/bin/env bash
# Instructions that a node spends on a delivery, which unlike time don't depend on the machine's mood:
# the difference of two runs of different length under callgrind, over that of their deliveries.
#
#   loadtest/instructions.sh                       topics without history
#   loadtest/instructions.sh history.toml          with these settings
#
# SCENARIO (fanout), TRANSPORT (ws or http), AT_HAND (1), SUBSCRIBERS (1000) and BROKER (none) are
# environment variables. Needs valgrind, curl and a release build.
set -euo pipefail
cd "$(dirname "$0")/.."

settings=${1:-}
scenario=${SCENARIO:-fanout}
transport=${TRANSPORT:-ws}
at_hand=${AT_HAND:-1}
subscribers=${SUBSCRIBERS:-1000}
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

# Prints what a whole run of so many rounds took in instructions, and its deliveries.
run() {
    local options=(--workers 1 --listen 127.0.0.1:8097 --admin 127.0.0.1:9497)
    if [ -n "$settings" ]; then options+=(--config "$settings"); fi
    if [ -n "${BROKER:-}" ]; then options+=(--broker "$BROKER"); fi
    valgrind --tool=callgrind --callgrind-out-file="$directory/out" \
        target/release/umbel serve "${options[@]}" >/dev/null 2>"$directory/log" &
    local node=$!
    until curl -sf http://127.0.0.1:9497/readyz >/dev/null; do sleep 0.2; done
    local load=(--url "$transport://127.0.0.1:8097/topics/{topic}" --at-hand "$at_hand")
    load+=(--publish-url "${BROKER:-http://127.0.0.1:8097/publish}")
    # At Redis itself history comes from the function.
    if [ -n "${BROKER:-}" ] && grep -qs '^history' "$settings"; then load+=(--history); fi
    target/release/umbel-loadtest cost "$scenario" "${load[@]}" --subscribers "$subscribers" \
        --rounds "$1" --warm-up-seconds 0 --patience-seconds 60 >/dev/null
    # Workers hand their counts over four times a second.
    sleep 1
    local deliveries
    deliveries=$(curl -sf http://127.0.0.1:9497/metrics | awk '/^umbel_deliveries_total[ {]/ { sum += $NF } END { print sum }')
    kill -INT "$node"
    wait "$node" || true
    echo "$(sed -n 's/^\(summary\|totals\): \([0-9]*\).*/\2/p' "$directory/out" | tail -1) $deliveries"
}

read -r -a few <<<"$(run "${FEW:-20}")"
read -r -a many <<<"$(run "${MANY:-120}")"
awk -v n="$((many[0] - few[0]))" -v d="$((many[1] - few[1]))" \
    'BEGIN { printf "%.1f instructions per delivery (%d deliveries)\n", n / d, d }'
