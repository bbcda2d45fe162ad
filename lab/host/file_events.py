# SPDX-License-Identifier: GPL-2.0
"""Changes of files in folders of this machine, by inotify.

The emulator writes the files of a host's shared folder, so its writes are events here.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import select

from lab.common.errors import LabError

IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE = 0x2, 0x8, 0x80, 0x100
EVENTS = IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE


class FileEvents:
    """Events of the files in these folders, but not in their subfolders, until a process ends."""

    def __init__(self, pid: int, *folders: pathlib.Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_CLOEXEC)
        self._process = os.pidfd_open(pid)
        for folder in folders:
            if libc.inotify_add_watch(self._events, os.fsencode(folder), EVENTS) < 0:
                error = os.strerror(ctypes.get_errno())
                self.close()
                raise LabError(f"{folder}: cannot be watched: {error}")

    def wait(self) -> bool:
        """Wait for changes; false if the process has ended."""
        ready, _, _ = select.select([self._events, self._process], [], [])
        if self._events in ready:
            os.read(self._events, 65536)
        return self._process not in ready

    def close(self) -> None:
        """Release the file descriptors."""
        for fd in (self._events, self._process):
            if fd >= 0:
                os.close(fd)
