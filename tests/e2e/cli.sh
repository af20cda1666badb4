#!/bin/bash
# SPDX-License-Identifier: MIT
# cli.sh - every verb of hearth(1) against a real daemon with a tiny model.
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
command -v python3 >/dev/null || { echo "python3 is missing"; exit 77; }

t=$(mktemp -d)
cleanup() {
	local p
	# the daemons that hearth started, by the sockets we gave it
	for p in $(pids); do kill "$p" 2>/dev/null || true; done
	rm -rf "$t"
}
pids() { pgrep -f "hearthd -o socket=$t/" || true; }
trap cleanup EXIT
hearth=$O/hearth
export HOME=$t/home XDG_DATA_HOME=$t/data XDG_STATE_HOME=$t/state
export HEARTH_MODELS=$t/models:$t/more HEARTH_SOCKET=$t/run/hearth.sock
export HEARTH_DAEMON=$O/hearthd TERM=xterm LC_ALL=C.UTF-8
unset NO_COLOR HEARTH_HISTORY XDG_RUNTIME_DIR 2>/dev/null || true
mkdir -p "$t/home" "$t/models" "$t/more" "$t/state"
# engine and parser may run as another user
chmod 755 "$t"
"$O/tests/t_mkgguf" "$t/models/Tiny-Llama.Q8_0.gguf" --type Q8_0 --ctx 512
"$O/tests/t_mkgguf" "$t/more/Second.Q4_0.gguf" --type Q4_0 --ctx 256 --seed 2
m=tiny-llama

n=0
fail() {
	echo "cli.sh: $1"
	[ -e "$t/out" ] && head -n 20 "$t/out" | sed 's/^/stdout: /'
	[ -e "$t/err" ] && head -n 20 "$t/err" | sed 's/^/stderr: /'
	[ -e "$t/run/hearthd.log" ] && tail -n 20 "$t/run/hearthd.log" |
		sed 's/^/daemon: /'
	exit 1
}
want() {
	local rc=0 expected=$1
	shift
	timeout 120 "$@" >"$t/out" 2>"$t/err" </dev/null || rc=$?
	[ "$rc" = "$expected" ] || fail "exit $rc, not $expected: $*"
	# one sentence that begins with the name, and no colours in files
	if [ "$rc" != 0 ] && [ "$rc" != 130 ]; then
		grep -q '^hearth: ' "$t/err" || fail "no error text: $*"
	fi
	# what a model says may hold any byte: only what the tool says counts
	! grep -q $'\033' "$t/err" || fail "escape sequences: $*"
	[ "${2:-}" = run ] || ! grep -q $'\033' "$t/out" ||
		fail "escape sequences: $*"
	n=$((n + 1))
}
says() {
	grep -q -- "$1" "$t/err" || fail "stderr does not say '$1'"
	n=$((n + 1))
}
prints() {
	grep -q -- "$1" "$t/out" || fail "stdout does not have '$1'"
	n=$((n + 1))
}
is_json() {
	python3 -c "
import json, sys
d = json.load(open('$t/out'))
assert $1, d" || fail "JSON is not $1"
	n=$((n + 1))
}

# ---- usage: verbs, options, near names, help and the man page
want 2 "$hearth" frobnicate
says "no verb 'frobnicate'"
want 2 "$hearth" pss
says "near to it: ps"
rc=0
"$hearth" >"$t/out" 2>"$t/err" || rc=$?
if [ $rc != 2 ] || [ -s "$t/out" ]; then fail "no verb: exit $rc"; fi
want 2 "$hearth" run --tmep 1 x
says "near to it: temp"
want 2 "$hearth" run --temp abc x y
says "takes a number"
want 2 "$hearth" run --temp 101 x y
says "0 to 100"
want 2 "$hearth" run --top-k -1 x y
want 2 "$hearth" run --top-p nan x y
want 2 "$hearth" run --seed
says "needs a value"
want 2 "$hearth" run --greedy=yes x
says "takes no value"
want 2 "$hearth" run -Z x
want 2 "$hearth" run
want 2 "$hearth" run $m ""
says "prompt is empty"
want 2 "$hearth" run --raw --system x $m hello
want 2 "$hearth" ps extra
want 2 "$hearth" stop
want 2 "$hearth" stop --all x
want 2 "$hearth" show
want 2 "$hearth" tokenize
want 2 "$hearth" tokenize --count --json $m x
want 2 "$hearth" bench
want 2 "$hearth" bench -p 0 -n 0 $m
want 2 "$hearth" pull
want 2 "$hearth" --nonsense ps
want 2 "$hearth" completion fish
want 2 "$hearth" help nonsense
want 0 "$hearth" --help
want 0 "$hearth" --version
want 0 "$hearth" help
verbs=$(awk '/^  [a-z]/ { print $1 }' "$t/out")
[ "$(echo "$verbs" | wc -w)" -ge 12 ] || fail "too few verbs: $verbs"
man=Documentation/man/hearth.1
for v in $verbs; do
	want 0 "$hearth" "$v" --help
	prints "^usage: hearth $v"
	awk -v v="$v" '/^\.S[hs] / { on = $0 == ".Ss " v } on' "$man" >"$t/man"
	[ -s "$t/man" ] || fail "$man has no section on $v"
	# shellcheck disable=SC2013 # names of options have no blanks
	for o in $(sed -n 's/^ .*--\([a-z0-9-]*\).*/\1/p' "$t/out"); do
		grep -q "Fl -$o\b" "$t/man" ||
			fail "$man: $v: --$o is missing"
		n=$((n + 1))
	done
	# and nothing that is not there
	# shellcheck disable=SC2013
	for o in $(grep -o 'Fl -[a-z0-9-]*' "$t/man" | sed 's/Fl -//' |
		grep -v '^$' | sort -u); do
		[ "$v" = help ] || "$hearth" help "$v" | grep -q -- "--$o\b" ||
			grep -q "^\.Fl -$o$" "$t/man" ||
			fail "$man: $v has no option --$o"
	done
done
if command -v mandoc >/dev/null; then
	lint=$(mandoc -Tlint -Wwarning "$man" | grep -v 'outdated mandoc.db' ||
		true)
	[ -z "$lint" ] || fail "$lint"
fi

# ---- what needs no daemon starts none
want 0 "$hearth" ps
says "no daemon is running"
want 0 "$hearth" ps --json
is_json 'd == []'
want 0 "$hearth" version
prints "not running"
want 1 "$hearth" show limits
want 1 "$hearth" stop $m
want 0 "$hearth" stop --all
want 0 "$hearth" ls
prints "Tiny-Llama.Q8_0 .*Q8_0 .*512"
prints "Second.Q4_0"
want 0 "$hearth" ls --json
is_json 'sorted(x["name"] for x in d) == ["Second.Q4_0", "Tiny-Llama.Q8_0"] and d[0]["arch"] == "llama"'
want 0 "$hearth" ls -q
[ "$(cat "$t/out")" = "Tiny-Llama.Q8_0
Second.Q4_0" ] || fail "ls -q"
want 0 "$hearth" show $m
prints "architecture *llama"
prints "bits per weight"
prints "not resident"
want 0 "$hearth" show --json second
is_json 'd["n_ctx_train"] == 256 and d["metadata"]["general.architecture"] == "llama"'
want 0 "$hearth" show --metadata $m
prints "general.architecture = llama"
want 0 "$hearth" fit $m --backend cpu
prints "fits, on the CPU"
want 0 "$hearth" fit $m --gpu-mem 24G --json
is_json 'd["fits"] and d["gpu"]["all"] <= d["gpu"]["there"] and d["verdict"] == "fits"'
is_json 'd["gpu"]["layers"] == d["n_layer"] and d["n_ctx"] == d["n_ctx_train"] == 512'
want 0 "$hearth" fit $m --gpu-mem 24G --gpu-layers 1
prints "fits with 1 of . layers on the GPU"
want 0 "$hearth" fit $m --gpu-mem 130M
prints "not on the GPU: with 512 tokens the model needs"
want 1 "$hearth" fit $m --gpu-mem 130M --backend cuda
says "does not fit: . layers need .* bytes on the GPU, .* are free"
want 1 "$hearth" fit $m --backend cpu --mem 1M
says "does not fit: the pool needs"
want 1 "$hearth" fit $m --ctx 513 --backend cpu
says "context of 513 tokens wanted, the model has 512"
want 2 "$hearth" fit $m --gpu-mem 24X
says "no size"
want 2 "$hearth" fit $m --backend gpu
says "none of auto, cuda, cpu"
want 1 "$hearth" fit nowhere
want 2 "$hearth" fit
want 0 "$hearth" tokenize --json $m "Hello, wörld"
is_json 'len(d) > 4'
ids=$(cat "$t/out")
want 0 "$hearth" tokenize --decode $m "$ids"
prints "Hello, wörld"
want 0 "$hearth" tokenize --count $m abc
want 0 "$hearth" tokenize --pieces $m abc
prints '"a"'
printf 'from\nstdin\xff' | "$hearth" tokenize --json --no-bos $m >"$t/out"
"$hearth" tokenize --decode $m "$(cat "$t/out")" >"$t/back"
printf 'from\nstdin\xff' | cmp - "$t/back" || fail "bytes do not come back"
want 1 "$hearth" tokenize --decode $m "1 x"
says "no token number"
want 1 "$hearth" tokenize --decode $m 999999999
want 1 "$hearth" run tiny-lama hello
says "no model 'tiny-lama'; near to it: Tiny-Llama.Q8_0"
want 1 "$hearth" run llm-nothing hello
says "hearth pull llm-nothing"
want 1 "$hearth" run hf.co/a/b:Q4 hello
says "hearth pull hf.co/a/b:Q4"
want 1 "$hearth" run "$t/nothing.gguf" hello
[ -z "$(pids)" ] || fail "a daemon was started"
HEARTH_DAEMON=$t/none want 1 "$hearth" run $m hello
says "hearthd is not found"
printf '#!/bin/sh\necho "<3>hearthd: no luck today" >&2\nexit 1\n' >"$t/bad"
chmod +x "$t/bad"
HEARTH_DAEMON=$t/bad want 1 "$hearth" run $m hello
says "did not start: hearthd: no luck today"

# ---- racing starts end with one daemon, and all are answered
for i in 1 2 3 4 5 6; do
	"$hearth" run --greedy -n 4 $m "hello" >"$t/race$i" 2>"$t/race$i.err" \
		</dev/null &
	race[i]=$!
done
for i in 1 2 3 4 5 6; do
	wait "${race[i]}" || { cp "$t/race$i.err" "$t/err"; fail "race $i"; }
	cmp -s "$t/race1" "$t/race$i" || fail "race: answers differ"
done
[ "$(pids | wc -w)" = 1 ] || fail "not one daemon: $(pids)"
daemon=$(pids)

# ---- run
want 0 "$hearth" run --greedy -n 8 $m hello
cp "$t/out" "$t/hello"
[ ! -s "$t/err" ] || fail "stderr is not empty"
want 0 "$hearth" run --temp 0 --max-tokens=8 $m -- hello
cmp -s "$t/out" "$t/hello" || fail "--temp 0 is not --greedy"
echo hello | "$hearth" run --greedy -n 8 $m >"$t/out" || fail "stdin prompt"
cmp -s "$t/out" "$t/hello" || fail "prompt from stdin differs"
printf 'b' | "$hearth" run --greedy -n 8 $m a >"$t/both" || fail "both prompts"
want 0 "$hearth" run --greedy -n 8 $m $'a\n\nb'
cmp -s "$t/out" "$t/both" || fail "words and stdin are not joined"
want 0 "$hearth" run --seed 5 -n 12 $m hello
cp "$t/out" "$t/seed5"
want 0 "$hearth" run --seed 5 -n 12 $m hello
cmp -s "$t/out" "$t/seed5" || fail "a seed does not repeat"
want 0 "$hearth" run --raw --seed 5 -n 12 $m hello
want 0 "$hearth" run --verbose -n 4 $m hello
for w in load queue prefill first decode context finish; do says "^$w "; done
want 0 "$hearth" run --json --logprobs --top-logprobs 2 -n 5 --seed 9 $m hello
python3 - "$t/out" <<'PY' || fail "JSON events"
import json, math, sys
ev = [json.loads(line) for line in open(sys.argv[1])]
assert ev[0]["event"] == "start" and ev[0]["seed"] == 9, ev[0]
done = ev[-1]
assert done["event"] == "done" and done["finish"] in ("length", "eos"), done
tok = [t for e in ev if e["event"] == "tokens" for t in e["tokens"]]
assert len(tok) == done["n_out"] <= 5, (tok, done)
assert all(t["logprob"] <= 0 and len(t["top"]) == 2 for t in tok), tok
assert all(t["top"][0]["logprob"] >= t["top"][1]["logprob"] for t in tok)
assert done["prefill_ns"] > 0 and done["n_prompt"] == ev[0]["n_prompt"]
PY
n=$((n + 1))
want 0 "$hearth" run --logprobs -n 3 --greedy --ignore-eos $m hello
[ "$(wc -l <"$t/out")" = 3 ] || fail "not a line a token"
# a stop text ends the answer before it
want 0 "$hearth" run --greedy --ignore-eos --json -n 40 $m hello
stop=$(python3 -c "
import json
text = [json.loads(x) for x in open('$t/out')][-1]['text']
cut = next(c for c in text[3:] if c.isprintable() and c not in text[:3])
print(cut)")
want 0 "$hearth" run --greedy --ignore-eos --json -n 40 --stop "$stop" $m hello
python3 -c "
import json
d = [json.loads(x) for x in open('$t/out')][-1]
assert d['finish'] == 'stop' and '''$stop''' not in d['text'], d" ||
	fail "--stop '$stop'"
n=$((n + 1))
printf '%s' '{% for m in messages %}[{{ m.content }}]{% endfor %}' >"$t/tmpl"
want 0 "$hearth" run --greedy -n 8 --template "$t/tmpl" $m hello
cp "$t/out" "$t/own"
want 0 "$hearth" run --greedy -n 8 --raw $m '[hello]'
cmp -s "$t/out" "$t/own" || fail "--template is not used"
printf '{%% for %%}' >"$t/tmpl"
want 1 "$hearth" run --template "$t/tmpl" $m hello
says "chat template: "
want 1 "$hearth" run --template "$t/none" $m hello
want 1 "$hearth" run --vars '{"x": ' $m hello
# too long: refused with both numbers, not cut
python3 -c "print('word ' * 700)" >"$t/long"
rc=0
"$hearth" run $m <"$t/long" >"$t/out" 2>"$t/err" || rc=$?
[ $rc = 1 ] || fail "too long a prompt: exit $rc"
says 512
# a full context says so
want 0 "$hearth" run --greedy --ignore-eos --ctx 64 $m hello
says "the context is full"
# no text, and no file
printf 'a\0b' >"$t/zero"
rc=0
"$hearth" run $m <"$t/zero" >"$t/out" 2>"$t/err" || rc=$?
[ $rc = 1 ] || fail "a zero byte: exit $rc"
says "zero byte"
want 1 "$hearth" run "$t" hello
says "directory"
head -c 1000 "$t/models/Tiny-Llama.Q8_0.gguf" >"$t/models/cut.gguf"
want 1 "$hearth" run cut hello
says "cut"
want 1 "$hearth" show cut
echo nonsense >"$t/models/junk.gguf"
want 1 "$hearth" run junk hello
want 0 "$hearth" ls
prints "^junk .*-"
rm "$t/models/junk.gguf" "$t/models/cut.gguf"
if [ "$(id -u)" != 0 ]; then
	cp "$t/models/Tiny-Llama.Q8_0.gguf" "$t/models/secret.gguf"
	chmod 000 "$t/models/secret.gguf"
	want 1 "$hearth" run secret hello
	says "ermission"
	rm -f "$t/models/secret.gguf"
fi

# ---- output that is closed, full or not read to the end
rc=0
"$hearth" run --greedy -n 4 $m hello >&- 2>"$t/err" </dev/null || rc=$?
[ $rc = 1 ] || fail "closed stdout: exit $rc"
says "standard output"
rc=0
"$hearth" ls >/dev/full 2>"$t/err" || rc=$?
[ $rc = 1 ] || fail "full stdout: exit $rc"
says "No space"
"$hearth" run --ignore-eos --ctx 512 $m hello 2>"$t/err" </dev/null |
	head -c 5 >/dev/null || true
[ ! -s "$t/err" ] || fail "a reader that leaves is no error to print"
"$hearth" ps >"$t/out" 2>&- <&- || fail "closed stdin and stderr"

# ---- Ctrl-C ends the answer
"$hearth" run --ignore-eos --json $m hello >"$t/out" 2>"$t/err" </dev/null &
pid=$!
for _ in $(seq 200); do grep -q tokens "$t/out" && break; sleep 0.02; done
kill -INT $pid 2>/dev/null || true
rc=0
wait $pid || rc=$?
if [ $rc != 0 ] || ! grep -q '"length"' "$t/out"; then
	[ $rc = 130 ] || fail "exit $rc after Ctrl-C"
	prints '"cancel"'
fi

# ---- load, ps, show, stop; a context that is too long spoils nothing
want 1 "$hearth" load --ctx 1000000 second
says "1000000 tokens wanted, the model has 256"
want 0 "$hearth" load second
prints "context 256"
want 0 "$hearth" stop second
want 0 "$hearth" load --ctx 64 second
prints "context 64"
want 0 "$hearth" stop second
want 0 "$hearth" load second
prints "Second.Q4_0.*context 256"
want 0 "$hearth" ps
prints "Second.Q4_0 *ready"
prints "Tiny-Llama.Q8_0 *ready"
want 0 "$hearth" ps --json
is_json 'len(d) >= 2 and all(x["state"] == "ready" and x["n_ctx"] > 0 for x in d)'
want 0 "$hearth" show second
prints "^state *ready"
want 0 "$hearth" show limits
prints "max-sessions"
want 0 "$hearth" show limits --json
is_json '"max-models" in d'
want 0 "$hearth" show stats
want 0 "$hearth" version
prints "hearthd *[0-9]"
want 0 "$hearth" doctor --json
is_json 'd["ok"] and {"kernel", "memory", "daemon", "pool", "gpu"} <= {x["name"] for x in d["checks"]}'
want 0 "$hearth" doctor
prints "^ok *daemon *hearthd [0-9.]*, pid [0-9]*, up .*; engine [0-9]*, restarted 0 times"
want 2 "$hearth" doctor it
want 1 "$hearth" stop secnd
says "near to it: Second"
want 0 "$hearth" stop SECOND
prints "Second.Q4_0: unloaded"
want 0 "$hearth" stop --all --evict
want 0 "$hearth" ps --json
is_json 'd == []'

# ---- bench
want 0 "$hearth" bench --json -p 32 -n 8 -r 2 -b 2 $m
is_json '[x["test"] for x in d] == ["prefill", "decode"] and all(x["tokens_per_s"] > 0 for x in d)'
want 0 "$hearth" bench -p 0 -n 4 -r 1 $m
prints "tg4"
want 1 "$hearth" bench -p 100000 -r 1 $m
want 0 "$hearth" bench ipc --count 1000
want 0 "$hearth" bench hw --json --device none
is_json 'd["gpu"] is None and d["memory"][0]["threads"] == 1 and d["memory"][0]["read_4k_bytes_per_s"] > 1e8'

# ---- completion: the script works in a shell
want 0 "$hearth" completion bash
cp "$t/out" "$t/completion"
cmp -s "$t/completion" tools/completion/hearth.bash ||
	fail "tools/completion/hearth.bash is old: hearth completion bash"
got=$(PATH=$O:$PATH bash -c '. "$1"
COMP_WORDS=(hearth to) COMP_CWORD=1; _hearth; echo "${COMPREPLY[@]}"
COMP_WORDS=(hearth run --rep) COMP_CWORD=2; _hearth; echo "${COMPREPLY[@]}"
COMP_WORDS=(hearth run Sec) COMP_CWORD=2; _hearth; echo "${COMPREPLY[@]}"
' x "$t/completion")
[ "$got" = "tokenize
--repeat-penalty
Second.Q4_0" ] || fail "completion: $got"

# ---- chat at a terminal
python3 tests/e2e/chat.py "$hearth" $m "$t" >"$t/out" 2>"$t/err" ||
	fail "chat"
prints "chat: .* steps"

[ "$(pids)" = "$daemon" ] || fail "the daemon is not the same one any more"
echo "$n checks"
