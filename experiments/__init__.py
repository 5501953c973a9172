"""What was asked and what came out: the command line, configurations, runs and sweeps.

Importing this package keeps the libraries below it quiet: nothing is sent to anyone, nothing is installed behind your
back, and the devices a machine has stay visible to a Ray actor that reserves none.
"""

from __future__ import annotations

import os

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Environment that flwr and ray read when they are imported; a value that is already set wins."""

for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)
