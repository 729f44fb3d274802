#!/bin/sh
# All scenarios and the cost bench in one directory, with one report of them.
#
#   loadtest/suite.sh quick [DIR]    some minutes: few rounds, no million
#   loadtest/suite.sh full [DIR]     an hour and a half: all rounds, peers that are installed, the million
#
# The machine should do nothing else. A scenario that misses a target is named at the end, and the exit code is 1.
set -eu
kind=${1:-quick}
case $kind in quick) rounds=1 ;; full) rounds=3 ;; *) echo "suite.sh: $kind is neither quick nor full" >&2; exit 2 ;; esac
tool=${TOOL:-target/release/umbel-loadtest}
node=${UMBEL:-target/release/umbel}
name=$(hostname -s | tr -c 'a-zA-Z0-9-\n' '-')
out=${2:-loadtest/results/$(date -u +%F)-$name-$kind}
mkdir -p "$out"
missed=

# run NAME [ARGUMENT…]: one scenario; its result is NAME.json.
run() {
	result=$1
	shift
	echo "== $result"
	"$tool" run "$@" --out "$out/$result.json" || missed="$missed $result"
}

# Server and load have a core each where cost is compared; more nodes than one need both. Node and baseline in turns:
# their ratio is that of neighbours, and the report has the median of all rounds.
pinned="--server-core 1 --load-core 0"
for round in $(seq "$rounds"); do
	for scenario in fanout burst unicast latency storm; do
		if [ $scenario = storm ]; then cores=; else cores=$pinned; fi
		# shellcheck disable=SC2086
		run "$scenario-node-$round" $scenario --umbel "$node" $cores
		# shellcheck disable=SC2086
		run "$scenario-baseline-$round" $scenario --server baseline $cores
	done
done
for scenario in rooms idle churn jitter deploy redis-restart slow-tenth; do
	run "$scenario" "$scenario" --umbel "$node"
done

echo "== cost bench"
if [ "$kind" = full ]; then
	"$tool" bench --umbel "$node" --out "$out" || missed="$missed bench"
	if [ -d "${PEERS_DIR:-target/peers}" ]; then
		echo "== peers"
		loadtest/peers/compare.py --rounds "$rounds" --umbel "$node" --tool "$tool" --out "$out" || missed="$missed peers"
	else
		echo "peers aren't installed (loadtest/peers/install.sh): left out"
	fi
	echo "== a million"
	"$tool" run million --umbel "$node" --out "$out" || missed="$missed million"
	echo "== a million, with heartbeats more often"
	often="$out/often"
	"$tool" run million --umbel "$node" --set fleet.heartbeat_seconds=25 --set fleet.hold_seconds=120 \
		--out "$often" || missed="$missed million-25"
	# The report takes every fleet*.json of its directory.
	mv "$often/fleet.json" "$out/fleet-25.json" && mv "$often/fleet.md" "$out/fleet-25.md" && rmdir "$often"
else
	"$tool" bench --umbel "$node" --quick --out "$out" || missed="$missed bench"
fi

"$tool" report "$out" --out "$out/report.html"
echo "written to $out: open report.html"
if [ -n "$missed" ]; then
	echo "missed or failed:$missed" >&2
	exit 1
fi
