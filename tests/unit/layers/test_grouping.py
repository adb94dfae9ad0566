"""Grouping: few layers, and most of them shared by two notebooks that share most packages."""

from __future__ import annotations

import random

import pytest

from nb2image.layers.grouping import Item, group

_SMALL = [Item(f"package-{i}", 1000 + i) for i in range(120)]
_LARGE = [Item(f"big-{i}", (5 + i) << 20) for i in range(6)]


def test_every_package_is_in_exactly_one_layer() -> None:
    names = [name for layer in group(_SMALL + _LARGE, 50) for name in layer]
    assert sorted(names) == sorted(item.name for item in _SMALL + _LARGE)


def test_large_packages_have_a_layer_of_their_own_and_come_first_by_size() -> None:
    assert group(_SMALL + _LARGE, 60)[:6] == [[f"big-{i}"] for i in range(5, -1, -1)]


def test_the_order_of_the_items_makes_no_difference() -> None:
    items = _SMALL + _LARGE
    expected = group(items, 40)
    random.Random(3).shuffle(items)
    assert group(items, 40) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20, 33])
def test_the_limit_holds(limit: int) -> None:
    assert 1 <= len(group(_SMALL + _LARGE, limit)) <= limit


def test_one_more_package_changes_one_group() -> None:
    before = {tuple(layer) for layer in group(_SMALL, 60)}
    after = {tuple(layer) for layer in group([*_SMALL, Item("package-55b", 900)], 60)}
    assert len(after - before) <= 2
    assert len(before & after) >= len(before) - 1


def test_a_coarser_cut_only_joins_groups() -> None:
    fine = group(_SMALL, 60)
    for layer in fine:
        assert any(set(layer) <= set(joined) for joined in group(_SMALL, 8))


def test_no_package_is_no_layer() -> None:
    assert group([], 10) == []
