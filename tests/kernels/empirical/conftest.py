import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Several would wait for each other at every product of a few rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
