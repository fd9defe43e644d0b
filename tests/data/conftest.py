"""The small tree whose files say who they are (`named`), for tests of what reads it."""

import shutil

import named
import pytest

from r2n2_keras.data.trees import list_objects


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return named.write_tree(tmp_path_factory.mktemp("named"))


@pytest.fixture(scope="module")
def models(root):
    return list_objects(str(root))[0]


@pytest.fixture
def damaged(root, tmp_path):
    """The same files, for a test that breaks some of them."""
    return shutil.copytree(root, tmp_path / "damaged")
