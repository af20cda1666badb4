#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""systemd.py - start hearthd as systemd does: a socket as fd 3, a place to
report to, a watchdog. Usage: systemd.py HEARTHD DIR"""
import atexit
import os
import re
import signal
import socket
import struct
import sys
import time

hearthd, where = sys.argv[1:]
path = where + "/given.sock"
with open("libclient/ring.h") as f:
    ABI = int(re.search(r"define RING_ABI\s+(\d+)", f.read()).group(1))
ls = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ls.bind(path)
ls.listen(8)
running = set()


@atexit.register
def end_all():
    for p in running:
        os.kill(p, signal.SIGKILL)


class Service:
    """One start of the daemon; texts it sent are kept."""

    def __init__(self, notify, watchdog_us=None, watchdog_pid=None):
        self.note = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.note.bind(notify)
        self.texts = []  # said and not asked for yet
        name = notify if isinstance(notify, str) else "@" + notify[1:].decode()
        self.pid = os.fork()
        if not self.pid:
            os.dup2(ls.fileno(), 3)
            os.set_inheritable(3, True)
            os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1",
                              LISTEN_FDNAMES="hearthd.socket",
                              NOTIFY_SOCKET=name)
            if watchdog_us:
                os.environ.update(
                    WATCHDOG_USEC=str(watchdog_us),
                    WATCHDOG_PID=str(watchdog_pid or os.getpid()))
            os.execv(hearthd, [hearthd, "-o", "backend=oracle", "-o", "pool=private"])
        running.add(self.pid)

    def fresh(self, seconds):
        """What it says from now on, within some seconds."""
        self.collect(0.001)
        self.texts.clear()
        return self.collect(seconds)

    def collect(self, seconds):
        """What comes within some seconds, also kept."""
        end = time.monotonic() + seconds
        got = []
        while (left := end - time.monotonic()) > 0:
            self.note.settimeout(left)
            try:
                got.append(self.note.recv(1000).decode())
            except TimeoutError:
                break
        self.texts += got
        return got

    def expect(self, what, seconds=20):
        end = time.monotonic() + seconds
        said = []
        while time.monotonic() < end:
            if not self.texts:
                self.collect(0.02)
            while self.texts:
                said.append(self.texts.pop(0))
                if re.search(what, said[-1], re.M):
                    return said[-1]
        raise AssertionError(f"not said: {what}; said: {said[-20:]}")

    def kill(self, sig):
        os.kill(self.pid, sig)
        running.discard(self.pid)
        return os.waitpid(self.pid, 0)[1]


def ask_list():
    """A client that asks for the models; its connection."""
    c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    c.settimeout(20)
    c.connect(path)
    c.send(struct.pack("<IHHII", 0x57545248, ABI, 5, 77, 0))
    return c


def answered(c):
    magic, abi, kind, seq, _ = struct.unpack("<IHHII", c.recv(65536)[:16])
    assert (magic, abi, kind, seq) == (0x57545248, ABI, 67, 77), kind


def engine_of(text):
    return int(re.search(r"^STATUS=engine (\d+),", text, re.M).group(1))


# readiness, a status line, and beats at half of what is allowed
s = Service(where + "/notify1", watchdog_us=200000)
s.expect(r"^READY=1$")
first = engine_of(s.expect(r"^STATUS=engine \d+, 0 models"))
answered(ask_list())
beats = s.fresh(1.05).count("WATCHDOG=1")
assert 5 <= beats <= 11, f"{beats} beats in a second, not 10"
# they come from the loop: a monitor that hangs is silent
os.kill(s.pid, signal.SIGSTOP)
assert not s.fresh(0.5), "beats of a monitor that is stopped"
os.kill(s.pid, signal.SIGCONT)
s.expect(r"^WATCHDOG=1$")
# an engine that dies is replaced, and that is told
os.kill(first, signal.SIGKILL)
s.expect(r"^STATUS=starting an engine")
assert engine_of(s.expect(r"^STATUS=engine \d+")) != first
# whatever happens to the daemon, connecting works and is answered later
held = ask_list()
answered(held)
s.kill(signal.SIGKILL)
early = ask_list()
assert held.recv(100) == b"", "the dead one's connections have ended"

# the next one: an abstract address; a watchdog that is somebody else's
s = Service(b"\0hearth-test-%d" % os.getpid(), 200000, os.getppid())
s.expect(r"^READY=1$")
answered(early)
assert not any("WATCHDOG" in x for x in s.fresh(0.5)), "beats for nobody"
assert s.kill(signal.SIGTERM) == 0
s.expect(r"^STOPPING=1$", 1)
assert os.path.exists(path), "a given socket is not ours to remove"

# without a watchdog nothing ticks
s = Service(where + "/notify3")
s.expect(r"^STATUS=engine")
assert not s.fresh(0.5), s.texts
assert s.kill(signal.SIGTERM) == 0
s.expect(r"^STOPPING=1$", 1)
