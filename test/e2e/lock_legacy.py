#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: netns timeout=120
"""The network lock of a kernel without nf_tables: chains of the legacy iptables, among rules of others that stay as they
are. Clients on another machine never notice; nothing is left of a dump or a restore that fails or is killed; what is left
when all of ckpt is killed, `ckpt check` finds and removes."""
import os
import re
import signal
import subprocess

from _net import Counts, OtherMachine, check_on_terminal, counter, iptables, legacy_locks, locks, terminate
from _scenario import Sandbox, check, read

LEGACY = 'network-nftables=fail'
FAULTS = ['dump-network-locked=kill', 'dump-network-locked=fail', 'dump-socket-repair=kill', 'dump-before-commit=kill',
          'dump-before-commit=fail', 'dump-committed=kill']
N = 2
KILOBYTES = 256 << 10

# For all runs that get no other one.
os.environ['CKPT_FAULT'] = LEGACY
sb = Sandbox.from_env()
there = OtherMachine(sb)


def run(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


def text(name):
    return read(sb.path(name), b'').decode()


def others(v6):
    """The table as it is without ckpt's lock."""
    return [line for line in iptables(v6) if not re.search('ckpt-[0-9a-f]{16}', line)]


class Pair:
    """A server of the tree, and its client on the other machine."""

    def __init__(self, address, peer, port):
        self.names = f'work/server-{port}', f'client-{port}'
        self.server = sb.start([sb.program('tcp_end'), f'server-{port}', str(N), address, port], out=f'work/out-{port}')
        sb.wait_for(lambda: text(self.names[0]), 'the server')
        self.client = there.start([sb.program('tcp_end'), sb.path(self.names[1]), str(N), peer, port, 'connect'],
                                  out=f'out-{port}')
        self.here, self.away = (Counts(sb.path(name)) for name in self.names)
        sb.wait_for(lambda: self.here.least() and self.away.least(), 'the streams to flow')
        self.flows('the start')

    def flows(self, what):
        before = self.here.received(), self.away.received()

        def more():
            check(not {self.server, self.client} & sb.children.ended.keys(), f'{what}: one has ended',
                  text(f'work/out-{self.names[0][-4:]}'))
            return all(x > y + KILOBYTES for now, then in zip((self.here.received(), self.away.received()), before)
                       for x, y in zip(now, then))

        sb.wait_for(more, f'the streams to flow after {what}')
        check(there.resets() == 0 and counter('OutRsts') == 0, f'{what}: resets')

    def finish(self):
        terminate(sb, self.client, self.server)
        check(sb.wait_exit(self.server) == 0 and sb.wait_exit(self.client) == 0, 'a server or client failed')


def untouched(what):
    for v6 in (False, True):
        check(others(v6) == RULES[v6], f'{what}: the rules of others have changed', others(v6), RULES[v6])
    check(locks() == [], f'{what}: tables of nftables: {locks()}')


def clean(what):
    sb.wait_for(lambda: legacy_locks() == [], f'the lock to go after {what}: {legacy_locks()}', 5)
    untouched(what)


# A chain, jumps to it, a rule without a target, a name like ckpt's; and packets to count.
for tables in ('iptables-legacy', 'ip6tables-legacy'):
    for rule in ('-N ckpt-mine', '-N somebodys', '-A somebodys -p tcp --dport 9 -j ACCEPT', '-A INPUT -j somebodys',
                 '-A OUTPUT -m comment --comment counts', '-A OUTPUT -j ckpt-mine', '-P FORWARD DROP'):
        run(f'{tables} -t mangle {rule}')
RULES = [others(False), others(True)]
check(all('-A OUTPUT -j ckpt-mine' in rules for rules in RULES), 'the rules of the test', RULES)


def counted():
    """Packets that the rule without a target has seen."""
    line, = [line for line in run('iptables-legacy-save -c -t mangle').splitlines() if line.endswith('--comment counts')]
    return int(re.match(r'\[(\d+):', line)[1])


for address, peer, port in (('10.9.0.1', '10.9.0.1', '7001'), ('fd09::1', 'fd09::1', '7002'), ('::', '10.9.0.1', '7003')):
    pair = Pair(address, peer, port)
    for n in range(2):
        images = f'img-{port}-{n}'
        seen = counted()
        sb.dump(pair.server, images, '--tcp-established')
        lock = legacy_locks()
        check(len(lock) == 1, f'locks after the dump: {lock}')
        check(any(lock[0] in line for line in iptables(':' in peer)), 'the lock is for the other family')
        untouched('the dump')
        check(counted() >= seen, f'counters have begun anew: {seen} before, {counted()} after')
        result = sb.ckpt('check')
        check(f'{lock[0]}: left by a dump of pid {pair.server}' in result.out, 'check says nothing of it', result.out)
        there_sent = [sent for sent, _ in pair.away.read()]
        sb.restore(images, '--tcp-established', expect_pid=pair.server)
        clean('the restore')
        sb.wait_for(lambda: all(got >= sent for got, sent in zip(pair.here.received(), there_sent)), 'the backlog to drain')
        pair.flows('the restore')
    pair.finish()

# A dump fails, or is killed.
pair = Pair('::', '10.9.0.1', '7004')
for fault in FAULTS:
    result = sb.ckpt(*sb.dump_args(pair.server, 'img', '--tcp-established'), env={'CKPT_FAULT': f'{LEGACY},{fault}'})
    check(result.rc != 0, f'{fault}: exit status {result.rc}', result.err)
    clean(fault)
    pair.flows(fault)
    sb.no_strangers({pair.server, pair.client})

# All of ckpt is killed: first what traces, where the kernel allows that to outlive ckpt, and who watches over the lock.
handle = sb.ckpt_start(*sb.dump_args(pair.server, 'img', '--tcp-established'),
                       env={'CKPT_FAULT': f'{LEGACY},dump-network-locked=stop'})
sb.wait_for(lambda: 'dump-network-locked' in read(handle.base + '.err', b'').decode(), 'the network to be locked')
watchers = [p for p in sb.others() if p not in (pair.server, pair.client, handle.pid)]
traces = sb.ckpt('check', '--feature', 'seccomp_suspend').rc == 0
check(len(watchers) >= 2 + traces, f'processes beside ckpt: {watchers}')  # others help it for other things
for pid in (*watchers, handle.pid):
    os.kill(pid, signal.SIGKILL)
sb.ckpt_wait(handle)
sb.no_strangers({pair.server, pair.client})
left = legacy_locks()
check(len(left) == 1, f'locks after all of ckpt was killed: {left}')
asked, said = check_on_terminal(sb, b'y')
check(asked == 1 and 'Removed' in said and left[0] in said, f'asked {asked} times', said)
clean('check')
pair.flows('check')

# A restore that finds the lock of the dump gone makes one of its own, which goes with it. The lock goes by the command
# that check prints.
sb.dump(pair.server, 'img', '--tcp-established')
left, = legacy_locks()
command, = re.findall(r'^ *(iptables-legacy-save .*)$', sb.ckpt('check').out, re.M)
for fault in ('restore-sockets=kill', 'restore-sockets=fail'):
    result = sb.ckpt(*sb.restore_args('img', '--tcp-established'), env={'CKPT_FAULT': f'{LEGACY},{fault}'})
    check(result.rc != 0 and legacy_locks() == [left], f'{fault}: {legacy_locks()}', result.err)
    sb.no_strangers({pair.client})
sb.children.ended.pop(pair.server, None)
# Meanwhile nothing of the clients may arrive: nobody there knows them.
run('iptables-legacy -t raw -A PREROUTING -s 10.9.0.2 -j DROP')
run(command)
clean('the command')
result = sb.ckpt(*sb.restore_args('img', '--tcp-established'), env={'CKPT_FAULT': f'{LEGACY},restore-sockets=kill'})
check(result.rc != 0, 'a restore that was killed', result.err)
clean('a restore that was killed')
sb.no_strangers({pair.client})
sb.children.ended.pop(pair.server, None)
handle = sb.ckpt_start(*sb.restore_args('img', '--tcp-established'), env={'CKPT_FAULT': f'{LEGACY},restore-sockets=pause'})
sb.wait_for(lambda: 'restore-sockets' in read(handle.base + '.err', b'').decode(), 'the sockets to be restored')
check(len(legacy_locks()) == 1, f'the lock of a restore: {legacy_locks()}')
run('iptables-legacy -t raw -F')
os.kill(handle.pid, signal.SIGCONT)
result = sb.ckpt_wait(handle)
check(result.rc == 0, f'restore: exit status {result.rc}', result.err)
clean('the last restore')
pair.flows('the last restore')
pair.finish()
