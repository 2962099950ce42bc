"""Scores that come back from other machines through NNI alone."""

import json
from types import SimpleNamespace

import pytest

from trials.search_driver.results import store_remote_score


@pytest.mark.parametrize(("told", "stored"), [({"top5": 80.0}, 80.0), ({}, 100.0)])
def test_five_classes_or_fewer_have_no_top5(told, stored):
    written = []
    plan = SimpleNamespace(
        score_store=SimpleNamespace(record=lambda arch, table, **values: values, write=written.append),
        table=None,
        settings=SimpleNamespace(calibration_images=1),
        supernet_run=SimpleNamespace(config={"seed": 0}),
    )
    job = {"hyperParameters": [json.dumps({"parameters": {"block0": "k3"}})], "logPath": "there"}
    final = {"type": "FINAL", "data": json.dumps(json.dumps({"default": 60.0, "top1": 60.0, **told}))}
    store_remote_score(plan, job, [final])
    assert [(score["top1"], score["top5"]) for score in written] == [(60.0, stored)]
