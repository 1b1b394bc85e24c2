"""Small real file systems: mounted, filled up, broken, mended, and always unmounted."""

import contextlib
import errno
import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CannotMountError", "FileSystem", "in_namespace", "mounted"]

_MIB = 1 << 20
_LESS = 16 << 10


class CannotMountError(Exception):
    """This process may not mount file systems of that kind."""


class FileSystem:
    """A file system of its own, small enough to be filled.

    Attributes
    ----------
    root : Path
        Where it is mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def mount(self) -> None:
        raise NotImplementedError

    def unmount(self) -> None:
        """Take it away, also from under what still uses it."""
        if os.path.ismount(self.root):
            subprocess.run(["umount", "-l", self.root], check=True)

    @property
    def n_free(self) -> int:
        """Bytes that can be written."""
        stat = os.statvfs(self.root)
        return stat.f_bavail * stat.f_frsize

    def leave(self, n_bytes: int) -> None:
        """Fill it up, so that about so many bytes are free."""
        self.free()
        n_ballast = self.n_free - n_bytes
        with self._ballast.open("wb") as file:
            while n_ballast > 0:
                try:
                    os.posix_fallocate(file.fileno(), 0, n_ballast)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    n_ballast -= _LESS  # a file system needs some of what it calls free for itself
                else:
                    break

    def free(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    def empty(self) -> None:
        """Remove all that is in it."""
        for path in self.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class Tmpfs(FileSystem):
    """In memory."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)

    def mount(self) -> None:
        _run("mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "none", str(self.root))


class Ext4(FileSystem):
    """In a file, as on a disk; it becomes read-only when it finds an error in itself."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._image = root.with_suffix(".img")

    def mount(self) -> None:
        if not self._image.exists():
            with self._image.open("wb") as file:
                file.truncate(24 * _MIB)
            _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.root))

    def fail(self) -> None:
        """Let the kernel find an error: from now on nothing is written, and nothing is synced."""
        for device in Path("/sys/fs/ext4").glob("loop*"):
            source = _run("findmnt", "-no", "SOURCE", str(self.root)).strip()
            if source == f"/dev/{device.name}":
                (device / "trigger_fs_error").write_text("a trial")
                return
        raise CannotMountError("the kernel cannot be asked to find an error in a file system")

    def mend(self) -> None:
        """Do what one does then: unmount, check, mount again."""
        gc.collect()  # what this process has read may hold open files
        _run("umount", str(self.root))
        checked = subprocess.run(
            ["e2fsck", "-fy", str(self._image)], capture_output=True, text=True, check=False
        )
        if checked.returncode not in (0, 1):  # 1: errors were corrected
            raise RuntimeError(f"e2fsck: {checked.stdout}{checked.stderr}")
        self.mount()


KINDS = {"tmpfs": Tmpfs, "ext4": Ext4}


@contextlib.contextmanager
def mounted(kind: str, folder: Path) -> Iterator[FileSystem]:
    """Mount a file system of a kind for a while.

    Raises
    ------
    CannotMountError
        If that is not possible here.
    """
    root = folder / f"{kind}-root"
    root.mkdir(exist_ok=True)
    system = KINDS[kind](root)
    try:
        system.mount()
        yield system
    finally:
        system.unmount()


def in_namespace() -> list[str]:
    """Return what a command must begin with to be allowed to mount; nothing if it is already.

    Raises
    ------
    CannotMountError
        If there is no way.
    """
    if os.geteuid() == 0:
        return []
    command = ["unshare", "-rm"]
    with contextlib.suppress(OSError):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    raise CannotMountError("it needs root, or a user namespace of its own")


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        text = (getattr(error, "stderr", "") or str(error)).strip().partition("\n")[0]
        raise CannotMountError(f"{command[0]}: {text.rpartition(': ')[2]}") from error
