"""A little method as a user would write one, and what can be wrong with it: each fault is one change of its text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LITTLE = """import numpy as np
import torch

from coworld_bench.config import Rate, Settings
from coworld_bench.data.memory import BatchStream
from coworld_bench.methods import Method


class LittleSettings(Settings):
    lr: Rate = 1e-2


class Policy:
    device = torch.device("cpu")

    def __init__(self, learner):
        self.learner = learner

    def initial(self, batch=1):
        return None

    def act(self, image, carry, generator, sample=False):
        with torch.no_grad():
            action = self.learner.look(image) + 0.01 * torch.rand(1, generator=generator)
        return action.clamp(-1, 1).numpy(), carry

    def value(self, carry):
        return 0.5


class Little:
    def __init__(self, settings, job):
        self.updates, self.total = 0, job.config.budget.updates
        self.batches = BatchStream(job.data, job.seed, 4, 5)
        self.noise = torch.Generator().manual_seed(job.seed)
        self.job, self.policy = job, Policy(self)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            self.net = torch.nn.Linear(192, job.target.action)
        self.adam = torch.optim.Adam(self.net.parameters(), settings.lr)

    def look(self, image):
        picture = torch.from_numpy(image[..., ::8, ::8, :].copy()).float() / 255
        return torch.tanh(self.net(picture.flatten(-3)))

    def turn(self):
        batch = self.batches.next()
        action = self.look(batch.image[:, :-1])
        target = torch.from_numpy(batch.action[:, 1:]) + 0.1 * torch.randn(action.shape, generator=self.noise)
        loss = (action - target).square().mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.updates += 1
        return {"actor/loss": loss.detach(), "actor/rate": 1.0}

    def counts(self):
        spent = {"world_model_updates": 0, "behaviour_updates": self.updates}
        return spent | {"source_updates": 0, "source_env_steps": 0}

    def state_dict(self):
        return {
            "net": self.net.state_dict(),
            "adam": self.adam.state_dict(),
            "noise": self.noise.get_state(),
            "batches": self.batches.state_dict(),
            "updates": self.updates,
        }

    def load_state_dict(self, state):
        self.net.load_state_dict(state["net"])
        self.adam.load_state_dict(state["adam"])
        self.noise.set_state(state["noise"])
        self.batches.load_state_dict(state["batches"])
        self.updates = state["updates"]


METHOD = Method(name="little", label="Little", learner=Little, settings=LittleSettings)
"""


Change = tuple[str, str]


@dataclass(frozen=True)
class Fault:
    """One change of the text, wherever it applies, the check that must find it, and a part of what it must say."""

    check: str
    change: Change
    said: str

    def write(self, folder: Path) -> Path:
        assert self.change[0] in LITTLE, self.change
        return write(folder, LITTLE.replace(*self.change))


def write(folder: Path, text: str = LITTLE, name: str = "little.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


METHOD = 'METHOD = Method(name="little", label="Little", learner=Little, settings=LittleSettings)'
UPDATE = "        self.updates += 1\n"
ACT = "        with torch.no_grad():\n"
RATE = "    lr: Rate = 1e-2"
LOSS = '"actor/loss": loss.detach()'
NONE = '"source_updates": 0, '
DONE = "action.clamp(-1, 1).numpy()"


def more(arguments: str) -> Change:
    """More arguments of the Method."""
    return "settings=LittleSettings", f"settings=LittleSettings, {arguments}"


def before_method(line: str) -> Change:
    return "METHOD = ", f"{line}\nMETHOD = "


def in_turn(*lines: str) -> Change:
    return UPDATE, UPDATE + "".join(f"        {line}\n" for line in lines)


def in_act(*lines: str) -> Change:
    return ACT, "".join(f"        {line}\n" for line in lines) + ACT


def without(line: str) -> Change:
    return f"{line}\n", ""


BROKEN: dict[str, list[tuple[Change, str]]] = {  # check: what breaks it, and what it must say
    "file": [
        (("METHOD = ", ""), "defines no METHOD"),
        (("METHOD = ", "MINE = "), "call its MINE METHOD"),
        ((METHOD, "METHOD = Little"), "little.py, line 78: METHOD is the class Little"),
        ((METHOD, "METHOD: dict = {}"), "little.py, line 78: METHOD is of type dict"),
        (("numpy as np", "numpi as np"), "little.py, line 1: it cannot be loaded: ModuleNotFoundError: No"),
        (("    def turn(self):", "    def turn(self:"), "little.py, line 46: it cannot be loaded: "),
        (before_method("1 / 0"), "little.py, line 78: it cannot be loaded: ZeroDivisionError: division by zero"),
        (before_method("raise SystemExit"), "little.py, line 78: it cannot be loaded: SystemExit"),
        (('name="little"', 'name="offline_dv2"'), "line 78: offline_dv2 is the name of a shipped method"),
        (('name="little"', 'name="my method"'), "little.py, line 78: name='my method'"),
        (('name="little"', 'name="batch"'), "none of preset, env, model"),
        (("learner=Little,", "learner=3,"), "little.py, line 78: learner=3"),
        (("settings=LittleSettings", "settings={}"), "little.py, line 78: settings={}"),
        (more("sources='all'"), "little.py, line 78: sources='all'"),
        (more("own={'quik': {}}"), "did you mean quick"),
        (more("own={'lr': 3}"), "it holds settings by preset"),
    ],
    "settings": [
        ((RATE, "    lr: Rate"), "under preset paper: setting lr: field required"),
        ((RATE, "    lr: object = object()"), "cannot be stored as JSON"),
        (more("own={'smoke': {'rl': 1}}"), "`own` under preset smoke: setting rl=1"),
        (more("shared={'quick': {'batch': 3}}"), "`shared` under preset quick: setting batch=3"),
        (more("source={'quick': {'online.x': '3'}}"), "no setting 'online.x'"),
    ],
    "learner": [
        (("    def turn(self):", "    def turns(self):"), "little.py, line 31: class Little lacks turn"),
        (("learner=Little,", "learner=lambda settings, job: None,"), "lacks policy, updates"),
        (("self.net = torch.nn", "self.net = torch.nm"), "no attribute 'nm' (little.py, line 39)"),
        (("def __init__(self, settings, job)", "def __init__(self, job)"), "raised TypeError"),
        (("job.config.budget.updates", "1_000_000"), "total is 1000000 under preset smoke"),
        (("job.config.budget.updates", "8.0"), "total is 8.0, a float"),
        (("self.updates, self.total = 0,", "self.updates, self.total = 1,"), "it must be 0"),
    ],
    "turns": [
        (without("        self.updates += 1"), "updates stays 0 of 8 for 200 turns"),
        (in_turn("self.updates += 2"), "from 0 to 3 (total 8)"),
        (in_turn("self.updates -= 2 * (self.updates == 3)"), "from 2 to 1 (total 8)"),
        (in_turn("self.total += self.updates == 5"), "total was 8 and became 9"),
        (("batch.image[:, :-1]", "batch.images"), "turn() number 1 raised AttributeError: 'Batch' object"),
    ],
    "metrics": [
        ((LOSS, '"loss": loss.detach() / (self.updates != 3)'), "turn() number 3: loss is inf"),
        ((LOSS, '"loss": float("nan")'), "loss is nan"),
        ((LOSS, '"loss": loss'), "loss carries its graph"),
        ((LOSS, '"action": action.detach()'), "action is of shape [4, 4, 2]"),
        ((LOSS, '"loss": "low"'), "loss is of type str"),
        ((LOSS, '"updates": 3'), "a metric is called 'updates'"),
        ((f'{{{LOSS}, "actor/rate": 1.0}}', "loss.detach()"), "metrics are a dict"),
    ],
    "counts": [
        ((NONE, ""), "it must have world_model_updates"),
        ((NONE, '"source_updates": -self.updates, '), "fell from 0 to -1"),
        ((NONE, '"source_updates": 0.5, '), "is 0.5, a float"),
        (('"behaviour_updates": self.updates', '"behaviour_updates": 0'), "ends with neither"),
        (("        spent = {", "        spent = 1 / 0 or {"), "counts() raised ZeroDivisionError"),
        (("    def counts", "    def report(self):\n        return {1: self.net}\n\n    def counts"), "report() cannot"),
    ],
    "actions": [
        ((DONE, "action.clamp(-1, 1)[0].numpy()"), "of float32 [2]"),
        ((DONE, "action.clamp(-1, 1)"), "of a Tensor"),
        ((DONE, "action.double().clamp(-1, 1).numpy()"), "of float64 [1, 2]"),
        ((DONE, "(action + 3).numpy()"), "every number of an action is in [-1, 1]"),
        ((DONE, "(action / 0).numpy()"), "every number of an action is in [-1, 1]"),
        ((f"{DONE}, carry", DONE), "it must return (action, carry)"),
        (("        return 0.5", "        return torch.ones(1)"), "policy.value() gives a Tensor"),
        (in_act("image[:] = 0"), "writes into the picture"),
        (
            ("    def value", "    def embed(self, image):\n        return image\n\n    def value"),
            "policy.embed() must give",
        ),
        (("act(self, image, carry, generator,", "act(self, image, carry,"), "policy.act() raised NameError"),
    ],
    "same seed": [
        (without("            torch.manual_seed(job.seed)"), "the same seed: actor/loss is"),
        ((", generator=self.noise)", ")"), "other numbers with the same seed"),
    ],
    "other seed": [
        (("job.seed", "0"), "seeds 0 and 1 give the same numbers and actions"),
    ],
    "restoring": [
        (without('            "adam": self.adam.state_dict(),'), "load_state_dict() raised KeyError: 'adam'"),
        (without('        self.adam.load_state_dict(state["adam"])'), "after restoring gives other numbers"),
        (without('        self.batches.load_state_dict(state["batches"])'), "after restoring gives other numbers"),
        (without('        self.noise.set_state(state["noise"])'), "turn() number 1 after restoring"),
        (without('        self.net.load_state_dict(state["net"])'), "policy gives other actions"),
        (without('        self.updates = state["updates"]'), "updates are restored at 0 and 0"),
        (('"updates": self.updates,\n', '"updates": np.array(self.updates),\n'), "['updates'] is of type ndarray"),
        (('"net": self.net.state_dict()', '"net": [self.look]'), "['net'][0] is of type method"),
    ],
    "acting": [
        (("0.01 * torch.rand(1, generator=generator)", "torch.rand(1)"), "for the same pictures and generator"),
        (in_act("self.learner.noise.seed()"), "acting must leave the learner as it is"),
        (in_act("self.learner.batches.k += 1"), "acting must leave the learner as it is"),
        (in_act("self.learner.net.weight.data.add_(1)"), "acting"),
    ],
    "environments": [
        (in_turn("from coworld_bench import make_env", "make_env(self.job.target.env)"), "toy/point (in turn()"),
        (in_turn("from gymnasium import make", "make('CartPole-v1')"), "CartPole-v1 (in turn() number 1, little"),
        (in_turn("import mujoco", "mujoco.MjModel.from_xml_string('<mujoco/>')"), "a MuJoCo model (in turn()"),
        (in_act("from coworld_bench.envs.toy import Toy", "Toy(self.learner.job.target.env)"), "in policy.act()"),
    ],
    "dataset": [
        (in_turn("self.job.data.array('image')[0] = 0"), "it changes job.data"),
    ],
    "global streams": [
        (in_turn("torch.rand(1)"), "torch (in turn() number 1)"),
        (in_turn("np.random.seed(0)"), "numpy.random (in turn() number 1)"),
    ],
}
FAULTS = [Fault(check, change, said) for check, faults in BROKEN.items() for change, said in faults]
