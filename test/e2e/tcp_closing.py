#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=120
"""Connections with another machine that are being opened or closed while packets get lost: SYN_SENT, FIN_WAIT1, CLOSING,
LAST_ACK, each with and without data that has not arrived. They come back in the same state and come to their end."""
import os
import signal
import socket
import sys
import time

TCP_INFO = 11
ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING = 1, 2, 4, 5, 7, 8, 9, 11
WANT = {'fin_wait1': FIN_WAIT1, 'fin_wait1_data': FIN_WAIT1, 'closing': CLOSING, 'last_ack': LAST_ACK,
        'last_ack_data': LAST_ACK}
PORT = 7100
BLOB = bytes(range(256)) * 40


def state(s):
    return s.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 8)[0]


def wait(condition, what, timeout=20):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            sys.exit(f'waited in vain for {what}')
        time.sleep(0.01)


def step(name):
    """Tell the scenario that it is done, and wait for the word to go on."""
    open(name + '.done', 'w').close()
    wait(lambda: os.path.exists(name + '.go'), name + '.go', 60)


def read_all(s):
    data = b''
    s.settimeout(30)
    while True:
        piece = s.recv(65536)
        if not piece:
            return data
        data += piece


def tree(family, there):
    """The program that is dumped."""
    conns = {}
    for name in WANT:
        conns[name] = socket.socket(family)
        conns[name].connect((there, PORT))
        conns[name].send(name.encode().ljust(20))
        conns[name].recv(1)
    early = socket.socket(family)
    step('tree-connected')                     # the peer closes last_ack*, then nothing passes any more
    for name in ('last_ack', 'last_ack_data'):
        wait(lambda: state(conns[name]) == CLOSE_WAIT, 'CLOSE_WAIT')
    for name, s in conns.items():
        if name.endswith('data'):
            s.send(BLOB)
        s.shutdown(socket.SHUT_WR)
    early.setblocking(False)
    try:
        early.connect((there, PORT + 1))
    except BlockingIOError:
        pass
    step('tree-closing')                       # the peer closes `closing`; its packets come through, ours do not
    wait(lambda: state(conns['closing']) == CLOSING, 'CLOSING')
    step('tree-ready')                         # dump and restore
    for name, want in WANT.items():
        now = state(conns[name])
        # What was lost may have been repeated already.
        if now not in (want, {FIN_WAIT1: FIN_WAIT2}.get(want, CLOSE)):
            sys.exit(f'{name}: is in state {now}, was {want}')
    early.setblocking(True)
    early.settimeout(30)
    wait(lambda: state(early) == ESTABLISHED, 'the connection that was being made')
    if early.recv(5) != b'hello':
        sys.exit('no hello')
    for name, s in conns.items():
        got = read_all(s)
        if got != (b'after' if name.startswith('fin') else b''):
            sys.exit(f'{name}: got {got[:30]}')
    for name, s in conns.items():
        wait(lambda: state(s) == CLOSE, f'{name} to close, it is {state(s)}')
    print('PASS')


def peer(family):
    listener = socket.create_server(('', PORT), family=family)
    late = socket.create_server(('', PORT + 1), family=family)
    conns = {}
    for _ in WANT:
        s, _ = listener.accept()
        conns[s.recv(20, socket.MSG_WAITALL).decode().strip()] = s
        s.send(b'!')
    step('peer-connected')
    for name in ('last_ack', 'last_ack_data'):
        conns[name].shutdown(socket.SHUT_WR)
    step('peer-closed')
    conns['closing'].shutdown(socket.SHUT_WR)
    step('peer-ready')
    for name, s in conns.items():
        got = read_all(s)
        if got != (BLOB if name.endswith('data') else b''):
            sys.exit(f'{name}: got {len(got)} bytes')
        if name.startswith('fin'):
            s.send(b'after')
        s.close()
    s, _ = late.accept()
    s.send(b'hello')
    s.close()
    print('PASS')


def scenario():
    from _net import OtherMachine, counter, locks, nft
    from _scenario import Sandbox, check, read

    def done(name):
        sb.wait_for(lambda: os.path.exists(sb.path('work', name + '.done')) or dead(), name)

    def dead():
        for pid, name in ((program, 'tree'), (other, 'peer')):
            check(pid not in sb.children.ended, f'the {name} has ended', read(sb.path('work', name), b'').decode())

    def go(name):
        with open(sb.path('work', name + '.go'), 'w'):
            pass

    sb = Sandbox.from_env()
    there = OtherMachine(sb)
    here = os.path.abspath(__file__)
    for family, address in ((socket.AF_INET, '10.9.0.2'), (socket.AF_INET6, 'fd09::2')):
        for name in os.listdir(sb.path('work')):
            os.unlink(sb.path('work', name))
        other = there.start(['/usr/bin/python3', here, 'peer', str(int(family))], out='work/peer')
        table = f'/proc/{there.pid}/net/' + ('tcp' if family == socket.AF_INET else 'tcp6')
        sb.wait_for(lambda: f':{PORT + 1:04X} '.encode() in read(table), 'the peer')
        program = sb.start(['/usr/bin/python3', here, 'tree', str(int(family)), address], out='work/tree')
        done('tree-connected')
        done('peer-connected')
        go('peer-connected')
        done('peer-closed')
        sb.wait_for(lambda: b' 04 ' not in read(table), 'its FINs to be acknowledged')  # none in FIN_WAIT1
        nft('add table inet loss; add chain inet loss in { type filter hook input priority 0; }; '
            'add chain inet loss out { type filter hook output priority 0; }; '
            'add rule inet loss in iifname veth-a meta l4proto tcp drop; '
            'add rule inet loss out oifname veth-a meta l4proto tcp drop')
        go('tree-connected')
        done('tree-closing')
        nft('flush chain inet loss in')
        go('peer-closed')
        go('tree-closing')
        done('peer-ready')
        done('tree-ready')
        sb.dump(program, f'img{int(family)}', '--tcp-established')
        check(len(locks()) == 1, f'locks: {locks()}')
        nft('delete table inet loss')
        before = counter('OutRsts')
        sb.restore(f'img{int(family)}', '--tcp-established', expect_pid=program)
        check(locks() == [], f'locks: {locks()}')
        go('tree-ready')
        go('peer-ready')
        check(sb.wait_exit(program, 40) == 0, 'the tree failed', read(sb.path('work/tree')).decode())
        check(sb.wait_exit(other, 40) == 0, 'the peer failed', read(sb.path('work/peer')).decode())
        check(counter('OutRsts') == before, f'{counter("OutRsts") - before} RSTs')


if len(sys.argv) > 2 and sys.argv[1] == 'tree':
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    tree(int(sys.argv[2]), sys.argv[3])
elif len(sys.argv) > 1:
    peer(int(sys.argv[2]))
else:
    scenario()
