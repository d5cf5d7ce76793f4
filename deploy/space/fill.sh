#!/bin/sh
# Fill a clone of a Docker Space's repository with everything that it needs.
#
#   git clone https://huggingface.co/spaces/NAME/SPACE ../space
#   sh deploy/space/fill.sh ../space out/pubmedqa/best
#   cd ../space && git add . && git commit -m "clinGPT" && git push
set -eu
model=${2-}
if [ -f "$model" ]; then # without symbolic links, best is a small file that names the checkpoint
    model=$(dirname "$model")/$(cat "$model")
fi
if [ ! -d "${1-}" ] || [ ! -f "$model/config.json" ]; then
    echo "usage: sh deploy/space/fill.sh FOLDER MODEL (a clone of a Space, a checkpoint folder)" >&2
    exit 2
fi
space=$(cd "$1" && pwd)
model=$(cd "$model" && pwd)
cd "$(dirname "$0")/../.."

mkdir -p "$space/deploy" "$space/model"
cp LICENSE model.py serve.py requirements.txt requirements-serve.txt "$space"
cp deploy/entrypoint.py deploy/healthcheck.py "$space/deploy"
rm -rf "$space/clingpt"
cp -R clingpt "$space"
find "$space/clingpt" -name __pycache__ -prune -exec rm -r {} +
cp -RL "$model/." "$space/model"
cp deploy/space/README.md "$space"
sed 's/^ARG MODEL=.*/ARG MODEL=model/' deploy/Dockerfile > "$space/Dockerfile"
echo "$space is filled; next: git add, git commit, git push"
