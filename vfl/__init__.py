"""The science of the platform: protocol, methods, defenses, attacks, metrics. No Ray, no YAML, no run directories."""

from __future__ import annotations

import os
import warnings

# Read by Flower when it is imported: no telemetry, no update check, no installation of anything at run time.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1")
# Flower's generated code is one major version behind the protobuf it asks for, which protobuf says at every import.
warnings.filterwarnings("ignore", message="Protobuf gencode version", category=UserWarning)
