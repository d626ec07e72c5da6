# SPDX-License-Identifier: GPL-2.0-only
"""What a test's source says about itself in comment lines that begin with "e2e:"."""
import dataclasses
import os
import re
import shlex

LINE = re.compile(r'^\s*(?:/\*+|\*|#|//)?\s*e2e:\s*(.*?)\s*(?:\*/\s*)?$')
HEAD_LINES = 60
# Times the time-out that a test asks for, which is meant for an idle machine. More where all is slow (test/vm/run).
PATIENCE = 6 * float(os.environ.get('CKPT_TEST_PATIENCE', 1))


class SpecError(Exception):
    pass


@dataclasses.dataclass
class Spec:
    name: str
    path: str
    script: bool
    dump: list = dataclasses.field(default_factory=list)      # more arguments for ckpt dump
    restore: list = dataclasses.field(default_factory=list)   # ... and for ckpt restore
    args: list = dataclasses.field(default_factory=list)      # the program's arguments
    env: dict = dataclasses.field(default_factory=dict)       # ... and environment
    ignore: list = dataclasses.field(default_factory=list)    # keys of the /proc view that may differ
    flavours: list = dataclasses.field(default_factory=list)  # only these
    refused: str = None    # the dump must be refused with a message that matches
    rounds: int = 2
    timeout: float = 60 * PATIENCE
    save: str = 'ready'    # when the working directory is saved for the restore after -R: ready, frozen, none
    busy: bool = False     # never at rest: do not wait for that before looking at it
    serial: bool = False   # not beside other tests
    nopass: bool = False   # cannot write PASS; exit status 0 says it
    nocheck: bool = False  # leave out `ckpt check -t` and `ckpt inspect`
    helper: bool = False   # a program for scripts, not a test
    netns: bool = False    # in a network namespace of its own, with a loopback device

    LISTS = ('dump', 'restore', 'args')
    FLAGS = ('busy', 'serial', 'nopass', 'nocheck', 'helper', 'netns')
    BUILD = ('libs', 'cflags')

    def tests(self):
        if self.helper:
            return []
        if self.script:
            return [self.name]
        flavours = ['refused'] if self.refused is not None else (self.flavours or ['restore', 'leave-running'])
        return [f'{self.name}/{f}' for f in flavours]


def _apply(spec, text):
    m = re.search(r'(?:^|\s)expect=refused(?:\s+(.*))?$', text)
    if m:
        spec.refused = m.group(1) or '.'
        re.compile(spec.refused)
        text = text[:m.start()]
    for token in shlex.split(text):
        key, eq, value = token.partition('=')
        if key in Spec.BUILD and eq:
            continue
        if key in Spec.FLAGS and not eq:
            setattr(spec, key, True)
        elif key in Spec.LISTS and eq:
            getattr(spec, key).extend(value.split())
        elif key in ('ignore', 'flavours') and eq:
            getattr(spec, key).extend(v for v in value.split(',') if v)
        elif key == 'env' and eq:
            name, _, val = value.partition('=')
            spec.env[name] = val
        elif key == 'rounds' and eq:
            spec.rounds = int(value)
        elif key == 'timeout' and eq:
            spec.timeout = float(value) * PATIENCE
        elif key == 'save' and value in ('ready', 'frozen', 'none'):
            spec.save = value
        else:
            raise SpecError(f'{spec.path}: e2e: nothing is known of "{token}"')


def load(path):
    name, ext = os.path.splitext(os.path.basename(path))
    spec = Spec(name=name, path=path, script=ext != '.c')
    with open(path, errors='replace') as f:
        for _, line in zip(range(HEAD_LINES), f):
            m = LINE.match(line)
            if m:
                _apply(spec, m.group(1))
    unknown = set(spec.flavours) - {'restore', 'leave-running'}
    if unknown:
        raise SpecError(f'{path}: e2e: no flavour {", ".join(unknown)}')
    return spec


def load_all(directory):
    found = []
    for entry in sorted(os.listdir(directory)):
        path = os.path.join(directory, entry)
        if entry.startswith(('_', '.')) or not entry.endswith(('.c', '.py', '.sh')):
            continue
        spec = load(path)
        if spec.script and not spec.helper and not os.access(path, os.X_OK):
            raise SpecError(f'{path}: is not executable, so it would never run (chmod +x)')
        found.append(spec)
    names = [s.name for s in found]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise SpecError(f'{directory}: more than one test is called {", ".join(sorted(twice))}')
    return found
