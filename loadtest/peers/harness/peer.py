"""What a directory NAME/ with its peer.toml says of one system."""

import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent


def built() -> Path:
    """Where install.sh puts what it builds."""
    return Path(os.environ.get("PEERS_DIR", ROOT / "target" / "peers"))


def filled(text: str, values: dict[str, str]) -> str:
    """The text with `@name@` replaced; a name that isn't known is an error."""
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], text)


@dataclass(frozen=True)
class Peer:
    """One system. In its texts @name@ stands for a value of the run; `start` in running.py has the list of them."""

    name: str
    # How the table calls it, and where its messages come from.
    title: str
    fed_by: str
    command: list[str]
    # Where clients connect, and where messages are published.
    publish_url: str
    url: str = "ws://127.0.0.1:@port@"
    # The program: the variable that names its file, else the first that exists of these files or commands.
    variable: str = ""
    programs: list[str] = field(default_factory=list)
    # Files besides the program without which it can't run.
    needs: list[str] = field(default_factory=list)
    # Shell commands; what they print is the version.
    version: list[str] = field(default_factory=list)
    # Files of its directory that are copied with their @name@ replaced.
    files: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    # Whether it is given a Redis.
    redis: bool = False
    # The URL that isn't answered with 5xx once it is ready; empty: its port takes connections.
    ready: str = ""
    # How it is spoken to.
    script: str = "script.toml"
    # Directory of files and script, when it isn't its own.
    directory: str = ""
    # What was set for fairness, for the results.
    settings: list[str] = field(default_factory=list)
    # Why messages may come in another order; empty: they mustn't.
    unordered: str = ""
    # Why its settings may be wrong; empty: check.py has shown that they aren't.
    unproven: str = ""
    # The Umbel that it's compared with; empty: the one fed by Redis, or by itself, as this one is.
    compared_with: str = ""
    # Why it's shown without a verdict; empty: it's judged.
    unjudged: str = ""

    @classmethod
    def read(cls, name: str) -> "Peer":
        """Reads NAME/peer.toml; a key that it doesn't know is a TypeError."""
        return cls(name=name, **tomllib.loads((HERE / name / "peer.toml").read_text()))

    @classmethod
    def all(cls) -> list["Peer"]:
        """Every system with a directory here, by name."""
        return [cls.read(file.parent.name) for file in sorted(HERE.glob("*/peer.toml"))]

    @property
    def home(self) -> Path:
        """The directory of its files."""
        return HERE / (self.directory or self.name)

    @property
    def script_file(self) -> Path:
        """Its script's file."""
        return self.home / self.script

    def program(self) -> str | None:
        """The program's file, if it is installed with all that it needs."""
        places = {"peers": str(built()), "here": str(self.home), "root": str(ROOT)}
        if not all(Path(filled(need, places)).exists() for need in self.needs):
            return None
        given = [os.environ[self.variable]] if os.environ.get(self.variable) else []
        for place in given or self.programs:
            if found := shutil.which(filled(place, places)):
                return str(Path(found).resolve())
        return None

    def version_of(self, program: str) -> str:
        """What its version commands print, in one line."""
        values = {"program": program, "peers": str(built()), "here": str(self.home), "root": str(ROOT)}
        said = []
        for command in self.version:
            done = subprocess.run(
                ["sh", "-c", filled(command, values)], capture_output=True, text=True, timeout=20, check=False
            )
            said += (done.stdout or done.stderr).split()
        return " ".join(said)
