#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""systemd.py - start hearthd as systemd does: a socket as fd 3, a place to
report to. Usage: systemd.py HEARTHD DIR"""
import os
import signal
import socket
import struct
import sys

hearthd, where = sys.argv[1:]
path = where + "/given.sock"
ls = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ls.bind(path)
ls.listen(8)
note = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
note.bind(where + "/notify")
note.settimeout(20)
pid = os.fork()
if not pid:
    os.dup2(ls.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1",
                      NOTIFY_SOCKET=where + "/notify")
    os.execv(hearthd, [hearthd, "-o", "backend=oracle"])
text = note.recv(100)
assert text == b"READY=1", text
c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
c.settimeout(20)
c.connect(path)
c.send(struct.pack("<IHHII", 0x57545248, 1, 5, 77, 0))  # LIST
magic, abi, kind, seq, n = struct.unpack("<IHHII", c.recv(65536)[:16])
assert (magic, abi, kind, seq, n) == (0x57545248, 1, 67, 77, 0), kind
os.kill(pid, signal.SIGTERM)
assert note.recv(100) == b"STOPPING=1"
assert os.waitpid(pid, 0)[1] == 0
assert os.path.exists(path), "a given socket is not ours to remove"
