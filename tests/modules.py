"""Small torch modules for the contract suites, with reproducible weights."""

import torch
from torch import nn
from torch.nn import functional


def seeded(make, seed=0):
    """Make a module in evaluation mode; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double().eval()


def mlp(inputs, outputs, width=8):
    """A smooth network of two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
        nn.Linear(width, outputs),
    )  # fmt: skip


def convolutional(outputs):
    """A network of images of one by three pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 4, (1, 3), padding=(0, 1)), nn.Tanh(), nn.Flatten(), nn.Linear(12, outputs)
    )


class AnyWidth(nn.Module):
    """Takes rows of any width up to 64, as scikit-learn's checks ask of an estimator."""

    def __init__(self, width=32, outputs=2):
        super().__init__()
        self.hidden = nn.Linear(64, width)
        self.readout = nn.Linear(width, outputs)

    def __reduce__(self):
        # As NumPy: scikit-learn's checks compare pickles, and those of equal tensors differ.
        return _restored, ({name: value.numpy() for name, value in self.state_dict().items()},)

    def forward(self, x):
        return self.readout(torch.tanh(self.hidden(functional.pad(x, (0, 64 - x.shape[-1])))))


def _restored(arrays):
    outputs, width = arrays["readout.weight"].shape
    module = AnyWidth(width, outputs).double().eval()
    module.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
    return module
