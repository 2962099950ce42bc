"""The forward and backward pass of a training step, recorded once and repeated from the recording.

Of small networks on small images a GPU finishes a kernel before the processor has launched the next one. A CUDA graph launches
many kernels at once. A network is recorded piece by piece (stem, each candidate in its place, head), a graph for the forward and
one for the backward pass of a piece, so that a supernet needs as many recordings as it has candidates, not as it has paths.

On a CPU nothing can be recorded: there the same pieces are run one by one, which is how the tests compare them with autograd.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from trials.networks.recorder import Recorder, Work

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (logits float32 (N, classes), targets) -> scalar


class Piece(NamedTuple):
    """A recorded part of a network.

    Attributes:
        forward, backward: run its passes.
        gradients: the parameters that it uses, and where the backward pass leaves their gradients.
    """

    forward: Work
    backward: Work
    gradients: list[tuple[nn.Parameter, torch.Tensor]]


class RecordedPass:
    """The passes of a network that is a chain of modules, with its loss.

    Args:
        modules: the chain, in training mode; the output of each is the input of the next, and the last one gives the logits.
        loss: of logits and targets.
        device: where the network is.
        autocast: makes the context that sets the precision of a forward pass.
        fraction: factor of the loss before the backward pass.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        loss: Loss,
        device: torch.device,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]],
        fraction: float = 1.0,
    ) -> None:
        self.modules, self.loss_of, self.autocast, self.fraction = list(modules), loss, autocast, fraction
        self.recorder = Recorder(device)
        self.pools = [self.recorder.new_pool() for _ in self.modules]
        self.pieces: dict[tuple[int, Hashable], Piece] = {}
        # tensors that stay where they are: the input of each module and its gradient, targets and labels, loss and top-1
        self.inputs: list[torch.Tensor | None] = [None] * len(self.modules)
        self.input_gradients: list[torch.Tensor | None] = [None] * len(self.modules)
        self.targets = self.labels = torch.empty(0)
        self.result = torch.zeros(2, device=device)
        self.gradients: dict[nn.Parameter, torch.Tensor] = {}

    def __call__(
        self, keys: Sequence[Hashable], images: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run both passes; gradients are added to those that the parameters have.

        Args:
            keys: what distinguishes what each module does now from what it does at other times; None for always the same.
            images: (N, 3, R, R), always of one shape.
            targets: what the loss takes, always of one shape.
            labels: class numbers, (N,).
        Returns:
            Loss, and top-1 from 0 to 1, on the device.
        Raises:
            Stopped: a module does what cannot be recorded.
        """
        if self.inputs[0] is None:
            self.inputs[0], self.targets, self.labels = images.clone(), targets.clone(), labels.clone()
        else:
            torch._foreach_copy_([self.inputs[0], self.targets, self.labels], [images, targets, labels])
        path = []
        for number, key in enumerate(keys):
            if (number, key) not in self.pieces:
                self.pieces[number, key] = self._record(number)
            piece = self.pieces[number, key]
            piece.forward()
            path.append(piece)
        for piece in reversed(path):
            # a piece that several passes of one update share leaves its gradients where they were
            shared = [(parameter.grad, mine) for parameter, mine in piece.gradients if parameter.grad is not None]
            earlier = [gradient.clone() for gradient, _ in shared]
            piece.backward()
            if shared:
                torch._foreach_add_([mine for _, mine in shared], earlier)
            for parameter, gradient in piece.gradients:
                parameter.grad = gradient
        loss, top1 = self.result.clone().unbind()
        return loss, top1

    def _record(self, number: int) -> Piece:
        """Record what a module does now, with the input that it has now."""
        module, source, last = self.modules[number], self.inputs[number], number == len(self.modules) - 1
        assert source is not None
        x = source.detach().requires_grad_(number > 0)
        weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
        output: list[torch.Tensor] = []  # of the forward pass, until the backward pass
        used: list[nn.Parameter] = []

        def forward() -> None:
            with self.autocast():
                y = module(x)
            with torch.no_grad():
                if not last:
                    self._keep(number + 1, y)
            if last:
                logits = y.float()
                loss = self.loss_of(logits, self.targets)
                with torch.no_grad():
                    self.result[0].copy_(loss)
                    self.result[1].copy_((logits.argmax(1) == self.labels).float().mean())
                y = loss * self.fraction
            output.append(y)

        def backward() -> None:
            y = output.pop()
            onward = None if last else self.input_gradients[number + 1]
            onward = onward if onward is None else onward.to(y.dtype)
            sources = [x, *weights] if number else weights
            found = list(torch.autograd.grad(y, sources, onward, allow_unused=True))
            if number:
                gradient, arrives = found.pop(0), self.input_gradients[number]
                assert arrives is not None
                arrives.zero_() if gradient is None else arrives.copy_(gradient)
            pairs = [
                (weight, gradient) for weight, gradient in zip(weights, found, strict=True) if gradient is not None
            ]
            used[:] = [weight for weight, _ in pairs]
            if pairs:
                for weight in used:
                    if weight not in self.gradients:
                        self.gradients[weight] = torch.empty_like(weight)
                kept = [self.gradients[weight] for weight in used]
                torch._foreach_copy_(kept, [gradient for _, gradient in pairs])

        # once as it is, which chooses kernels and makes what stays: of this no trace may be left
        buffers = [*module.buffers(), *(self.gradients[weight] for weight in weights if weight in self.gradients)]
        before = [buffer.clone() for buffer in buffers]
        devices = [self.recorder.device] if self.recorder.cuda else []
        with torch.random.fork_rng(devices), self.recorder.aside():
            forward()
            backward()
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
        # what one recording of a module frees, the next one may use, as only one of them is on a path
        return Piece(
            self.recorder.record(forward, self.pools[number]),
            self.recorder.record(backward, self.pools[number]),
            [(weight, self.gradients[weight]) for weight in used],
        )

    def _keep(self, number: int, x: torch.Tensor) -> None:
        """Copy the input of a module to where it stays."""
        stays = self.inputs[number]
        if stays is None:
            self.inputs[number], self.input_gradients[number] = x.clone(), torch.zeros_like(x)
        else:
            stays.copy_(x)
