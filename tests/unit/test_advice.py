"""What is advised can be done: options exist in the command that is named, and in the model that is trained."""

import ast
import re
from pathlib import Path

import pytest

from docs.reference import COMMANDS, config_of
from spaces.errors import InputError
from tests.commands import ROOT
from trials.common import cli, machine
from trials.networks import baselines

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
OF_EVERY_COMMAND = {"--help", "--help-all", "--json", "--config", "--save-config", "--completion"}
# options of other programs: NNI's manager, torchrun, docker, pip, git, node, and the script of a latency kit
OF_OTHERS = {
    *("--experiment-id", "--exp", "--nproc-per-node", "--shm-size", "--force-reinstall", "--editable", "--porcelain"),
    *("--require", "--provider", "--no-"),
}


def flags_of(command: str) -> set[str]:
    flags = {cli.flag(field.name) for fields in cli.groups(config_of(command)).values() for field in fields}
    return flags | {flag.replace("--", "--no-", 1) for flag in flags} | OF_EVERY_COMMAND


KNOWN = {command: flags_of(command) for command in COMMANDS}
KNOWN["data"] |= flags_of("data shrink")
FILES = [
    ROOT / "onepath.py",
    *(path for room in ("trials", "spaces", "strategies") for path in (ROOT / room).rglob("*.py")),
]


def strings_of(node: ast.AST) -> list[str]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def written(node: ast.JoinedStr | ast.Constant) -> str:
    """A text as it stands in the code, with X in place of what is put in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_in_texts_exist(path: Path):
    """Every option that a text names exists; that of a named command is one of it, as in `cli.command("search", ...)`."""
    everywhere, wrong = OF_OTHERS.union(*KNOWN.values()), []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.JoinedStr, ast.Constant)) and isinstance(getattr(node, "value", ""), str):
            text = written(node)
            wrong += [(node.lineno, option) for option in OPTION.findall(text) if option not in everywhere]
            for command, words in re.findall(r"trials\.([a-z]+)((?: +(?:-{2}[a-z-]+|[A-Z./\w]+|\.\.\.))*)", text):
                known = KNOWN.get(command, everywhere) | OF_OTHERS
                wrong += [(node.lineno, command, option) for option in OPTION.findall(words) if option not in known]
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "cli.command"
            and isinstance(node.args[0], ast.Constant)
        ):
            command = str(node.args[0].value)
            given = [text for argument in node.args[1:] for text in strings_of(argument) if text.startswith("--")]
            wrong += [(node.lineno, command, option) for option in given if option not in KNOWN[command]]
    assert wrong == []


@pytest.mark.parametrize(
    ("model", "resolution", "advised"),
    [
        ("timm:mobilenetv2_100", 32, "timm:mobilenetv2_100,output_stride=8"),
        ("timm:mobilenetv2_100", 8, ""),
        ("timm:mobilenetv2_100,output_stride=16", 32, ""),
        ("timm:ghostnet_050", 32, ""),
        ("timm:vit_tiny_patch16_224,img_size=32", 32, ""),
        ("torchvision:mobilenet_v3_small", 32, ""),
        ("torchvision:resnet18", 32, ""),
    ],
)
def test_a_stronger_baseline_is_one_that_works(model, resolution, advised):
    macs, _ = baselines.check_baseline(model, 3, resolution)
    assert baselines.stronger_baseline(model, 3, resolution, macs) == advised
    if advised:
        assert baselines.check_baseline(advised, 3, resolution)[0] > macs


@pytest.mark.parametrize(
    ("model", "end"),
    [
        ("timm:vit_tiny_patch16_224", "images of another size, or give 'timm:vit_tiny_patch16_224,img_size=32'"),
        ("torchvision:vgg11_bn", ""),
        ("torchvision:alexnet", "images of another size"),
    ],
)
def test_keywords_are_advised_where_the_model_takes_them(model, end):
    if not end:
        assert baselines.check_baseline(model, 3, 32)
        return
    with pytest.raises(InputError) as caught:
        baselines.check_baseline(model, 3, 32)
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("error", [MemoryError(), *(RuntimeError(text) for text in machine.FAILURES)])
def test_no_command_is_advised_an_option_of_another(command, error):
    said = machine.failure(error, KNOWN[command])
    assert said
    assert set(OPTION.findall(said)) <= KNOWN[command] | OF_OTHERS


@pytest.mark.parametrize("has", [True, False])
def test_a_command_without_resume_is_run_again(has, capsys):
    def main():
        raise OSError(28, "No space left on device")

    scope = {"Config": config_of("retrain" if has else "report"), "OSError": OSError}
    with pytest.raises(SystemExit):
        cli.run(type(main)(main.__code__, scope))
    said = capsys.readouterr().err
    assert said.endswith("run the same command with --resume to go on\n" if has else "run the same command again\n")
