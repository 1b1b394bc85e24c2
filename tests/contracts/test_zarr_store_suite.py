"""zarr's own tests of stores, run against ours."""

import os
import zipfile

import obstore
import pytest
import zarr.storage
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.testing.store import StoreTests

from checkpoint.stores import DirectoryStore, ObjectStore, WrappedStore, ZipStore


class Suite(StoreTests):
    buffer_cls = cpu.Buffer

    def test_store_repr(self, store):
        assert repr(store) == f"{type(store).__name__}({store.name!r})"

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing


class TestDirectoryStore(Suite):
    store_cls = DirectoryStore

    @pytest.fixture
    def store_kwargs(self, tmp_path):
        return {"root": tmp_path / "store.zarr"}

    async def set(self, store, key, value):
        path = store.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value.to_bytes())

    async def get(self, store, key):
        return self.buffer_cls.from_bytes((store.root / key).read_bytes())


class TestZipStore(Suite):
    store_cls = ZipStore

    @pytest.fixture
    def store_kwargs(self, tmp_path):
        return {"path": tmp_path / "store.zip"}

    async def set(self, store, key, value):
        with zipfile.ZipFile(store.path, "a") as archive:
            archive.writestr(key, value.to_bytes())

    async def get(self, store, key):
        with zipfile.ZipFile(store.path) as archive:
            return self.buffer_cls.from_bytes(archive.read(key))


class TestObjectStore(Suite):
    store_cls = ObjectStore

    @pytest.fixture
    def store_kwargs(self, tmp_path):
        return {"store": f"memory://{os.path.basename(tmp_path)}"}

    async def set(self, store, key, value):
        obstore.put(store.store, key, value.to_bytes())

    async def get(self, store, key):
        return self.buffer_cls.from_bytes(bytes(obstore.get(store.store, key).bytes()))

    async def test_serializable_store(self, store):
        pytest.skip("memory is not shared with a process that unpickles")


class TestWrappedStore(Suite):
    store_cls = WrappedStore

    @pytest.fixture
    def store_kwargs(self):
        return {"store": zarr.storage.MemoryStore({})}

    async def set(self, store, key, value):
        await store.store.set(key, value)

    async def get(self, store, key):
        return await store.store.get(key, default_buffer_prototype())

    async def test_serializable_store(self, store):
        pytest.skip("memory is not shared with a process that unpickles")
