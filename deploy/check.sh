#!/bin/sh
# Build and test the image's contents without a container engine: run the Dockerfile's pip commands in
# a new environment, then run tests/deploy/test_deploy.py with it, which copies and starts what the
# Dockerfile says.
#
#   sh deploy/check.sh [FOLDER]       use FOLDER, or a folder under /tmp that is removed at the end
#   TORCH_INDEX=… sh deploy/check.sh  install torch from another index
#   PYTHON=… sh deploy/check.sh       create the environment with this interpreter
#   TESTER=… sh deploy/check.sh       run the tests with this one, which needs requirements-dev.txt
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

say "new environment: $("$PYTHON" --version) in $folder/venv"
"$PYTHON" -m venv "$folder/venv"
sed -n 's/^RUN \(pip .*\)/\1/p' deploy/Dockerfile > "$folder/steps"
while read -r step; do
    say "$step"
    PATH="$folder/venv/bin:$PATH" sh -euc "$step" < /dev/null
done < "$folder/steps"

say "installed packages"
"$folder/venv/bin/pip" check
"$folder/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
du -sh "$folder/venv"

say "tests of the image's files"
CLINGPT_DEPLOY_PYTHON="$folder/venv/bin/python" "$TESTER" -m pytest -v -rs tests/deploy/test_deploy.py
