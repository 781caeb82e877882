"""What a run with other settings takes from a checkpoint: whatever still fits, and a line for what does not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from hypir_core.errors import SpecMismatchError

from ..data.stream import Position
from ..players import GENERATOR, Player, trained_state


def take_over(
    states: Mapping[str, Any],
    players: Mapping[str, Player],
    accelerator: Accelerator,
    folder: Path,
    *,
    same_optimiser: Collection[str] | None,
) -> tuple[str, ...]:
    """Bring `players` as near to the checkpoint `folder` as fits; return one line for what does not.

    `same_optimiser` names the players whose optimiser's state still means the same; with None no player keeps
    its optimiser and schedule.

    Raises:
        SpecMismatchError: the generator's weights do not fit.
    """
    notes = []
    for name, player in players.items():
        if name not in states:
            notes.append(f"{name}: is new and starts untrained")
            continue
        misfit = _misfit(states[name]["weights"], player, accelerator)
        if misfit and name == GENERATOR:
            raise SpecMismatchError(
                f"checkpoint.resume: the generator of {folder} does not fit: {misfit}; set generator.name and "
                "generator.options back, or start from its exported weights in another output_dir"
            )
        if misfit:
            notes.append(f"{name}: starts untrained, for the one in the checkpoint does not fit ({misfit})")
            continue
        player.load_weights(states[name], accelerator)
        if player.ema and not states[name]["ema"]:
            notes.append(f"{name}: its moving average starts at its weights")
        if same_optimiser is None:
            continue
        if name in same_optimiser:
            player.load_optimiser(states[name])
        else:
            notes.append(f"{name}: its optimiser starts anew")
            player.load_schedule(states[name])
    notes += [f"{name}: is left out" for name in states if name not in players]
    return tuple(notes)


def position_after(position: Position, *, then: int, now: int, batch_size: int, same_data: bool) -> Position:
    """Return where each of `now` processes stands after `then` processes stood at `position`.

    With other data the pool is filled again. Together they have used as many samples as before, rounded up to whole
    batches, so that as few pictures as possible come twice.
    """
    if same_data:
        return position
    each = -(-position.fresh * then // now)
    return Position(batches=position.batches, fresh=-(-each // batch_size) * batch_size)


def _misfit(then: Mapping[str, Tensor], player: Player, accelerator: Accelerator) -> str:
    now = trained_state(accelerator.unwrap_model(player.module))
    for name in sorted(then.keys() | now.keys()):
        was, is_now = (_shape(state, name) for state in (then, now))
        if was != is_now:
            return f"{name} is {was} there and {is_now} here"
    return ""


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    return "absent" if name not in state else "×".join(map(str, state[name].shape)) or "one number"
