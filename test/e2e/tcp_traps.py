#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=150
"""What was negotiated, one thing at a time switched off or on: window scaling, timestamps, SACK, timestamps in
microseconds. Streams with another machine move megabytes after a restore without stalling, and a checkpoint of a kernel
whose timestamps are odd does not switch microseconds on."""
import ctypes
import json
import os
import socket
import subprocess
import time

from _images import make_foreign
from _net import Counts, OtherMachine, counter, locks, terminate
from _scenario import Sandbox, check, read

MEGABYTE = 1 << 20
N = 2
TIMESTAMPS, SACK, WSCALE, USEC = 1, 2, 4, 64  # tcpi_options
PIDFD_GETFD, ESTABLISHED = 438, 1
LIBC = ctypes.CDLL(None, use_errno=True)
sb = Sandbox.from_env()
there = OtherMachine(sb)


def sysctl(name, value):
    """Of the other machine: here, a new socket has all that there is."""
    subprocess.run(there.enter(['sh', '-c', f'echo {value} > /proc/sys/net/ipv4/{name}']), check=True)


def own_sysctl(name, value):
    with open(f'/proc/sys/net/ipv4/{name}', 'w') as f:
        f.write(f'{value}')


def text(name):
    return read(sb.path(name), b'').decode()


def edit(images, change):
    """All streams of a checkpoint, by way of crit; as a kernel before 6.7 would have given them."""
    for name in os.listdir(sb.path(images)):
        path = sb.path(images, name)
        if not name.startswith('tcp-stream'):
            continue
        image = json.loads(subprocess.run(['crit', 'decode', '-i', path], check=True, capture_output=True).stdout)
        change(image['entries'][0])
        subprocess.run(['crit', 'encode', '-o', path], input=json.dumps(image).encode(), check=True)
    make_foreign(sb.path(images))


def infos(pid):
    """struct tcp_info of the connections: state, 4 bytes, options, scales; at 228 the window to send into."""
    pidfd, found = os.pidfd_open(pid), []
    for fd in os.listdir(f'/proc/{pid}/fd'):
        if os.readlink(f'/proc/{pid}/fd/{fd}').startswith('socket:'):
            with socket.socket(fileno=LIBC.syscall(PIDFD_GETFD, pidfd, int(fd), 0)) as s:
                found.append(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232))
    os.close(pidfd)
    return [info for info in found if info[0] == ESTABLISHED]


def case(name, port, options, without):
    """`options` and no other than those are negotiated."""
    server = sb.start([sb.program('tcp_end'), f'server-{name}', str(N), '10.9.0.1', port], out=f'work/out-{name}')
    counts = sb.path(f'work/server-{name}')
    sb.wait_for(lambda: os.path.exists(counts) and os.path.getsize(counts), 'the server')
    client = there.start([sb.program('tcp_end'), sb.path(f'client-{name}'), str(N), '10.9.0.1', port, 'connect'],
                         out=f'client-out-{name}')
    here, away = Counts(counts), Counts(sb.path(f'client-{name}'))

    def alive():
        for pid, out in ((server, f'work/out-{name}'), (client, f'client-out-{name}')):
            check(pid not in sb.children.ended, f'{out} has ended', text(out))
        return True

    def flow(least):
        a, b = here.received(), away.received()
        start = time.monotonic()
        sb.wait_for(lambda: alive() and all(x > y + least for x, y in zip(here.received(), a)) and
                    all(x > y + least for x, y in zip(away.received(), b)), f'{name}: {least} bytes on each stream')
        return time.monotonic() - start

    sb.wait_for(lambda: alive() and os.path.exists(away.path) and min(here.least(), away.least()) > MEGABYTE, 'the streams')
    before = flow(8 * MEGABYTE)
    for n in range(2):
        images = f'img-{name}-{n}'
        sb.dump(server, images, '--tcp-established')

        def look(entry):
            check(int(entry['opt_mask']) & without & (~WSCALE if n else ~0) == 0 and
                  int(entry['opt_mask']) & options == options, f'{name}: negotiated was {entry["opt_mask"]}')
            if not without & USEC:
                return
            entry['timestamp'] |= 1

        edit(images, look)
        sb.restore(images, '--tcp-established', expect_pid=server)
        check(locks() == [], f'locks: {locks()}')
        after = flow(8 * MEGABYTE)
        print(f'{name}: 8 MiB before in {before:.2f} s, after in {after:.2f} s')
        check(after < 5 + 5 * before, f'{name}: 8 MiB took {before:.2f} s before and {after:.2f} s after the restore')
        for info in infos(server):
            # A scale of 0 in both directions is none; the kernel says it was negotiated.
            check(info[5] & without & ~WSCALE == 0 and info[5] & options == options, f'{name}: now {info[5]:#x}')
            check(not without & WSCALE or info[6] == 0, f'{name}: the window scales are {info[6]:#x} now')
        # What the client takes for the server's window: with a scale that nobody told it of, it is a part of that.
        sb.wait_for(lambda: all(int.from_bytes(info[228:232], 'little') > 60000 for info in infos(client)),
                    f'{name}: the windows to be as large as before', 5)
    terminate(sb, client, server)
    check(sb.wait_exit(server) == 0, f'{name}: the server failed', text(f'work/out-{name}'))
    check(sb.wait_exit(client) == 0, f'{name}: the client failed', text(f'client-out-{name}'))
    check(counter('OutRsts') == 0 and there.resets() == 0, f'{name}: resets')


# Room for more than a window without a scale can say, so that a scale of its own would make it smaller.
own_sysctl('tcp_rmem', '4096 4194304 33554432')
case('all', '7801', TIMESTAMPS | SACK | WSCALE, USEC)
sysctl('tcp_window_scaling', 0)
case('no-scale', '7802', TIMESTAMPS | SACK, USEC | WSCALE)
sysctl('tcp_window_scaling', 1)
sysctl('tcp_timestamps', 0)
case('no-timestamps', '7803', SACK | WSCALE, TIMESTAMPS)
sysctl('tcp_sack', 0)
sysctl('tcp_window_scaling', 0)
case('nothing', '7804', 0, TIMESTAMPS | SACK | WSCALE)
