# SPDX-License-Identifier: GPL-2.0-only
"""Reading every image with crit's own code, in this process: starting crit once per file takes too long."""
import os
import re
import sys

try:
    import pycriu.images as images
except ImportError:
    sys.path.append('/usr/lib/python3/dist-packages')
    import pycriu.images as images

# Bytes without a header, files of our own, and kinds that are younger than Debian's crit.
NOT_DECODED = re.compile(r'^(pages|ifaddr|route6?|rule|ip6?tables|nftables|tmpfs|tmpfs-dev|checksums|pidfd)(-|\.)')
SMALL = 64 << 10
MANY = 40


def kind_of(name):
    return re.sub(r'(-[0-9a-f]+)?\.img$', '', name)


def decode_all(directory, known):
    """Decode the images of a checkpoint: all small ones (up to MANY of a kind), and the others if their kind is
    not in the set `known` yet. Returns (kinds decoded, list of complaints)."""
    kinds, complaints, counts = set(), [], {}
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if not name.endswith(('.img', 'stats-dump', 'stats-restore')) or NOT_DECODED.match(name) or not os.path.isfile(path):
            continue
        kind = kind_of(name)
        counts[kind] = counts.get(kind, 0) + 1
        if (os.path.getsize(path) > SMALL or counts[kind] > MANY) and kind in known | kinds:
            continue
        try:
            with open(path, 'rb') as f:
                image = images.load(f, True)
            if not isinstance(image.get('entries'), list):
                complaints.append(f'crit decode {name}: no entries')
            kinds.add(kind)
        except Exception as e:  # pylint: disable=broad-except
            complaints.append(f'crit decode {name}: {type(e).__name__}: {e}')
    if 'inventory' not in kinds:
        complaints.append('there is no inventory.img')
    if 'pstree' not in kinds:
        complaints.append('there is no pstree.img')
    return kinds, complaints
