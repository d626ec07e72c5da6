# SPDX-License-Identifier: GPL-2.0-only
"""Networks for the scenario scripts: a namespace of the script's own, and another machine behind a veth."""
import ctypes
import os
import pty
import re
import select
import signal
import struct
import subprocess

from e2e import system
from e2e.harness import check


def ip(*args):
    subprocess.run(['ip', *args], check=True)


def nft(command):
    """What libnftables answers; there may be no nft command."""
    lib = ctypes.CDLL('libnftables.so.1')
    lib.nft_ctx_new.restype = ctypes.c_void_p
    lib.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    ctx = ctypes.c_void_p(lib.nft_ctx_new(0))
    lib.nft_ctx_buffer_output(ctx)
    lib.nft_ctx_buffer_error(ctx)
    rc = lib.nft_run_cmd_from_buffer(ctx, command.encode())
    text = lib.nft_ctx_get_output_buffer(ctx).decode()
    lib.nft_ctx_free(ctx)
    check(rc == 0, f'nft {command}: failed')
    return text


def locks():
    """Names of ckpt's tables in this network namespace."""
    return re.findall(r'^table inet (ckpt-\S+)', nft('list tables'), re.M)


def iptables(v6=False):
    """What legacy iptables has in the table mangle, a line each, without comments and counters."""
    text = subprocess.run([f'ip{"6" if v6 else ""}tables-legacy-save', '-t', 'mangle'], check=True, capture_output=True,
                          text=True).stdout
    return [re.sub(r' \[\d+:\d+\]$', '', line) for line in text.splitlines() if not line.startswith('#')]


def legacy_locks():
    """Names of the locks that are made of chains, of both families."""
    return sorted(set(re.findall(r'^:(ckpt-[0-9a-f]{16})-', '\n'.join(iptables() + iptables(True)), re.M)))


def check_on_terminal(sb, answer):
    """`ckpt check` with a person in front of it. How often it asked, and what it said."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sb.ckpt_path, [sb.ckpt_path, 'check'])
    sb.bystanders.add(pid)
    text, asked = '', 0
    while select.select([fd], [], [], 30)[0]:
        try:
            got = os.read(fd, 4096).decode(errors='replace')
        except OSError:
            break
        if not got:
            break
        text += got
        if text.count('[y/N]') > asked:
            asked += 1
            os.write(fd, answer + b'\n')
    os.close(fd)
    sb.children.wait(pid, 10)
    return asked, text


def counter(name, pid='self'):
    """A counter of /proc/net/snmp, e.g. OutRsts of Tcp."""
    with open(f'/proc/{pid}/net/snmp') as f:
        rows = [line.split() for line in f if line.startswith('Tcp:')]
    return int(rows[1][rows[0].index(name)])


def resets(pid='self'):
    return counter('OutRsts', pid) + counter('EstabResets', pid)


def terminate(sb, *pids):
    """Ends that take a FIN for a failure before they are asked to end themselves: all are asked before the first of them runs."""
    for sig in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
        for pid in pids:
            sb.signal(pid, sig)


class OtherMachine:
    """A network namespace with a process to keep it, connected to this one: 10.9.0.1 and fd09::1 are here, .2 and
    ::2 there."""

    def __init__(self, sb):
        self.sb = sb
        r, w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            system.private_net()
            os.write(w, b'x')
            os.close(w)
            while True:
                signal.pause()
        os.close(w)
        os.read(r, 1)
        os.close(r)
        sb.bystanders.add(self.pid)
        # A machine may have BBR, which after a gap can wait a minute with what it knows to be lost.
        algorithm = '/proc/sys/net/ipv4/tcp_congestion_control'
        with open(algorithm, 'w') as f:
            f.write('reno')
        subprocess.run(self.enter(['/bin/sh', '-c', f'echo reno > {algorithm}']), check=True)
        ip('link', 'add', 'veth-a', 'type', 'veth', 'peer', 'name', 'veth-b')
        ip('link', 'set', 'veth-b', 'netns', str(self.pid))
        ip('addr', 'add', '10.9.0.1/24', 'dev', 'veth-a')
        ip('addr', 'add', 'fd09::1/64', 'dev', 'veth-a', 'nodad')
        ip('link', 'set', 'veth-a', 'up')
        for command in ('ip addr add 10.9.0.2/24 dev veth-b', 'ip addr add fd09::2/64 dev veth-b nodad',
                        'ip link set veth-b up'):
            subprocess.run(self.enter(command.split()), check=True)

    def enter(self, argv):
        return ['/usr/bin/nsenter', f'--net=/proc/{self.pid}/ns/net', *argv]

    def start(self, argv, out):
        pid = self.sb.start(self.enter(argv), out=out)
        self.sb.bystanders.add(pid)
        return pid

    def resets(self):
        return resets(self.pid)


class Counts:
    """The file in which tcp_end counts."""

    def __init__(self, path):
        self.path = path

    def read(self):
        with open(self.path, 'rb') as f:
            data = f.read()
        return [struct.unpack_from('QQ', data, at) for at in range(0, len(data), 16)]

    def received(self):
        return [r for _, r in self.read()]

    def least(self):
        got = self.received()
        return min(got) if got else 0
