#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=300
"""`openssl s_server` in the middle of a TLS session: keys, sequence numbers and half records are where they were. TLS 1.3
with key updates by lots of data, and TLS 1.2."""
import os
import random
import shutil
import ssl
import subprocess

from _scenario import Sandbox, check, skip
from _server import Server, connect, free_port

LETTERS = bytes(range(33, 127))


def session(port, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(sb.path('cert.pem'))
    context.minimum_version = context.maximum_version = version
    return context.wrap_socket(connect(port), server_hostname='localhost')


def ask(port, version):
    """With -rev it sends back each line the wrong way round."""
    def asking(client):
        s = session(port, version)
        f = s.makefile('rb')
        n = 0
        while client.goes_on():
            n += 1
            lines = [b'%d %s' % (n, bytes(random.choices(LETTERS, k=random.randrange(1, 9000))))
                     for _ in range(random.randrange(1, 6))]
            s.sendall(b''.join(line + b'\n' for line in lines))
            for line in lines:
                got = f.readline()
                check(got == line[::-1] + b'\n', f'line {n}: got {got[:50]!r}..., not {line[::-1][:50]!r}...')
            client.answered()
        check(s.version() == {ssl.TLSVersion.TLSv1_2: 'TLSv1.2', ssl.TLSVersion.TLSv1_3: 'TLSv1.3'}[version], s.version())
        s.unwrap()
    return asking


sb = Sandbox.from_env()
OPENSSL = shutil.which('openssl') or skip('there is no openssl')
subprocess.run([OPENSSL, 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
                '-keyout', sb.path('key.pem'), '-out', sb.path('cert.pem'), '-subj', '/CN=localhost',
                '-addext', 'subjectAltName=DNS:localhost'], check=True, capture_output=True)
for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
    port = free_port()
    server = Server(sb, version.name, [OPENSSL, 's_server', '-accept', f'127.0.0.1:{port}', '-cert', sb.path('cert.pem'),
                                       '-key', sb.path('key.pem'), '-rev'], port)
    server.add_client(ask(port, version))
    server.run()
    # It serves one after another: the next one too.
    s = session(port, version)
    s.sendall(b'new\n')
    check(s.recv(100) == b'wen\n', 'a new session')
    s.close()
    server.stop()
    os.unlink(sb.path(f'work/{version.name}.out'))
