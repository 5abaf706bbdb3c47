"""Ctrl-C ends a command in one line, however early it comes."""

import sys

import pytest

from motorcade.stack import cli


class Interrupting:
    """Interrupts the import of a module, as a person does who is quick."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name == self._name:
            raise KeyboardInterrupt


@pytest.mark.parametrize("module", ["motorcade.stack.processes", "motorcade.stack.commands"])
def test_an_interruption_while_a_command_is_loaded_is_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package, _, name = module.rpartition(".")
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delattr(sys.modules[package], name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(module), *sys.meta_path])
    monkeypatch.setattr(sys, "argv", ["motorcade", "status"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"
