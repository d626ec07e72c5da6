#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300
"""A Python HTTP server, one thread for each connection, with keep-alive clients; one of them posts large bodies."""
import hashlib
import http.client
import os

from _scenario import Sandbox, check
from _server import PATIENCE, Server, free_port

PROGRAM = '''
import hashlib, http.server, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    asked = 0

    def answer(self, body):
        self.asked += 1
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('X-Asked', str(self.asked))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b'%s of %d\\n' % (self.path.encode(), threading.get_ident()))

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        self.answer(hashlib.sha256(body).hexdigest().encode() + body)

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer.daemon_threads = True
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
'''


def exchange(c, asked, *request):
    """One answer; the server has counted the requests of this connection."""
    c.request(*request)
    r = c.getresponse()
    body = r.read()
    check(r.status == 200 and int(r.headers['X-Asked']) == asked, f'{r.status}, request {r.headers["X-Asked"]}, not {asked}')
    return body


def get(client):
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE)
    asked, thread = 0, None
    while client.goes_on():
        asked += 1
        path, thread_now = exchange(c, asked, 'GET', f'/page/{asked}').rsplit(b' of ')
        check(path == b'/page/%d' % asked, f'asked for page {asked}, got {path}')
        check(thread in (None, thread_now), 'another thread answers: a new connection')
        thread = thread_now
        client.answered()


def post(client):
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE)
    asked = 0
    while client.goes_on():
        asked += 1
        body = os.urandom(1 << 20)
        check(exchange(c, asked, 'POST', '/', body) == hashlib.sha256(body).hexdigest().encode() + body, 'the body is wrong')
        client.answered(20)


sb = Sandbox.from_env()
port = free_port()
server = Server(sb, 'python', ['/usr/bin/python3', '-c', PROGRAM, str(port)], port)
server.add_client(get, 3)
server.add_client(post)
server.run()
check(exchange(http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE), 1, 'GET', '/new').startswith(b'/new of'), 'a new client')
server.stop()
