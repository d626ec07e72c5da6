# SPDX-License-Identifier: GPL-2.0-only
"""What the end-to-end runner (test/run) and the scenario scripts (test/e2e/*.py) share."""
