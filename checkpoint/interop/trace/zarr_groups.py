"""zarr's groups and arrays with the features of zarr 2 that users of ZarrTrace rely on."""

from typing import Any

import zarr

from checkpoint.stores import Store

__all__ = ["Array", "Group", "open_root"]


class Array(zarr.Array):  # type: ignore[type-arg]
    """A Zarr array with a length."""

    def __len__(self) -> int:
        return int(self.shape[0])


class Group(zarr.Group):
    """A Zarr group whose members are attributes too."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{self!r} has no member {name!r}") from None

    def __getitem__(self, path: str) -> Any:
        member = super().__getitem__(path)
        if isinstance(member, zarr.Group):
            return Group(member._async_group)
        return Array(member._async_array)

    def group(self, name: str) -> "Group":
        """Return the group of that name below this one.

        Raises
        ------
        KeyError
            If there is none.
        """
        member = self[name]
        if not isinstance(member, Group):
            raise KeyError(name)
        return member


def open_root(store: Store) -> Group:
    """Return the root group of a store, as it is now."""
    mode: Any = "r" if store.read_only else "r+"
    # Groups that were made after the run are not in its consolidated metadata.
    group = zarr.open_group(store, mode=mode, use_consolidated=False)
    return Group(group._async_group)
