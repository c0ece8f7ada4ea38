"""Learning: one loop at a constant rate that can be left and resumed at any time, and a cooldown from wherever it is.

    DIR/merges.txt      the vocabulary's merges
    DIR/checkpoint.pt   weights, their running mean, the optimiser, and how far it is; every few minutes
    DIR/log.jsonl       one line a minute: losses, hours of audio heard, seconds of audio a second, rate
    DIR/stop            a file of this name makes it stop after the next step

The encoder learns first, from the CTC head; for the first hours each row is told, too, which piece would be said there
if all lasted equally long, which starts alignment hours earlier. Then the decoder joins. Nothing is ever frozen.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from train.batches import NOWHERE, Batch, Clips, loader
from train.network import Lfm2Audio, Shape, deepened
from train.vocabulary import PAD, tokenizer

HOUR = 3600.0
PROSE_AT_LAST = 0.3  # while the rate falls: what the model is meant for counts most


@dataclass(frozen=True)
class Plan:
    """A run. Hours are of audio heard.

    hours          where it ends; a later run may go on
    cooldown       the last so many fall from `rate` to 3 % of it, in a line
    flat           until then rows are told pieces spread evenly
    joins          from then on the decoder learns, too
    batch_seconds  of audio, with its padding
    prose          the share of sentences that are everyday prose; None is as much as was made
    """

    seed: int = 12
    hours: float = 60.0
    cooldown: float = 0.0
    flat: float = 3.0
    joins: float = 7.0
    rate: float = 1e-3
    warmup: int = 80
    batch_seconds: float = 24.0
    prose: float | None = None
    average: float = 0.999  # of the running mean of the weights
    minutes: float = 1e9  # of wall clock
    device: str = "cpu"
    workers: int = 0

    def rate_at(self, step: int, hours: float) -> float:
        """The rate of a step: a short warm-up, constant, and the fall at the end."""
        left = (self.hours - hours) / self.cooldown if self.cooldown else 1.0
        return self.rate * min(1.0, (step + 1) / self.warmup) * max(0.03, min(1.0, left))


class Run:
    """A model that learns, and where it stands."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.tokenizer = tokenizer((folder / "merges.txt").read_text(encoding="utf-8").splitlines())
        self.device = torch.device(plan.device)
        # half as long, where the processor multiplies bfloat16 itself; elsewhere it would be emulated
        self.half = self.device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        torch.manual_seed(plan.seed)
        self.model = Lfm2Audio(Shape(self.tokenizer.vocabulary_size)).to(self.device)
        self.mean = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, plan.rate, betas=(0.9, 0.98), fused=True)
        self.step, self.warm, self.seconds = 0, 0, 0.0
        if (folder / "checkpoint.pt").exists():
            self._restore(torch.load(folder / "checkpoint.pt", map_location=self.device, weights_only=True))

    @property
    def hours(self) -> float:
        """Hours of audio heard."""
        return self.seconds / HOUR

    def _restore(self, held: dict[str, Any]) -> None:
        if 2 * held["shape"]["encoder_layers"] == self.model.shape.encoder_layers:
            held |= {name: deepened(held[name], self.model.state_dict()) for name in ("model", "mean")}
            held.pop("optimizer", None)  # it begins anew
        self.model.load_state_dict(held["model"])
        self.mean = held["mean"]
        self.step, self.seconds = held["step"], held["seconds"]
        if "optimizer" in held:
            self.optimizer.load_state_dict(held["optimizer"])
            self.warm = self.plan.warmup

    def save(self, name: str = "checkpoint.pt") -> None:
        """Keep all of it; a run that is cut off while it writes keeps the one before."""
        held = {
            "shape": asdict(self.model.shape),
            "model": self.model.state_dict(),
            "mean": self.mean,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.folder / (name + ".part")
        torch.save(held, temporary)
        temporary.replace(self.folder / name)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """What is to fall: CTC, the flat start while it lasts, the next token once the decoder is there."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            heard, rows = self.model.encode(batch.mel, batch.frames)
            scores = functional.log_softmax(self.model.ctc(heard).float(), dim=-1)
            paths = functional.ctc_loss(
                scores.transpose(0, 1), batch.pieces, rows, batch.counts, PAD, reduction="sum", zero_infinity=True
            )
            losses = {"ctc": paths / max(1, len(batch.pieces))}
            if self.hours < self.plan.flat:
                even = functional.nll_loss(scores.flatten(0, 1), batch.flat.flatten(), ignore_index=NOWHERE)
                losses["flat"] = even * 2 * (1 - self.hours / self.plan.flat)
            if self.hours >= self.plan.joins:
                wanted = batch.labels != NOWHERE
                logits = self.model.answer(heard, batch.tokens, batch.places, wanted)
                losses["token"] = functional.cross_entropy(logits.float(), batch.labels[wanted])
        return losses

    def learn(self, batch: Batch) -> dict[str, float]:
        """One step; the losses before it."""
        rate = self.plan.rate_at(self.warm, self.hours)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self.losses(batch.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step, self.warm, self.seconds = self.step + 1, self.warm + 1, self.seconds + batch.seconds
        if self.step % 10 == 0:
            self._average(self.plan.average**10)
        return {name: loss.item() for name, loss in losses.items()} | {"norm": norm.item()}

    def _average(self, kept: float) -> None:
        """Move the running mean; at first it follows faster, so that the first weights are soon forgotten."""
        kept = min(kept, self.step / (self.step + 100))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if value.is_floating_point():
                    self.mean[name].lerp_(value, 1 - kept)
                else:
                    self.mean[name].copy_(value)


def started_cooldown(folder: Path, plan: Plan, hours: float) -> tuple[Path, Plan]:
    """A folder DIR/cooled that holds the checkpoint as it stands, unless it is there, and the plan that ends it."""
    cooled = folder / "cooled"
    if not (cooled / "checkpoint.pt").exists():
        cooled.mkdir(exist_ok=True)
        for name in ("merges.txt", "checkpoint.pt"):
            shutil.copyfile(folder / name, cooled / name)
        heard = torch.load(cooled / "checkpoint.pt", map_location="cpu", weights_only=True)["seconds"] / HOUR
        ending = {
            "hours": heard + hours,
            "cooldown": hours,
            "prose": PROSE_AT_LAST if plan.prose is None else plan.prose,
        }
        (cooled / "plan.json").write_text(json.dumps(ending), encoding="utf-8")
    return cooled, replace(plan, **json.loads((cooled / "plan.json").read_text(encoding="utf-8")))


def learn(folder: Path, plan: Plan, speech: Path) -> Iterator[dict[str, float]]:
    """Learn until the plan ends, or a file called `stop` appears; gives what is logged, once a minute."""
    run = Run(folder, plan)
    clips = Clips(
        speech, run.tokenizer, seed=plan.seed, start=run.step, hours=run.hours, seconds=plan.batch_seconds,
        prose=plan.prose,
    )  # fmt: skip
    began = logged = saved = time.monotonic()
    worked, heard, sums, steps = time.process_time(), run.seconds, dict[str, float](), 0
    for batch in loader(clips, plan.workers):
        for name, value in run.learn(batch).items():
            sums[name] = sums.get(name, 0.0) + value
        steps, now = steps + 1, time.monotonic()
        over = run.hours >= plan.hours or now - began > plan.minutes * 60 or (folder / "stop").exists()
        if now - logged > 60 or over:
            line = {name: round(value / steps, 4) for name, value in sums.items()}
            audio, work = run.seconds - heard, time.process_time() - worked
            line |= {"hours": round(run.hours, 3), "step": run.step}
            line |= {"speed": round(audio / (now - logged), 1), "speed_of_a_core": round(audio / work, 1)}
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line | {"rate": run.optimizer.param_groups[0]["lr"]}) + "\n")
            yield line
            logged, worked, heard, sums, steps = now, time.process_time(), run.seconds, {}, 0
        if now - saved > 180 or over:
            run.save()
            saved = now
        if over:
            return
