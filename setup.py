"""Packaging: each top-level folder is one package of the namespace ``pacifica``."""

import ast
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent

# Folder by folder, so that tests, docs and the checkout's own __init__.py never ship.
PACKAGES = {
    "pacifica.common": "common",
    "pacifica.config": "config",
    "pacifica.ingest": "ingest",
    "pacifica.cartd": "cartd",
    "pacifica.datasafe": "datasafe",
    "pacifica.flow": "flow",
}

# What lies in them beside modules.
DATA = ("conf", "html", "ini", "json", "sh", "sql", "yaml", "yml")


def version() -> str:
    """Return VERSION of common/version.py without importing the package."""
    for node in ast.parse((HERE / "common" / "version.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSION":
            return str(ast.literal_eval(node.value))
    raise RuntimeError("common/version.py sets no VERSION")


def commands(service: str) -> list[str]:
    """Return the two console scripts of ``service``."""
    module = f"pacifica.{service}.__main__"
    return [f"pacifica-{service} = {module}:main", f"pacifica-{service}-cmd = {module}:cmd"]


setup(
    name="pacifica-suite",
    version=version(),
    description="Research-data transfer: ingest, cartd, datasafe and flow on one ground",
    python_requires=">=3.11",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={"": [f"**/*.{suffix}" for suffix in DATA], "pacifica.flow": ["runtime/**/*", "library/**/*"]},
    include_package_data=False,
    zip_safe=False,
    install_requires=[
        "cherrypy>=18.10",
        "cheroot>=10.0.1,!=11.0.0,!=11.1.1",  # the two leak threads below Python 3.13 (cheroot#769)
        "celery>=5.5",
        "kombu>=5.5",
        "amqp>=5.3.1",
        "peewee>=4.5",
        "requests>=2.32",
        "urllib3>=2.2",
        "jsonschema>=4.23",
        "msgspec>=0.19",
        "xxhash>=3.5",
        "PyYAML>=6.0.1",
        "Jinja2>=3.1.6",
        "tenacity>=9.0",
        "prometheus_client>=0.21",
    ],
    extras_require={
        "postgres": ["psycopg[binary]>=3.2"],
        "uwsgi": ["uWSGI>=2.0.28"],
        "progress": ["tqdm>=4.66"],
        "test": [
            "cloudevents>=2.0",
            "coverage>=7.6",
            "hypothesis>=6.100",
            "pytest>=8.3",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
        ],
        "dev": ["mypy>=1.11", "ruff>=0.12", "types-PyYAML", "types-requests"],
    },
    entry_points={
        "console_scripts": [
            "pacifica = pacifica.common.cli:main",
            *(line for service in ("ingest", "cartd", "datasafe", "flow") for line in commands(service)),
        ],
        # What `pacifica up`, `pacifica dbsync` and the like start and stop.
        "pacifica.services": [
            f"{service} = pacifica.{service}.service:SERVICE" for service in ("ingest", "cartd", "datasafe", "flow")
        ],
        # What services add to the command `pacifica` for their users.
        "pacifica.commands": ["dataset = pacifica.datasafe.dataset_command:extend"],
        # Who reads a pack of the archive volume again, by the pack's kind, when the ledger is made anew.
        "pacifica.pack_readers": ["bundle = pacifica.ingest.rereading:reread"],
        # Whose sections one shared ini file may hold.
        "pacifica.settings": [
            f"{service} = pacifica.{service}.config:Settings" for service in ("ingest", "cartd", "datasafe", "flow")
        ],
    },
)
