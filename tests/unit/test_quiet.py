"""What libraries would say on a GPU is settled, not shown; what is chosen is said once."""

import io
import logging
import os

import numpy as np
import pytest
import torch

from trials.common import distributed
from trials.images.dali_loader import DaliLoader


def test_lightning_says_nothing_once_a_fabric_is_made():
    """Its lines about AMP and Tensor Cores go through rank_zero_info, which has a logger of its own."""
    from lightning_fabric.utilities import rank_zero

    logger, text = rank_zero.rank_zero_module.log, io.StringIO()
    handler = logging.StreamHandler(text)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    rank_zero.rank_zero_info("before")
    distributed.make_fabric("cpu", "32")
    rank_zero.rank_zero_info("Using bfloat16 Automatic Mixed Precision (AMP)")
    rank_zero.rank_zero_warn("shown", stacklevel=1)
    logger.removeHandler(handler)
    assert text.getvalue() == "before\n"


def test_the_arithmetic_is_said_once(capsys):
    distributed.say_arithmetic.cache_clear()
    for _ in range(2):
        distributed.say_arithmetic("bf16-mixed")
    assert capsys.readouterr().out.count("arithmetic on the GPU: bf16-mixed") == 1


def test_nvjpeg_shows_errors_alone_unless_asked(monkeypatch):
    pytest.importorskip("nvidia.dali")
    for given, wanted in ((None, "1"), ("3", "3")):
        monkeypatch.delenv("DALI_NVIMGCODEC_LOG_LEVEL", raising=False)
        if given:
            monkeypatch.setenv("DALI_NVIMGCODEC_LOG_LEVEL", given)
        none = np.zeros(0, int)
        DaliLoader([], none.reshape(0, 2), none, none.astype(bool), 32, 1, torch.device("cpu"))
        assert os.environ["DALI_NVIMGCODEC_LOG_LEVEL"] == wanted
