#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=120
"""nginx with two workers behind a unix socket: a master that talks to its workers over pairs, a listener that all share,
and a client in the tree's own shell that keeps its connection over two dumps and restores."""
import os
import signal

from _scenario import Sandbox, check, read, skip, write

NGINX = '/usr/sbin/nginx'
if not os.path.exists(NGINX):
    skip('there is no nginx')
sb = Sandbox.from_env()
work = sb.path('work')
write(sb.path('work/nginx.conf'), f'''
daemon off;
worker_processes 2;
pid {work}/nginx.pid;
error_log {work}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
    keepalive_requests 1000000;
    server {{ listen unix:{work}/web.sock; location / {{ return 200 "hello $request_uri"; }} }}
}}
''')
write(sb.path('work/tree.py'), r'''
import os, signal, socket, subprocess, sys, time
nginx = subprocess.Popen([sys.argv[1], '-c', os.getcwd() + '/nginx.conf', '-p', os.getcwd()])
s = socket.socket(socket.AF_UNIX)
while True:
    try:
        s.connect('web.sock')
        break
    except (FileNotFoundError, ConnectionRefusedError):
        time.sleep(0.01)
stop = []
signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
n, answers = 0, s.makefile('rb')
while not stop:
    s.sendall(b'GET /%d HTTP/1.1\r\nHost: x\r\n\r\n' % n)
    length = 0
    assert answers.readline().startswith(b'HTTP/1.1 200'), n
    while True:
        line = answers.readline().strip().lower()
        if not line:
            break
        if line.startswith(b'content-length:'):
            length = int(line.split(b':')[1])
    assert answers.read(length) == b'hello /%d' % n, n
    n += 1
    if n % 50 == 0:
        with open('progress', 'w') as f:
            f.write('%d\n' % n)
    time.sleep(0.001)
nginx.terminate()
assert nginx.wait() == 0
print('good', n)
''')
pid = sb.start(['/usr/bin/python3', 'tree.py', NGINX])


def progress():
    return int(read(sb.path('work/progress'), b'').split(b'\n')[0] or 0)


sb.wait_for(lambda: pid in sb.children.ended or progress() > 100, 'the first answers')
for n in range(2):
    before = progress()
    sb.dump(pid, f'img{n}')
    sb.restore(f'img{n}', expect_pid=pid)
    sb.wait_for(lambda b=before: pid in sb.children.ended or progress() > b + 150, 'more answers')
    check(pid not in sb.children.ended, 'it has ended', read(sb.path('work/out')).decode())
sb.signal(pid, signal.SIGTERM)
check(sb.wait_exit(pid) == 0, 'it failed', read(sb.path('work/out')).decode())
check(read(sb.path('work/out')).startswith(b'good'), 'no good end')
