"""The Python client for notebooks and scripts: light, and without any of the hub's or the nodes' code."""

from __future__ import annotations

from federome.client.connection import Connection, Event, Offered, connect
from federome.client.orders import Question
from federome.client.price import Price
from federome.client.result import Receipts, Result

__all__ = ["Connection", "Event", "Offered", "Price", "Question", "Receipts", "Result", "connect"]
