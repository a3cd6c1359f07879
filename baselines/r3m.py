"""R3M (Nair et al. 2022, "R3M: A Universal Visual Representation for Robot Manipulation"): behaviour cloning on what a
ResNet-50 that was pretrained on videos of people makes of a picture (paper, Table 11, row "R3M (our data)").

    f = ResNet50(picture)                                  frozen, [2048]
    π(f) = W₃ tanh(W₂ tanh(W₁ norm(f)))                    norm: batch normalisation, in which the policy evaluates by its
    L = mean (π(f_t) - a_t)²                               running statistics; the last layer begins at a hundredth

Each picture of the dataset is encoded once, before the first update. Rewards are never looked at. Settings are those of
R3M's own evaluation code: tanh (its `FCNetwork` is called without the choice of ReLU it offers), Adam at 1e-3, batches of
32, 20,000 updates; pictures scaled to 256, of which the middle 224.

What differs from it, because the dataset is ours, as in the paper's row: pictures are scaled up from 64 pixels where
theirs were drawn with 256, from one camera where they averaged over three; all episodes of a medium-replay dataset, good
and bad, instead of 25 expert demonstrations. So the encoder sees blurred pictures, and imitates a policy that is seldom
good: this row is no measure of R3M itself. No proprioception (`proprio` gives it the first numbers of the state, which
are 4 on Meta-World there; the other methods see pictures alone). Episodes are drawn uniformly, then decisions inside, as
for every method; actions are clipped to [-1, 1]; the score is the shared evaluator's, not the best success of all
checkpoints. Pictures are scaled as floats, without rounding to whole numbers between.

The weights are R3M's and are not shipped: `weights` is the file that its `load_r3m("resnet50")` downloads, or a state of
torchvision's `resnet50`. A run is named by what is in the file. `random` is for tests; preset smoke uses it.

A picture takes a CPU core 0.1 s, encoded or acted on: of a quick run's 20 minutes on Meta-World the dataset takes 8 and the
evaluations the rest, the updates 10 seconds. With `resize=128` and `crop=112`, which is not what R3M saw, it is 7 to 10.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from coworld_bench.config import Count, Natural, Rate, Settings
from coworld_bench.data.memory import BatchStream, Memory
from coworld_bench.dreamer import AgentSpec, Metrics
from coworld_bench.errors import UsageError
from coworld_bench.files import atomic
from coworld_bench.methods import Job, Method
from coworld_bench.model_free import behaviour_counts, descend
from coworld_bench.nets import Precision, mlp
from coworld_bench.resnet import FEATURES, Encoder, ResNet50, check_weights, read_weights
from coworld_bench.seeding import torch_seed

RANDOM = "random"
ORIGINS = {
    "r3m": "from a checkpoint of R3M's code",
    "torchvision": "under torchvision's names, of a training that is not known here",
}
NO_WEIGHTS = (
    "r3m needs R3M's published weights, which are not shipped: the project github.com/facebookresearch/r3m has them "
    '(its load_r3m("resnet50") downloads them from Google Drive to ~/.r3m/r3m_50/model.pt); give the file with '
    "--weights FILE or -o r3m.weights=FILE"
)


class R3mSettings(Settings):
    files: ClassVar = {"weights": ("", RANDOM)}

    weights: str = ""  # a file, or `random`
    resize: Count = 256  # pixels a side that pictures are scaled to ...
    crop: int = Field(224, ge=32)  # ... of which the middle is seen
    proprio: Natural = 0  # numbers of the state behind the features
    units: Count = 256
    activation: Literal["tanh", "relu"] = "tanh"
    last_layer: Rate = 0.01  # by which the last layer's first weights are multiplied
    lr: Rate = 1e-3

    @model_validator(mode="after")
    def _crop_fits(self) -> R3mSettings:
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} must be at most resize {self.resize}")
        return self

    def check(self) -> None:
        if not self.weights:
            raise UsageError(NO_WEIGHTS)
        for path in self.given_files().values():
            check_weights(path)


class R3m:
    """Encodes the dataset before the first update, then clones."""

    def __init__(self, settings: R3mSettings, job: Job) -> None:
        self.settings, self.job, self.device = settings, job, torch.device(job.device)
        if job.config.batch.size < 2:
            raise UsageError(f"r3m normalises by its batch; batch.size must be at least 2, got {job.config.batch.size}")
        if settings.proprio > job.target.state:
            raise UsageError(f"r3m.proprio={settings.proprio}: the state of {job.target.task.id} has {job.target.state}")
        precision = Precision.of(job.config.compute.precision, self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(job.seed, "weights"))
            head = cloner(settings, AgentSpec.of(job.target, job.config).action).to(self.device)
        network, self.origin = frozen(settings, job.seed)
        encoder = Encoder(network, settings.resize, settings.crop, self.device, precision)
        self.policy = FeaturePolicy(encoder, head, precision, settings.proprio)
        self.optimiser = torch.optim.Adam(head.parameters(), settings.lr, fused=True)
        self.batches = BatchStream(job.data, job.seed, job.config.batch.size, 2)  # a decision is a row and the next
        self.features: np.ndarray | None = None
        self.updates = 0

    @property
    def total(self) -> int:
        return self.job.config.budget.updates

    def turn(self) -> Metrics:
        inputs, action = self.next_decisions()
        self.policy.head.train()
        loss = (self.policy.mean(inputs) - action).square().mean()
        descend(self.optimiser, loss)
        self.updates += 1
        return {"actor/loss": loss.detach()}

    def next_decisions(self) -> tuple[Tensor, Tensor]:
        """The next batch on the device: what is seen at rows t [B, F + P], and the actions taken there, of rows t + 1."""
        if self.features is None:
            self.features = self.encoded()
        rows = self.batches.rows(self.batches.k)[:, 0]
        self.batches.k += 1
        state = self.job.data.array("state")[rows, : self.settings.proprio]
        seen, action = np.concatenate([self.features[rows], state], 1), self.job.data.array("action")[rows + 1]
        return self.on_device(seen), self.on_device(action)

    def on_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def encoded(self) -> np.ndarray:
        """The features of every row, float32 [R, F], on disk beside the run."""
        path = self.job.folder / "features.npy"
        if not path.is_file():
            with atomic(path) as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (self.job.data.rows, FEATURES)}
                np.lib.format.write_array_header_2_0(file, header)
                for image in pictures(self.job.data, self.policy.encoder.part):
                    file.write(self.policy.encoder(image).cpu().numpy().tobytes())
        features: np.ndarray = np.load(path, mmap_mode="r")
        return features

    def counts(self) -> dict[str, int]:
        return behaviour_counts(self.updates)

    def report(self) -> dict[str, Any]:
        """Whose features they are."""
        return {"encoder": f"ResNet-50 with weights {self.origin}"}

    def state_dict(self) -> dict[str, Any]:
        return {
            "head": self.policy.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "batches": self.batches.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.policy.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.batches.load_state_dict(state["batches"])
        self.updates = state["updates"]


class FeaturePolicy:
    """Acts on the features of a picture, without noise."""

    def __init__(self, encoder: Encoder, head: nn.Module, precision: Precision, proprio: int) -> None:
        self.encoder, self.head, self.precision, self.proprio = encoder, head, precision, proprio
        self.device = encoder.device

    def initial(self, batch: int = 1) -> None:
        return None

    def sense(self, state: np.ndarray, carry: Tensor | None) -> Tensor:
        """The part of a state [B, S] that it is given: [B, P]."""
        return torch.from_numpy(state[:, : self.proprio]).to(self.device)

    @torch.no_grad()
    def act(
        self, image: np.ndarray, carry: Tensor | None, generator: torch.Generator, sample: bool = False
    ) -> tuple[np.ndarray, Tensor | None]:
        """An action float32 [B, A] for images uint8 [B, S, S, 3] and what was sensed before."""
        assert not sample, "this policy learns offline, it never explores"
        assert carry is not None or not self.proprio, "it was not told the state"
        seen = self.encoder(image)
        self.head.eval()
        action = self.mean(seen if carry is None else torch.cat([seen, carry], 1)).clamp(-1, 1)
        return action.cpu().numpy(), carry

    def embed(self, image: np.ndarray) -> np.ndarray:
        """The features of pictures uint8 [N, S, S, 3]: float32 [N, F]."""
        part = self.encoder.part
        return np.concatenate([self.encoder(image[n : n + part]).cpu().numpy() for n in range(0, len(image), part)])

    def value(self, carry: Tensor | None) -> None:
        """There is no critic."""
        return None

    def mean(self, seen: Tensor) -> Tensor:
        """π: [B, F + P] -> [B, A]."""
        with self.precision():
            out: Tensor = self.head(seen)
        return out.float()


def cloner(settings: R3mSettings, action: int) -> nn.Sequential:
    """The part that learns: [B, F + P] -> [B, A]."""
    activation = {"tanh": nn.Tanh, "relu": nn.ReLU}[settings.activation]
    inputs = FEATURES + settings.proprio
    network = mlp(inputs, settings.units, 2, action, activation)
    with torch.no_grad():
        for parameter in network[-1].parameters():
            parameter.mul_(settings.last_layer)
    return nn.Sequential(nn.BatchNorm1d(inputs), network)


def frozen(settings: R3mSettings, seed: int) -> tuple[ResNet50, str]:
    """The encoder's network, the file's or a random one of this seed, and where its weights are from, in words."""
    for path in settings.given_files().values():
        weights = read_weights(path)
        return weights.network, ORIGINS[weights.origin]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, "encoder"))
        return ResNet50(), "drawn at random: not R3M"


def pictures(memory: Memory, part: int) -> Any:
    """All pictures of a memory in order, at most `part` at a time, which are of one episode: uint8 [n, S, S, 3]."""
    ends = np.cumsum(memory.lengths)
    for begin, end in zip(ends - memory.lengths, ends, strict=True):
        for row in range(begin, end, part):
            yield memory.windows(np.array([row]), np.array([0]), min(part, end - row)).image[0]


NO_WARMUP: dict[str, Any] = {"budget": {"warmup": 0}}  # which is of world models
METHOD = Method(
    name="r3m",
    label="R3M (our data)",
    learner=R3m,
    settings=R3mSettings,
    shared={
        "paper": {"batch": {"size": 32}, "budget": {"warmup": 0, "updates": 20_000}},
        "quick": {"batch": {"size": 32}} | NO_WARMUP,
        "smoke": NO_WARMUP,
    },
    own={"smoke": {"weights": RANDOM, "resize": 36, "crop": 32, "units": 32}},
)
