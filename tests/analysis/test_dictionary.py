"""Planted sparse features are recovered, and are what principal components and single adapters do not have."""

import numpy as np
import pytest

from backend.analysis.scalars.dictionary import (
    explained,
    restored_by_adapters,
    restored_by_components,
    trained,
)
from backend.records import InputError

ADAPTERS, PLANTED, ACTIVE, SIZES = 12, 16, 2, np.linspace(0.5, 3, 12)


def scalars(tokens=12_000, seed=0):
    """Two of sixteen directions at each token, at other scales an adapter; the atoms at unit scale."""
    rng = np.random.default_rng(seed)
    atoms = np.random.default_rng(7).standard_normal((PLANTED, ADAPTERS))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    found = np.zeros((tokens, PLANTED))
    for token in found:
        token[rng.choice(PLANTED, ACTIVE, replace=False)] = rng.uniform(1, 3, ACTIVE)
    return (found @ atoms + 0.02 * rng.standard_normal((tokens, ADAPTERS))) * SIZES + SIZES, atoms * SIZES, found


@pytest.fixture(scope="module")
def learned():
    values, atoms, found = scalars()
    return values, atoms, found, trained(values, features=24, active=ACTIVE)


def matched(dictionary, atoms):
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (atoms, dictionary.decoder)]
    return (unit[0] @ unit[1].T).max(axis=1)


def test_planted_features_are_recovered_and_held_out_tokens_are_restored(learned):
    values, atoms, _, dictionary = learned
    assert (matched(dictionary, atoms) > 0.95).sum() >= PLANTED - 2
    held, _, _ = scalars(2000, seed=1)
    assert (dictionary.features(held) > 0).sum(axis=1).max() <= ACTIVE
    share = explained(held, dictionary.restored(held), values)
    assert share > 0.85
    assert share > explained(held, restored_by_components(held, values, ACTIVE), values) + 0.3
    assert share > explained(held, restored_by_adapters(held, values, ACTIVE), values) + 0.3


def test_features_fire_where_they_were_planted(learned):
    """An atom may be split over two features, which then fire at different tokens: their sum is what was planted."""
    values, atoms, found, dictionary = learned
    read = dictionary.features(values)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (atoms, dictionary.decoder)]
    own = unit[0] @ unit[1].T > 0.9
    agree = [np.corrcoef(read[:, own[i]].sum(axis=1), found[:, i])[0, 1] for i in range(PLANTED) if own[i].any()]
    assert np.sum(np.array(agree) > 0.9) >= PLANTED - 3


def test_independent_scalars_have_no_features():
    """Adapters shuffled against each other keep their own spread and lose what a dictionary finds."""
    values, _, _ = scalars()
    rng = np.random.default_rng(3)
    shuffled = np.stack([rng.permutation(column) for column in values.T], axis=1)
    dictionary = trained(shuffled, features=24, active=ACTIVE, steps=1500)
    own = trained(values, features=24, active=ACTIVE, steps=1500)
    assert (
        explained(values, own.restored(values), values)
        > explained(shuffled, dictionary.restored(shuffled), shuffled) + 0.2
    )


def test_what_comparisons_restore_is_what_they_say():
    values, _, _ = scalars(3000)
    assert explained(values, values, values) == 1
    assert explained(values, np.broadcast_to(values.mean(axis=0), values.shape), values) == pytest.approx(0)
    whole = restored_by_components(values, values, ADAPTERS)
    assert whole == pytest.approx(values)
    kept = restored_by_adapters(values, values, 3)
    assert (np.isclose(kept, values)).sum(axis=1).min() >= 3


def test_what_cannot_be_learned_is_refused():
    values, _, _ = scalars(3000)
    with pytest.raises(InputError, match="as many as adapters restore everything"):
        trained(values, features=24, active=ADAPTERS)
    with pytest.raises(InputError, match="3000 tokens are too few for 40 features: take at most 30"):
        trained(values, features=40, active=2)
    still = values.copy()
    still[:, 0] = 1
    with pytest.raises(InputError, match="1 adapters never change"):
        trained(still, features=8, active=2)
