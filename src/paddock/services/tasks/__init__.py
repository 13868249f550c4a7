"""Durable tasks: rows in the state database, run item by item, resumed after a crash."""

from paddock.services.tasks.handler import Item, Outcome, Payload, Revert, Task, TaskHandler, item_status
from paddock.services.tasks.runner import uninterrupted
from paddock.services.tasks.service import TaskService

__all__ = ["Item", "Outcome", "Payload", "Revert", "Task", "TaskHandler", "TaskService", "item_status", "uninterrupted"]
