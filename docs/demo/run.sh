#!/usr/bin/env bash
# The main job, once, on real files: a bundle goes in with curl, is verified and archived, and comes out with curl.
# Run by `make demo`, which puts the suite's programs on PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
suite=
finish() {
    [ -z "$suite" ] || { kill "$suite" 2>/dev/null && wait "$suite" 2>/dev/null; } || true
    rm -rf "$work"
}
trap finish EXIT
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
field() { python -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

say "1. Start the suite: one process, SQLite, no broker."
pacifica up --data "$work/data" --ports auto --json >"$work/urls" 2>"$work/log" &
suite=$!
for _ in $(seq 300); do
    [ -s "$work/urls" ] && break
    kill -0 "$suite" 2>/dev/null || { cat "$work/log"; exit 1; }
    sleep 0.1
done
ingest=$(field ingest <"$work/urls")
cartd=$(field cartd <"$work/urls")
metadata=$(field metadata <"$work/urls")
echo "   ingest $ingest, cartd $cartd"

say "2. Bundle this repository's documentation with its metadata."
mkdir "$work/files"
cp -r README.md docs "$work/files/"
python docs/demo/bundle.py "$work/files" "$work/bundle.tar"
echo "   $(find "$work/files" -type f | wc -l) files, $(stat -c %s "$work/bundle.tar") bytes of tar"

say "3. POST it:  curl -T bundle.tar -X POST $ingest/upload"
curl -fsS -X POST -H 'Content-Type: application/octet-stream' -T "$work/bundle.tar" "$ingest/upload" | tee "$work/state"
job=$(field job_id <"$work/state")
echo

say "4. Watch the job:  curl $ingest/get_state?job_id=$job"
for _ in $(seq 600); do
    curl -fsS "$ingest/get_state?job_id=$job" >"$work/state"
    [ "$(field complete <"$work/state")" = True ] && break
    sleep 0.05
done
cat "$work/state"
echo
[ "$(field state <"$work/state")" = OK ] || { echo "the job failed"; exit 1; }

say "5. Ask the archive for the files of transaction $job, and fill a cart with them."
curl -fsS "$metadata/files?transaction=$job" >"$work/listing"
python - "$work/listing" >"$work/selection" <<'PYTHON'
import json, sys
files = json.load(open(sys.argv[1]))
entry = lambda f: {"id": f["_id"], "path": f"{f['subdir']}/{f['name']}".lstrip("/"), "hashtype": f["hashtype"], "hashsum": f["hashsum"]}
print(json.dumps({"fileids": [entry(f) for f in files]}))
PYTHON
cart=$(python -c 'import uuid; print(uuid.uuid4())')
curl -fsS -X POST -H 'Content-Type: application/json' --data-binary "@$work/selection" "$cartd/$cart"
echo
curl -fsSI "$cartd/$cart" | grep -i '^x-pacifica\|^x-content-length' | sed 's/^/   /'

say "6. Download it:  curl -O -J $cartd/$cart?filename=docs.tar"
mkdir "$work/out"
(cd "$work/out" && curl -fsS -O -J "$cartd/$cart?filename=docs.tar" && ls -l docs.tar | sed 's/^/   /' && tar xf docs.tar)
diff -r "$work/files" "$work/out/docs"
echo "   every byte of every file is as it was sent"

say "7. Break a download off and resume it:  curl -C - -o again.tar"
size=$(stat -c %s "$work/out/docs.tar")
curl -fsS "$cartd/$cart?filename=docs.tar" 2>/dev/null | head -c "$((size / 3))" >"$work/out/again.tar" || true
echo "   $(stat -c %s "$work/out/again.tar") of $size bytes had come"
curl -fsS -C - -o "$work/out/again.tar" "$cartd/$cart?filename=docs.tar"
cmp "$work/out/docs.tar" "$work/out/again.tar"
echo "   resumed, and equal to the first download"

say "8. Stop the suite (SIGTERM)."
kill "$suite"
wait "$suite"
suite=
echo "   ended cleanly. That is the main job."
