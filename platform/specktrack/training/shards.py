"""A step's batch in shards, so that a run gives the same results on a different number of workers.

The gradient of a step is the mean over its shards, and so are the batch statistics it leaves behind, whichever worker
saw them. So only the order of additions depends on the number of workers.
"""

import torch
import torch.distributed as dist
from torch import nn


def shards_of(step: int, *, batch_size: int, parts: int, rank: int = 0, workers: int = 1) -> list[range]:
    """The numbers of the samples that a worker takes in a step: every ``workers``-th shard of the batch is its own.

    A shard is every ``parts``-th sample of the batch, so its first number says both: step * batch_size + shard.
    """
    batch = range(step * batch_size, (step + 1) * batch_size)
    return [batch[shard::parts] for shard in range(rank, parts, workers)]


class StepBuffers:
    """The batch-norm statistics of a network during one step."""

    def __init__(self, network: nn.Module) -> None:
        self._buffers = list(network.buffers())
        self._means = [buffer for buffer in self._buffers if buffer.is_floating_point()]  # the others count steps
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """A step begins, from the statistics as they are now."""
        self._before, self._shards = [buffer.clone() for buffer in self._buffers], 1
        self._sums: list[torch.Tensor] = []

    @torch.no_grad()
    def next_shard(self) -> None:
        """One shard is done, another one follows: it starts from the same statistics."""
        now = [buffer.clone() for buffer in self._means]
        self._sums = list(torch._foreach_add(self._sums, now)) if self._sums else now
        self._shards += 1
        self.restore()

    @torch.no_grad()
    def end(self) -> None:
        """Leave the mean over all shards of all workers."""
        if self._sums:
            torch._foreach_add_(self._means, self._sums)
            torch._foreach_div_(self._means, self._shards)
        mean_over_workers(self._means)

    @torch.no_grad()
    def restore(self) -> None:
        """As before the step."""
        for buffer, before in zip(self._buffers, self._before, strict=True):
            buffer.copy_(before)


@torch.no_grad()
def mean_over_workers(tensors: list[torch.Tensor]) -> None:
    """Replace every float tensor by its mean over all workers, in one message."""
    if not tensors or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
