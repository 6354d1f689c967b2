"""Thespian's loadable actor sources: the actors in a zip file can be imported once a source authority has validated it.

Without a source authority nothing is loaded, so code from outside needs the approval of an actor.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thespian.actors import LoadedSource, UnloadedSource, ValidatedSource, ValidateSource
from thespian.system.sourceLoader import SourceHashFinder, loadModuleFromHashSource

if TYPE_CHECKING:
    from runtime.thespian.system_base import SystemBase

_log = logging.getLogger("runtime")


class ActorSources:
    """The loaded sources of an actor system, and the actors to be notified of them."""

    def __init__(self, base: SystemBase) -> None:
        self._base = base
        self._zips: dict[str, Any] = {}
        self.authority: Any = None
        self._listeners: dict[Any, None] = {}

    def load(self, fname: Any) -> str:
        """Sends a file (a path or a file object) to the authority; returns its hash."""
        file = fname if hasattr(fname, "read") else open(fname, "rb")  # noqa: SIM115 - both kinds are closed below
        try:
            data = file.read()
        finally:
            file.close()
        source_hash = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if self.authority is not None:
            self._base.route(self._base.system.pid, self.authority, ValidateSource(source_hash, data))
        return source_hash

    def validated(self, message: ValidatedSource) -> None:
        """The authority has validated a source; an unreadable zip file is refused."""
        try:
            names = SourceHashFinder(message.sourceHash, lambda data: data, message.sourceZip).getZipNames()
        except Exception as error:
            _log.error("actor source %s was validated but is no zip file: %s", message.sourceHash, error)
            return
        _log.info("actor source %s is loaded: %d modules", message.sourceHash, len(names))
        self._zips[message.sourceHash] = message.sourceZip
        for listener in list(self._listeners):
            self._base.route(self._base.system.pid, listener, LoadedSource(message.sourceHash, ""))

    def unload(self, source_hash: str) -> None:
        """Removes a source and its imported modules; later imports by running actors will fail."""
        if self._zips.pop(source_hash, None) is not None:
            for listener in list(self._listeners):
                self._base.route(self._base.system.pid, listener, UnloadedSource(source_hash, ""))
        for position, finder in enumerate(sys.meta_path):
            if getattr(finder, "srcHash", None) == source_hash:
                root = finder.hashRoot()  # type: ignore[attr-defined]
                for module in [name for name in sys.modules if name.startswith(root)]:
                    del sys.modules[module]
                del sys.meta_path[position]
                break

    def unload_all(self) -> None:
        """Unloads all sources, at shutdown."""
        for source_hash in list(self._zips):
            self.unload(source_hash)

    def notify(self, address: Any, enable: bool) -> None:
        """Starts or stops notifying `address` of loaded sources, beginning with those loaded so far."""
        self._listeners.pop(address, None)
        if enable:
            self._listeners[address] = None
            for source_hash in self._zips:
                self._base.route(self._base.system.pid, address, LoadedSource(source_hash, ""))

    def forget(self, address: Any) -> None:
        """Stops notifying an actor that has ended."""
        self._listeners.pop(address, None)

    def importer(self, source_hash: str | None) -> Callable[[str, str], Any] | None:
        """The function that imports a class from a source by module and name; None for Python's import."""
        if not source_hash:
            return None
        return lambda module, name: loadModuleFromHashSource(source_hash, self._zips, module, name)
