"""Reads a YAML file that holds a secret: no message ever quotes what stands in it."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from motorcade.fleet.errors import SettingsError

_Form = TypeVar("_Form", bound=BaseModel)


def read(path: Path, form: type[_Form], example: str) -> _Form:
    """What a credentials file says.

    Args:
        path: the file.
        form: what must stand in it.
        example: the same in words, the remedy of a file that cannot be used.

    Raises:
        SettingsError: the file cannot be read, or says something else.
    """
    try:
        return form.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        why = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        why = "it is not text"
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        why = f"line {line} is not YAML"
    except yaml.YAMLError:
        why = "it is not YAML"
    except ValidationError as error:
        why = "; ".join(
            ": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"])))
            for one in error.errors(include_input=False)
        )
    raise SettingsError(f"The credentials file {path} cannot be used: {why}.", example)
