"""Settings: where they come from, in which order, and what is said about wrong ones."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_factory.config import (
    Effective,
    EffectiveSettings,
    Settings,
    effective_settings,
    load_settings,
    settings_file,
    unknown_variables,
)
from slurm_factory.exceptions import ConfigurationError

FROM_ENVIRONMENT: dict[str, tuple[str, object]] = {
    "project_name": ("lab", "lab"),
    "cache_dir": ("/scratch/factory", Path("/scratch/factory")),
    "cpu_limit": ("6", 6),
    "memory_limit": ("8GiB", "8GiB"),
    "process_limit": ("500", 500),
    "ccache_size": ("2.5GB", "2.5GB"),
    "glibc": ("2.34", "2.34"),
    "source_mirrors": ("https://a.example/x", ("https://a.example/x",)),
    "debian_mirror": ("http://deb.example/debian", "http://deb.example/debian"),
    "ubuntu_ports_mirror": ("http://p.example/ports", "http://p.example/ports"),
    "ubuntu_mirror": ("http://ubu.example/ubuntu", "http://ubu.example/ubuntu"),
    "image_server": ("false", False),
    "refuse_vulnerable": ("true", True),
    "store": ("s3://packages/slurm", "s3://packages/slurm"),
    "debian_tracker": ("/srv/tracker.json", "/srv/tracker.json"),
    "slurm_url": ("https://h.example/slurm.git", "https://h.example/slurm.git"),
    "catalogues": (
        "/srv/a.json https://h.example/b.json",
        ("/srv/a.json", "https://h.example/b.json"),
    ),
    "remote": ("farm", "farm"),
    "target": ("@fast", "@fast"),
    "remote_shared_dir": ("/srv/shared", Path("/srv/shared")),
    "ca_certificates": ("/etc", Path("/etc")),
    "download_timeout": ("2.5", 2.5),
    "spack_url": ("https://git.example/spack", "https://git.example/spack"),
    "spack_ref": ("develop", "develop"),
    "spack_packages_url": ("/srv/spack-packages", "/srv/spack-packages"),
    "spack_packages_ref": ("a" * 40, "a" * 40),
    "spack_target": ("zen4", "zen4"),
    "spack_config": ("/srv/site.yaml", Path("/srv/site.yaml")),
    "spack_base_packages": ("libpmix-dev", ("libpmix-dev",)),
    "spack_buildcaches": ("https://b.example/x", ("https://b.example/x",)),
    "spack_buildcache_keys": (__file__, Path(__file__)),
    "spack_unsigned_buildcaches": ("true", True),
    "builder_id": ("https://ci.example.org/slurm", "https://ci.example.org/slurm"),
    "sign_key": ("Alice <alice@example.org>", "Alice <alice@example.org>"),
    "trusted_keys": ("/dev", Path("/dev")),
    "trusted_identities": ("https://github.com/a/b", ("https://github.com/a/b",)),
    "sigstore_root": ("/etc/passwd", Path("/etc/passwd")),
    "require_signature": ("true", True),
    "events_file": ("/srv/events", Path("/srv/events")),
    "matrix_cells": ("3", 3),
    "matrix_cores": ("8", 8),
    "matrix_memory": ("8GiB", "8GiB"),
    "matrix_disk": ("80GB", "80GB"),
    "matrix_cell_limit": ("60", 60.0),
    "spack_buildcache_publish": ("oci://ghcr.io/me/cache", "oci://ghcr.io/me/cache"),
}
NO_STRINGS = {
    *("cpu_limit", "image_server", "download_timeout", "spack_unsigned_buildcaches"),
    *("refuse_vulnerable", "matrix_cells", "matrix_cores", "matrix_cell_limit"),
}
"""Settings that have no quotation marks in the file."""
ONE_OF_EACH_KIND = (
    *("project_name", "cache_dir", "cpu_limit", "memory_limit", "source_mirrors", "image_server"),
    *("debian_mirror", "download_timeout", "spack_url", "spack_ref", "spack_config"),
)


def write_settings(text: str) -> Path:
    path = settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(**overrides: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**overrides)
    assert len(str(caught.value).splitlines()) == 3
    return caught.value


def perhaps_refused() -> ConfigurationError | None:
    try:
        load_settings()
    except ConfigurationError as error:
        return error
    return None


def test_these_tests_know_every_setting() -> None:
    assert FROM_ENVIRONMENT.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", FROM_ENVIRONMENT)
def test_every_setting_is_read_from_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, value = FROM_ENVIRONMENT[name]
    assert getattr(load_settings(), name) != value
    monkeypatch.setenv(f"SLURM_FACTORY_{name.upper()}", text)
    assert getattr(load_settings(), name) == value


@pytest.mark.parametrize("name", FROM_ENVIRONMENT)
def test_every_setting_is_read_from_the_file(name: str) -> None:
    text, value = FROM_ENVIRONMENT[name]
    literal = text if name in NO_STRINGS else f'"{text}"'
    write_settings(f"{name} = {literal}\n")
    assert getattr(load_settings(), name) == value


def test_command_line_beats_environment_and_environment_beats_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_settings('project_name = "file"\ncpu_limit = 3\n')
    assert load_settings().project_name == "file"
    monkeypatch.setenv("SLURM_FACTORY_PROJECT_NAME", "environment")
    assert load_settings(project_name=None).project_name == "environment"
    assert load_settings(project_name="line").project_name == "line"
    assert load_settings().cpu_limit == 3


def test_the_older_name_of_the_project_is_still_read_and_yields_to_the_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IF_PROJECT_NAME", "old")
    assert load_settings().project_name == "old"
    monkeypatch.setenv("SLURM_FACTORY_PROJECT_NAME", "new")
    assert load_settings().project_name == "new"


def test_variables_without_the_prefix_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "7")
    assert load_settings() == Settings.model_construct(
        cache_dir=Path.home() / ".slurm-factory",
        **{
            name: field.default
            for name, field in Settings.model_fields.items()
            if name != "cache_dir"
        },
    )


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_FACTORY_CPU_LIMIT", "")
    monkeypatch.setenv("SLURM_FACTORY_SOURCE_MIRRORS", "")
    assert load_settings().cpu_limit is None
    assert load_settings().source_mirrors == ()


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example/x file:///mnt/y",
        "https://a.example/x,file:///mnt/y",
        " https://a.example/x ,\n file:///mnt/y, ",
        '["https://a.example/x", "file:///mnt/y"]',
    ],
)
def test_several_mirrors_may_stand_in_one_variable(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_SOURCE_MIRRORS", text)
    assert load_settings().source_mirrors == ("https://a.example/x", "file:///mnt/y")


def test_mirrors_may_be_a_list_in_the_file() -> None:
    write_settings('source_mirrors = ["https://a.example/x", "file:///mnt/y"]\n')
    assert load_settings().source_mirrors == ("https://a.example/x", "file:///mnt/y")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SOURCE_MIRRORS", "ftp://a.example"),
        ("SOURCE_MIRRORS", "https://a.example/$(id)"),
        ("SOURCE_MIRRORS", '["https://a.example"'),
        ("DEBIAN_MIRROR", "http://a.example/' main"),
        ("MEMORY_LIMIT", "8G"),
        ("MEMORY_LIMIT", "0GiB"),
        ("CCACHE_SIZE", "5GB; id"),
        ("CPU_LIMIT", "0"),
        ("CPU_LIMIT", "many"),
        ("PROCESS_LIMIT", "99"),
        ("IMAGE_SERVER", "perhaps"),
        ("DOWNLOAD_TIMEOUT", "nan"),
        ("DOWNLOAD_TIMEOUT", "inf"),
        ("DOWNLOAD_TIMEOUT", "0"),
        ("CACHE_DIR", "/a\nb"),
        ("CA_CERTIFICATES", "/a\rb"),
        ("CACHE_DIR", "~nobody-of-this-name/x"),
        ("PROJECT_NAME", "a b"),
        ("PROJECT_NAME", "../default"),
    ],
)
def test_a_wrong_value_is_refused_and_its_variable_named(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SLURM_FACTORY_{name}", text)
    error = refused()
    assert name.lower() in error.brief
    assert text.split(maxsplit=1)[0].strip('"[]') in error.brief or "MIRRORS" in name
    assert error.resolution == f"Correct SLURM_FACTORY_{name}."


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("SPACK_URL", "git@git.example:spack.git", "or an absolute path of a directory"),
        ("SPACK_REF", "v1 0", "a tag or a branch"),
        ("SPACK_TARGET", "x86-64-v3", "such as x86_64_v3"),
        ("SPACK_BUILDCACHES", "/srv/cache", "begins with https://, file://, s3:// or oci://"),
        ("SPACK_BUILDCACHE_PUBLISH", "https://b.example/x", "begins with file://, s3:// or oci://"),
        ("SIGN_KEY", "--version", "does not begin with -"),
        ("SPACK_BASE_PACKAGES", "libpmix-dev;id", "A package name"),
        ("MEMORY_LIMIT", "8G", "Write 8GiB."),
        ("MEMORY_LIMIT", "512 mb", "Write 512MiB."),
        ("CCACHE_SIZE", "2.5Ti", "Write 2.5TiB."),
        ("MEMORY_LIMIT", "1.5GiB", "write 1536MiB."),
        ("MEMORY_LIMIT", "1.5g", "write 1536MiB."),
        ("MEMORY_LIMIT", "2.5 TB", "write 2560GiB."),
        ("MEMORY_LIMIT", "1.3GB", "write 1300MB."),
        ("MEMORY_LIMIT", "1.5KiB", "write 2KiB."),
        ("MEMORY_LIMIT", "9999999999TiB", "larger than the memory of any machine"),
        ("CACHE_DIR", "http://me:pa55@host/x", "not a URL"),
        ("CCACHE_SIZE", "all", "such as 8GiB"),
        ("CPU_LIMIT", "many", "It must be a whole number."),
        ("PROCESS_LIMIT", "99", "It must be 100 or more."),
        ("DOWNLOAD_TIMEOUT", "0", "It must be more than 0."),
        ("DOWNLOAD_TIMEOUT", "inf", "It must not be nan or inf."),
        ("IMAGE_SERVER", "perhaps", "Write true or false."),
        ("SOURCE_MIRRORS", "[1", "separate the entries with spaces"),
        ("SOURCE_MIRRORS", "ftp://a.example", "begins with http://"),
        ("PROJECT_NAME", "1a", "letters, digits and dashes"),
    ],
)
def test_a_wrong_value_is_answered_in_words_and_not_with_a_pattern(
    name: str, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SLURM_FACTORY_{name}", text)
    details = refused().details
    assert said in details
    assert not {"^", "Value error"} & set(details.split())
    assert "pattern" not in details


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_a_wrong_value_in_the_file_is_answered_in_words_of_this_program(name: str) -> None:
    for literal in ("8", "2.5", "nan", "true", "1979-05-27", "[[]]", "{}", '"\\t"'):
        path = write_settings(f"{name} = {literal}\n")
        error = perhaps_refused()
        assert not error or not {"Input", "input", "valid", "parse"} & set(error.details.split())
        assert not error or error.resolution == f"Correct {name} in {path}."


def test_a_size_without_its_unit_in_the_file_is_shown_how_to_write_one() -> None:
    write_settings("memory_limit = 8\n")
    assert "such as 8GiB; in the file, put it in quotation marks." in refused().details


def test_a_wrong_value_of_the_command_line_is_to_be_corrected_there() -> None:
    assert refused(project_name="a b").resolution == "Correct --project-name."


@pytest.mark.parametrize(
    "variable", ["SLURM_FACTORY_PROJECT_NAME", "slurm_factory_project_name", "IF_PROJECT_NAME"]
)
def test_a_wrong_value_is_to_be_corrected_where_it_was_found(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_settings('project_name = "1"\n')
    monkeypatch.setenv("SLURM_FACTORY_CPU_LIMIT", "2")
    assert refused().resolution == f"Correct project_name in {path}."
    monkeypatch.setenv(variable, "a b")
    assert refused().resolution == f"Correct {variable}."


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("ca_certificates", "/none/such", "No such file or directory."),
        ("ca_certificates", __file__, "It is not a directory."),
        ("spack_buildcache_keys", "/none/such", "No such file or directory."),
        ("spack_buildcache_keys", "/etc", "It is not a file."),
    ],
)
def test_a_file_that_a_setting_names_and_that_is_not_there_is_refused(
    name: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SLURM_FACTORY_{name.upper()}", value)
    error = refused()
    assert (name in error.brief, value in error.brief) == (True, True)
    assert error.details.startswith(why)
    assert error.resolution == f"Correct SLURM_FACTORY_{name.upper()}."


def test_the_directory_of_certificates_need_not_be_there_when_nobody_named_it(
    close_to_us: Callable[[Path], None],
) -> None:
    directory = load_settings().ca_certificates
    close_to_us(directory)
    assert load_settings().ca_certificates == directory
    refused(ca_certificates=directory)


def test_a_directory_in_place_of_the_settings_file_is_refused() -> None:
    settings_file().mkdir(parents=True)
    error = refused()
    assert str(settings_file()) in error.brief
    assert error.details == "Is a directory."


@pytest.mark.parametrize("key", ["IF_PROJECT_NAME", "SLURM_FACTORY_PROJECT_NAME", "CPU_LIMIT"])
def test_names_of_variables_are_not_keys_of_the_file(key: str) -> None:
    write_settings(f'{key} = "x"\n')
    assert f"There is no setting {key} " in refused().brief


def test_variables_that_look_like_settings_and_are_none_are_found() -> None:
    environ = {
        "SLURM_FACTORY_CPU_LIMITS": "3",
        "SLURM_FACTORY_XYZZY": "",
        "SLURM_FACTORY_SPACK_URLS": "x",
        "SLURM_FACTORY_CPU_LIMIT": "3",
        "slurm_factory_cache_dir": "/x",
        "SLURM_FACTORY_TESTS_REQUIRE_LXD": "1",
        "SLURM_CONF": "/etc/slurm/slurm.conf",
    }
    assert unknown_variables(environ) == {
        "SLURM_FACTORY_CPU_LIMITS": "SLURM_FACTORY_CPU_LIMIT",
        "SLURM_FACTORY_XYZZY": "",
        "SLURM_FACTORY_SPACK_URLS": "SLURM_FACTORY_SPACK_URL",
    }


def test_an_unknown_key_of_the_file_is_refused_and_the_nearest_named() -> None:
    path = write_settings('cpulimit = 3\nproject_name = "x"\n')
    error = refused()
    assert (str(path) in error.brief, "cpulimit" in error.brief) == (True, True)
    assert error.details == "Did you mean cpu_limit?"


@pytest.mark.parametrize("text", ["1.5GiB", "1.5g", "0.5GiB", "2.5TB", "1.1kB", "8G", "7 mb"])
def test_a_size_that_is_advised_is_accepted(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_FACTORY_MEMORY_LIMIT", text)
    advised = re.search(r"[Ww]rite (\w+)\.|such as (\w+)", refused().details)
    assert advised
    monkeypatch.setenv("SLURM_FACTORY_MEMORY_LIMIT", advised[1] or advised[2])
    assert load_settings().memory_limit


def test_a_file_that_is_nested_too_deeply_is_refused() -> None:
    path = write_settings(f"spack_url = {'[' * 50_000}")
    assert (refused().brief, refused().details) == (
        f"The settings file {path} cannot be used.",
        "Its lists or tables are nested too deeply.",
    )


def test_a_list_in_a_variable_that_is_nested_too_deeply_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_SOURCE_MIRRORS", "[" * 50_000)
    assert "Its lists are nested too deeply." in refused().details


@pytest.mark.parametrize("name", ["cache_dir", "spack_config", "spack_url", "debian_mirror"])
@pytest.mark.parametrize("url", ["ftp://me:pa55@host", "http://me:a/pa55 @host", "me:pa55@host "])
def test_no_password_in_a_wrong_value_is_repeated(name: str, url: str) -> None:
    write_settings(f'{name} = "{url}\\n"\n')
    assert "pa55" not in str(refused())


def test_no_escape_sequence_in_a_key_is_repeated() -> None:
    write_settings('"\\u001b]0;x\\u0007http://me:pa55@host" = 1\n')
    assert all(line.isprintable() for line in str(refused()).splitlines())
    assert "pa55" not in str(refused())
    assert all(name.isprintable() for name in unknown_variables({"SLURM_FACTORY_\x1b[31m": ""}))


@pytest.mark.parametrize("text", ["cpu_limit = = 3\n", "cpu_limit\n", '[cache\ndir = "x"\n'])
def test_malformed_toml_is_refused_with_its_line(text: str) -> None:
    path = write_settings(text)
    error = refused()
    assert str(path) in error.brief
    assert "line 1" in error.details or "line 2" in error.details


def test_a_settings_file_that_is_not_text_is_refused() -> None:
    write_settings("").write_bytes(b"\xff\xfe\x00")
    assert "TOML" in refused().brief


def test_a_settings_file_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **_named: object) -> None:
        raise PermissionError(13, "Permission denied")

    write_settings("")
    monkeypatch.setattr("pydantic_settings.TomlConfigSettingsSource.__init__", denied)
    assert "Permission denied" in refused().details


def test_a_value_of_the_wrong_type_in_the_file_is_refused() -> None:
    path = write_settings('cpu_limit = "many"\n')
    assert str(path) in refused().resolution


def test_the_settings_file_lies_where_xdg_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings_file() == Path.home() / ".config/slurm-factory/config.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings_file() == tmp_path / "slurm-factory/config.toml"


@pytest.mark.parametrize(
    "url",
    [
        *("https://git.example/spack.git", "http://me:word@git.example:8080/a/b", "file:///srv/s"),
        *("/srv/spack", "/srv/a directory with blanks"),
    ],
)
def test_spack_may_come_from_a_url_or_a_directory(url: str) -> None:
    assert load_settings(spack_url=url).spack_url == url


def test_a_tilde_in_the_directory_of_spack_means_the_home() -> None:
    assert load_settings(spack_url="~/spack").spack_url == str(Path.home() / "spack")


@pytest.mark.parametrize(
    "url",
    [
        *("", "spack", "./spack", "../spack", "ssh://git.example/spack", "git://git.example/spack"),
        *("-c", "--upload-pack=id", "https://", "https://a.example/$(id)", "https://a.example/ b"),
        *("https://a.example/\nb", "/srv/spack\n", "~nobody-has-this-name/spack", "ext::sh -c id"),
    ],
)
def test_what_is_neither_url_nor_directory_is_not_a_repository(url: str) -> None:
    assert "spack_packages_url" in refused(spack_packages_url=url).brief


@pytest.mark.parametrize("ref", ["v1.1.0", "develop", "releases/v1.1", "0" * 40, "a+b_c-d", "1"])
def test_a_tag_a_branch_and_a_commit_are_refs(ref: str) -> None:
    assert load_settings(spack_ref=ref).spack_ref == ref


@pytest.mark.parametrize(
    "ref",
    [
        *("", " ", "-v", "--all", "a..b", "a//b", "/a", "a/", "a.", "a.lock", "a b", "a\n", "a~1"),
        *("a^", "a:b", "a?", "a*", "[a", "a\\", "@{-1}", "$(id)", "../../etc", "ħ", "x" * 201),
    ],
)
def test_what_git_or_a_file_name_could_misread_is_not_a_ref(ref: str) -> None:
    assert "spack_ref" in refused(spack_ref=ref).brief


@pytest.mark.parametrize("target", ["", "x86_64:", "zen4,zen5", "zen 4", "-m", "Zen4", "zen4\n"])
def test_a_target_is_one_plain_name(target: str) -> None:
    assert "spack_target" in refused(spack_target=target).brief


def test_a_tilde_in_the_cache_directory_means_the_home() -> None:
    assert load_settings(cache_dir="~/cache").builds_dir == Path.home() / "cache/builds"


def test_every_directory_has_a_place_of_its_own_in_the_cache() -> None:
    settings = load_settings(cache_dir="/c")
    directories = [
        *(settings.builds_dir, settings.source_cache_dir, settings.buildcache_dir),
        *(settings.spack_checkouts_dir, settings.spack_misc_dir, settings.spack_locks_dir),
        *(settings.ccache_dir, settings.images_dir, settings.logs_dir, settings.work_dir),
    ]
    assert {directory.parent for directory in directories} == {Path("/c")}
    assert len(set(directories)) == len(directories)


# --- where each setting comes from ----------------------------------------------------------------


def by_name(found: EffectiveSettings) -> dict[str, Effective]:
    return {each.name: each for each in found.settings}


def test_each_setting_tells_what_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_settings('glibc = "2.34"\ncpu_limit = 3\n')
    monkeypatch.setenv("SLURM_FACTORY_GLIBC", "2.31")
    monkeypatch.setenv("IF_PROJECT_NAME", "old")
    monkeypatch.setenv("SLURM_FACTORY_CCACHE_SIZE", "")
    found = by_name(effective_settings())
    assert found["glibc"] == Effective("glibc", "2.31", "environment", "SLURM_FACTORY_GLIBC")
    assert found["cpu_limit"] == Effective("cpu_limit", 3, "file", str(path))
    assert found["project_name"].where == "IF_PROJECT_NAME"
    assert found["ccache_size"] == Effective("ccache_size", "5GB", "default", "")
    given = by_name(effective_settings(project_name="lab"))["project_name"]
    assert given == Effective("project_name", "lab", "command line", "--project-name")


def test_effective_settings_are_those_that_commands_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, (text, _) in FROM_ENVIRONMENT.items():
        monkeypatch.setenv(f"SLURM_FACTORY_{key.upper()}", text)
    found, settings = by_name(effective_settings()), load_settings()
    assert {key: each.value for key, each in found.items()} == {
        key: getattr(settings, key) for key in Settings.model_fields
    }
    assert {each.source for each in found.values()} == {"environment"}


def test_all_that_is_wrong_is_told_at_once_and_the_rest_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_settings(
        'cpu_limit = 0\nmemory_limt = "8GiB"\nfoo = 1\nglibc = "2.34"\n'
        'source_mirrors = ["http://h/x", "nope", "neither"]\n'
    )
    monkeypatch.setenv("SLURM_FACTORY_CA_CERTIFICATES", "/none")
    found = effective_settings(project_name="a b")
    settings = by_name(found)
    assert {key for key, each in settings.items() if each.problem} == {
        *("project_name", "cpu_limit", "source_mirrors", "ca_certificates"),
    }
    assert (settings["cpu_limit"].value, settings["cpu_limit"].where) == (0, str(path))
    assert settings["source_mirrors"].value == "nope"
    assert settings["glibc"] == Effective("glibc", "2.34", "file", str(path))
    assert [each.brief for each in found.unknown] == [
        f"There is no setting memory_limt (in {path}).",
        f"There is no setting foo (in {path}).",
    ]
    assert len(found.problems) == 6
    assert all(len(str(problem).splitlines()) == 3 for problem in found.problems)
    assert str(refused(project_name="a b")) in map(str, found.problems)


@pytest.mark.parametrize(
    "text", ["me:secret@host/x", "http://me:secret@host/a b", "http://me:se'cret@host/"]
)
def test_a_wrong_value_does_not_show_its_password(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SLURM_FACTORY_DEBIAN_MIRROR", text)
    found = by_name(effective_settings())["debian_mirror"]
    assert found.problem
    assert "cret" not in f"{found.value}{found.problem}"


def test_wrong_values_of_any_size_and_kind_stay_short() -> None:
    write_settings(f"glibc = [{', '.join(['[[]]'] * 10_000)}]\nspack_ref = 1979-05-27\n")
    found = by_name(effective_settings())
    assert len(str(found["glibc"].value)) < 200
    assert found["spack_ref"].problem


@pytest.mark.parametrize("name", ["glibc", "SLURM_FACTORY_GLIBC", "GLIBC"])
def test_a_setting_is_found_by_its_name_and_by_its_variable(name: str) -> None:
    (one,) = effective_settings(only=[name, "glibc"]).settings
    assert one.name == "glibc"


def test_the_old_variable_of_the_project_is_a_name_too() -> None:
    assert by_name(effective_settings(only=["IF_PROJECT_NAME"])).keys() == {"project_name"}


@pytest.mark.parametrize("name", ["glib", "", "memory-limit", "SLURM_FACTORY_"])
def test_a_name_of_no_setting_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        effective_settings(only=[name])
    assert "slurm-factory settings" in caught.value.resolution


def test_a_file_that_is_not_toml_is_refused_as_by_every_command() -> None:
    write_settings("a = = b")
    with pytest.raises(ConfigurationError) as caught:
        effective_settings()
    assert str(caught.value) == str(refused())
