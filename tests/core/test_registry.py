"""Names that installed packages add, and things named by Python path."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from hypir_core.errors import ConfigError, UnknownNameError
from hypir_core.registry import Registry, load_target


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> Iterator[str]:
    """The group of entry points of a package that is installed here."""
    about = tmp_path / "a_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[onestep_restore.toys]\nball = a_plugin_of_toys:BALL\nown = a_plugin_of_toys:BALL\n"
        "torn = a_plugin_of_toys:CUBE\nlost = no_such_module_of_toys:X\n"
    )
    (tmp_path / "a_plugin_of_toys.py").write_text("BALL = 'round'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "onestep_restore.toys"
    sys.modules.pop("a_plugin_of_toys", None)


def test_a_package_adds_names_and_takes_none(plugin):
    toys: Registry[str] = Registry("toy", group=plugin)
    toys.add("own", "square")
    assert "a_plugin_of_toys" not in sys.modules
    assert toys.get("ball") == "round"
    assert toys.entry("ball").summary == "from a-plugin"
    assert toys.get("own") == "square"
    assert toys.names() == ("own", "ball", "torn", "lost")
    with pytest.raises(UnknownNameError, match=r"did you mean 'ball'"):
        toys.get("bal")
    assert Registry("toy").names() == ()


@pytest.mark.parametrize("name", ["torn", "lost"])
def test_a_broken_package_is_named_and_breaks_nothing_else(plugin, name, caplog):
    toys: Registry[str] = Registry("toy", group=plugin)
    with pytest.raises(ConfigError, match=f"toy '{name}' from a-plugin cannot be loaded .*update or remove"):
        toys.get(name)
    assert f"toy '{name}' from a-plugin cannot be loaded" in caplog.text
    assert toys.get("ball") == "round"


def test_many_are_added_or_none():
    toys: Registry[str] = Registry("toy")
    toys.add("ball", "round")
    with pytest.raises(ConfigError, match="'ball' is registered twice"):
        toys.add_many({"cube": "square", "ball": "flat"})
    assert toys.names() == ("ball",)
    toys.add_many({"cube": "square", "pen": "long"})
    assert toys.get("pen") == "long"
    toys.remove("pen")
    assert toys.names() == ("ball", "cube")


def test_a_python_path_leads_to_a_thing_or_to_a_sentence(plugin):
    assert load_target("a_plugin_of_toys:BALL", key="toy") == "round"
    for target, said in (
        ("a_plugin_of_toys", "toy: expected package.module:name, got 'a_plugin_of_toys'"),
        ("a_plugin_of_toys:CUBE", "toy: a_plugin_of_toys has no CUBE; mend the name"),
        ("a_plugin_of_none:x", "toy: a_plugin_of_none cannot be imported"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_target(target, key="toy")


def test_a_list_of_ones_own_is_listed_and_created_from(monkeypatch):
    from hypir_core import components

    mounts: Registry[type[dict]] = Registry("mount")
    mounts.add("slide", dict, defaults={"thick_um": 170})
    monkeypatch.setitem(components.KINDS, "mounts", mounts)
    assert components.get_available_components()["mounts"] == ["slide"]
    assert components.create_component("mount", "slide", wide_mm=25) == {"thick_um": 170, "wide_mm": 25}
    assert components.create_component("mounts", "slide") == {"thick_um": 170}


def test_what_lacks_its_package_is_not_listed_and_says_what_to_install(monkeypatch):
    from hypir_core import components
    from hypir_core.errors import MissingDependencyError

    parts: Registry[object] = Registry("part")
    parts.add("here", dict)
    parts.add("gone", dict, needs="no_such_package_of_toys", extra="toys")
    monkeypatch.setitem(components.KINDS, "parts", parts)
    assert components.get_available_components()["parts"] == ["here"]
    assert parts.names() == ("here", "gone")
    (why,) = parts.missing().values()
    assert "pip install 'onestep-restore[toys]'" in why
    with pytest.raises(MissingDependencyError, match=r"part 'gone'.*no_such_package_of_toys"):
        parts.create("gone")
