"""Several processes as one, started by torchrun: each takes its part of every batch, and a step is that of one process with the whole batch.

Without torchrun there is one process, and nothing here does anything.
"""
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """The number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Meet the other processes, where torchrun says that there are any: over gloo on CPUs, NCCL on GPUs."""
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    store, number, count = next(iter(dist.rendezvous("env://")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", store=fresh(store, number, count), rank=number, world_size=count)
    try:
        yield
    finally:
        dist.destroy_process_group()


def fresh(store: dist.Store, number: int, count: int) -> dist.Store:
    """A part of torchrun's store that is of this start alone.

    torchrun keeps one store over its restarts (PyTorch's issue 135712): a restarted process may read an address that one of the start before left
    there, and waits for an answer for half an hour. So each takes a seat under a name of its own, and they go on once all have seen the same names.
    """
    store.set(f"seat {number}", uuid.uuid4().hex)
    while True:
        seats = [store.get(f"seat {one}").decode() for one in range(count)]
        store.set(f"seen {number}", " ".join(seats))
        if all(store.get(f"seen {one}").decode().split() == seats for one in range(count)):
            return dist.PrefixStore(seats[0], store)
        time.sleep(0.02)


def engine(model: nn.Module) -> nn.Module:
    """The model; with several processes wrapped, so that `backward` leaves the mean of their gradients in all of them."""
    if world() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def mine(items: Any) -> Any:
    """This process's part of a batch, a tensor or a list: every world-th item."""
    return items[rank()::world()]


def total(value: Tensor) -> Tensor:
    """A value, detached, summed over the processes."""
    value = value.detach()
    if world() > 1:
        dist.all_reduce(value := value.clone())
    return value


def same_buffers_(model: nn.Module) -> None:
    """Give every process the first one's buffers."""
    for buffer in model.buffers() if world() > 1 else ():
        dist.broadcast(buffer, 0)


def gathered(value: Any) -> list[Any]:
    """What every process has, in their order, in all of them."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def first_then_others(function: Callable[[], Any]) -> Any:
    """What `function` returns, in each process; the first one is done with it before the others begin, so that they find what it wrote."""
    found = function() if rank() == 0 else None
    if world() > 1:
        dist.barrier()
    return found if rank() == 0 else function()
