# SPDX-License-Identifier: MIT
"""Chats with hearth run at a pseudo-terminal, as cli.sh asks.

usage: chat.py HEARTH MODEL DIR
"""
import json
import os
import pty
import re
import select
import signal
import sys
import time

hearth, model, tmp = sys.argv[1:4]
steps = 0


class Chat:
    """A child at a terminal of its own."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(hearth, [hearth, "run", *args])
        self.buf = ""
        self.all = ""

    def read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        text = data.decode("utf-8", "replace")
        self.buf += text
        self.all += text
        return bool(data)

    def until(self, pattern, seconds=60):
        """Wait for a pattern, take it and what is before it."""
        global steps
        end = time.time() + seconds
        while True:
            hit = re.search(pattern, self.buf)
            if hit:
                steps += 1
                got = self.buf[:hit.end()]
                self.buf = self.buf[hit.end():]
                return got
            if time.time() > end:
                sys.exit("no %r within %d s in:\n%s" % (pattern, seconds,
                                                        self.all[-3000:]))
            if not self.read(1):
                time.sleep(0.01)

    def prompt(self):
        return self.until(r">>>(\x1b\[0m)? ")

    def type(self, text):
        os.write(self.fd, text.encode())

    def line(self, text):
        self.type(text + "\r")
        return self.prompt()

    def end(self, code=0):
        global steps
        until = time.time() + 20
        while time.time() < until:
            self.read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                got = os.waitstatus_to_exitcode(status)
                if got != code:
                    sys.exit("exit %d, not %d:\n%s" % (got, code,
                                                   self.all[-3000:]))
                steps += 1
                return
        sys.exit("it does not leave:\n" + self.all)


def want(text, pattern):
    global steps
    if not re.search(pattern, text, re.S):
        sys.exit("no %r in %r" % (pattern, text))
    steps += 1


c = Chat("--greedy", "-n", "8", model)
c.until(r"/\? for help")
c.prompt()
want(c.line("hello"), r"tokens/s")
want(c.line("/show"), r"messages +2")
want(c.line("/set temp 0.5"), r"")
want(c.line("/set"), r"temp +0\.5")
want(c.line("/set tepm 1"), r"near to it: temp")
want(c.line("/set temp x"), r"takes a number")
want(c.line("/set system be brief"), r"")
want(c.line("/show system"), r"be brief")
want(c.line("/nonsense"), r"no command /nonsense")
want(c.line("/hlep"), r"near to it: /help")
want(c.line("/?"), r"/clear")
want(c.line("/show history"), r"user:.*hello.*assistant:")
want(c.line("/save " + tmp + "/chat.json"), r"3 messages saved")
saved = json.load(open(tmp + "/chat.json"))
assert [m["role"] for m in saved["messages"]] == ["system", "user",
                                                  "assistant"], saved
want(c.line("/clear"), r"")
want(c.line("/show"), r"messages +1")
want(c.line("/load " + tmp + "/chat.json"), r"3 messages loaded")
want(c.line("/load " + tmp + "/nothing"), r"hearth: .*nothing")
# several lines
c.type('"""first\r')
c.until(r"\.\.\. ")
c.type('second\r')
c.until(r"\.\.\. ")
want(c.line('third"""'), r"")
want(c.line("/show history"), r"first\r\nsecond\r\nthird\r\n")
# a pasted text is one message
c.type("\x1b[200~pasted\rlines\x1b[201~")
want(c.line(""), r"")
want(c.line("/show history"), r"user:[^:]*pasted\r\nlines\r\n")
# history: the arrow brings the last command back
c.type("\x1b[A")
c.until(r"/show history")
c.type("\r")
c.until(r"pasted")
c.prompt()
# Ctrl-C clears a line and stops an answer
c.type("half a line\x03")
c.prompt()
c.line("/set ignore-eos on")
c.line("/set max-tokens 0")
c.line("/clear")
c.type("go on\r")
c.until(r"go on\r\n.+")
c.type("\x03")
c.prompt()
# the conversation that no longer fits: both numbers, nothing is cut
c.line("/set max-tokens 4")
c.type("\x1b[200~" + "word " * 180 + "\x1b[201~")
c.line("")
got = c.line("/show")
c.type("\x1b[200~" + "word " * 400 + "\x1b[201~")
want(c.line(""), r"no longer fits|512")
c.type("\x03")
want(c.prompt(), r"Ctrl-C again")
c.type("\x03")
c.end()

# the history file is there, and private
path = os.path.join(os.environ["XDG_STATE_HOME"], "hearth", "history")
assert os.stat(path).st_mode & 0o777 == 0o600, oct(os.stat(path).st_mode)

c = Chat("--system", "be kind", model)
c.prompt()
want(c.line("/show system"), r"be kind")
c.type("/b\t\r")
c.end()
c = Chat(model)
c.prompt()
c.type("\x04")
c.end()
# the terminal's end ends the chat
c = Chat(model)
c.prompt()
os.kill(c.pid, signal.SIGTERM)
c.end(-signal.SIGTERM)
print("chat: %d steps" % steps)
