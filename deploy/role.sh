#!/usr/bin/env bash
# Starts one role of the image; anything that is not a role is run as a command.
set -euo pipefail

role=${1:-}
case $role in
server)
    # Without it anyone who reaches the port can run flows.
    : "${PREFECT_SERVER_API_AUTH_STRING:?must be user:password}"
    exec prefect server start --host 0.0.0.0 --port 4200
    ;;
ray-head)
    exec ray start --head --port=6379 --dashboard-host=0.0.0.0 --num-cpus=0 --num-gpus=0 --block
    ;;
ray-worker)
    exec ray start --address="${RAY_HEAD:?must be host:port}" --num-cpus="${WORKER_CPUS:?}" --block
    ;;
worker)
    # A node without CPUs, so that flow runs find the cluster here but units run elsewhere. If either of the two ends,
    # the container ends and is restarted.
    ray start --address="${RAY_HEAD:?must be host:port}" --num-cpus=0 --num-gpus=0 --block &
    ray=$!
    until "$0" health http://127.0.0.1:52365/api/local_raylet_healthz 2>/dev/null; do
        kill -0 "$ray"
        sleep 1
    done
    # Marks runs that died together with Prefect's server; an automation of the server marks later ones.
    python -c 'import time; time.sleep(120); from specdyn.flows.service.silent_runs import mark_silent_runs; mark_silent_runs()' &
    mark=$!
    # Bash makes background jobs ignore SIGINT, which Prefect sends itself to stop.
    RAY_ADDRESS=auto env --default-signal=INT prefect worker start --pool specdyn --type process --limit "${FLOW_RUNS:-4}" \
        --no-create-pool-if-not-found --with-healthcheck &
    worker=$!
    trap : TERM INT
    status=0
    wait -n "$ray" "$worker" || status=$?
    # The flow runs of a stopping worker need the Ray node until they have ended.
    kill -TERM "$worker" 2>/dev/null || true
    wait "$worker" || true
    kill -TERM "$ray" 2>/dev/null || true
    wait "$ray" || true
    kill "$mark" 2>/dev/null || true
    exit "$status"
    ;;
setup)
    # Can be run again at any time.
    : "${SPECDYN_STORE:?must be s3://bucket/prefix}"
    if [ "${MAKE_BUCKET:-no}" = yes ]; then
        python -c 'import sys, s3fs; s3fs.S3FileSystem().makedirs(sys.argv[1].split("/")[2], exist_ok=True)' "$SPECDYN_STORE"
    fi
    specdyn storage check "$SPECDYN_STORE"
    prefect work-pool inspect specdyn >/dev/null 2>&1 || prefect --no-prompt work-pool create specdyn --type process
    file=${PREFECT_FILE:-/etc/specdyn/prefect.yaml}
    if prefect deployment inspect weight-decay-sweep/run >/dev/null 2>&1; then
        # Schedules in the file would replace all that have been created or activated since.
        python -c 'import sys, yaml
file = yaml.safe_load(open(sys.argv[1]))
print(yaml.safe_dump({**file, "deployments": [each | {"schedules": []} for each in file["deployments"]]}))' \
            "$file" >"${TMPDIR:-/tmp}/prefect.yaml"
        file=${TMPDIR:-/tmp}/prefect.yaml
    fi
    prefect --no-prompt deploy --all --prefect-file "$file"
    exec python -c 'from specdyn.flows.service.automations import set_up; set_up()'
    ;;
health)
    exec python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$2"
    ;;
*)
    exec "$@"
    ;;
esac
