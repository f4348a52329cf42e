"""Workflows: the only package that imports Prefect and Ray."""

import os

from specdyn.flows.engine.reachable import spare_this_machine

spare_this_machine(os.environ)
# Set before importing prefect and ray, which read these once. Telemetry stays off unless a user turns it on.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "60")
# A call that needs Ray must not start a new one implicitly after Ray was stopped.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
