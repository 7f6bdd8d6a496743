"""What ``recmesh model new`` writes: files of ``cli/model_template``, rendered for one model."""

from __future__ import annotations

import keyword
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recmesh.models.registry import KEBAB_CASE, known_models
from recmesh.orchestrator.campaigns.offers import CAMPAIGNS
from recmesh.orchestrator.index_source import VECTOR_INDEX
from recmesh.orchestrator.retrieval import FRESH, PINNED, POPULAR
from recmesh.storage.errors import ConfigurationError

TEMPLATES = Path(__file__).with_name("model_template")
LONGEST = 40
"""Letters of a name, as in :class:`~recmesh.models.declaration.ModelDeclaration`."""
TAKEN = ("orchestrator", "catalog", POPULAR, FRESH, PINNED, VECTOR_INDEX, CAMPAIGNS)
"""Parts of the mesh that pages and statuses name as they name models."""
PACKAGE = ("__init__.py", "model.py", "training.py", "model.toml")
REGISTRY = Path("models") / "registry.py"
LINE = 100
"""Letters in a line of the house's."""
OPENS, CLOSES = "MODELS: dict[str, str] = {\n", "}\n"


@dataclass(frozen=True, slots=True)
class ModelProject:
    """One model's files, and where they go."""

    name: str
    folder: Path
    """The house's root, or that of a project of its own, which is not there yet."""
    standalone: bool

    @property
    def package(self) -> str:
        """The name as Python can import it."""
        return self.name.replace("-", "_")

    @property
    def import_path(self) -> str:
        """Where Python finds it once it is written."""
        return self.package if self.standalone else f"recmesh.models.{self.package}"

    @property
    def package_path(self) -> str:
        """Its package, as seen from the folder."""
        return self.package if self.standalone else f"models/{self.package}"

    @property
    def test_file(self) -> str:
        """Its tests, as seen from the folder."""
        return f"tests/{'' if self.standalone else 'unit/'}test_{self.package}.py"

    @property
    def files(self) -> dict[str, str]:
        """Template by the file that is made of it, as seen from the folder."""
        made = {f"{self.package_path}/{name}": f"model/{name}" for name in PACKAGE}
        made[self.test_file] = "test_model.py"
        if not self.standalone:
            return made | {f"{self.package_path}/README.md": "README.md"}
        return made | {
            "README.md": "README.md",
            "pyproject.toml": "standalone/pyproject.toml",
            ".gitignore": "standalone/gitignore",
            ".github/workflows/checks.yml": "standalone/checks.yml",
        }

    def check(self) -> None:
        """Raises ConfigurationError when there can be no such model, or there is one."""
        if not KEBAB_CASE.fullmatch(self.name) or len(self.name) > LONGEST:
            raise ConfigurationError(
                f"{self.name!r} is no model's name: lower-case words of letters and digits, "
                f"joined by dashes, the first letter a letter, at most {LONGEST} letters, "
                f"such as co-readers"
            )
        if self.name in TAKEN or keyword.iskeyword(self.package):
            raise ConfigurationError(f"{self.name} names something else already; choose another")
        if self.standalone:
            if self.name in known_models():
                raise ConfigurationError(
                    f"there is a model {self.name} already: {known_models()[self.name]}; choose "
                    f"another name"
                )
            if self.package in sys.stdlib_module_names or find_spec(self.package):
                raise ConfigurationError(
                    f"there is a package {self.package} already, which Python would import "
                    f"instead; choose another name"
                )
            if self.folder.exists():
                raise ConfigurationError(f"{self.folder} is there already")
            return
        if not (self.folder / REGISTRY).is_file():
            raise ConfigurationError(
                f"there is no {REGISTRY} in {self.folder}: run this in the repository's root, "
                f"name it with --into, or make a project of its own with --standalone"
            )
        places = [self.package_path, f"{self.package_path}.py", *self.files]
        found = next((place for place in places if (self.folder / place).exists()), None)
        offered = known_models().get(self.name, self.import_path)
        if found or offered != self.import_path:
            raise ConfigurationError(
                f"there is a model {self.name} already: {found or offered}; choose another name"
            )

    def write(self, owner: str, contact: str) -> list[Path]:
        """Writes all files and, in the house, the registry's line. Returns what was written.

        Killed half way it has registered nothing, and left no folder of the model's name.
        """
        words = {
            "name": self.name,
            "package": self.package,
            "import_path": self.import_path,
            "package_path": self.package_path,
            "test_file": self.test_file,
            "standalone": self.standalone,
            "owner": owner,
            "contact": contact,
        }
        if self.standalone:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".new-") as scratch:
                made = Path(scratch) / self.name
                self._render(made, words)
                made.rename(self.folder)
            return [self.folder / file for file in self.files]
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-") as scratch:
            self._render(Path(scratch), words)
            (self.folder / self.test_file).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(scratch) / self.test_file, self.folder / self.test_file)
            (Path(scratch) / self.package_path).rename(self.folder / self.package_path)
        self._register()
        return [self.folder / file for file in (*self.files, str(REGISTRY))]

    def _render(self, root: Path, words: Mapping[str, object]) -> None:
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            autoescape=False,
        )
        for file, template in self.files.items():
            place = root / file
            place.parent.mkdir(parents=True, exist_ok=True)
            text = environment.get_template(f"{template}.jinja").render(words)
            place.write_text(text, encoding="utf-8")

    def _register(self) -> None:
        """Adds the model's line, unless it is there."""
        registry = self.folder / REGISTRY
        text = registry.read_text(encoding="utf-8")
        line = f'    "{self.name}": "{self.import_path}",'
        line += "  # noqa: E501\n" if len(line) > LINE else "\n"
        before, opens, after = text.partition(OPENS)
        lines, closes, rest = after.partition(CLOSES)
        if not (opens and closes):
            raise ConfigurationError(f"{registry} lists no models; add this to it: {line.strip()}")
        if line not in lines:
            registry.write_text(before + opens + lines + line + closes + rest, encoding="utf-8")
