#!/usr/bin/env bash
# Does limits.accepts_per_second hold its number, and do those connected notice a storm at the door?
#
# A node on one core; a thousand sessions that hear 20 messages a second; first alone, then while others
# connect as fast as they can. Prints the connections accepted per second while the storm lasts, and the
# latency of the last receiver of each message, quiet and besieged.
#
#   loadtest/siege.sh              1000 connections a second
#   RATE=2000 STORM=16000 loadtest/siege.sh
#
# Needs curl, taskset and a release build.
set -euo pipefail
cd "$(dirname "$0")/.."

rate=${RATE:-1000}
storm=${STORM:-15000}
seconds=${SECONDS_EACH:-10}
admin=http://127.0.0.1:9497
# The storm has a connection to publish on that it never uses.
export UMBEL_LIMITS__ACCEPTS_PER_SECOND=$rate UMBEL_LIMITS__HEADER_SECONDS=60

taskset -c 0 target/release/umbel serve --workers 1 --listen 127.0.0.1:8097 --admin 127.0.0.1:9497 \
    >/dev/null 2>&1 &
node=$!
trap 'kill -INT $node; wait $node || true' EXIT
until curl -sf $admin/readyz >/dev/null; do sleep 0.1; done

accepted() { curl -sf $admin/metrics | sed -n 's/^umbel_connections_accepted_total //p'; }
latency() {
    taskset -c 1 target/release/umbel-loadtest cost latency --url "ws://127.0.0.1:8097/topics/{topic}" \
        --publish-url http://127.0.0.1:8097/publish --subscribers 1000 \
        --seconds "$seconds" --warm-up-seconds 2 2>&1
}

echo "== quiet"
latency
echo "== besieged"
# The storm comes first: that its own process starts is nothing to measure. It gets what the node leaves of its
# core, so that those who measure have theirs for themselves. Those outside wait all the time, but
# don't fill the kernel's queue: SYNs by the thousand would be sent again at once.
nice -n 19 taskset -c 0 target/release/umbel-loadtest cost storm --url "ws://127.0.0.1:8097/topics/storm" \
    --subscribers "$storm" --concurrency 512 --rounds 1 --warm-up-seconds 0 --patience-seconds 120 >/dev/null 2>&1 &
storming=$!
sleep 0.5
latency &
measuring=$!
sleep 2
before=$(accepted) && begun=$(date +%s%N)
sleep "$((seconds - 1))"
after=$(accepted) && ended=$(date +%s%N)
wait $measuring
wait $storming || true
awk -v n=$((after - before)) -v t=$((ended - begun)) -v r="$rate" \
    'BEGIN { x = n / t * 1e9; printf "accepted %.0f a second while besieged, of %d: %+.1f %%\n", x, r, (x / r - 1) * 100 }'
