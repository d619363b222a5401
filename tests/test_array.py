"""The boundary between NumPy and torch."""

import numpy as np
import pytest
import torch

from sknk import _array
from sknk._config import config_context

CPU = torch.device("cpu")


def test_compute_dtype_is_float64_unless_configured():
    assert _array.compute_dtype() is torch.float64
    with config_context(dtype="float32"):
        assert _array.compute_dtype() is torch.float32
    with config_context(dtype="float64"):
        assert _array.compute_dtype() is torch.float64


def test_compute_device_follows_tensors_when_none_is_configured():
    assert _array.compute_device() == CPU
    assert _array.compute_device(np.ones(3)) == CPU
    assert _array.compute_device(torch.ones(3, device="meta")).type == "meta"


def test_configured_device_goes_before_the_tensor():
    with config_context(device="cpu"):
        assert _array.compute_device(torch.ones(3, device="meta")) == CPU


@pytest.mark.parametrize("found", [True, False])
def test_auto_takes_cuda_where_there_is_one(monkeypatch, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with config_context(device="auto"):
        assert _array.compute_device().type == ("cuda" if found else "cpu")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_auto_takes_mps_for_float32_only(monkeypatch, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with config_context(device="auto", dtype=dtype):
        assert _array.compute_device().type == ("mps" if dtype == "float32" else "cpu")


def test_devices_that_do_not_exist_raise(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, match in (
        ("cuda", "`device` is 'cuda' but torch finds no CUDA device"),
        ("gpu", "`device` is 'gpu'; expected 'auto' or a torch device"),
        ("mps", "`device` is 'mps', which has no float64"),
    ):
        with config_context(device=name), pytest.raises(ValueError, match=match):
            _array.compute_device()


def test_rows_are_float64_wherever_the_device_has_it():
    assert _array.row_dtype(CPU) is torch.float64
    assert _array.row_dtype(torch.device("cuda")) is torch.float64
    assert _array.row_dtype(torch.device("mps")) is torch.float32


def test_as_tensor_shares_memory_where_it_can():
    x = np.ones((3, 2))
    tensor = _array.as_tensor(x, CPU, torch.float64)
    x[0, 0] = 5.0
    assert tensor[0, 0] == 5.0
    assert _array.as_tensor(tensor, CPU, torch.float64) is tensor


def test_as_tensor_copies_what_torch_refuses():
    x = np.arange(6.0).reshape(3, 2)
    frozen = x.copy()
    frozen.flags.writeable = False
    for odd in (x[::-1], x[:, ::-1], frozen, np.asfortranarray(x), x.tolist()):
        found = _array.as_tensor(odd, CPU, torch.float64)
        np.testing.assert_array_equal(found.numpy(), np.asarray(odd))
    found = _array.as_tensor(frozen, CPU, torch.float64)
    found[0] = -1.0
    assert frozen[0, 0] == 0.0


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "uint8", "int64", "bool", ">f8"])
def test_as_tensor_takes_every_real_dtype(dtype):
    x = np.array([[0, 1], [1, 1]]).astype(dtype)
    found = _array.as_tensor(x, CPU, torch.float64)
    assert found.dtype is torch.float64
    np.testing.assert_array_equal(found.numpy(), x)


def test_to_numpy_detaches_and_shares():
    x = torch.ones(3, requires_grad=True)
    found = _array.to_numpy(x)
    assert isinstance(found, np.ndarray)
    assert found.ctypes.data == x.data_ptr()


def test_config_of_applies_what_is_given():
    with config_context(dtype="float32", device="cpu"):
        with _array.config_of(None, None):
            assert _array.compute_dtype() is torch.float32
        with _array.config_of(None, "float64"):
            assert _array.compute_dtype() is torch.float64
        assert _array.compute_dtype() is torch.float32


def test_config_of_turns_tf32_off_and_back():
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with _array.config_of(None, None):
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
