#!/usr/bin/env bash
# Writes site.env with fresh secrets: deploy/make-site-env.sh [FILE]. Refuses to overwrite.
set -euo pipefail
umask 077

here=$(cd "$(dirname "$0")" && pwd)
file=${1:-$here/site.env}
if [ -e "$file" ]; then
    echo "$file exists; remove it first" >&2
    exit 1
fi

secret() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

sed -e "s/^POSTGRES_PASSWORD=$/&$(secret 24)/" \
    -e "s/^PREFECT_AUTH=$/&specdyn:$(secret 24)/" \
    -e "s/^RAY_AUTH_TOKEN=$/&$(secret 32)/" \
    -e "s/^AWS_ACCESS_KEY_ID=$/&$(secret 10)/" \
    -e "s/^AWS_SECRET_ACCESS_KEY=$/&$(secret 20)/" \
    "$here/site.env.example" >"$file"
echo "wrote $file"
