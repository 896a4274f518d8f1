# SPDX-License-Identifier: Apache-2.0
"""The network, and the settings that make its training repeat bit for bit."""
import os

import torch
from torch import nn

from shards import CLASSES


def make_deterministic(seed):
    """The number of threads changes the order of sums and so the result: it is pinned, as the seed is."""
    torch.set_num_threads(int(os.environ.get("TRAIN_THREADS", "2")))
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


class Net(nn.Module):
    """A small convolutional network of about 105,000 parameters."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, len(CLASSES)))

    def forward(self, x):
        return self.layers(x)


def to_input(pixels, mean, std):
    """(n, 784) bytes to normalised images."""
    x = torch.from_numpy(pixels.copy()).to(torch.float32).div_(255.0)
    return x.sub_(mean).div_(std).view(-1, 1, 28, 28)
