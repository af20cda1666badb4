#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A local HTTP server that misbehaves on demand, for tests of downloads.

usage: httpd.py DIR PORTFILE LOG

Serves DIR on 127.0.0.1 and writes the port it got to PORTFILE and one line a
request to LOG: method, path, Range, status. Ranges are honoured. The first part
of a path may ask for trouble, "/break=1000/x.bin" is DIR/x.bin with it:

  break=N    break the connection off after N bytes, each time
  once=N     the same, the first time only
  fail=N     answer 503 the first N times
  slow=R     R bytes a second
  norange    ignore Range: send all of it
  wrong      send other bytes than the file has
  status=N   answer N
  tag=T      ETag "T" in place of the one made from the file
  redirect   302 to the path without this part

Several may follow each other. "@PORT@" in files that end in .json becomes the
port, so that indexes can name this server.
"""
import http.server
import os
import sys
import time

root, portfile, log = sys.argv[1:4]
counts = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self, status):
        with open(log, "a") as f:
            f.write("%s %s %s %d\n" % (self.command, self.path,
                                       self.headers.get("Range", "-"), status))

    def empty(self, status, *headers):
        self.note(status)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        parts = [p for p in self.path.split("?")[0].split("/") if p]
        how = {}
        known = ("break", "once", "fail", "slow", "norange", "wrong",
                 "status", "tag", "redirect")
        while parts and parts[0].split("=")[0] in known:
            key, _, value = parts.pop(0).partition("=")
            how[key] = value
            if key == "redirect":
                return self.empty(302, ("Location", "/" + "/".join(parts)))
        n = counts[self.path] = counts.get(self.path, 0) + 1
        if "status" in how:
            return self.empty(int(how["status"]))
        if n <= int(how.get("fail", 0)):
            return self.empty(503)
        path = os.path.join(root, *parts)
        if ".." in parts or not os.path.isfile(path):
            return self.empty(404)
        with open(path, "rb") as f:
            data = f.read()
        if path.endswith(".json"):
            data = data.replace(b"@PORT@",
                                str(self.server.server_port).encode())
        if "wrong" in how:
            data = bytes(255 - b for b in data[:4096]) + data[4096:]
        tag = '"%s"' % how.get("tag", "%d-%d" % (len(data),
                                                 os.stat(path).st_mtime_ns))
        start, status = 0, 200
        ask = self.headers.get("Range", "")
        if_range = self.headers.get("If-Range")
        if (ask.startswith("bytes=") and "norange" not in how and
                if_range in (None, tag)):
            start = int(ask[6:].split("-")[0])
            status = 206
            if start >= len(data):
                return self.empty(416, ("Content-Range",
                                        "bytes */%d" % len(data)))
        self.note(status)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("ETag", tag)
        if status == 206:
            self.send_header("Content-Range", "bytes %d-%d/%d" %
                             (start, len(data) - 1, len(data)))
        self.end_headers()
        self.send(data[start:], how, n)

    def send(self, data, how, n):
        limit = len(data)
        if "break" in how:
            limit = int(how["break"])
        if "once" in how and n == 1:
            limit = int(how["once"])
        rate = int(how.get("slow", 0))
        step = max(1, rate // 20) if rate else 65536
        try:
            for at in range(0, min(limit, len(data)), step):
                self.wfile.write(data[at:min(at + step, limit)])
                if rate:
                    self.wfile.flush()
                    time.sleep(0.05)
        except OSError:
            self.close_connection = True
            return
        if limit < len(data):
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


server = Server(("127.0.0.1", 0), Handler)
with open(portfile + ".tmp", "w") as out:
    out.write("%d\n" % server.server_port)
os.rename(portfile + ".tmp", portfile)
server.serve_forever()
