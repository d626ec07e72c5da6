#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""The other end of the connection of test/vm/kexec, and (with an address) the program that is dumped.

The program counts, this end answers each number once and keeps in DIR/served which was the last. When DIR/restored is there
and twenty more have come, it answers the last with `stop`."""
import os
import socket
import sys


def program(host, port):
    with socket.create_connection((host, port)) as s, s.makefile('rw') as f:
        n, answer = 0, ''
        while answer != 'stop':
            n += 1
            f.write(f'{n}\n')
            f.flush()
            line = f.readline().split()
            assert line[:1] == [str(n)], f'{n}: {line}'
            answer = line[1]


def write(path, text):
    with open(path + '.new', 'w') as f:
        f.write(text)
    os.rename(path + '.new', path)


def serve(directory):
    listener = socket.create_server(('127.0.0.1', 0))
    write(directory + '/port', str(listener.getsockname()[1]))
    connection = listener.accept()[0]
    left = 20
    n = 0
    with connection.makefile('rw') as f:
        for line in f:
            n += 1
            assert line == f'{n}\n', f'{line!r} instead of {n}'
            left -= os.path.exists(directory + '/restored')
            f.write(f'{n} {"go" if left > 0 else "stop"}\n')
            f.flush()
            write(directory + '/served', str(n))
    assert left <= 0, f'the connection ended after {n}'


if len(sys.argv) == 3:
    program(sys.argv[1], int(sys.argv[2]))
else:
    serve(sys.argv[1])
