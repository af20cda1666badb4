#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""template.py - renders templates with Python's jinja2 and with ours.

usage: template.py T_TEMPLATE [DIR...]

T_TEMPLATE is the built tests/t_template; DIRs hold *.jinja files. Every
template meets every conversation below; the text must be the same, or both
must refuse. jinja2 is configured as transformers does it. Needs the Python
package jinja2. Exit status: 0 equal, 1 not, 77 skipped.
"""

import datetime
import glob
import json
import os
import struct
import subprocess
import sys

NOW = 1760000000

try:
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError:
    print("skipped: the Python package jinja2 is not installed")
    sys.exit(77)


class Generation(Extension):
    """{% generation %} marks what the assistant said."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"],
                                       drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    @staticmethod
    def _body(caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None,
           sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent,
                      separators=separators, sort_keys=sort_keys)


def strftime_now(fmt):
    return datetime.datetime.fromtimestamp(
        NOW, datetime.timezone.utc).strftime(fmt)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True,
        extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place, now or \"soon\".",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where"},
                "days": {"type": "integer", "minimum": 1},
                "unit": {"type": "string", "enum": ["C", "F"]},
                "more": {"type": "array", "items": {"type": "string"}},
                "opt": {"type": "object", "properties": {
                    "wind": {"type": "boolean", "default": True},
                    "ratio": {"type": "number"}}, "required": ["wind"]},
            },
            "required": ["city"],
        },
        "return": {"type": "string"},
    },
}


def call(args, ident="call_0"):
    return {"id": ident, "type": "function",
            "function": {"name": "get_weather", "arguments": args}}


SYS = {"role": "system", "content": "You are \u00e9clair, a helper.\n"}
ASK = {"role": "user", "content": "  What's <the> weather & \"time\"?\n"}
SAY = {"role": "assistant", "content": "Sunny \u2600 \U0001f600."}
THINK = {"role": "assistant", "reasoning_content": "Let me see.\nHm.",
         "content": "It rains."}
INLINE = {"role": "assistant",
          "content": "<think>\nfirst\n</think>\n\nsecond"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "one "},
                                     {"type": "text", "text": "two"}]}
ARGS = {"city": "K\u00f6ln", "days": 3, "more": ["a", "b"], "opt": None,
        "ratio": 1.5, "big": 1e20, "yes": True}
CALL = {"role": "assistant", "content": "", "tool_calls": [call(ARGS)]}
CALL_NONE = {"role": "assistant", "content": None,
             "tool_calls": [call({"city": "Ulm"}, "abcdefghi"),
                            call({"city": "Bern", "days": 0}, "jklmnopqr")]}
CALL_TEXT = {"role": "assistant", "content": "I look.",
             "tool_calls": [call(json.dumps(ARGS))]}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call_0",
          "content": "{\"temp\": 21}"}
RESULTS = [dict(RESULT, tool_call_id="abcdefghi"),
           dict(RESULT, tool_call_id="jklmnopqr", content="cold")]

CASES = {
    "user": {"messages": [ASK]},
    "system+user": {"messages": [SYS, ASK]},
    "no prompt": {"messages": [SYS, ASK], "add_generation_prompt": False},
    "turns": {"messages": [SYS, ASK, SAY, {"role": "user",
                                           "content": "And then?"}]},
    "turns ended": {"messages": [ASK, SAY], "add_generation_prompt": False},
    "two users": {"messages": [ASK, ASK]},
    "thinking on": {"messages": [SYS, ASK], "enable_thinking": True,
                    "thinking": True},
    "thinking off": {"messages": [SYS, ASK], "enable_thinking": False,
                     "thinking": False},
    "thought": {"messages": [ASK, THINK, ASK, THINK, ASK]},
    "thought last": {"messages": [ASK, THINK],
                     "add_generation_prompt": False},
    "thought inline": {"messages": [ASK, INLINE, ASK],
                       "enable_thinking": True},
    "parts": {"messages": [SYS, PARTS]},
    "tools": {"messages": [SYS, ASK], "tools": [TOOL]},
    "two tools": {"messages": [ASK], "tools": [TOOL, TOOL]},
    "tool call": {"messages": [ASK, CALL], "tools": [TOOL],
                  "add_generation_prompt": False},
    "tool call as text": {"messages": [ASK, CALL_TEXT, RESULT],
                          "tools": [TOOL]},
    "tool result": {"messages": [SYS, ASK, CALL, RESULT], "tools": [TOOL]},
    "tool results": {"messages": [ASK, CALL_NONE] + RESULTS + [SAY, ASK],
                     "tools": [TOOL]},
    "tool result think": {"messages": [ASK, dict(THINK, **CALL), RESULT],
                          "tools": [TOOL], "enable_thinking": True},
    "date": {"messages": [ASK], "date_string": "26 Jul 2024",
             "reasoning_effort": "high"},
    "developer": {"messages": [{"role": "developer", "content": "Be."},
                               ASK]},
    "odd role": {"messages": [{"role": "poet", "content": "?"}]},
    "empty": {"messages": []},
}

DEFAULTS = {"tools": None, "documents": None, "add_generation_prompt": True,
            "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
            "pad_token": "<pad>"}


class Ours:
    def __init__(self, program):
        env = dict(os.environ, TZ="UTC", LC_ALL="C")
        self.run = subprocess.Popen([program, str(NOW)], env=env,
                                    stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE)

    def render(self, tmpl, variables):
        v = json.dumps(variables).encode()
        self.run.stdin.write(struct.pack("<II", len(tmpl), len(v)) + tmpl + v)
        self.run.stdin.flush()
        err, n = struct.unpack("<II", self.run.stdout.read(8))
        return err, self.run.stdout.read(n).decode("utf-8", "replace")


def theirs(tmpl, variables):
    try:
        return 0, tmpl.render(**variables)
    except Exception as e:  # whatever jinja2 or the template raises
        return 1, "%s: %s" % (type(e).__name__, e)


def ours_goes_further(e1, want, e2):
    """We have lists where jinja2 has generators, and let them be changed."""
    return e1 and not e2 and want.startswith((
        "SecurityError: access to attribute 'append'",
        "TypeError: Object of type generator is not JSON"))


def differ(a, b):
    i = 0
    while i < min(len(a), len(b)) and a[i] == b[i]:
        i += 1
    return "at %d: want %r, got %r" % (i, a[max(0, i - 30):i + 50],
                                       b[max(0, i - 30):i + 50])


def main():
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    dirs = sys.argv[2:] or [os.path.join(os.path.dirname(__file__),
                                         "template")]
    files = sorted(f for d in dirs for f in glob.glob(d + "/*.jinja"))
    if not files:
        print("skipped: no templates")
        return 77
    env = environment()
    ours = Ours(sys.argv[1])
    good = bad = refused = further = 0
    for f in files:
        tmpl = open(f, "rb").read()
        their_tmpl = env.from_string(tmpl.decode())
        for name, case in CASES.items():
            variables = dict(DEFAULTS, **case)
            e1, want = theirs(their_tmpl, variables)
            e2, got = ours.render(tmpl, variables)
            if bool(e1) == bool(e2) and (e1 or want == got):
                good += 1
                refused += bool(e1)
                continue
            if ours_goes_further(e1, want, e2):
                further += 1
                continue
            bad += 1
            print("%s, %s: " % (os.path.basename(f), name), end="")
            if e1 or e2:
                print("want %s\n    got %s" % ((want[-200:], got[:300])))
            else:
                print(differ(want, got))
    print("%d templates: %d renderings equal (%d of them refused by both), "
          "%d only ours, %d different" %
          (len(files), good, refused, further, bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
