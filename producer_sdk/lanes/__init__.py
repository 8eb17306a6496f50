"""The lanes: a fair queue per tenant over Redis, used by producers and workers (docs/lanes.md)."""

from producer_sdk.lanes.blocking import LanesBlocking
from producer_sdk.lanes.keys import LaneKeys
from producer_sdk.lanes.lanes import Lanes, NotDurable, WrongShards
from producer_sdk.lanes.limits import Limits, TaskLimits, TenantLimits
from producer_sdk.lanes.replies import (
    Appended,
    Beat,
    DeadJob,
    Delivery,
    Finished,
    HeldUp,
    JobLook,
    LaneCounts,
    LaneState,
    LostDelivery,
    Past,
    Pause,
    PutReply,
    Swept,
    TakeReply,
    TenantQueue,
)

__all__ = [
    "Appended",
    "Beat",
    "DeadJob",
    "Delivery",
    "Finished",
    "HeldUp",
    "JobLook",
    "LaneCounts",
    "LaneKeys",
    "LaneState",
    "Lanes",
    "LanesBlocking",
    "Limits",
    "LostDelivery",
    "NotDurable",
    "Past",
    "Pause",
    "PutReply",
    "Swept",
    "TakeReply",
    "TaskLimits",
    "TenantLimits",
    "TenantQueue",
    "WrongShards",
]
