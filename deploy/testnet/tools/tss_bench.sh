#!/usr/bin/env bash
# Signing sessions of a local cluster: how many end per second, how, and how long their phases take.
#
# Builds dvt-node, makes a cluster in a folder of its own, runs it with --enable-tss for some seconds, and reads
# /metrics of every node before and after. Needs bash, awk and what builds dvt-node; nothing is left behind.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: deploy/testnet/tools/tss_bench.sh [flags]

  --seconds S         how long is measured                                   [default: 10]
  --nodes N           operators, 1 to 20                                     [default: 4]
  --interval-ms MS    least time between blocks; 0 = as fast as agreed       [default: 100]
  --max-sessions N    --tss.max-sessions of every node; 0 = no limit         [default: 0]
  --base-port P       API of node i on P + i, its metrics on P + 20 + i      [default: 24600]
  --base-p2p-port P   the other operators reach node i on P + i              [default: 24700]
  --binary FILE       take this dvt-node instead of building one
  --keep              leave the cluster and its logs, and say where
  --help              this text

Every decided block has one signing session on every node. The table has, of the measured time:
  ok/s        sessions that ended with a signature, per second
  timeout     sessions whose shares never came
  failed      sessions that too many bad shares have spoilt
  limited     sessions that had to wait for a place (--tss.max-sessions)
  open        sessions open at the end
  init, gather, combine   mean milliseconds of each phase (tss_round_ms): to a place, to q shares, to the signature
Below it are percentiles of all nodes, from their logs and of the whole run. Nodes log every step for that, which
slows them down a little: for blocks per second there is cargo xtask bench.

Exit code 0 when sessions ended with a signature on every node, else 1; 2 for wrong flags.
TEXT
}

wrong() {
  echo "error: $1" >&2
  echo "see --help" >&2
  exit 2
}

seconds=10 nodes=4 interval_ms=100 max_sessions=0 base_port=24600 base_p2p_port=24700 binary="" keep=""
while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) usage; exit 0 ;;
    --keep) keep=1; shift; continue ;;
    --seconds | --nodes | --interval-ms | --max-sessions | --base-port | --base-p2p-port | --binary) ;;
    *) wrong "unknown flag $1" ;;
  esac
  [ $# -ge 2 ] || wrong "$1 needs a value"
  if [ "$1" != --binary ] && ! [[ "$2" =~ ^[0-9]{1,9}$ ]]; then wrong "$1 is a number, not '$2'"; fi
  case "$1" in
    --seconds) seconds=$2 ;;
    --nodes) nodes=$2 ;;
    --interval-ms) interval_ms=$2 ;;
    --max-sessions) max_sessions=$2 ;;
    --base-port) base_port=$2 ;;
    --base-p2p-port) base_p2p_port=$2 ;;
    --binary) binary=$2 ;;
  esac
  shift 2
done
if [ "$seconds" -lt 1 ] || [ "$seconds" -gt 3600 ]; then wrong "--seconds is 1 to 3600"; fi
if [ "$nodes" -lt 1 ] || [ "$nodes" -gt 20 ]; then wrong "--nodes is 1 to 20"; fi

# Until all nodes have signed together for the first time.
readonly START_SECONDS=120
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/tss_bench.XXXXXX")
devnet=""

cleanup() {
  if [ -n "$devnet" ] && kill -0 "$devnet" 2>/dev/null; then
    # The devnet stops its nodes, which end with it in any case.
    kill -TERM "$devnet" 2>/dev/null || true
    wait "$devnet" 2>/dev/null || true
  fi
  if [ -n "$keep" ]; then echo "cluster and logs: $dir"; else rm -rf "$dir"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "$binary" ]; then
  (cd "$root" && cargo build --release --locked --bin dvt-node)
  binary="${CARGO_TARGET_DIR:-$root/target}/release/dvt-node"
fi
[ -x "$binary" ] || wrong "--binary: $binary is no program"

"$binary" create-cluster --nodes "$nodes" --out "$dir/cluster" --insecure-keys \
  --base-port "$base_port" --base-p2p-port "$base_p2p_port" --block-interval-ms "$interval_ms" >"$dir/create.log"
for node in $(seq 0 $((nodes - 1))); do
  printf '\n[tss]\nmax-sessions = %s\n' "$max_sessions" >>"$dir/cluster/node$node/node.toml"
done
# Its nodes have --enable-tss; it tells the terminal nothing that is not in its log.
"$binary" devnet --dir "$dir/cluster" --base-port "$base_port" --log.level debug >"$dir/devnet.log" 2>&1 &
devnet=$!

# The metrics of a node; empty while it does not answer.
scrape() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$((base_port + 20 + $1))" || exit 0
    printf 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3
    timeout 5 cat <&3
  ) 2>/dev/null | tr -d '\r' || true
}

# The value of a series in a file of metrics; 0 when it is not there yet.
value() {
  awk -v series="$2" '$1 == series { found = $2 } END { print found + 0 }' "$1"
}

has_died() {
  echo "error: the cluster ended; the last lines of its log:" >&2
  tail -n 20 "$dir/devnet.log" >&2
  exit 1
}

ok='tss_sessions_total{result="ok"}'
echo "waiting for the first signatures of $nodes operators"
waited=0
for node in $(seq 0 $((nodes - 1))); do
  until scrape "$node" >"$dir/probe" && [ "$(value "$dir/probe" "$ok")" != 0 ]; do
    kill -0 "$devnet" 2>/dev/null || has_died
    if [ "$waited" -ge $((START_SECONDS * 5)) ]; then
      echo "error: node $node has signed nothing in $START_SECONDS s; see its log with --keep" >&2
      exit 1
    fi
    waited=$((waited + 1))
    sleep 0.2
  done
done

now_ms() { local now=${EPOCHREALTIME/[.,]/}; echo $((now / 1000)); }
for node in $(seq 0 $((nodes - 1))); do
  scrape "$node" >"$dir/before$node"
  now_ms >"$dir/began$node"
done
sleep "$seconds"
for node in $(seq 0 $((nodes - 1))); do
  scrape "$node" >"$dir/after$node"
  now_ms >"$dir/ended$node"
done
kill -0 "$devnet" 2>/dev/null || has_died

# What a series has grown by.
grown() {
  awk -v a="$(value "$dir/before$1" "$2")" -v b="$(value "$dir/after$1" "$2")" 'BEGIN { print b - a }'
}

mean() {
  awk -v sum="$(grown "$1" "tss_round_ms_sum{round=\"$2\"}")" \
    -v count="$(grown "$1" "tss_round_ms_count{round=\"$2\"}")" \
    'BEGIN { if (count > 0) printf "%.3f", sum / count; else printf "-" }'
}

printf '\n%d operators, %d ms between blocks, at most %s sessions open, %d s\n\n' \
  "$nodes" "$interval_ms" "$([ "$max_sessions" = 0 ] && echo "any number of" || echo "$max_sessions")" "$seconds"
printf '%-5s %9s %8s %8s %8s %5s %10s %10s %10s\n' node ok/s timeout failed limited open init gather combine
silent=""
for node in $(seq 0 $((nodes - 1))); do
  signed=$(grown "$node" "$ok")
  [ "$signed" != 0 ] || silent="$silent $node"
  rate=$(awk -v n="$signed" -v ms=$(($(cat "$dir/ended$node") - $(cat "$dir/began$node"))) \
    'BEGIN { printf "%.1f", 1000 * n / ms }')
  printf '%-5s %9s %8s %8s %8s %5s %10s %10s %10s\n' "$node" "$rate" \
    "$(grown "$node" 'tss_sessions_total{result="timeout"}')" \
    "$(grown "$node" 'tss_sessions_total{result="failed"}')" \
    "$(grown "$node" 'tss_rate_limited_total{kind="tss_session"}')" \
    "$(value "$dir/after$node" tss_sessions_open)" \
    "$(mean "$node" init)" "$(mean "$node" gather)" "$(mean "$node" combine)"
done

# Whole lines only: the last ones are written out when the nodes stop.
kill -TERM "$devnet" 2>/dev/null || true
wait "$devnet" 2>/dev/null || true
devnet=""

printf '\n%-10s %9s %9s %9s %9s %9s   ms, of all nodes\n' phase count p50 p90 p99 max
for phase in init gather combine; do
  awk -v phase="\"phase\":\"$phase\"" '
    index($0, "\"msg\":\"tss_session\"") && index($0, "\"event\":\"phase\"") && index($0, phase) \
      && index($0, "\"result\":\"ok\"") && match($0, /"latency_ms":[0-9.eE+-]+/) {
      print substr($0, RSTART + 13, RLENGTH - 13)
    }' "$dir"/cluster/node*/node.log | sort -g | awk -v phase="$phase" '
    { all[NR] = $1 }
    function at(share) { i = int(NR * share + 0.999999); return all[i < 1 ? 1 : i] }
    END {
      if (NR) printf "%-10s %9d %9.3f %9.3f %9.3f %9.3f\n", phase, NR, at(0.5), at(0.9), at(0.99), all[NR]
      else printf "%-10s %9d\n", phase, 0
    }'
done
if grep -q '"msg":"log_dropped"' "$dir"/cluster/node*/node.log; then
  echo "note: nodes had no room for all their log lines: percentiles are of the others"
fi

if [ -n "$silent" ]; then
  printf '\nerror: no session ended with a signature on node%s\n' "$silent" >&2
  exit 1
fi
