"""Spack and its package recipes: fetched once, from git or a directory, or a clear error."""

import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from git_samples import (
    GitServer,
    commit,
    head,
    make_repository,
    page,
    run_git,
    served,
    status,
    write_files,
)

from slurm_factory.exceptions import (
    ConfigurationError,
    DownloadError,
    OutputError,
    SlurmFactoryError,
)
from slurm_factory.fetch import git as module
from slurm_factory.fetch import http
from slurm_factory.fetch.checkouts import fetch_checkouts, missing_checkouts
from slurm_factory.fetch.git import Git, fetch_ref
from slurm_factory.plan.base_setup import SpackRefs

SPACK = {"README": "Spack\n", "bin/spack": "#!/bin/sh\n", "lib/spack/a.py": "A = 1\n"}
RECIPES = {
    "README": "Recipes\n",
    "LICENSE-MIT": "MIT\n",
    ".github/x.yaml": "no recipe\n",
    "repos/spack_repo/builtin/repo.yaml": "repo:\n",
    "repos/spack_repo/builtin/packages/lz4/package.py": "class Lz4: pass\n",
}
PATIENCE = 5.0
REASONS = {
    "401 Unauthorized": "HTTP 401: user name and password are missing or wrong.",
    "403 Forbidden": "HTTP 403.",
    "404 Not Found": "HTTP 404: there is no git repository.",
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_PAUSE", 0)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "spack", SPACK)


@pytest.fixture
def server(repository: Path) -> Iterator[GitServer]:
    with served(repository) as server:
        yield server


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A plain directory with recipes."""
    write_files(tmp_path / "recipes", RECIPES)
    return tmp_path / "recipes"


@pytest.fixture
def refs(repository: Path, recipes: Path) -> SpackRefs:
    return SpackRefs(str(repository), "v1.1.0", str(recipes), "v2026.06.0")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache/spack-checkouts"


def fetched(refs: SpackRefs, cache: Path, said: list[str] | None = None) -> tuple[Path, Path]:
    lines = said if said is not None else []
    return fetch_checkouts(refs, cache, timeout=PATIENCE, warn=lines.append)


def refusal(refs: SpackRefs, cache: Path) -> SlurmFactoryError:
    with pytest.raises(SlurmFactoryError) as caught:
        fetched(refs, cache)
    assert [*cache.glob(".partial-*")] == [], "nothing half made is left"
    return caught.value


def content(archive: Path) -> dict[str, str]:
    """Paths with content, or the target of a link."""
    with tarfile.open(archive) as tar:
        return {m.name: m.linkname if m.issym() else read(tar, m) for m in tar}


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member)
    assert file is not None
    return file.read().decode()


def identity(archive: Path) -> str:
    return content(archive)[".slurm-factory-checkout"].strip()


# --- what is in the archives --------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["v1.1.0", "develop", "master", "refs/tags/v1.1.0"])
def test_a_tag_or_branch_of_a_repository_on_this_machine_becomes_an_archive(
    refs: SpackRefs, repository: Path, cache: Path, ref: str
) -> None:
    archive, _ = fetched(replace(refs, ref=ref), cache)
    assert content(archive) == {
        **SPACK,
        "link": "README",
        ".slurm-factory-checkout": f"git:{head(repository)}\n",
    }


@pytest.mark.parametrize("ref", ["v1.1.0", "develop"])
def test_a_tag_or_branch_of_a_repository_behind_a_url_becomes_the_same_archive(
    refs: SpackRefs, server: GitServer, cache: Path, ref: str
) -> None:
    [local, _] = fetched(refs, cache)
    [archive, _] = fetched(replace(refs, url=server.url, ref=ref), cache)
    assert archive != local
    assert content(archive) == content(local)


def test_a_commit_that_is_written_in_full_is_taken(
    refs: SpackRefs, repository: Path, server: GitServer, cache: Path
) -> None:
    whole = head(repository)
    for url in (str(repository), server.url):
        archive, _ = fetched(replace(refs, url=url, ref=whole), cache)
        assert identity(archive) == f"git:{whole}"


def test_history_does_not_come_over_the_network(
    repository: Path, server: GitServer, tmp_path: Path
) -> None:
    git = Git(tmp_path / "git", server.url, PATIENCE)
    fetched_commit = fetch_ref(git, "v1.1.0", print)
    assert fetched_commit == head(repository)
    assert run_git(tmp_path / "git", "rev-list", "--count", fetched_commit) == "1"


def test_bare_repositories_and_file_urls_are_repositories_too(
    refs: SpackRefs, repository: Path, cache: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare repository"
    run_git(repository, "clone", "--quiet", "--bare", str(repository), str(bare))
    for url in (str(bare), f"file://{tmp_path}/bare%20repository"):
        archive, _ = fetched(replace(refs, url=url), cache)
        assert identity(archive) == f"git:{head(repository)}"


def test_programs_stay_programs_and_nothing_is_set_uid_or_anybody_elses(
    refs: SpackRefs, cache: Path, recipes: Path
) -> None:
    (recipes / "LICENSE-MIT").chmod(0o4600)
    spack, packages = fetched(refs, cache)
    with tarfile.open(spack) as tar:
        assert tar.getmember("bin/spack").mode == 0o755
        assert tar.getmember("README").mode == 0o644
    with tarfile.open(packages) as tar:
        member = tar.getmember("LICENSE-MIT")
        assert (member.mode, member.uid, member.gid) == (0o644, 0, 0)


def test_of_the_recipes_only_what_a_build_reads_is_packed(refs: SpackRefs, cache: Path) -> None:
    _, archive = fetched(refs, cache)
    left_out = {".github/x.yaml", "README"}
    assert {*content(archive)} == {*RECIPES, ".slurm-factory-checkout"} - left_out


def test_a_plain_directory_is_known_by_the_checksum_of_what_is_in_it(
    refs: SpackRefs, cache: Path, recipes: Path
) -> None:
    before = identity(fetched(refs, cache)[1])
    write_files(recipes / "repos/__pycache__", {"package.pyc": "compiled"})
    (recipes / "repos/spack_repo/builtin/repo.yaml").touch()
    assert identity(fetched(replace(refs, packages_ref="2"), cache)[1]) == before
    write_files(recipes, {"repos/spack_repo/builtin/repo.yaml": "repo: {}\n"})
    assert identity(fetched(replace(refs, packages_ref="3"), cache)[1]) != before
    assert before.startswith("sha256:")


def test_unpacked_files_of_another_spack_are_taken_and_their_version_is_reported(
    refs: SpackRefs, cache: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    for version in ("1.0.2", "1.1.0"):
        own = {"lib/spack/spack/__init__.py": f'__version__ = "{version}"\n'}
        write_files(tmp_path / version, SPACK | own)
        fetched(replace(refs, url=str(tmp_path / version)), cache, said)
    assert said == [f"{tmp_path}/1.0.2: this is Spack 1.0.2; slurm-factory supports v1.1.0."]


def test_a_tree_that_was_unpacked_from_an_archive_can_be_packed_again(
    refs: SpackRefs, cache: Path, tmp_path: Path
) -> None:
    archive, _ = fetched(refs, cache)
    (tmp_path / "again").mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path / "again"], check=True)
    again, _ = fetched(replace(refs, url=str(tmp_path / "again")), cache)
    assert {*content(again)} == {*content(archive)}


# --- the cache ----------------------------------------------------------------------------------


def test_what_was_fetched_once_is_never_asked_for_again(
    refs: SpackRefs, repository: Path, cache: Path
) -> None:
    with served(repository) as server:
        wanted = replace(refs, url=server.url, ref="develop")
        assert len(missing_checkouts(wanted, cache)) == 2
        first = fetched(wanted, cache)
        assert missing_checkouts(wanted, cache) == []
        asked = len(server.requests)
        commit(repository, "three")
        assert fetched(wanted, cache) == first
        assert len(server.requests) == asked
    assert fetched(wanted, cache) == first


def test_another_ref_or_place_has_an_archive_of_its_own_but_not_another_user(
    refs: SpackRefs, cache: Path
) -> None:
    names = {
        missing_checkouts(replace(refs, url=url, ref=ref), cache)[0].name
        for url, ref in [("http://a/b", "1"), ("http://a/b", "2"), ("http://a/c", "1")]
    }
    assert len(names) == 3
    with_password = replace(refs, url="http://user:secret@a/b", ref="1")
    assert missing_checkouts(with_password, cache)[0].name in names


def test_two_builds_at_once_fetch_it_once(refs: SpackRefs, server: GitServer, cache: Path) -> None:
    wanted = replace(refs, url=server.url)
    threads = [threading.Thread(target=fetched, args=(wanted, cache)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([path for _, path, _ in server.requests if path.endswith("info/refs")]) == 2
    assert missing_checkouts(wanted, cache) == []


def test_a_cache_that_cannot_be_written_is_named(refs: SpackRefs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not be written") as caught:
        fetched(refs, tmp_path / "file/spack-checkouts")
    assert "SLURM_FACTORY_CACHE_DIR" in caught.value.resolution


# --- what goes wrong ----------------------------------------------------------------------------


def require_way_out(error: SlurmFactoryError, setting: str = "SLURM_FACTORY_SPACK_URL") -> None:
    assert isinstance(error, DownloadError)
    assert setting in error.resolution
    assert "--deps system" in error.resolution


def test_a_dead_port_is_reported_at_once_with_the_settings_that_help(
    refs: SpackRefs, cache: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refusal(replace(refs, url=f"http://127.0.0.1:{port}/spack.git"), cache)
    require_way_out(error)
    assert f"connect to 127.0.0.1 port {port}" in error.details
    error = refusal(replace(refs, packages_url=f"http://127.0.0.1:{port}/p.git"), cache)
    require_way_out(error, "SLURM_FACTORY_SPACK_PACKAGES_URL")


def test_a_server_that_never_answers_is_given_up_after_one_try(
    refs: SpackRefs, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/spack.git"
        said: list[str] = []
        with pytest.raises(DownloadError) as caught:
            fetched(replace(refs, url=url), cache, said)
    require_way_out(caught.value)
    assert "No answer within 0.5 s" in caught.value.details
    assert said == [], "another try would take as long again"


def test_no_way_of_not_being_there_takes_ten_seconds() -> None:
    assert module.ANSWER_SECONDS < 10


def test_a_machine_without_git_is_reported(
    refs: SpackRefs, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    error = refusal(refs, cache)
    require_way_out(error)
    assert error.details == "Git is not installed on this machine."


def test_a_hook_of_another_repository_does_not_lead_astray(
    refs: SpackRefs, repository: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    archive, _ = fetched(refs, cache)
    monkeypatch.undo()
    assert identity(archive) == f"git:{head(repository)}"


def test_attributes_of_the_repository_change_no_file(
    refs: SpackRefs, repository: Path, cache: Path
) -> None:
    write_files(repository, {".gitattributes": "*.py export-ignore\nREADME eol=crlf\n"})
    commit(repository, "three")
    archive, _ = fetched(replace(refs, ref="master"), cache)
    assert content(archive)["README"] == SPACK["README"]
    assert "lib/spack/a.py" in content(archive)


def test_a_proxy_of_the_environment_is_used(
    refs: SpackRefs, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    error = refusal(replace(refs, url="http://git.invalid/spack.git"), cache)
    require_way_out(error)
    assert f"127.0.0.1 port {port}" in error.details


@pytest.mark.parametrize("line", REASONS)
def test_an_answer_that_will_not_change_is_reported_and_not_asked_for_again(
    refs: SpackRefs, server: GitServer, cache: Path, line: str
) -> None:
    server.script = [status(line)]
    error = refusal(replace(refs, url=server.url), cache)
    require_way_out(error)
    assert error.details == REASONS[line]
    assert len(server.requests) == 1


def test_a_web_page_is_not_a_repository(refs: SpackRefs, server: GitServer, cache: Path) -> None:
    server.script = [page(b"<html>Sign in</html>")]
    error = refusal(replace(refs, url=server.url), cache)
    require_way_out(error)
    assert error.details == "There is no git repository."


def test_nonsense_that_calls_itself_git_causes_no_traceback(
    refs: SpackRefs, server: GitServer, cache: Path
) -> None:
    kind = "application/x-git-upload-pack-advertisement"
    for nonsense in (b"", b"0", b"zzzz", b"001e# service=git-upload-pack\n", b"\xff" * 99):
        server.script = [page(nonsense, kind)] * http.ATTEMPTS
        require_way_out(refusal(replace(refs, url=server.url), cache))


def test_a_server_that_is_overloaded_for_a_moment_is_asked_again(
    refs: SpackRefs, server: GitServer, cache: Path
) -> None:
    server.script = [status("503 Service Unavailable")] * 2
    said: list[str] = []
    fetched(replace(refs, url=server.url), cache, said)
    assert said == [f"{server.url}: HTTP 503."] * 2


def test_a_transfer_that_breaks_off_is_begun_again(
    refs: SpackRefs, server: GitServer, cache: Path
) -> None:
    fetched(replace(refs, url=server.url), cache)
    usual = len(server.requests)
    cut = page(b"0", "application/x-git-upload-pack-result", length=9999)
    server.script = [*[None] * (usual - 1), cut]
    said: list[str] = []
    fetched(replace(refs, url=server.url, ref="develop"), cache, said)
    assert len(said) == 1
    assert said[0].startswith(f"{server.url}: ")
    assert len(server.requests) > 2 * usual


@pytest.mark.parametrize("kind", ["path", "url"])
@pytest.mark.parametrize(
    ("ref", "details"),
    [
        ("v1.1", "Did you mean v1.1.0, v1.0?"),
        ("devel", "Did you mean develop?"),
        ("abcdef0", "Write a commit in full."),
        ("0" * 39 + "1", "Write a commit in full."),
    ],
)
def test_a_ref_that_is_not_there_is_refused_with_the_nearest(
    refs: SpackRefs, server: GitServer, cache: Path, kind: str, ref: str, details: str
) -> None:
    url = server.url if kind == "url" else refs.url
    error = refusal(replace(refs, url=url, ref=ref), cache)
    assert isinstance(error, ConfigurationError)
    assert ref in error.brief
    assert error.details == details
    assert error.resolution == "Correct SLURM_FACTORY_SPACK_REF."


def test_a_password_is_sent_and_never_shown(
    refs: SpackRefs, server: GitServer, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = server.url.replace("//", "//user:sec%20ret@")
    said: list[str] = []
    server.script = [
        status("503 Service Unavailable"),
        status("401 Unauthorized", WWW_Authenticate='Basic realm="git"'),
    ]
    assert "sec" not in " ".join(Git(tmp_path / "own", url, PATIENCE)._command("fetch"))
    started = tmp_path / "started"
    monkeypatch.setenv("GIT_TRACE", str(started))
    fetched(replace(refs, url=url), cache, said)
    monkeypatch.delenv("GIT_TRACE")
    assert "remote-http" in started.read_text(), "every program that git starts is in there"
    assert "sec%20ret" not in started.read_text()
    assert "sec ret" not in started.read_text()
    assert len(said) == 1
    assert "Basic dXNlcjpzZWMgcmV0" in {authorization for *_, authorization in server.requests}
    server.script = [status("404 Not Found")]
    error = refusal(replace(refs, url=url, ref="v1.0"), cache)
    assert "ret@" not in f"{error}{said}"


def test_a_directory_that_is_not_there_is_reported(refs: SpackRefs, cache: Path) -> None:
    error = refusal(replace(refs, url="/nowhere/spack"), cache)
    require_way_out(error)
    assert error.details == "/nowhere/spack: No such file or directory."


def test_another_repository_is_not_taken_for_spack(refs: SpackRefs, cache: Path) -> None:
    error = refusal(replace(refs, packages_url=refs.url, packages_ref=refs.ref), cache)
    assert isinstance(error, ConfigurationError)
    assert "repos/spack_repo/builtin/repo.yaml" in error.details
    assert error.resolution == "Correct SLURM_FACTORY_SPACK_PACKAGES_URL."


def test_a_directory_with_something_else_is_refused_before_it_is_read(
    refs: SpackRefs, cache: Path
) -> None:
    error = refusal(replace(refs, url="/"), cache)
    assert error.brief == "/ is not spack."


def test_a_damaged_repository_causes_no_traceback(
    refs: SpackRefs, repository: Path, cache: Path
) -> None:
    for file in repository.glob(".git/objects/??/*"):
        file.unlink()
    require_way_out(refusal(refs, cache))
    (repository / ".git").rename(cache.parent / "moved")
    (repository / ".git").mkdir()
    require_way_out(refusal(refs, cache))
