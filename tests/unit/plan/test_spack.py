"""What the settings say about Spack, and the user's own configuration of it."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from git_samples import make_repository, write_files

from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.base_setup import SpackRefs, spack_digest
from slurm_factory.plan.plan import SpackChoice
from slurm_factory.plan.spack import (
    SECTIONS,
    choose_spack,
    cloned_repositories,
    load_spack_config,
    seen_repositories,
)

SITE = """\
# what this site has already
packages:
  openssl:
    buildable: false
    externals:
    - spec: openssl@3.0.15
      prefix: /usr
config::
  connect_timeout: 60
"""


def write(directory: Path, content: str | bytes) -> Path:
    path = directory / "site.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_spack_config(path, path.parent)
    error = caught.value
    lines = str(error).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert str(path) in error.brief
    assert "SLURM_FACTORY_SPACK_CONFIG" in error.resolution
    return error


def test_settings_alone_choose_the_pinned_spack_and_nothing_of_the_site(tmp_path: Path) -> None:
    choice = choose_spack(Settings(cache_dir=tmp_path), "x86_64")
    # Tags may be moved, commits may not.
    for ref in (choice.refs.ref, choice.refs.packages_ref):
        assert re.fullmatch("[0-9a-f]{40}", ref)
    assert choice.refs.url == "https://github.com/spack/spack.git"
    assert choice.refs.packages_url == "https://github.com/spack/spack-packages.git"
    assert choice == SpackChoice(choice.refs, "x86_64_v2")


def test_packages_by_other_recipes_have_a_build_cache_of_their_own(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("packages: {}")
    settings = [
        Settings(cache_dir=tmp_path),
        Settings(cache_dir=tmp_path, spack_config=site),
        Settings(cache_dir=tmp_path, spack_packages_ref="develop"),
        Settings(cache_dir=tmp_path, spack_url="https://mirror.example/spack.git"),
    ]
    caches = [choose_spack(each, "x86_64").local_buildcaches for each in settings]
    assert caches[0] == ("spack-buildcache",)
    assert {shared for _, shared in caches[1:]} == {"spack-buildcache"}
    own = [cache for cache, _ in caches[1:]]
    assert len({*own}) == len(own)
    assert {Path(cache).parts[0] for cache in own} == {"spack-buildcache-site"}


def test_only_repositories_below_the_cache_directory_are_shown_to_instances() -> None:
    assert seen_repositories("") == ()
    config = """
repos:
  site: /opt/slurm-factory-cache/repos/spack_repo/site
  theirs: $spack/var/repos
  cloned: {git: https://git.example/repo}
"""
    assert seen_repositories(config) == (PurePosixPath("repos/spack_repo/site"),)


@pytest.mark.parametrize(("architecture", "target"), [("x86_64", "x86_64_v2"), ("aarch64",) * 2])
def test_without_a_setting_the_target_is_one_of_the_architecture(
    architecture: str, target: str, tmp_path: Path
) -> None:
    assert choose_spack(Settings(cache_dir=tmp_path), architecture).target == target


def test_a_target_of_another_architecture_is_refused_at_planning(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path, spack_target="zen4")
    assert choose_spack(settings, "x86_64").target == "zen4"
    with pytest.raises(ConfigurationError, match="zen4"):
        choose_spack(settings, "aarch64")


@pytest.fixture
def unpacked(tmp_path: Path) -> dict[str, Any]:
    """Settings with plain directories; the one of Spack contains its version."""
    write_files(tmp_path, {"spack/lib/spack/spack/__init__.py": '__version__ = "1.1.1"\n'})
    write_files(tmp_path, {"recipes/repos/a": ""})
    urls = {"spack_url": f"{tmp_path}/spack", "spack_packages_url": f"{tmp_path}/recipes"}
    return {"cache_dir": tmp_path, **urls}


@pytest.mark.parametrize("true", [{}, {"spack_ref": "v1.1.1"}])
def test_unpacked_files_are_taken_and_no_manifest_says_a_ref_that_nobody_looked_up(
    unpacked: dict[str, Any], true: dict[str, Any]
) -> None:
    described = choose_spack(Settings(**unpacked, **true), "x86_64").describe()
    assert (described["ref"], described["packages_ref"]) == (None, None)
    assert described["url"] == unpacked["spack_url"]


def test_unpacked_files_with_default_settings_keep_their_base(unpacked: dict[str, Any]) -> None:
    refs = choose_spack(Settings(**unpacked), "x86_64").refs
    urls = (unpacked["spack_url"], unpacked["spack_packages_url"])
    defaults = Settings(cache_dir=unpacked["cache_dir"])
    pinned = SpackRefs(urls[0], defaults.spack_ref, urls[1], defaults.spack_packages_ref)
    assert spack_digest(refs) == spack_digest(pinned)


@pytest.mark.parametrize(
    ("setting", "ref", "why"),
    [
        ("spack_ref", "v1.1", "contains Spack 1.1.1 and is not a git repository."),
        ("spack_ref", "develop", "contains Spack 1.1.1 and is not a git repository."),
        ("spack_packages_ref", "v1.1.1", "is not a git repository."),
    ],
)
def test_a_ref_that_unpacked_files_cannot_have_is_refused_and_makes_no_base(
    unpacked: dict[str, Any], setting: str, ref: str, why: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        choose_spack(Settings(**(unpacked | {setting: ref})), "x86_64")
    variable = f"SLURM_FACTORY_{setting.upper()}"
    assert caught.value.brief == f"{variable}={ref} cannot be used with unpacked files."
    assert caught.value.details.endswith(why)
    assert caught.value.resolution.startswith(f"Unset {variable}")


def test_a_repository_on_this_machine_has_refs(tmp_path: Path) -> None:
    make_repository(tmp_path / "spack", {"a": "b"})
    settings = Settings(cache_dir=tmp_path, spack_url=f"{tmp_path}/spack", spack_ref="develop")
    assert choose_spack(settings, "x86_64").describe()["ref"] == "develop"


def test_everything_that_the_settings_say_is_in_the_choice(tmp_path: Path) -> None:
    settings = Settings(
        cache_dir=tmp_path,
        spack_url="/srv/spack",
        spack_ref="a",
        spack_packages_url="/srv/spack-packages",
        spack_packages_ref="b",
        spack_config=write(tmp_path, SITE),
        spack_base_packages=("libssl-dev",),
        source_mirrors=("https://s.example",),
        spack_buildcaches=("https://b.example",),
        spack_unsigned_buildcaches=True,
    )
    choice = choose_spack(settings, "x86_64")
    refs = choice.refs
    assert (refs.url, refs.ref) == ("/srv/spack", "a")
    assert (refs.packages_url, refs.packages_ref) == ("/srv/spack-packages", "b")
    assert (choice.config, choice.packages) == (SITE, ("libssl-dev",))
    assert choice.source_mirrors == ("https://s.example",)
    assert choice.buildcaches == ("https://b.example",)
    assert choice.signed is False


def test_a_file_is_given_to_spack_as_it_is_with_its_comments(tmp_path: Path) -> None:
    assert load_spack_config(write(tmp_path, SITE), tmp_path) == SITE


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("sign", ["", ":", "+", "-"])
def test_a_section_may_replace_or_extend_what_is_there(
    section: str, sign: str, tmp_path: Path
) -> None:
    text = yaml.safe_dump({f"{section}{sign}": {}})
    assert load_spack_config(write(tmp_path, text), tmp_path) == text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("packages:\n  a: [1\nb: 2\n", "Line 3, column 2"),
        ("packages:\n\ta: 1\n", "Line 2, column 1"),
        ("packages: {a: 'x\n", "Line 2, column 1"),
        ("packages: *gone\n", "Line 1, column 11"),
        ("packages: !!python/object/apply:os.system [id]\n", "Line 1, column 11"),
        ("packages: {}\n---\npackages: {}\n", "Line 2, column 1"),
    ],
)
def test_a_mistake_in_the_yaml_is_reported_with_line_and_column(
    text: str, place: str, tmp_path: Path
) -> None:
    error = refusal(write(tmp_path, text))
    assert error.brief.endswith("is not YAML.")
    assert error.details.startswith(f"{place}: ")


@pytest.mark.parametrize("content", [b"packages: \x00\n", b"\xff\xfe\x00", "packages: \x1b[31m\n"])
def test_a_file_that_is_not_text_is_refused(content: str | bytes, tmp_path: Path) -> None:
    assert refusal(write(tmp_path, content)).brief.endswith("is not YAML.")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "text", "3", "~"])
def test_what_is_not_a_mapping_is_refused(text: str, tmp_path: Path) -> None:
    assert "not a mapping" in refusal(write(tmp_path, text)).details


def test_a_file_nested_beyond_reason_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in refusal(write(tmp_path, "[" * 2_000)).details


def test_a_whole_environment_is_not_taken_for_a_configuration(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, "spack:\n  specs: [slurm]\n"))
    assert "to the top" in error.details


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("package", "Did you mean packages?"),
        ("configs:", "Did you mean config?"),
        ("include", "Supported sections: concretizer, config,"),
        ("view", "Supported sections: concretizer, config,"),
        ("\x1b" + "x" * 500, "Supported sections: concretizer, config,"),
    ],
)
def test_a_section_that_a_build_does_not_take_is_refused_with_the_nearest(
    key: str, said: str, tmp_path: Path
) -> None:
    error = refusal(write(tmp_path, yaml.safe_dump({key: {}})))
    assert error.details.startswith(said)
    assert len(error.brief) < len(str(tmp_path)) + 150


@pytest.mark.parametrize("sign", ["", ":", "+"])
def test_mirrors_which_offline_would_not_know_of_are_refused_and_the_settings_named(
    sign: str, tmp_path: Path
) -> None:
    mirrors = {f"mirrors{sign}": {"m": "https://me:secret@m.example"}}
    error = refusal(write(tmp_path, yaml.safe_dump(mirrors)))
    assert "SLURM_FACTORY_SOURCE_MIRRORS" in error.details
    assert "SLURM_FACTORY_SPACK_BUILDCACHES" in error.details


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "gone.yaml").details


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "Is a directory" in refusal(tmp_path).details


# --- repositories of recipes --------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["", ":", "+"])
def test_a_directory_that_no_instance_sees_is_refused_as_a_repository(
    sign: str, tmp_path: Path
) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "repo.yaml").touch()
    text = yaml.safe_dump({f"repos{sign}": {f"site{sign}": str(recipes)}})
    error = refusal(write(tmp_path, text))
    assert error.brief.endswith("contains a repository that instances do not see: 'site'.")
    assert f"{tmp_path} as /opt/slurm-factory-cache" in error.details


@pytest.mark.parametrize(
    "place",
    [
        *("~/recipes", "$HOME/recipes", "recipes", "/srv/recipes", "/opt/spack-of-ours/repos", ""),
        *("file:///srv/recipes", "https://git.example/recipes.git", "\0", "x" * 5000, None, 7),
        *("/opt/slurm-factory-cache/mistyped", "/opt/slurm-factory-cache/../../srv/recipes"),
    ],
    ids=repr,
)
def test_a_place_that_spack_would_go_on_without_is_refused_as_a_repository(
    place: object, tmp_path: Path
) -> None:
    assert "site" in refusal(write(tmp_path, yaml.safe_dump({"repos": {"site": place}}))).brief


def test_cache_directory_itself_is_refused_as_a_repository(tmp_path: Path) -> None:
    (tmp_path / "repo.yaml").touch()
    site = {"repos": {"site": "/opt/slurm-factory-cache/"}}
    assert "site" in refusal(write(tmp_path, yaml.safe_dump(site))).brief


def test_a_list_of_repositories_which_spack_drops_is_refused(tmp_path: Path) -> None:
    assert "list" in refusal(write(tmp_path, "repos: [/opt/slurm-factory-cache/site]\n")).brief


@pytest.mark.parametrize(
    "place",
    ["/opt/slurm-factory-cache/repos/site", "/opt/spack-packages/repos/x", "$spack/x"],
)
def test_a_repository_that_instances_see_is_left_to_spack(place: str, tmp_path: Path) -> None:
    site = tmp_path / "repos" / "site"
    site.mkdir(parents=True)
    (site / "repo.yaml").touch()
    text = yaml.safe_dump({"repos": {"site": place}})
    assert load_spack_config(write(tmp_path, text), tmp_path) == text


def test_repositories_that_spack_would_clone_are_known_but_for_those_that_are_ours() -> None:
    remote = {"git": "https://me:secret@git.example/recipes.git", "tag": "v1"}
    names = ("site", "more:", "builtin", "slurm_factory", "builtin:")
    config = {"repos:": dict.fromkeys(names, remote) | {"here": "/opt/x"}, "packages": {}}
    assert cloned_repositories(yaml.safe_dump(config)) == ("more", "site")
    assert cloned_repositories("") == cloned_repositories("repos: [/opt/x]") == ()


@pytest.mark.parametrize(
    "value",
    [
        *("2001-99-99", "!!int foo", "!!float x", "!!timestamp foo", "!!bool x"),
        *("!!int ''", "!!float ''", "2001-01-01T99:99:99", "!!python/name:os.system x"),
        "!!binary \u00fc",
    ],
)
def test_a_value_that_is_not_what_it_says_is_refused_with_its_place(
    value: str, tmp_path: Path
) -> None:
    error = refusal(write(tmp_path, f"config:\n  a: {value}\n"))
    assert "is not YAML" in error.brief
    assert error.details.startswith("Line 2, column 6: ")
