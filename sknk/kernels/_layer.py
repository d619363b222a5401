"""What every layer is: an immutable value with named parameters, and two steps on kernel states."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, replace
from typing import Any, ClassVar, Self

import torch
from sklearn.gaussian_process.kernels import Hyperparameter
from torch import Tensor, nn

from sknk.kernels._state import Features, KernelState

__all__ = ["Children", "Function", "Layer", "Values", "values_of"]

Values = Mapping[str, Tensor]
Children = tuple[tuple[str, "Layer"], ...]


def values_of(name: str, values: Values) -> dict[str, Tensor]:
    """Return the values of one part, its prefix removed."""
    prefix = f"{name}__"
    return {key[len(prefix) :]: v for key, v in values.items() if key.startswith(prefix)}


class Layer(ABC):
    """One layer of a network of infinite width; chain layers with ``>>``.

    Subclasses are frozen dataclasses, so layers compare, hash and pickle by value. They give
    ``rows`` (what pairs need to know of each row after the layer) and ``propagate`` (pairs before
    -> pairs after), ``finite`` (the same layer with finitely many random units, which the tests
    hold the formulas against), and name their numeric parameters in ``_value_names``; those reach
    the methods through `values` as tensors. Parameters are changed by making a new layer:
    :meth:`with_params`.
    """

    _value_names: ClassVar[tuple[str, ...]] = ()

    @property
    def children(self) -> Children:
        """Layers inside this one, by name."""
        return ()

    @property
    def mixes_pixels(self) -> bool:
        """Whether the layer averages over pixels, so that covariances between them matter."""
        return any(child.mixes_pixels for _, child in self.children)

    @property
    def averages(self) -> bool:
        """Whether the layer leaves covariances that are averages, exact to rounding only."""
        return any(child.averages for _, child in self.children)

    @property
    def needs_angles(self) -> bool:
        """Whether the layer asks for angles, which covariances hold to half their digits."""
        return any(child.needs_angles for _, child in self.children)

    def dtype(self, wanted: torch.dtype, rows: torch.dtype) -> torch.dtype:
        """Return the dtype in which pairs keep the digits of `wanted`; angles do in their own."""
        found = [child.dtype(wanted, rows) for _, child in self.children]
        return rows if rows in found else wanted

    def gaussian(self, before: bool) -> bool:
        """Return whether features are Gaussian after the layer; activations need it before them.

        Parameters
        ----------
        before : bool
            Whether they are before it.

        Returns
        -------
        bool
        """
        return before

    def fresh(self, before: bool) -> bool:
        """Return whether features after the layer are centred and independent of all others.

        Weights make them so; what is done to them feature by feature afterwards does not keep it.

        Parameters
        ----------
        before : bool
            Whether they are before it.

        Returns
        -------
        bool
        """
        return before

    @abstractmethod
    def rows(self, itself: KernelState, values: Values) -> Features:
        """Return what pairs need to know of each row after this layer.

        Parameters
        ----------
        itself : KernelState
            Rows before the layer, each paired with itself; without pair tensors where a row has no
            pixels to pair, or only equal ones are paired.
        values : mapping of str to Tensor
            Numeric parameters, 0-d.

        Returns
        -------
        Features
        """

    @abstractmethod
    def propagate(
        self, state: KernelState, x: Features, y: Features, values: Values
    ) -> KernelState:
        """Return the state after this layer; may overwrite the pairs of `state`.

        Parameters
        ----------
        state : KernelState
            Of the layer's inputs.
        x, y : Features
            Of its outputs, from :meth:`rows`.
        values : mapping of str to Tensor
            Numeric parameters, 0-d, in the dtype of the pairs.

        Returns
        -------
        KernelState
        """

    @abstractmethod
    def finite(self, example: Tensor, width: int, generator: torch.Generator) -> nn.Module:
        """Return this layer with finitely many random units, in the NTK parametrization.

        Parameters
        ----------
        example : Tensor of shape (n, channels) or (n, channels, h, w)
            Inputs, for their shape.
        width : int
            Units of a weight layer.
        generator : torch.Generator
            Draws weights and biases.

        Returns
        -------
        Module
            Its parameters are the layer's weights and biases, standard normal.
        """

    def untrained(self) -> Self:
        """Return this layer with all weights kept at their initial values."""
        return self.with_children({name: child.untrained() for name, child in self.children})

    def with_children(self, children: Mapping[str, "Layer"]) -> Self:
        """Return this layer with other layers inside, by name."""
        return replace(self, **children)  # type: ignore[type-var]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of layers inside as ``name__parameter``."""
        params = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        for name, child in self.children if deep else ():
            params[name] = child
            params.update((f"{name}__{key}", v) for key, v in child.get_params().items())
        return params

    def with_params(self, **params: Any) -> Self:
        """Return a copy with some parameters changed, those inside by their nested names.

        Parameters
        ----------
        **params : object
            ``weight_var=2.0``, ``dense__bias_var=0.1``, or a whole layer by its name.

        Returns
        -------
        Layer

        Raises
        ------
        ValueError
            For a name that this layer does not have.

        Examples
        --------
        >>> from sknk.kernels import Dense, ReLU
        >>> (Dense() >> ReLU()).with_params(dense__bias_var=0.1)
        Serial(layers=(('dense', Dense(bias_var=0.1)), ('relu', ReLU())))
        """
        known = {f.name for f in fields(self)}  # type: ignore[arg-type]
        own = {key: value for key, value in params.items() if key in known}
        changed = replace(self, **own) if own else self  # type: ignore[type-var]
        children = dict(changed.children)
        nested: dict[str, dict[str, Any]] = {}
        for key, value in params.items():
            name, _, inner = key.partition("__")
            if key in known:
                continue
            if name not in children:
                raise ValueError(
                    f"`{key}` is no parameter of {self!r}; expected one of "
                    f"{sorted(self.get_params())}."
                )
            if inner:
                nested.setdefault(name, {})[inner] = value
            else:
                children[name] = value
        for name, inside in nested.items():
            children[name] = children[name].with_params(**inside)
        return changed if children == dict(changed.children) else changed.with_children(children)

    @property
    def hyperparameters(self) -> Iterator[Hyperparameter]:
        """Numeric parameters with their bounds, then those of layers inside; zeros are fixed."""
        for name in self._value_names:
            bounds = getattr(self, f"{name}_bounds") if getattr(self, name) else "fixed"
            yield Hyperparameter(name, "numeric", bounds)
        for name, child in self.children:
            for h in child.hyperparameters:
                yield Hyperparameter(f"{name}__{h.name}", h.value_type, h.bounds)

    def __rshift__(self, other: "Layer") -> "Layer":
        """Chain two layers into a Serial."""
        from sknk.kernels import _compose

        if not isinstance(other, Layer):
            return NotImplemented
        return _compose.chain(self, other)

    def __repr__(self) -> str:
        """Return the constructor form, defaults left out."""
        shown = (
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)  # type: ignore[arg-type]
            if f.default is MISSING or getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Function(nn.Module):
    """A layer of finite width: a function of its inputs and of some parameters.

    Parameters
    ----------
    function : callable
        Inputs and parameters -> outputs.
    *weights : Tensor
        Become parameters.
    """

    def __init__(self, function: Callable[..., Tensor], *weights: Tensor) -> None:
        super().__init__()
        self._function = function
        self.weights = nn.ParameterList(weights)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        return self._function(x, *self.weights)
