"""A name that means another format is no store of a run."""

import pytest

import checkpoint
from checkpoint.errors import ArgumentError, NotARunError
from checkpoint.stores import DirectoryStore, as_store


@pytest.mark.parametrize("name", ["f.nc", "f.NC", "f.h5", "f.csv", "f.parquet", "f.zarr.tar"])
def test_a_new_store_of_that_name_is_refused_with_the_way_out(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"to_netcdf\(path\)"):
        as_store(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_format_is_named(tmp_path):
    (tmp_path / "f.nc").write_bytes(b"CDF")
    with pytest.raises(NotARunError, match="netCDF"):
        as_store(tmp_path / "f.nc")


def test_a_directory_that_is_there_stays_a_store(tmp_path):
    (tmp_path / "f.nc").mkdir()
    assert isinstance(as_store(tmp_path / "f.nc"), DirectoryStore)


def test_what_is_public_is_shown():
    assert dir(checkpoint.stores) == sorted(checkpoint.stores.__all__)
    assert set(checkpoint.stores.__all__) == {
        "DirectoryStore",
        "ObjectStore",
        "Store",
        "WrappedStore",
        "ZipStore",
        "as_store",
    }


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert checkpoint.__version__ == version("pymc-checkpoint")
    assert "__version__" in dir(checkpoint)
