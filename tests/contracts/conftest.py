"""Contracts on Ray use the cluster that the Ray tests use."""

from __future__ import annotations

from tests.ray.conftest import ray_cluster

__all__ = ["ray_cluster"]
