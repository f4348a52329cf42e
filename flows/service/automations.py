"""Prefect automations of a service: mark runs whose process died, and notify about failures."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.automations import (
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
    SendNotification,
)
from prefect.client.schemas.objects import StateType

from specdyn.flows.engine.settings import HEARTBEAT_SECONDS
from specdyn.models.spec.checks import require

SILENT_SECONDS = 3 * HEARTBEAT_SECONDS
ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled")}
HEARTBEAT = "prefect.flow-run.heartbeat"
DIED = "Its process stopped sending heartbeats. Run it again to continue with what is left."
MESSAGE = """{{ flow.name }} / {{ flow_run.name }} is {{ flow_run.state.name }}: {{ flow_run.state.message }}
{{ flow_run|ui_url }}
Its artifact `failures` says what failed and what to do. Run it again to continue with what is left."""


def zombies() -> AutomationCore:
    """Marks a run Crashed after three missed heartbeats, which frees its slot."""
    return AutomationCore(
        name="specdyn: mark runs that died",
        description="Marks a flow run Crashed if its process stops sending heartbeats.",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDED},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                # Not by force: heartbeats may arrive after the end of a short run.
                force=False,
                message=DIED,
            )
        ],
    )


def failures(block_document_id: UUID) -> AutomationCore:
    """Sends a message through a notification block when a run fails or crashes."""
    return AutomationCore(
        name="specdyn: tell of failures",
        description="Sends a notification when a flow run fails or crashes.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block_document_id, subject="specdyn: {{ flow_run.name }} failed", body=MESSAGE
            )
        ],
    )


def set_up(notify: str = "") -> list[str]:
    """Create the automations on the Prefect server, or recreate changed ones; returns their names.

    An unchanged automation is kept, with its state about current runs.
    `notify` names a notification block of the server as `TYPE/NAME`, e.g. `slack-webhook/lab`.
    """
    wanted = [zombies(), *([failures(_block_id(notify))] if notify else [])]
    with get_client(sync_client=True) as client:
        for automation in wanted:
            there = client.read_automations_by_name(automation.name)
            if [_content(old) for old in there] == [_content(automation)]:
                continue
            for old in there:
                client.delete_automation(old.id)
            client.create_automation(automation)
    return [automation.name for automation in wanted]


def _content(automation: AutomationCore) -> dict[str, Any]:
    """All of an automation but its id."""
    return automation.model_dump(mode="json", exclude={"id"})


def _block_id(notify: str) -> UUID:
    kind, slash, name = notify.partition("/")
    require(bool(slash and name), "notify", notify, "TYPE/NAME of a notification block, e.g. slack-webhook/lab")
    with get_client(sync_client=True) as client:
        found: Any = client.read_block_documents_by_type(kind)
    there = {document.name: document.id for document in found if document.name}
    known = ", ".join(f"{kind}/{one}" for one in there) or "none"
    require(name in there, "notify", notify, f"a block of the Prefect server; of this type it has: {known}")
    return there[name]
