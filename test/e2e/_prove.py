#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Prove the test programs themselves, without ckpt: python3 test/e2e/_prove.py [NAME...]

Each must pass when nothing is done to it. Then each of its mutants, a comment "break: STATEMENT" in its source, is put
in the place of the comment, and the program must fail: a check that cannot fail checks nothing."""
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIB = os.path.join(os.path.dirname(HERE), 'lib')
sys.path.insert(0, LIB)
sys.dont_write_bytecode = True

from e2e import harness, spec, system  # noqa: E402

MUTANT = re.compile(r'/\* break: (.*?) \*/', re.S)
FLAGS = ['-std=gnu11', '-D_GNU_SOURCE', '-O2', '-g', f'-I{HERE}', f'-I{LIB}']


def build(name, text, directory):
    """Returns the compiler's complaint, or None."""
    flags = {'libs': [], 'cflags': []}
    for line in text.splitlines()[:spec.HEAD_LINES]:
        m = spec.LINE.match(line)
        for token in shlex.split(re.sub(r'expect=refused.*', '', m.group(1))) if m else []:
            key, _, value = token.partition('=')
            flags.get(key, []).append(value)
    source = os.path.join(directory, f'{name}.c')
    with open(source, 'w') as f:
        f.write(text)
    done = subprocess.run(['gcc', *FLAGS, *flags['cflags'], '-o', os.path.join(directory, name), source,
                           os.path.join(LIB, 'testlib.c'), *flags['libs'], '-pthread', '-lrt'],
                          capture_output=True, text=True)
    return done.stderr if done.returncode else None


def run_in_namespace(name, directory, env):
    """As pid 1 of a namespace of its own; the exit status is the outcome: 0 passed, 1 failed, 77 skipped."""
    system.private_proc()
    os.setsid()
    sb = harness.Sandbox(directory, '/bin/false')
    pid = sb.start([os.path.join(directory, name)], env)
    ready = sb.path('work/ready')
    sb.children.poll(lambda: pid in sb.children.ended or os.path.exists(ready), harness.SETTLE)
    if pid not in sb.children.ended:
        os.kill(pid, signal.SIGTERM)
    code = sb.children.wait(pid, 20)
    said = harness.tail(sb.path('work/out'), 1)
    return 77 if code == 77 else 0 if code == 0 and said == ['PASS'] else 1


def run(name, text, env):
    with tempfile.TemporaryDirectory(prefix='ckpt-prove-') as directory:
        os.chmod(directory, 0o755)
        complaint = build(name, text, directory)
        if complaint:
            return 'does not build', complaint
        pidns = os.open('/proc/self/ns/pid', os.O_RDONLY | os.O_CLOEXEC)
        pid = system.fork_into_new_pidns(pidns)
        if pid == 0:
            try:
                code = run_in_namespace(name, directory, env)
            except harness.Failure:
                code = 1
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        os.close(pidns)
        outcome = {0: 'passes', 77: 'skips'}.get(os.waitstatus_to_exitcode(status), 'fails')
        return outcome, ' '.join(harness.tail(os.path.join(directory, 'work/out'), 1))


def main():
    specs = [s for s in spec.load_all(HERE) if not s.script and not s.helper]
    bad = mutants = 0
    for s in specs:
        if sys.argv[1:] and s.name not in sys.argv[1:]:
            continue
        with open(s.path) as f:
            text = f.read()
        outcome, said = run(s.name, text, s.env)
        print(f'{s.name}: {outcome}' + (f' ({said})' if outcome != 'passes' else ''), flush=True)
        if outcome == 'skips':
            continue
        bad += outcome != 'passes'
        for m in MUTANT.finditer(text):
            outcome, said = run(s.name, f'{text[:m.start()]}{{ {m.group(1)} }}{text[m.end():]}', s.env)
            mutants += 1
            if outcome != 'fails':
                bad += 1
                print(f'    {outcome} all the same with: {m.group(1)} {said}', flush=True)
    print(f'{mutants} mutants; {bad} programs or mutants are not as they should be')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
