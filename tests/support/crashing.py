"""Stores that end the process, so to speak, at one of their operations."""

from checkpoint.stores import DirectoryStore, ZipStore

__all__ = ["STORES", "CrashError", "CrashingDirectory", "CrashingZip"]


class CrashError(BaseException):
    """The process is gone: nothing in it may handle this."""


class Crashing:
    """A store that ends the process, so to speak, at one of its operations."""

    def __init__(self, path, at=None, before=True):
        super().__init__(path)
        self.at, self.before, self.n = at, before, 0

    def _operate(self, name, *arguments):
        if self.at is not None and self.n > self.at:
            raise CrashError  # dead already
        is_here = self.n == self.at
        self.n += 1
        if is_here and self.before:
            raise CrashError
        getattr(super(), name)(*arguments)
        if is_here:
            raise CrashError

    def write(self, values):
        self._operate("write", values)

    def create(self, key, value):
        self._operate("create", key, value)

    def remove(self, keys):
        self._operate("remove", list(keys))

    def finish(self):
        self._operate("finish")

    def unlock(self):
        if self.at is None or self.n <= self.at:
            super().unlock()
            return
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
        if getattr(self, "_archive", None) is not None:
            self._archive.close()  # as the system does when a process dies


class CrashingDirectory(Crashing, DirectoryStore):
    @property
    def path(self):
        return self.root


class CrashingZip(Crashing, ZipStore):
    pass


STORES = {".zarr": CrashingDirectory, ".zip": CrashingZip}
