#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""template_cases.py - small templates, and what jinja2 makes of them.

usage: template_cases.py > template.json

check_template reads the result. Needs the Python package jinja2.
"""

import json
import sys

from template import environment

V = {"a": 3, "b": -7, "f": 2.5, "s": "Hello w\u00f6rld", "e": "", "n": None,
     "t": True, "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "d": {"k": "v", "z": [1, {"q": "\u2028<&>'\""}], "A": 0},
     "r": [{"n": "x", "v": 2}, {"n": "y", "v": 1}, {"n": "z"}],
     "x": "a,b,,c", "m": "one\n  two\n\nthree\n"}

CASES = """
{{ a + 2 * b }} {{ a / 2 }} {{ b // 2 }} {{ b % 3 }} {{ -b % 4 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }}
{{ 1e20 }} {{ 1e15 }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ 1e-5 }} {{ 0.0001 }} {{ 3.0 }} {{ 1/3 }} {{ 1_000 }} {{ 0x1f }} {{ 0b101 }} {{ 0o17 }}
{{ a == 3 }} {{ a == 3.0 }} {{ t == 1 }} {{ 'a' < 'b' }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ [1,2] < [1,3] }} {{ 'x' == 1 }}
{{ not a }} {{ not not a }} {{ a and e }} {{ e or 'z' }} {{ n or e or 0 }} {{ 1 if e else 2 }} {{ 'x' if e }} {{ 1 if t else 2 if e else 3 }}
{{ 'ell' in s }} {{ 'q' not in s }} {{ 2 in l }} {{ 'k' in d }} {{ 'v' in d }} {{ 1 in (1, 2) }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.5 }} {{ 'ab' * 3 }} {{ 2 * [1] }} {{ [1] + [2] }} {{ (1,) + (2,) }} {{ 'x' 'y' "z" }}
{{ [] }} {{ [1, 'a', none, true, 1.5, "it's", 'q"', "both'\\""] }} {{ {} }} {{ {'a': 1, 2: [3]} }} {{ (1,) }} {{ () }} {{ 1, 2 }}
{{ 'tab\\tnl\\nq\\'u\\x41\\u00e9\\101\\d' }} {{ ['tab\\tnl\\n\\x00\\u200b\\u00e9'] }}
{{ s[0] }}{{ s[-1] }}{{ s[7] }} {{ s[1:4] }} {{ s[:-3] }} {{ s[::-1] }} {{ s[::2] }} {{ s[8:] }} {{ s[99:] }} {{ s[5:2] }}
{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[::-1] }} {{ l[:1] }} {{ l[-2:] }} {{ l[5] is defined }} {{ (1,2,3)[1:] }}
{{ d.k }} {{ d['k'] }} {{ d.z[1].q }} {{ d.nope is defined }} {{ d['nope'] is undefined }} {{ d.get('k') }} {{ d.get('q', 5) }} {{ d.get('q') }}
{{ d.items() | list }} {{ d.keys() | list }} {{ d.values() | list }} {{ d | items | list }} {{ d | list }} {{ d | length }}
{{ undef }}|{{ undef | default('x') }}|{{ e | default('x', true) }}|{{ n | default('x') }}|{{ undef is defined }}|{{ undef | length }}
{{ undef.x }}
{{ undef + 1 }}
{{ undef() }}
{{ 1 + 'a' }}
{{ 1 / 0 }}
{{ d.k.x.y }}
{{ [1] | nofilter }}
{{ 1 is notest }}
{% if e %}{{ 1 | nofilter }}{% endif %}
{{ 'a' < 1 }}
{{ raise_exception('no ' ~ s) }}
{% if a > 2 %}big{% elif a %}some{% else %}none{% endif %}
{% if e %}1{% elif n %}2{% else %}3{% endif %}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ x }};{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}none{% endfor %}
{% for x in [] %}x{% else %}none{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }}{% endfor %} {% for c in 'h\u00e9' %}[{{ c }}]{% endfor %}
{% for x in l %}{% if loop.first %}{% continue %}{% endif %}{{ x }}{% break %}{% endfor %}
{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.cycle('o', 'e') }} {{ loop.changed(x > 1) }};{% endfor %}
{% for x in [[1,[2,[3]]],4] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{{ loop.depth }}{% endif %}{% endfor %}
{% for a in [1, 2] %}{% for a in [3] %}{{ a }}{% endfor %}{{ a }}{% endfor %}{{ a }}
{% set q = 1 %}{% for x in l %}{% set q = q + x %}{{ q }} {% endfor %}{{ q }}
{% set ns = namespace(c=0, x='y') %}{% for x in l %}{% set ns.c = ns.c + x %}{% endfor %}{{ ns.c }}{{ ns.x }}{{ ns.z }}
{% set q, r2 = 1, 'two' %}{{ q }}{{ r2 }}{% set (u, w2) = [5, 6] %}{{ u }}{{ w2 }}
{% set q %}block {{ a }}{% set inner = 1 %}{% endset %}{{ q | upper }}{{ inner }}
{% set q | upper | trim %} block {% endset %}[{{ q }}]
{% set d.k = 1 %}
{% if t %}{% set q = 5 %}{% endif %}{{ q }}
{% macro m(x, y=2, z=x) %}[{{ x }}{{ y }}{{ z }}{{ varargs }}{{ kwargs }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(x=4) }}{{ m() }}{{ m(1, 2, 3, 4, q=5) }}
{% macro m(x) %}{{ x }}{{ later }}{% endmacro %}{% set later = 'L' %}{{ m(1) }}{{ m.name }}
{% macro m(n) %}{{ n }}{% if n %},{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}
{% macro m(x) %}<{{ caller(x, 2) }}>{% endmacro %}{% call(p, q) m('c') %}{{ p }}-{{ q }}-{{ a }}{% endcall %}
{% macro m() %}{{ caller is defined }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}{{ m() }}{% call m() %}x{% endcall %}
{% macro m() %}{% set a = 9 %}{{ a }}{% endmacro %}{{ m() }}{{ a }}
{% with a = 1, c = a %}{{ a }}{{ c }}{% endwith %}{{ a }}
{% filter upper %}abc {{ s }}{% endfilter %}{% filter trim | replace('b', 'x') %}  abc {% endfilter %}
{% generation %}said{% set gg = 1 %}{% endgeneration %}{{ gg }}
{% raw %}{{ not }} {% if %}{# x #}{% endraw %} after
a {#- gone -#}  b {# kept #} c
{{ s | upper }} {{ s | lower }} {{ s | title }} {{ s | capitalize }} {{ 'hELLO wORLD-foo (bar' | title }} {{ "it's o'neil".title() }}
{{ '  x ' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ ' a '.strip() }}|{{ 'xya'.lstrip('xy') }}|{{ 'axy'.rstrip('xy') }}|{{ '\\n\\u00a0x\\u3000'.strip() }}
{{ x.split(',') }} {{ 'a b  c'.split() }} {{ ' a b '.split(' ') }} {{ 'a b c'.split(' ', 1) }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ''.split(',') }} {{ ''.split() }}
{{ 'a\\nb\\r\\nc'.splitlines() }} {{ 'k=v=w'.partition('=') }} {{ 'k=v=w'.rpartition('=') }} {{ 'kv'.partition('=') }}
{{ s.startswith('He') }} {{ s.endswith(('x', 'ld')) }} {{ s.find('w') }} {{ s.find('q') }} {{ s.rfind('l') }} {{ s.count('l') }} {{ s.index('o') }} {{ s.find('o', 5) }}
{{ 'aaa'.replace('a', 'b', 2) }} {{ 'abc' | replace('', '-') }} {{ s | replace('o', '0') }} {{ 'x' | replace('x', 1) }}
{{ '-'.join(['a', 'b']) }} {{ [1, none, 'x'] | join('/') }} {{ r | join(',', attribute='n') }} {{ 'abc' | join('.') }} {{ [] | join }}
{{ 'a{}b{}'.format(1, 'x') }} {{ '{0}{1}{0}'.format('p', 'q') }} {{ '{k:>5}|{v:<4}|{w:^5}|'.format(k='a', v=1, w='m') }} {{ '{:.2f} {:05d} {:,} {:+d} {:x}'.format(3.14159, 42, 1234567, 5, 255) }} {{ '{{}}'.format() }}
{{ '%s=%d %5.2f %r %%' % ('a', 3, 2.5, 'q') }} {{ '%s' % 'one' }} {{ '%-4s|%4s|%04d' | format('a', 'b', 7) }} {{ '%(k)s' % {'k': 1} }}
{{ 'abc'.isalpha() }} {{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ ' '.isspace() }} {{ 'AB'.isupper() }} {{ ''.isdigit() }} {{ 'x'.zfill(3) }} {{ 'x'.ljust(3) }}| {{ 'x'.rjust(3) }} {{ 'ab'.center(5) }}| {{ '-5'.zfill(4) }}
{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'aBc'.swapcase() }} {{ 'stra\u00dfe'.upper() }}
{{ l | sort }} {{ l | sort(reverse=true) }} {{ w | sort }} {{ w | sort(case_sensitive=true) }} {{ r[:2] | sort(attribute='v') | map(attribute='n') | list }}
{{ l | first }} {{ l | last }} {{ l | min }} {{ l | max }} {{ l | sum }} {{ r[:2] | sum(attribute='v') }} {{ [] | first is defined }} {{ w | max }} {{ [1.5, 2] | sum }}
{{ l | reverse | list }} {{ 'abc' | reverse }} {{ ['a', 'A', 'b', 'a'] | unique | list }} {{ ['a', 'A', 'b'] | unique(true) | list }}
{{ range(7) | batch(3) | list }} {{ range(4) | batch(3, 'x') | list }} {{ range(7) | slice(3) | list }} {{ range(4) | slice(3, 'x') | list }}
{{ range(3) | list }} {{ range(1, 6, 2) | list }} {{ range(3, 0, -1) | list }} {{ range(0) | list }}
{{ r | selectattr('v', 'defined') | map(attribute='n') | join }} {{ r | rejectattr('v') | map(attribute='n') | join }} {{ r | selectattr('n', 'equalto', 'y') | list | length }} {{ r | map(attribute='v', default=0) | list }}
{{ [1, 2, 3, 4] | select('odd') | list }} {{ [1, 2, 3, 4] | reject('even') | list }} {{ [0, 1, ''] | select | list }} {{ w | map('upper') | join }} {{ ['a-b'] | map('replace', '-', '+') | list }} {{ none | selectattr('x') | list }}
{{ d | dictsort }} {{ d | dictsort(true) }} {{ {'a': 2, 'b': 1} | dictsort(by='value') }} {{ {'a': 2, 'b': 1} | dictsort(reverse=true) }}
{{ d | tojson }} {{ d | tojson(indent=2) }} {{ [] | tojson(indent=2) }} {{ {} | tojson }} {{ 's\\n\\t\\x01\u00e9\U0001f600"\\\\/' | tojson }} {{ 's\u00e9\U0001f600' | tojson(ensure_ascii=true) }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ [1, 2] | tojson(separators=(',', ':')) }} {{ [1.0, 1e30, none, true] | tojson }} {{ {1: 2, none: 3, true: 4} | tojson }}
{{ undef | tojson }}
{{ namespace() | tojson }}
{{ '42' | int }} {{ '4x' | int(9) }} {{ 3.9 | int }} {{ '3.7' | int }} {{ '2.5' | float }} {{ 'x' | float(1.5) }} {{ 3 | float }} {{ '1f' | int(base=16) }} {{ none | int }}
{{ -5 | abs }} {{ 2.567 | round(2) }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 2.1 | round(method='ceil') }} {{ 2.9 | round(0, 'floor') }} {{ 5 | round }}
{{ m | indent }}|{{ m | indent(2, true) }}|{{ m | indent(2, blank=true) }}|{{ m | indent('> ') }}
{{ '<a href="x">\\'&' | e }} {{ '<b>' | safe }} {{ ('<b>' | safe) + '<i>' }} {{ ('<b>' | safe) ~ '<i>' }} {{ '<x>' | escape | escape }} {{ '<x>' | e | forceescape }}
{{ 'one two three four' | truncate(9) }} {{ 'one two three' | truncate(9, true) }} {{ 'short' | truncate(9) }} {{ 'one two  three' | wordcount }} {{ '<p>a  <b>b</b></p>' | striptags }} {{ 'a b&c/\u00e9' | urlencode }} {{ 'x' | center(5) }}|
{% for g, items in [{'k': 1, 'v': 'a'}, {'k': 2, 'v': 'b'}, {'k': 1, 'v': 'c'}] | groupby('k') %}{{ g }}:{{ items | map(attribute='v') | join }};{% endfor %}
{{ 1 is number }} {{ true is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ 's' is string }} {{ [] is sequence }} {{ {} is mapping }} {{ {} is sequence }} {{ 's' is iterable }} {{ 1 is iterable }} {{ none is none }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ true is boolean }}
{{ 4 is even }} {{ 3 is odd }} {{ 6 is divisibleby 3 }} {{ 6 is divisibleby(4) }} {{ 1 is eq 1 }} {{ 1 is ne 1 }} {{ 1 is lt 2 }} {{ 2 is ge 2 }} {{ 1 is in [1] }} {{ 1 is not in [1] }} {{ 'a' is lower }} {{ 'A' is upper }} {{ range is callable }} {{ 'x' is not string }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 1 is sameas 1 }}
{{ not a is string }} {{ a is defined and s is string }} {{ (a is defined) | string }} {{ -1 | abs }} {{ -a ** 2 }} {{ 2 ** 3 ** 2 }} {{ 1 - 2 - 3 }} {{ 10 - 4 ~ 'x' }} {{ 2 * 3 ~ 4 }} {{ 1 + 2 | string }}
{{ dict(a=1, b='x') }} {{ dict([['k', 2]]).k }} {{ dict({'p': 1}, q=2) }} {{ {'a': 1}.a }} {{ {'items': 5}['items'] }} {{ {'x': {'y': 1}}.x.y }} {{ [[1, 2]][0][1] }} {{ 'abc'.upper().lower()[1] }}
{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d') }}
  {% if t %}   
    in  
  {% endif %}   
end
{%- if t -%}   x   {%- endif -%}   y
x  {%+ if t %} y {%+ endif %} z
{% if t +%}
  y
{% endif %}
{{- s -}}   tail
{%- set q = [] -%}{%- set _ = q -%}{{ q }}
{{ "}}" }} {{ '{%' }} {{ {'a': {'b': 1}} }} {{ {'a': {'b': {}}}}}
{{ (1, 2) == (1, 2) }} {{ [1] == (1,) }} {{ {'a': 1} == {'a': 1.0} }} {{ none == none }} {{ undef == undef }} {{ 'a' != 'b' }}
{{ a if a is defined else 'no' }} {{ (a if e else b) + 1 }} {{ [a if t else b] }} {{ f(1) if e else 2 }}
{{ [1, 2, 3,] }} {{ {'a': 1,} }} {{ (1, 2,) }} {{ range(2,) | list }} {{ s | replace('l', 'L',) }}
{% set z1 = 'x' if e else 'y' %}{{ z1 }}{% set z2 = a, b %}{{ z2 }}
{{ s is string and s | length > 3 }} {{ s | length + 1 }} {{ l | length == 3 and 'yes' or 'no' }}
{% for x in l | sort %}{{ x }}{{ ',' if not loop.last }}{% endfor %}
{% for x in range(3) %}{% for y in range(2) %}{{ loop.index }}{% if y %}{% break %}{% endif %}{% endfor %}{{ loop.index }};{% endfor %}
{{ loop }}
{% if %}x{% endif %}
{% for in l %}{% endfor %}
{% endif %}
{% if a %}
{{ a
{{ 'abc
{# abc
{% raw %}
{% unknown %}
{{ a b }}
{{ (1 }}
{{ a. }}
{{ 1 | }}
{{ | upper }}
{% break %}
{% set %}
{{ f(a=1, 2) if false }}
{{ x[1:2:0] }}
""".strip("\n").split("\n")

# Templates of more than one line.
LONG = [
    "  {% if t %}   \n    in  \n  {% endif %}   \nend\n",
    "a\n  {%- if t %}\n  b\n  {%- endif %}\nc",
    "a\n\t{% for x in l %}\n\t\t{{ x }}\n\t{% endfor %}\n\nb\n\n",
    "x\r\ny\r{{ a }}\r\n",
    "{# c #}\n  {# d #}\n  e\n",
    "  {{ a }}\n  {{- a }}\n  {{ a -}}\n  z",
    "{% raw %}\n  {{ x }}\n{% endraw %}\nrest",
    "a {% raw -%}   keep {{ }}   {%- endraw %}\n b",
    "{% if t %}\n\n{% endif %}\n\n",
    "{{ a }}\n{{ b }}\n",
    "\n\n{% set q = 1 %}\n{{ q }}",
    "  {%+ if t %}k{% endif %}\n",
    "{% if t +%}\n  y\n{% endif %}\n",
    "{%- macro m(x) -%}\n  <{{ x }}>\n{%- endmacro -%}\n{{ m(1) }}\n{{ m(2) }}",
    "{{ {\n 'a': 1,\n 'b': [\n  2\n ]\n} }}",
    "{{ 'line\\\ncontinued' }} {{ 'real\nbreak' }}",
]


def main():
    env = environment()
    out = []
    for t in CASES + LONG:
        case = {"t": t}
        try:
            case["want"] = env.from_string(t).render(**V)
        except Exception as e:
            case["error"] = "%s: %s" % (type(e).__name__, e)
        out.append(case)
    json.dump({"vars": V, "cases": out}, sys.stdout, indent=0,
              ensure_ascii=True)
    print()


if __name__ == "__main__":
    main()
