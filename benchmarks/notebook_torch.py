"""The PyTorch notebook's network and training step, as the notebook has them, timed.

    python benchmarks/notebook_torch.py

Prints one line of JSON: the median seconds of a training step and of a forward pass. The loop over
the views detaches the state before each one, as the notebook's does, so that only the last view's
encoding is trained through; the modules have the names of the notebook's.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self, channels=4, widths=(96, 128, 256, 256, 256, 256)):
        super().__init__()
        self.depth = len(widths)
        for n, width in enumerate(widths, start=1):
            edge = 7 if n == 1 else 3
            setattr(self, f"c{n}", nn.Conv2d(channels, width, edge, padding=edge // 2))
            channels = width
        self.fc7 = nn.Linear(1024, 1024)

    def forward(self, x):
        for n in range(1, self.depth + 1):
            conv = getattr(self, f"c{n}")
            x = nn.functional.leaky_relu(nn.functional.max_pool2d(conv(x), 2), 0.1)
        return self.fc7(x.flatten(1))


class LSTM3D(nn.Module):
    def __init__(self, edge=4, hidden=128, features=1024):
        super().__init__()
        self.shape = (-1, hidden, edge, edge, edge)
        for gate in "fis":
            setattr(self, f"fc_{gate}", nn.Linear(features, hidden * edge**3))
            setattr(self, f"conv_{gate}", nn.Conv3d(hidden, hidden, 3, padding=1))

    def gate(self, name, x, h):
        dense, conv = getattr(self, f"fc_{name}"), getattr(self, f"conv_{name}")
        return dense(x).view(self.shape) + conv(h)

    def forward(self, x, h, s):
        f, i = (torch.sigmoid(self.gate(name, x, h)) for name in "fi")
        s = f * s + i * torch.tanh(self.gate("s", x, h))
        return torch.tanh(s), s


class Decoder(nn.Module):
    def __init__(self, hidden=128, widths=(128, 128, 64, 32, 1)):
        super().__init__()
        self.depth = len(widths)
        for n, (inputs, width) in enumerate(zip((hidden, *widths), widths, strict=False), start=1):
            setattr(self, f"deconv{n}", nn.Conv3d(inputs, width, 3, padding=1))

    def forward(self, x):
        for n in range(1, self.depth + 1):
            x = nn.functional.interpolate(x, scale_factor=2, mode="nearest") if n <= 3 else x
            x = getattr(self, f"deconv{n}")(x)
        return torch.sigmoid(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    networks = encoder, recurrence, decoder = Encoder(), LSTM3D(), Decoder()
    optimizers = [torch.optim.Adam(network.parameters(), lr=5e-5) for network in networks]
    images = torch.rand(args.batch, args.views, 4, 137, 137)
    voxels = (torch.rand(args.batch, 32, 32, 32) > 0.5).float()

    def forward():
        h, s = (torch.zeros(1, 128, 4, 4, 4) for _ in range(2))
        for view in range(args.views):
            h, s = recurrence(encoder(images[:, view]), h.detach(), s.detach())
        return decoder(h).squeeze(1)

    def train():
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy(forward(), voxels)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss.item()

    def median_seconds(function):
        function()
        seconds = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    result = {"train": median_seconds(train)}
    with torch.no_grad():
        result["forward"] = median_seconds(forward)
    result["parameters"] = sum(p.numel() for network in networks for p in network.parameters())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
