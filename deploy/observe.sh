#!/usr/bin/env bash
# Two nodes, a Redis, a Prometheus with Umbel's rules, and a gentle load, all on loopback: to see what
# operators see. Says what to open, and ends all that it started after OBSERVE_SECONDS or at Ctrl-C.
#
#   UMBEL=path/to/umbel  OBSERVE_SECONDS=3600  OBSERVE_SCRAPE=5s  deploy/observe.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
umbel=${UMBEL:-$here/../target/release/umbel}
seconds=${OBSERVE_SECONDS:-3600}
scrape=${OBSERVE_SCRAPE:-5s}

for program in redis-server prometheus; do
    command -v "$program" >/dev/null || { echo "observe: $program is missing; make tools installs it" >&2; exit 1; }
done
[ -x "$umbel" ] || { echo "observe: there is no $umbel; cargo build --release makes it" >&2; exit 1; }

work=$(mktemp -d)
nodes=()
others=()
finish() {
    trap - EXIT INT TERM
    # Nodes first and at once, so that none complains of the others' end.
    for pid in "${nodes[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
    for pid in "${nodes[@]}"; do wait "$pid" 2>/dev/null || true; done
    for pid in "${others[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${others[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 0' INT TERM

# Ports that nobody has now.
read -r redis http1 admin1 http2 admin2 prometheus < <(/usr/bin/python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(6)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
PY
)

# begin NAME PROGRAM ARGUMENTS: in the background, with a log of its own, in a session of its own, so that
# Ctrl-C is this script's alone. Its process is $begun.
begin() {
    local name=$1
    shift
    setsid "$@" >"$work/$name.log" 2>&1 &
    begun=$!
}
# await NAME PORT PATH: until that page answers 200; says what the log says if it doesn't.
await() {
    local head
    for _ in $(seq 100); do
        if head=$({ exec 3<>"/dev/tcp/127.0.0.1/$2"; printf 'GET %s HTTP/1.0\r\n\r\n' "$3" >&3; head -c 12 <&3; } 2>/dev/null) &&
            [ "${head:9:3}" = 200 ]; then return; fi
        sleep 0.1
    done
    echo "observe: $1 didn't start:" >&2
    tail -5 "$work/$1.log" >&2
    exit 1
}

cat >"$work/umbel.toml" <<'TOML'
[limits]
sessions = 500
behind_bytes = 65536
socket_bytes = 16384
[node]
memory_mib = 128
[drain]
pause_seconds = 1
drain_seconds = 10
[[topics]]
match = "chat.*"
subscribe = "anyone"
publish = "anyone"
history = { messages = 100, seconds = 300 }
[[topics]]
match = "prices.*"
subscribe = "anyone"
publish = "anyone"
on_slow = "latest"
[[topics]]
match = "game.*.state"
subscribe = "anyone"
publish = "anyone"
on_slow = "drop"
TOML
cat >"$work/prometheus.yml" <<YAML
global: { scrape_interval: $scrape, evaluation_interval: $scrape }
rule_files: ["$here/prometheus/umbel.rules.yml", "$here/prometheus/umbel.alerts.yml"]
scrape_configs:
  - job_name: umbel
    static_configs: [ { targets: ["127.0.0.1:$admin1", "127.0.0.1:$admin2"], labels: { cluster: observe } } ]
YAML

begin redis redis-server --port "$redis" --bind 127.0.0.1 --save "" --dir "$work"
others+=("$begun")
node() {
    begin "$1" "$umbel" serve --config "$work/umbel.toml" --listen "127.0.0.1:$2" --admin "127.0.0.1:$3" \
        --broker "redis://127.0.0.1:$redis" --workers 1
    nodes+=("$begun")
}
node node1 "$http1" "$admin1"
node node2 "$http2" "$admin2"
await node1 "$admin1" /readyz
await node2 "$admin2" /readyz
begin prometheus prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
    --web.listen-address="127.0.0.1:$prometheus" --web.user-assets="$here/grafana"
others+=("$begun")
await prometheus "$prometheus" /-/ready
begin load /usr/bin/python3 "$here/observe-load.py" "$http1" "$http2"
others+=("$begun")

cat <<TEXT
Two nodes with a gentle load, until Ctrl-C or for $seconds s. Open:
  the dashboards, drawn without Grafana   http://127.0.0.1:$prometheus/user/preview.html?minutes=5
  Prometheus, its alerts and rules        http://127.0.0.1:$prometheus/alerts
  the nodes' console                      http://127.0.0.1:$http1/   http://127.0.0.1:$http2/
  the nodes' live pages (and /metrics)    http://127.0.0.1:$admin1/   http://127.0.0.1:$admin2/
In Grafana: import deploy/grafana/umbel-*.json, or copy deploy/grafana/provisioning/* into its provisioning folder and the
dashboards to the folder named there, with this Prometheus as the data source's url.
Try: curl -X POST -H 'Umbel-Admin: 1' http://127.0.0.1:$admin2/drain      (the second node leaves)
TEXT

# A node may be asked to leave; the rest should stay.
for _ in $(seq "$seconds"); do
    sleep 1 &
    wait $! || true
    for pid in "${others[@]}"; do
        kill -0 "$pid" 2>/dev/null || { echo "observe: a process has ended:" >&2; tail -n 3 "$work"/{redis,prometheus,load}.log >&2; exit 1; }
    done
done
