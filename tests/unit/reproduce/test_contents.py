"""Why two files differ, in words."""

import gzip
import struct
import subprocess

import pytest

from slurm_factory.reproduce.contents import why_different


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real program with sections."""
    source = tmp_path_factory.mktemp("elf") / "main.c"
    source.write_text('const char text[] = "a long text"; int main(void) { return 7; }\n')
    made = source.with_suffix("")
    subprocess.run(["gcc", "-g", "-Wl,--build-id", "-o", made, source], check=True)
    return made.read_bytes()


@pytest.mark.parametrize(
    ("name", "a", "b", "why"),
    [
        ("x.conf", b"one\ntwo\n", b"one\n2\n", 'text, line 2: "two" → "2"'),
        ("x.conf", b"one\n", b"one\ntwo", 'text, line 2: "" → "two"'),
        ("x.conf", b"one", b"one\ntwo", 'text, line 2: nothing → "two"'),
        ("x.conf", b"\x1b[2J", b"b", 'text, line 1: "\\x1b[2J" → "b"'),
        ("x.bin", b"\0abc", b"\0abd", "first at byte 3 of 4"),
        ("x.bin", b"\0abc", b"\0abcd", "first at byte 4 of 4 and 5"),
        ("x.bin", b"\xff", b"\0", "first at byte 0 of 1"),
        ("x.pyc", bytes(16) + b"code", b"1" * 16 + b"code", "time or size of its source"),
        ("x.pyc", bytes(16) + b"code", bytes(16) + b"CODE", "Python's bytecode: code"),
    ],
)
def test_the_reason_is_named(name: str, a: bytes, b: bytes, why: str) -> None:
    assert why in why_different(name, a, b)


def test_the_first_byte_is_found_anywhere() -> None:
    content = bytes(10_000)
    for place in (0, 1, 4999, 5000, 9998, 9999):
        changed = content[:place] + b"\1" + content[place + 1 :]
        assert f"first at byte {place:,} of 10,000" in why_different("x", content, changed)


def test_a_changed_byte_of_a_program_is_in_its_section(program: bytes) -> None:
    changed = program.replace(b"a long text", b"a wrong one")
    assert why_different("bin/x", program, changed).startswith("ELF: .rodata; first at byte")


def test_another_build_id_is_told(program: bytes) -> None:
    note = program.index(b"GNU\0", program.index(b"\x03\0\0\0GNU\0")) + 4
    changed = program[:note] + bytes(4) + program[note + 4 :]
    assert "ELF: .note.gnu.build-id;" in why_different("bin/x", program, changed)


def test_headers_of_a_program_alone(program: bytes) -> None:
    changed = program[:9] + b"\7" + program[10:]
    assert "ELF: headers, or bytes between sections; first at byte 9" in why_different(
        "bin/x", program, changed
    )


@pytest.mark.parametrize("length", [4, 20, 64, 200])
def test_a_damaged_program_is_no_obstacle(program: bytes, length: int) -> None:
    assert "ELF: " in why_different("bin/x", program, program[:length])


def test_a_program_of_endless_sections_is_not_read(program: bytes) -> None:
    """Each section of a hostile file may be the whole file."""
    table = struct.unpack_from("<Q", program, 40)[0]
    count = struct.unpack_from("<H", program, 60)[0]
    hostile = bytearray(program)
    for number in range(1, count):
        struct.pack_into("<I", hostile, table + 64 * number + 4, 1)
        struct.pack_into("<QQ", hostile, table + 64 * number + 24, 0, len(program))
    assert "cannot be read" in why_different("bin/x", program, bytes(hostile))


def test_compressed_files_are_looked_into() -> None:
    a, b = gzip.compress(b"one", mtime=1), gzip.compress(b"one", mtime=2)
    assert "in another way; the same content" in why_different("man.1.gz", a, b)
    c = gzip.compress(b"two", mtime=1)
    assert 'in it: text, line 1: "one" → "two"' in why_different("man.1.gz", a, c)
    assert "compressed by gzip; first at byte" in why_different("man.1.gz", a, a[:-3])


def test_what_is_compressed_again_and_again_is_not_followed() -> None:
    content = b"x"
    for _ in range(2000):
        content = gzip.compress(content, compresslevel=0, mtime=0)
    other = gzip.compress(content, mtime=0)
    assert "compressed by gzip; first" in why_different("x.gz", content, other)
