"""The hooks: what a plugin may bring, and what it may hear. Their docstrings are the manual.

A plugin is a module with functions of these names, each marked `@llmgate_core.hookimpl`, and with
`LLMGATE_PLUGIN_API`, the version of the contract that it was written for. All hooks are synchronous. The first
three are called once, after the import; they return classes, and nothing is constructed by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from .connectors import Connector, Frontend, Policy
from .request import RequestRecord

PROJECT = "llmgate"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def llmgate_register_connectors() -> type[Connector] | Sequence[type[Connector]]:  # type: ignore[empty-body]
    """The connectors of this plugin: one class or several. The entry point is named like the connector.

    A backend's `type` names a connector; an object of the class is made for each backend, when the gateway starts.
    Two plugins that bring one connector are both refused.
    """


@hookspec
def llmgate_register_policies() -> type[Policy] | Sequence[type[Policy]]:  # type: ignore[empty-body]
    """The policies of this plugin: each is asked about every attempt, in the order in which plugins were loaded.

    A plugin without a connector is loaded where the configuration names it, under `plugins.load`. Two plugins that
    bring policies of one name are both refused.
    """


@hookspec
def llmgate_register_frontends() -> type[Frontend] | Sequence[type[Frontend]]:  # type: ignore[empty-body]
    """The front ends of this plugin: each answers the paths that it names, in its own dialect.

    A plugin without a connector is loaded where the configuration names it, under `plugins.load`. Two plugins that
    bring front ends of one name are both refused.
    """


@hookspec
def llmgate_request_finished(record: RequestRecord) -> None:
    """A request has ended, whatever its outcome. Must return quickly; what it raises is logged and forgotten.

    It is called in the gateway's event loop: work that waits belongs into a thread or a queue of the plugin's own.

    Args:
        record: what the request left behind. It holds no bodies and no secrets; leave it as it is, others get it too.
    """
