#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300
"""nginx, a master and two workers that run as another user, with keep-alive clients: small pages, a file of megabytes in
flight by sendfile, bodies that are posted through a proxy to itself, and an event stream that trickles. In the end the
master still knows its workers: it reloads, and quits gracefully."""
import hashlib
import http.client
import os
import pwd
import shutil
import signal

from _scenario import Sandbox, check, procview, read, skip, write
from _server import PATIENCE, Server, free_port

CONFIG = '''
daemon off;
user nobody nogroup;
worker_processes 2;
error_log {dir}/error.log info;
pid {dir}/nginx.pid;
events {{ worker_connections 200; }}
http {{
        access_log {dir}/access.log;
        client_body_temp_path {dir}/body;
        proxy_temp_path {dir}/proxy;
        fastcgi_temp_path {dir}/fastcgi;
        uwsgi_temp_path {dir}/uwsgi;
        scgi_temp_path {dir}/scgi;
        keepalive_requests 10000000;
        client_max_body_size 8m;
        sendfile on;
        limit_req_zone $binary_remote_addr zone=z:1m rate=100000r/s;
        upstream itself {{ server 127.0.0.1:{port}; keepalive 4; }}
        server {{
                listen 127.0.0.1:{port};
                limit_req zone=z burst=10000;
                add_header X-Asked $connection_requests;
                add_header X-Worker $pid;
                root {dir}/www;
                location /slow/ {{ alias {dir}/www/; limit_rate 300k; }}
                location /proxy/ {{ proxy_pass http://itself/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
                location /echo {{ proxy_pass http://itself/body; proxy_http_version 1.1; proxy_set_header Connection ""; }}
                location /body {{ client_body_in_single_buffer on; return 200 "$http_x_sum $content_length"; }}
        }}
}}
'''


class Asking:
    """One keep-alive connection; the worker that has it counts its requests."""

    def __init__(self):
        self.c, self.asked, self.worker = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE), 0, None

    def get(self, path, body=None, headers=None):
        self.asked += 1
        self.c.request('POST' if body else 'GET', path, body, headers or {})
        r = self.c.getresponse()
        got = r.read()
        check(r.status in (200, 206), f'{path}: {r.status} {got[:200]}')
        asked, worker = r.headers.get_all('X-Asked')[-1], r.headers.get_all('X-Worker')[-1]
        check(int(asked) == self.asked, f'{path}: request {asked} of this connection, not {self.asked}')
        check(self.worker in (None, worker), f'{path}: worker {worker}, it was {self.worker}')
        self.worker = worker
        return got


def pages(client):
    a = Asking()
    while client.goes_on():
        i = a.asked % len(small)
        check(a.get(f'/{i}') == small[i], f'page {i} is wrong')
        client.answered()


def downloads(client):
    """Also by pieces."""
    a = Asking()
    while client.goes_on():
        check(a.get('/large') == large, 'the large file is wrong')
        at = a.asked * 7919 % len(large)
        check(a.get('/large', headers={'Range': f'bytes={at}-{at + 9999}'}) == large[at:at + 10000], 'a range is wrong')
        client.answered(10)


def trickle(client):
    """limit_rate: a timer of nginx decides when there is more."""
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE)
    while client.goes_on():
        c.request('GET', '/slow/medium')
        r, got = c.getresponse(), b''
        while len(got) < len(medium):
            more = r.read1(1 << 16)
            check(more, 'the slow file ended early')
            got += more
            client.answered(10)
        check(got == medium and not r.read(), 'the slow file is wrong')


def proxied(client):
    """A client of nginx that is nginx: both ends of a connection inside."""
    a = Asking()
    while client.goes_on():
        i = a.asked % len(small)
        check(a.c.host and small[i] == plain(a, f'/proxy/{i}'), f'page {i} through the proxy is wrong')
        body = os.urandom(1 + a.asked * 7919 % 500000)
        digest = hashlib.sha256(body).hexdigest()
        check(plain(a, '/echo', body, {'X-Sum': digest}) == f'{digest} {len(body)}'.encode(), 'the posted body is wrong')
        client.answered(10)


def plain(a, path, body=None, headers=None):
    """Through the proxy the headers are those of two servers."""
    a.asked += 1
    a.c.request('POST' if body else 'GET', path, body, headers or {})
    r = a.c.getresponse()
    got = r.read()
    check(r.status == 200, f'{path}: {r.status} {got[:200]}')
    check(str(a.asked) in r.headers.get_all('X-Asked'), f'{path}: {r.headers.get_all("X-Asked")}, not {a.asked}')
    return got


sb = Sandbox.from_env()
NGINX = shutil.which('nginx') or skip('there is no nginx')
small = [os.urandom(100 + i * 700) for i in range(20)]
medium, large = os.urandom(400000), os.urandom(5 << 20)
os.mkdir(sb.path('work/www'))
for name, data in [(str(i), page) for i, page in enumerate(small)] + [('medium', medium), ('large', large)]:
    write(sb.path('work/www', name), data)
port = free_port()
write(sb.path('nginx.conf'), CONFIG.format(dir=sb.path('work'), port=port))
server = Server(sb, 'nginx', [NGINX, '-c', sb.path('nginx.conf'), '-e', sb.path('work/error.log')], port, varies=['fds'])


def workers():
    return [p for p in procview.tree(server.pid) if p != server.pid]


sb.wait_for(lambda: len(workers()) == 2, 'two workers')
check(all(os.stat(f'/proc/{p}').st_uid == pwd.getpwnam('nobody').pw_uid for p in workers()), 'workers that are not nobody')
server.add_client(pages, 2)
server.add_client(downloads)
server.add_client(trickle, patient=True)
server.add_client(proxied)
server.run()
old = workers()
sb.signal(server.pid, signal.SIGHUP)
sb.wait_for(lambda: len(workers()) == 2 and not set(old) & set(workers()), 'two new workers after SIGHUP')
check(Asking().get('/1') == small[1], 'a new client')
log = read(sb.path('work/error.log')).decode()
check('[alert]' not in log and '[emerg]' not in log and '[crit]' not in log, 'the error log', log[-3000:])
sb.signal(server.pid, signal.SIGQUIT)
check(sb.wait_exit(server.pid) == 0, 'it did not quit')
sb.no_strangers(set())
