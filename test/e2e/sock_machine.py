#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=60
"""Sockets that need what the machine does not have any more, network devices or a congestion control algorithm: all of it is
said before there is any process. When it is back, so are they."""
import os
import re
import signal

import _images
from _net import ip
from _scenario import Sandbox, check, read

INDEX, NAME, HARDWARE, LINK_LOCAL = 77, 'dev-of-tree', '02:00:00:00:00:07', 'fe80::7'

# One that is not what new sockets have.
ALGORITHM = next(name for name in read('/proc/sys/net/ipv4/tcp_available_congestion_control').decode().split()
                 if name != read('/proc/sys/net/ipv4/tcp_congestion_control').decode().strip())
NONE = 'x' * len(ALGORITHM)

PROGRAM = f"""
import signal, socket, struct
device, index = b'{NAME}', {INDEX}
def new(family, kind, *options):
    s = socket.socket(family, kind)
    for option in options:
        s.setsockopt(*option)
    return s
I4, I6, UDP, TCP = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, socket.SOCK_STREAM
bound = new(I4, UDP, (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device))
bound.bind(('', 7001))
pair = socket.socketpair()
pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
packet = new(socket.AF_PACKET, socket.SOCK_RAW, (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device))
link_local = new(I6, TCP)
link_local.bind(('{LINK_LOCAL}', 7002, 0, index))
link_local.listen()
group = new(I4, UDP, (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('224.1.2.3') + struct.pack('=4si', bytes(4), index)))
group.bind(('', 7003))
unicast = new(I4, UDP, (socket.IPPROTO_IP, 50, struct.pack('!i', index)))
multicast = new(I6, UDP, (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index))
listener = new(I4, TCP, (socket.IPPROTO_TCP, socket.TCP_CONGESTION, b'{ALGORITHM}'))
listener.bind(('', 7004))
listener.listen()
have = bound.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
open('ready', 'w').close()
signal.sigwait([signal.SIGTERM])
assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == have
assert pair[0].getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == have
assert link_local.getsockname()[3] == index
assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).strip(bytes(1)) == b'{ALGORITHM}'
"""

# Where there is no device, and then where there is no algorithm.
LACKS = [
    rf'UDP socket 0\.0\.0\.0:7001.*cannot bind it to the network device {NAME}',
    rf'unix.*cannot bind it to the network device {NAME}',
    rf'packet socket.*cannot bind it to the network device {NAME}',
    rf'\[{LINK_LOCAL}.*\]:7002.*needs the network device {NAME},',
    rf'7003.*needs the network device {NAME} for its multicast group',
    r'IP_UNICAST_IF', r'IPV6_MULTICAST_IF', r'Make a device of this name',
]


def make_device():
    ip('link', 'add', NAME, 'index', str(INDEX), 'address', HARDWARE, 'type', 'veth')
    ip('addr', 'add', f'{LINK_LOCAL}/64', 'dev', NAME, 'nodad')
    ip('link', 'set', NAME, 'up')


def refused(images, patterns):
    """Whatever makes a process is killed, and does not say what is missing."""
    result = sb.ckpt(*sb.restore_args(images), env={'CKPT_FAULT': 'restore-root-cloned=kill'})
    check(result.rc == 1, 'not refused before there is a process', result)
    for pattern in [*patterns, 'nothing was created']:
        check(re.search(pattern, result.err), f'the refusal does not match /{pattern}/', result)
    sb.no_strangers([])


def rename_algorithm(images):
    """As if it came from a machine with others."""
    path = os.path.join(sb.path(images), 'files.img')
    data = read(path)
    check(data.count(ALGORITHM.encode()) == 1, f'not once in files.img: {ALGORITHM}')
    with open(path, 'wb') as f:
        f.write(data.replace(ALGORITHM.encode(), NONE.encode()))
    _images.make_foreign(sb.path(images))


sb = Sandbox.from_env()
ip('link', 'set', 'lo', 'up')
make_device()
pid = sb.start(['/usr/bin/python3', '-c', PROGRAM])
sb.wait_for(lambda: os.path.exists(sb.path('work/ready')), 'its sockets')
sb.dump(pid, 'img', kill=False)
sb.dump(pid, 'again')
ip('link', 'del', NAME)
refused('again', LACKS)
make_device()
rename_algorithm('img')
refused('img', [r'7004.*cannot set the socket option TCP_CONGESTION', f'tcp_{NONE}'])
sb.restore('again', expect_pid=pid)
sb.signal(pid, signal.SIGTERM)
check(sb.wait_exit(pid) == 0, 'it found itself changed', read(sb.path('work/out')))
