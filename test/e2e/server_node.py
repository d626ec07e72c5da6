#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300
"""A Node HTTP server with keep-alive clients: answers at once, after a timer, from the thread pool, from a worker thread,
and as a stream of a megabyte."""
import hashlib
import http.client
import json
import os
import shutil
import time

from _scenario import Sandbox, check, skip, write
from _server import PATIENCE, Server, free_port

PROGRAM = '''
const http = require('http'), crypto = require('crypto'), fs = require('fs');
const { Worker } = require('worker_threads');

const worker = new Worker(`
        const { parentPort } = require('worker_threads');
        parentPort.on('message', ([id, n]) => { let a = 0, b = 1n; for (; a < n; a++) b = b * 3n % 1000003n;
                                                parentPort.postMessage([id, String(b)]); });`, { eval: true });
const waiting = new Map();
let ids = 0, ticks = 0;
worker.on('message', ([id, text]) => { waiting.get(id)(text); waiting.delete(id); });
setInterval(() => ticks++, 10);

http.createServer((request, response) => {
        const socket = request.socket, url = new URL(request.url, 'http://x'), n = Number(url.searchParams.get('n'));
        socket.asked = (socket.asked || 0) + 1;
        response.setHeader('X-Asked', socket.asked);
        if (url.pathname === '/now')
                response.end(JSON.stringify({ n, ticks }));
        else if (url.pathname === '/later')
                setTimeout(() => response.end(String(n)), 20);
        else if (url.pathname === '/file')
                fs.readFile('input', (e, data) => response.end(e ? String(e) : data));
        else if (url.pathname === '/hash')
                crypto.pbkdf2('secret', String(n), 500, 32, 'sha256', (e, key) => response.end(key.toString('hex')));
        else if (url.pathname === '/worker')
                waiting.set(++ids, text => response.end(text)), worker.postMessage([ids, n]);
        else if (url.pathname === '/stream') {
                let left = 64;
                const more = () => {
                        while (left-- > 0)
                                if (!response.write(Buffer.alloc(16384, n % 251)))
                                        return response.once('drain', more);
                        response.end();
                };
                more();
        }
}).listen(Number(process.argv[2]), '127.0.0.1').keepAliveTimeout = 60000;
'''


class Asking:
    def __init__(self):
        self.c, self.asked = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE), 0

    def get(self, path, n=0):
        self.asked += 1
        self.c.request('GET', f'/{path}?n={n}')
        r = self.c.getresponse()
        body = r.read()
        check(r.status == 200 and int(r.headers['X-Asked']) == self.asked,
              f'{path}: {r.status}, request {r.headers["X-Asked"]} of this connection, not {self.asked}')
        return body


def now(client):
    a, ticks, n = Asking(), 0, 0
    while client.goes_on():
        n += 1
        got = json.loads(a.get('now', n))
        check(got['n'] == n and got['ticks'] >= ticks, f'{n}, {ticks} ticks: got {got}')
        ticks = got['ticks']
        client.answered()


def later(client):
    """The interval timer goes on ticking, and a time-out takes its time and not much more."""
    a = Asking()
    while client.goes_on():
        ticks, start = json.loads(a.get('now'))['ticks'], time.monotonic()
        check(a.get('later', 5) == b'5', 'later')
        check(time.monotonic() - start > 0.018, 'a time-out came too early')
        client.sb.wait_for(lambda: json.loads(a.get('now'))['ticks'] > ticks, 'the interval timer to tick', 5)
        client.answered(10)


def work(client):
    a, n = Asking(), 0
    while client.goes_on():
        n += 1
        check(a.get('file') == data, 'the file is wrong')
        check(a.get('hash', n).decode() == hashlib.pbkdf2_hmac('sha256', b'secret', b'%d' % n, 500).hex(), 'the hash is wrong')
        check(a.get('worker', 1000 + n) == b'%d' % pow(3, 1000 + n, 1000003), 'the worker is wrong')
        check(a.get('stream', n) == bytes([n % 251]) * (1 << 20), 'the stream is wrong')
        client.answered(10)


sb = Sandbox.from_env()
NODE = shutil.which('node') or skip('there is no node')
data = os.urandom(300000)
write(sb.path('work/input'), data)
write(sb.path('server.js'), PROGRAM)
port = free_port()
server = Server(sb, 'node', [NODE, sb.path('server.js'), str(port)], port, varies=['fds'])
server.add_client(now, 2)
server.add_client(later)
server.add_client(work)
server.run()
check(Asking().get('later', 7) == b'7', 'a new client')
server.stop()
