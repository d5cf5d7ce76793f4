#!/bin/sh
# What an engine would do, without one: the Dockerfile's pip commands in a fresh environment, then
# tests/deploy/test_deploy.py with it, which copies what the Dockerfile copies and starts it as it says.
#
#   sh deploy/check.sh [FOLDER]       into FOLDER, or one under /tmp that is removed in the end
#   TORCH_INDEX=… sh deploy/check.sh  torch from another index
#   PYTHON=…, TESTER=…                to make the environment with; one with requirements-dev.txt
set -eu
cd "$(dirname "$0")/.."
: "${PYTHON:=python3.11}" "${TESTER:=$PWD/.venv/bin/python}"
: "${TORCH_INDEX:=$(sed -n 's/^ARG TORCH_INDEX=//p' deploy/Dockerfile)}"
export TORCH_INDEX
folder=${1-}
if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    chmod 755 "$folder"
fi
say() { printf '\n== %s\n' "$*"; }

say "a fresh environment: $("$PYTHON" --version) in $folder/venv"
"$PYTHON" -m venv "$folder/venv"
sed -n 's/^RUN \(pip .*\)/\1/p' deploy/Dockerfile > "$folder/steps"
while read -r step; do
    say "$step"
    PATH="$folder/venv/bin:$PATH" sh -euc "$step" < /dev/null
done < "$folder/steps"

say "what it holds"
"$folder/venv/bin/pip" check
"$folder/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
du -sh "$folder/venv"

say "the image's files, started as the Dockerfile says"
CLINGPT_DEPLOY_PYTHON="$folder/venv/bin/python" "$TESTER" -m pytest -v -rs tests/deploy/test_deploy.py
