# SPDX-License-Identifier: GPL-2.0-only
"""A tree of processes as /proc shows it, without what may differ between before a dump and after a restore.

A view is a dict: "PID/what" or "PID/TID/what" -> text or list of lines. Kernel objects without a name (pipes,
shared anonymous memory) are numbered in the order in which they are met, so that equal sharing gives equal
views although every inode number is new."""
import difflib
import fnmatch
import hashlib
import os
import re

from . import system

STATUS = ('Name Umask Uid Gid Groups SigPnd ShdPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb '
          'NoNewPrivs Seccomp Seccomp_filters Speculation_Store_Bypass SpeculationIndirectBranch Cpus_allowed '
          'Mems_allowed TracerPid Threads VmLck VmPin THP_enabled').split()
# Fields of /proc/PID/stat by their number in proc(5).
STAT = {'ppid': 4, 'pgrp': 5, 'session': 6, 'tty_nr': 7, 'tpgid': 8, 'priority': 18, 'nice': 19, 'start_code': 26,
        'end_code': 27, 'start_stack': 28, 'exit_signal': 38, 'rt_priority': 40, 'policy': 41, 'start_data': 45,
        'end_data': 46, 'start_brk': 47, 'arg_start': 48, 'arg_end': 49, 'env_start': 50, 'env_end': 51,
        'exit_code': 52}
TEXT = 'comm limits oom_score_adj personality timers coredump_filter timerslack_ns cgroup setgroups'.split()
LINKS = 'exe cwd root'.split()
# sd: soft-dirty; ac: accounting, which remembers protections that an area had once.
VM_FLAGS_IGNORED = {'sd', 'ac'}
MAPS_LINE = re.compile(r'^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+)\s*(.*)$')


class Gone(Exception):
    """A process of the tree has ended while it was looked at."""


class _Numbering:
    def __init__(self):
        self.numbers = {}

    def __call__(self, kind, key):
        known = self.numbers.setdefault(kind, {})
        return known.setdefault(key, len(known) + 1)


def _read(path, mode='r'):
    try:
        with open(path, mode, **({} if 'b' in mode else {'errors': 'surrogateescape'})) as f:
            return f.read()
    except FileNotFoundError:
        return None
    except ProcessLookupError as e:
        raise Gone(path) from e
    except (PermissionError, OSError) as e:
        return f'<{e.strerror}>' if 'b' not in mode else b''


def _link(path):
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except ProcessLookupError as e:
        raise Gone(path) from e
    except OSError as e:
        return f'<{e.strerror}>'


def all_pids():
    return sorted(int(d) for d in os.listdir('/proc') if d.isdigit())


def _stat(path):
    text = _read(path)
    if not text:
        raise Gone(path)
    return text[text.rindex(')') + 2:].split()


def tree(root):
    """root and all its descendants, in order of pids; empty when root does not exist."""
    parents = {}
    for pid in all_pids():
        try:
            parents[pid] = int(_stat(f'/proc/{pid}/stat')[1])
        except Gone:
            continue
    found = {root} & parents.keys()
    while True:
        more = {p for p, pp in parents.items() if pp in found} - found
        if not more:
            return sorted(found)
        found |= more


def _state(letter):
    return letter if letter in 'TtZXx' else 'alive'


def blocks(pid, signal):
    """Whether its first thread has that signal blocked."""
    mask = re.search(r'^SigBlk:\s*(\S+)', _read(f'/proc/{pid}/status') or '', re.M)
    return mask is not None and int(mask[1], 16) >> signal - 1 & 1 == 1


def is_resting(pids):
    """Every thread sleeps interruptibly, is stopped or is a zombie."""
    for pid in pids:
        try:
            for tid in os.listdir(f'/proc/{pid}/task'):
                if _stat(f'/proc/{pid}/task/{tid}/stat')[0] not in 'STtZ':
                    return False
        except (Gone, FileNotFoundError, ProcessLookupError):
            return False
    return True


def _maps(pid, number):
    """Areas with their flags. Neighbours that the kernel could merge, and does or does not by chance, are one."""
    areas = []
    for line in (_read(f'/proc/{pid}/smaps') or '').splitlines():
        if line.startswith('VmFlags:'):
            areas[-1]['flags'] = ' '.join(f for f in line.split()[1:] if f not in VM_FLAGS_IGNORED)
            continue
        m = MAPS_LINE.match(line)
        if m:
            start, end, perms, offset, dev, ino, path = m.groups()
            if path.endswith('(deleted)') and not path.startswith('/dev/shm/'):
                dev, ino = '-', f'#{number("shmem", (dev, ino))}'
            if path.startswith('socket:['):
                ino, path = f'#{number("mapped socket", ino)}', 'socket'
            if path == '[heap]':
                # By chance, one in 8192, it begins right behind the program's data, and may become one area with them.
                path = ''
            areas.append({'start': int(start, 16), 'end': int(end, 16), 'offset': int(offset, 16), 'flags': '',
                          'what': (perms, dev, ino, path)})
    merged = []
    for a in areas:
        last = merged[-1] if merged else None
        backed = a['what'][2] != '0'
        if (last and last['end'] == a['start'] and last['what'] == a['what'] and last['flags'] == a['flags'] and
                (not backed or last['offset'] + last['end'] - last['start'] == a['offset'])):
            last['end'] = a['end']
        else:
            merged.append(dict(a))
    return [f'{a["start"]:012x}-{a["end"]:012x} {a["what"][0]} {a["offset"]:x} {" ".join(a["what"][1:])} '
            f'[{a["flags"]}]' for a in merged]


def _epoll_members(lines):
    """The kernel lists them by where their files are in memory; those may have new inode numbers."""
    members = sorted(re.sub(r'\s+pos:.*', '', line) for line in lines if line.startswith('tfd:'))
    return [line for line in lines if not line.startswith('tfd:')] + members


def _search_alike(alike, pid, fd):
    """Where the open file is, or belongs, in a list in the order of kcmp(2), and its number if it is there."""
    low, high = 0, len(alike)
    while low < high:
        middle = (low + high) // 2
        other_pid, other_fd, file_number = alike[middle]
        order = system.kcmp(system.KCMP_FILE, pid, other_pid, fd, other_fd)
        if order == 0:
            return middle, file_number
        if order == 1:
            high = middle
        else:
            low = middle + 1
    return low, None


def _fds(pid, number, files):
    """One entry per descriptor; `files` collects open file descriptions over the whole tree, told apart by kcmp(2)
    among those that look the same."""
    view = {}
    try:
        fds = sorted(int(fd) for fd in os.listdir(f'/proc/{pid}/fd'))
    except (FileNotFoundError, ProcessLookupError) as e:
        raise Gone(str(pid)) from e
    except PermissionError:
        return {'fd': '<not readable>'}
    for fd in fds:
        target = _link(f'/proc/{pid}/fd/{fd}')
        info = _read(f'/proc/{pid}/fdinfo/{fd}')
        if target is None or info is None:
            continue
        anonymous = re.match(r'^(\w+):\[(\d+)\]$', target)
        lines = info.splitlines()
        if re.match(r'^/proc/\d+/', target):
            # The kernel makes these files anew whenever it likes.
            target = target.removesuffix(' (deleted)')
            lines = [line for line in lines if not line.startswith('ino:')]
            info = '\n'.join(lines)
        if anonymous or target.startswith(('anon_inode:', '/memfd:')) or target.endswith(' (deleted)'):
            unstable = ('ino:', 'mnt_id:', 'eventfd-id:', 'it_value:', 'ticks:')
            lines = [line for line in lines if not line.startswith(unstable)]
            lines = _epoll_members(lines)
            info = '\n'.join(lines)
        if anonymous and anonymous.group(1) in ('pipe', 'socket'):
            target = f'{anonymous.group(1)}:#{number(anonymous.group(1), anonymous.group(2))}'
        flags = re.sub(r'(?m)^flags:\s*(\d+)$', lambda m: f'flags: {int(m.group(1), 8) & ~0o2000000:o}', info)
        alike = files.setdefault((target, flags), [])
        place, file_number = _search_alike(alike, pid, fd)
        if file_number is None:
            file_number = number('file', (pid, fd))
            alike.insert(place, (pid, fd, file_number))
        view[f'fd.{fd}'] = [f'{target} (open file #{file_number})'] + lines
    return view


def _thread(pid, tid):
    base = f'/proc/{pid}/task/{tid}'
    stat = _stat(f'{base}/stat')
    view = {'state': _state(stat[0])}
    for name, n in STAT.items():
        if n - 3 < len(stat):
            view[f'stat.{name}'] = stat[n - 3]
    for line in (_read(f'{base}/status') or '').splitlines():
        key, _, value = line.partition(':')
        if key in STATUS:
            view[f'status.{key}'] = value.strip()
    view['comm'] = (_read(f'{base}/comm') or '').rstrip('\n')
    # Their order tells who was born or left to this parent first; nothing depends on it.
    view['children'] = ' '.join(sorted((_read(f'{base}/children') or '').split(), key=int))
    if stat[0] == 'Z':
        # The dead receive no signals and use no capabilities.
        view = {k: v for k, v in view.items() if not k.startswith(('status.Sig', 'status.Shd', 'status.Cap'))}
    return view


def _process(pid, parent, number, files):
    base = f'/proc/{pid}'
    view = {}
    tids = sorted(int(t) for t in os.listdir(f'{base}/task'))
    for tid in tids:
        prefix = '' if tid == pid else f'{tid}/'
        for key, value in _thread(pid, tid).items():
            view[prefix + key] = value
    view['threads'] = ' '.join(map(str, tids))
    # A leader that has exited while other threads live no longer shows what the process has.
    live = next((t for t in tids if view.get('state' if t == pid else f'{t}/state') not in ('Z', 'X')), None)
    if live is None:
        return view
    pid, base = live, f'/proc/{live}'
    for name in TEXT:
        text = _read(f'{base}/{name}')
        if text is not None:
            view[name] = text.splitlines()
    for name in LINKS:
        view[name] = _link(f'{base}/{name}')
    for name in ('cmdline', 'environ', 'auxv'):
        data = _read(f'{base}/{name}', 'rb') or b''
        view[name] = repr(data) if name == 'cmdline' else f'{len(data)} bytes, sha1 {hashlib.sha1(data).hexdigest()}'
    for ns in sorted(os.listdir(f'{base}/ns')):
        view[f'ns.{ns}'] = _link(f'{base}/ns/{ns}')
    view['maps'] = _maps(pid, number)
    view.update(_fds(pid, number, files))
    if parent:
        for name, kind in (('vm', system.KCMP_VM), ('files', system.KCMP_FILES), ('fs', system.KCMP_FS),
                           ('sighand', system.KCMP_SIGHAND)):
            view[f'shares.{name}'] = str(system.kcmp(kind, pid, parent) == 0)
    return view


def view(pids):
    """The view of these processes. Raises Gone when one ends meanwhile."""
    number, files, result = _Numbering(), {}, {}
    for pid in pids:
        try:
            parent = int(_stat(f'/proc/{pid}/stat')[1])
            process = _process(pid, parent if parent in pids else None, number, files)
        except (FileNotFoundError, ProcessLookupError) as e:
            raise Gone(str(pid)) from e
        for key, value in process.items():
            result[f'{pid}/{key}'] = value
    return result


def without(view_, ignore):
    """Leave out what matches one of the patterns, e.g. maps, status.SigPnd, fd.3, fd.*, stat.nice; a pattern
    with a slash is matched against the whole key (PID/... or PID/TID/...)."""
    def ignored(key):
        last = key.rsplit('/', 1)[1]
        return any(fnmatch.fnmatchcase(key if '/' in p else last, p) for p in ignore)
    return {k: v for k, v in view_.items() if not ignored(k)}


def diff(before, after):
    """Lines that say how two views differ; empty when they do not."""
    out = []
    for key in sorted(before.keys() | after.keys()):
        a, b = before.get(key), after.get(key)
        if a == b:
            continue
        if isinstance(a, list) and isinstance(b, list):
            out.append(f'{key}:')
            out += ['    ' + line for line in difflib.unified_diff(a, b, 'before', 'after', n=0, lineterm='')
                    if not line.startswith(('---', '+++'))]
        else:
            out.append(f'{key}: before {a!r}, after {b!r}')
    return out
