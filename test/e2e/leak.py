#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
# e2e: timeout=240
"""Nothing leaks: after many rounds of dump and restore of one process (CKPT_TEST_ROUNDS, default 50; the issue asks
for 1000), and half as many of dump -R, its descriptors, areas, memory and threads are what they were, as are the
size of the images and what is mounted."""
import os
import re

from _scenario import Program, Sandbox, check, number, read

ROUNDS = number('ROUNDS', 50)
sb = Sandbox.from_env()


def memory(pid):
    found = {}
    for line in read(f'/proc/{pid}/status').decode().splitlines():
        key, _, value = line.partition(':')
        if key in ('VmSize', 'VmRSS', 'VmData', 'VmPTE', 'Threads', 'FDSize'):
            found[key] = int(value.split()[0])
    with open(f'/proc/{pid}/smaps') as f:
        found['areas'] = sum('-' in line.split(' ', 1)[0] and ':' not in line.split(' ', 1)[0] for line in f)
    found['fds'] = len(os.listdir(f'/proc/{pid}/fd'))
    return found


def size(images):
    return sum(os.path.getsize(sb.path(images, f)) for f in os.listdir(sb.path(images)) if f.endswith('.img'))


def check_memory(before, now, what):
    for key in ('VmSize', 'VmData', 'Threads', 'fds'):
        check(now[key] == before[key], f'{what}: {key} was {before[key]}, is {now[key]}')
    check(now['areas'] <= before['areas'] + 2, f'{what}: {before["areas"]} areas became {now["areas"]}')
    # What was only mapped from files need not be resident again; a little more for stacks in use.
    check(now['VmRSS'] <= before['VmRSS'] + 256, f'{what}: VmRSS was {before["VmRSS"]} KiB, is {now["VmRSS"]}')
    check(now['VmPTE'] <= before['VmPTE'] + 32, f'{what}: VmPTE was {before["VmPTE"]} KiB, is {now["VmPTE"]}')


program = Program(sb, 'sig_altstack')
check(program.wait_ready(), 'the program')
start, mounts, tmp = memory(program.pid), read('/proc/self/mountinfo'), set(os.listdir('/tmp'))
first = None
for i in range(ROUNDS):
    sb.dump(program.pid, 'img', decode=i == 0)
    sb.restore('img', expect_pid=program.pid)
    if first is None:
        first, after_first, files = size('img'), memory(program.pid), set(os.listdir(sb.path('img')))
        check_memory(start, after_first, 'after one round')
program.check_same(f'after {ROUNDS} rounds')
check_memory(after_first, memory(program.pid), f'after {ROUNDS} rounds')
check(abs(size('img') - first) <= first // 20, f'the images had {first} bytes, the last ones have {size("img")}')
check(set(os.listdir(sb.path('img'))) == files, f'files in the image directory: {set(os.listdir(sb.path("img"))) ^ files}')
for _ in range(ROUNDS // 2):
    sb.dump(program.pid, 'running', kill=False, decode=False)
program.check_same(f'after {ROUNDS // 2} times dump -R')
check_memory(after_first, memory(program.pid), f'after {ROUNDS // 2} times dump -R')
check(read('/proc/self/mountinfo') == mounts, 'something is mounted or unmounted')
# Other tests, and unit tests that run meanwhile, have theirs.
others = re.compile(r'ckpt-(e2e|cli|log|fd|image|inspect|mem|options)[-.]')
new = {f for f in set(os.listdir('/tmp')) - tmp if 'ckpt' in f and not others.match(f)}
check(not new, f'left in /tmp: {sorted(new)}')
program.finish()
