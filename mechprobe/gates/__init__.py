"""What stands in a closed gate's place, and the reference path that applies gates by hooks.

The package can be called: ``with mechprobe.gates(model, closed=["5.1"]):`` is
``mechprobe.gates.context.gated``, which type checkers know as ``mechprobe.gated``.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that is also the function it is named after."""

    def __call__(self, *args: Any, **kwargs: Any) -> AbstractContextManager:
        from mechprobe.gates.context import gated

        return gated(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
