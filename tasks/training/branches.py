"""Runs that start at a checkpoint of a trunk, unchanged, perturbed or masked (METHOD 2.1, 2.2, 2.3)."""

from collections.abc import Mapping
from operator import attrgetter

import torch
from torch import Tensor, nn

from specdyn.models import generators
from specdyn.models.experiments.base import read_spec
from specdyn.models.nets.matrices import Matrix
from specdyn.models.spec.run_spec import RunSpec
from specdyn.models.spec.start import StartFrom
from specdyn.storage.access import objects
from specdyn.storage.checkpoints import Manifest, kept_states, pack, read_finished, read_kept_state, read_manifest
from specdyn.storage.places import Store
from specdyn.tasks.evaluation.evaluator import estimate_batch_norm
from specdyn.tasks.evaluation.examples import load_examples
from specdyn.tasks.spectra.network_layout import network_layout
from specdyn.tasks.training import masks
from specdyn.tasks.training.optimizers import Updater
from specdyn.tasks.training.perturbations import perturb
from specdyn.tasks.training.state import load_state, noise_seed


def require_trunk(spec: RunSpec, store: Store) -> Manifest:
    """The manifest of a branch's trunk; ValueError says why the branch cannot start there.

    The trunk must be finished, with the same network and data, and a checkpoint and training state at that step.
    """
    assert spec.start is not None
    trunk = f"the trunk {spec.start.run_id} of {spec.experiment}"
    manifest = read_manifest(store.run(spec.experiment, spec.start.run_id))
    if manifest is None or manifest.status != "complete":
        state = "not in the store" if manifest is None else manifest.status
        raise ValueError(f"{trunk} is {state}; a branch needs a finished run: train it first")
    own = read_spec(manifest.spec, spec.experiment)
    for field, of in (("net", "net"), ("data", "data"), ("seed", "seed"), ("record_decay", "record.decay")):
        ours, theirs = attrgetter(of)(spec), attrgetter(of)(own)
        if ours != theirs:
            raise ValueError(f"{trunk} has {field}={theirs}, the branch {ours}: they must be the same")
    there = sorted(kept_states(store.run(spec.experiment, spec.start.run_id)).keys() & set(manifest.steps))
    if spec.start.step not in there:
        listed = ", ".join(map(str, there)) or "none"
        raise ValueError(
            f"{trunk} did not keep its state at step {spec.start.step}; the steps that it kept are: {listed}. "
            "Allow it to be retrained to that step, or choose one of these"
        )
    return manifest


def begin_branch(spec: RunSpec, store: Store, net: nn.Module, updater: Updater) -> None:
    """Load the trunk's weights and state into network and updater, then apply the perturbation or the mask."""
    start, trunk = spec.start, require_trunk(spec, store)
    assert start is not None
    weights = read_finished(store, trunk, start.step)
    state, metadata = read_kept_state(kept_states(store.run(spec.experiment, start.run_id))[start.step])
    net.load_state_dict(changed(spec, weights, mask_of(spec, store)))
    load_state(updater, state, metadata)
    if start.order != spec.seed:
        generators.seed(noise_seed(spec), updater.device)
    if start.perturbation or start.ticket:
        data = load_examples(spec, store)["train"]
        device = next(net.parameters()).device
        size = spec.batch_size or len(data.targets)
        with torch.no_grad():
            estimate_batch_norm(net, (batch.to(device).inputs for batch in data.batches(size)))


def changed(spec: RunSpec, weights: Mapping[str, Tensor], mask: masks.Mask) -> dict[str, Tensor]:
    """The trunk's weights as modified for the start of the branch."""
    start = spec.start
    assert start is not None
    if start.perturbation:
        return perturb(weights, network_layout(spec).layers, start.perturbation)
    if start.ticket is None:
        return dict(weights)
    kept = {name: weights[name] for name in mask}
    if start.ticket.mask == "reinit":
        kept = masks.redrawn(kept, start.ticket.mask_seed)
    if start.ticket.mask == "shuffled":
        kept = masks.shuffled(kept, start.ticket.mask_seed)
    return {**weights, **masks.apply(kept, mask)}


def maskable(spec: RunSpec) -> list[Matrix]:
    """The layers to mask: all but the last."""
    return list(network_layout(spec).layers[:-1])


def mask_of(spec: RunSpec, store: Store) -> masks.Mask:
    """The mask of a lottery ticket, made from the last checkpoint of its trunk or of the previous round's ticket.

    Empty for any other run. ValueError if that run is not finished.
    """
    if spec.start is None or spec.start.ticket is None:
        return {}
    source = spec.start.ticket.previous or spec.start.run_id
    manifest = read_manifest(store.run(spec.experiment, source))
    if manifest is None or manifest.status != "complete":
        raise ValueError(
            f"run {source} of {spec.experiment} is not finished in {store}: its last weights make the mask"
        )
    final = read_finished(store, manifest, manifest.steps[-1])
    chosen = {layer.parameter: final[layer.parameter] for layer in maskable(spec)}
    if not spec.start.ticket.previous:
        return make_mask(chosen, spec.start)
    before = mask_of(read_spec(manifest.spec, spec.experiment), store)
    return masks.further(before, chosen, spec.start.ticket.density)


def make_mask(final: Mapping[str, Tensor], start: StartFrom) -> masks.Mask:
    """The mask of a ticket, from the dense run's last weights."""
    assert start.ticket is not None
    ticket = start.ticket
    if ticket.mask == "shuffled":
        return masks.magnitude(masks.shuffled(final, ticket.mask_seed), ticket.density)
    mask = masks.magnitude(final, ticket.density)
    return masks.random_like(mask, ticket.mask_seed) if ticket.mask == "random" else mask


def store_mask(store: Store, mask: masks.Mask) -> str:
    """Write a mask under the hash of its content; returns the hash."""
    name = masks.mask_id(mask)
    shapes = {parameter: list(kept.shape) for parameter, kept in mask.items()}
    objects.write(store.mask(name), pack(masks.pack(mask), {"shapes": shapes}))
    return name
