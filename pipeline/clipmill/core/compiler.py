"""Spares every process two slow imports: torch's compiler, and timm where no model needs it.

clipmill compiles nothing. torchvision and timm import the compiler for two functions that matter to compiled models only,
so while they are imported a stand-in has these two; whatever else is asked of it comes from the compiler itself. open_clip
takes timm for absent when it is imported, as it can be; `bring_timm` brings it for a model that is built of it.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_COMPILER, _UTILS = "torch._dynamo", "torch._dynamo.utils"
_WITHOUT_TIMM = "open_clip.timm_model"


def leave_out_compiler() -> None:
    """From here on torchvision and timm are imported without the compiler, and open_clip without timm, unless these are
    there already."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def bring_timm() -> None:
    """Gives open_clip what it left out of timm, where timm is installed."""
    adapter = sys.modules.get(_WITHOUT_TIMM)
    if adapter is not None and getattr(adapter, "timm", None) is None:
        importlib.reload(adapter)
        importlib.import_module("open_clip.model").TimmModel = adapter.TimmModel  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        wrapped = _WRAPPED.get(name)
        if wrapped is None or target is not None:  # a target is given to a module that is loaded once more, with timm
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = wrapped(spec.loader)
        return spec


class _Beside(Loader):
    """Runs a module as its own loader does, with the stand-in in the compiler's place."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        importlib.import_module("torch")
        with _stand_in():
            self._loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _Without(_Beside):
    """Runs a module as its own loader does, to which timm seems absent, unless it is imported already."""

    def exec_module(self, module: ModuleType) -> None:
        if "timm" in sys.modules:
            self._loader.exec_module(module)
            return
        sys.modules["timm"] = None  # type: ignore[assignment]  # so that importing it raises ImportError
        try:
            self._loader.exec_module(module)
        finally:
            del sys.modules["timm"]


_WRAPPED: dict[str, type[_Beside]] = {
    "torchvision": _Beside,
    "torchvision.tv_tensors": _Beside,
    "timm": _Beside,
    _WITHOUT_TIMM: _Without,
}


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


@contextmanager
def _stand_in() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    compiler, utils = _StandIn(_COMPILER), _StandIn(_UTILS)
    vars(compiler).update(utils=utils, disable=_left_as_it_is)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    sys.modules.update({_COMPILER: compiler, _UTILS: utils})
    try:
        yield
    finally:
        _remove_stand_in()


def _left_as_it_is(function: Any = None, recursive: bool = True, **options: Any) -> Any:
    """What ``torch._dynamo.disable`` comes to where nothing is compiled."""
    return function if function is not None else lambda given: given


def _is_compile_supported(device_type: str) -> bool:
    return bool(_real(_UTILS).is_compile_supported(device_type))


def _real(name: str) -> ModuleType:
    _remove_stand_in()
    return importlib.import_module(name)


def _remove_stand_in() -> None:
    for name in (_COMPILER, _UTILS):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]
