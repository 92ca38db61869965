"""Kernels on disk: found by the next process, never trusted blindly, never in the way of a result.

A cache that is broken, foreign or full costs time and one warning.
"""

import ctypes
import errno
import os
import stat
import tempfile
import warnings
from hashlib import sha256
from itertools import count
from pathlib import Path
from shutil import copytree, ignore_patterns

import numpy as np
import pytest
from child_processes import LAYER, ended, output, started

from convgrad.cpu import sources
from convgrad.cpu.jit import cache, compiler, modules

pytestmark = pytest.mark.skipif(compiler.unavailable() is not None, reason="no kernels here")
users = pytest.mark.skipif(not hasattr(os, "getuid"), reason="users are no numbers here")

# One module of IR: f(args, part, scratch) writes FACTOR·part into args[part].
KERNEL = """
define void @f(ptr %args, i64 %part, ptr %scratch) {
  %place = getelementptr i64, ptr %args, i64 %part
  %value = mul i64 %part, FACTOR
  store i64 %value, ptr %place
  ret void
}
"""
COUNTING = """
import warnings
from convgrad.cpu.jit import compiler
compiled, told = [], []
original = compiler.compile_text
def counting(text, where):
    compiled.append(text)
    return original(text, where)
compiler.compile_text = counting
warnings.simplefilter("always")
warnings.showwarning = lambda message, *_: told.append(str(message))
"""
FILL = "print(right(*layer()), right(*layer('float64')), len(compiled) > 0, told)"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An own folder; warnings that were given once may be given again."""
    place = tmp_path / "kernels"
    monkeypatch.setenv("CONVGRAD_CACHE_DIR", str(place))
    cache._warn.cache_clear()
    yield place
    cache._warn.cache_clear()


@pytest.fixture
def compiled(monkeypatch):
    """The texts that LLVM compiles."""
    texts, original = [], compiler.compile_text

    def counting(text, where):
        texts.append(text)
        return original(text, where)

    monkeypatch.setattr(compiler, "compile_text", counting)
    return texts


def works(factor=3):
    """Whether a kernel, taken from the cache or compiled, computes what its text says."""
    (address,) = modules.functions(KERNEL.replace("FACTOR", str(factor)), ("f",))
    result = np.full(4, -1, np.int64)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(address)
    for part in range(4):
        function(result.ctypes.data, part, None)
    return result.tolist() == [0, factor, 2 * factor, 3 * factor]


def told(action):
    """What the action returns, and the warnings that it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action()
    assert all(w.category is RuntimeWarning for w in caught)
    return result, [str(w.message) for w in caught]


def kept(folder):
    return sorted(folder.glob("*.kernel"))


def test_the_environment_names_the_folder(folder, monkeypatch, tmp_path):
    assert cache.folder() == folder
    monkeypatch.delenv("CONVGRAD_CACHE_DIR")
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.folder() == tmp_path / ".cache" / "convgrad"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache.folder() == tmp_path / "elsewhere" / "convgrad"
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    assert cache.folder() == tmp_path / "Library" / "Caches" / "convgrad"


def test_a_kernel_is_compiled_once_and_kept(folder, compiled):
    assert told(works) == (True, [])
    assert len(compiled) == len(kept(folder)) == 1
    assert told(works) == (True, [])
    assert len(compiled) == 1
    assert works(5)
    assert len(compiled) == len(kept(folder)) == 2
    assert sorted(os.listdir(folder)) == [path.name for path in kept(folder)]


@users
def test_the_folder_and_its_files_are_the_users_alone(folder):
    assert works()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept(folder)[0].stat().st_mode) == 0o600


def test_a_second_process_compiles_nothing(tmp_path):
    env = {"CONVGRAD_CACHE_DIR": str(tmp_path / "kernels")}
    before = LAYER + COUNTING
    assert output(FILL, before, **env) == "True True True []\n"
    assert output(FILL, before, **env) == "True True False []\n"


def test_the_name_depends_on_text_target_and_versions(monkeypatch, folder, compiled):
    assert works()
    where = compiler.target()
    for change in ("level", "triple", "cpu", "features"):
        other = compiler.Target(**(vars(where) | {change: "other"}))
        assert cache.key("text", repr(where)) != cache.key("text", repr(other))
    assert cache.key("ab", "c") != cache.key("a", "bc")
    monkeypatch.setattr(compiler, "PYTHON", "another")
    assert works()
    assert len(compiled) == len(kept(folder)) == 2


def test_modules_compiled_at_once_have_the_code_that_they_have_alone(folder, compiled):
    texts = [KERNEL.replace("FACTOR", str(factor)) for factor in range(10, 16)]
    alone = [[compiler.compile_text(text, compiler.target())] for text in texts]
    compiled.clear()
    several = [modules.Module((text,), lambda text=text: text) for text in texts]
    made = modules.made(several, 3)
    assert [one.codes for one in made] == alone
    assert not any(one.kept for one in made)
    assert sorted(compiled) == sorted(texts)
    modules.keep(made[2])
    again = modules.made(several, 3)
    assert [one.kept for one in again] == [number == 2 for number in range(6)]
    assert [one.codes for one in again] == alone


@pytest.mark.parametrize("threads", [1, 2, 20])
def test_what_llvm_says_of_one_of_several_modules_is_raised(folder, threads):
    texts = [KERNEL.replace("FACTOR", "17"), "define nonsense"]
    several = [modules.Module((text,), lambda text=text: text) for text in texts]
    with pytest.raises(RuntimeError, match="LLVM IR parsing error"):
        modules.made(several, threads)
    assert works(17)


# f calls two functions that are large enough to be compiled apart, and a small one.
CALLING = """
define void @f(ptr noalias %args, i64 %part, ptr noalias %scratch) {
  call void @one(ptr %args, i64 %part)
  call void @two(ptr %args, i64 %part)
  ret void
}
define internal void @one(ptr noalias %args, i64 %part) {
  %place = getelementptr i64, ptr %args, i64 %part
  %value = call i64 @llvm.smax.i64(i64 %part, i64 0)
ONE
  store i64 %value, ptr %place
  ret void
}
define internal void @two(ptr noalias %args, i64 %part) {
  %place = getelementptr i64, ptr %args, i64 %part
TWO
  call void @small(ptr %place)
  ret void
}
define internal void @small(ptr noalias %place) {
  %old = load i64, ptr %place
  %new = mul i64 %old, FACTOR
  store i64 %new, ptr %place
  ret void
}
declare i64 @llvm.smax.i64(i64, i64)"""


@pytest.mark.skipif("linux" not in compiler.target().triple, reason="compiled whole")
@pytest.mark.parametrize("threads", [1, 2])
def test_large_functions_are_compiled_apart_and_once(folder, compiled, threads):
    def module(factor, one, two):
        """Comments make its functions one and two large."""
        text = CALLING.replace("ONE", f"; {one}" * 9000).replace("TWO", f"; {two}" * 9000)
        text = text.replace("FACTOR", str(factor))
        return modules.Module((text,), lambda: text)

    def check(one, factor):
        (address,) = compiler.load_all(one.codes, ("f",))
        result = np.full(4, -1, np.int64)
        function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)(address)
        for part in range(4):
            function(result.ctypes.data, part, None)
        assert result.tolist() == [0, factor, 2 * factor, 3 * factor]

    a, b = 2 * threads, 2 * threads + 1  # other texts for other threads: a process remembers them
    first, second = modules.made([module(3, a, a), module(4, a, b)], threads)
    for one, factor in ((first, 3), (second, 4)):
        assert len(one.codes) == 3
        check(one, factor)
        modules.keep(one)
    # f and small twice, for they differ; two twice; one is the same in both.
    assert len(compiled) == 5
    compiled.clear()
    (third,) = modules.made([module(5, b, b)], threads)
    check(third, 5)
    assert len(compiled) == 2
    again = modules.made([module(3, a, a), module(4, a, b)], threads)
    assert [one.codes for one in again] == [first.codes, second.codes]
    assert all(one.kept for one in again)
    assert len(compiled) == 2


def test_without_llvmlites_inner_function_kernels_are_compiled_one_at_a_time(folder, monkeypatch):
    text = KERNEL.replace("FACTOR", "18")
    code = compiler.compile_text(text, compiler.target())
    monkeypatch.setattr(compiler, "_emit", lambda: None)
    assert compiler.compile_text(text, compiler.target()) == code


def test_a_kernel_from_the_cache_is_not_written_again(tmp_path):
    """Its name follows from sources, generator, element type and shape."""
    env = {"CONVGRAD_CACHE_DIR": str(tmp_path / "kernels")}
    text = """
    from convgrad.cpu import job, sources, trial
    written, write = [], job.Generator.text
    def counted(self, element, shape):
        written.append(self.name)
        return write(self, element, shape)
    job.Generator.text = counted
    if CHANGE:
        trial.DIGEST = CHANGE[0]
    print(right(*layer()), len(written) > 0, len(compiled) > 0)
    """
    kept = {}
    for change, new in ((), True), ((), False), (("another",), True), ((None,), True):
        got = output(text.replace("CHANGE", repr(change)), LAYER + COUNTING, **env)
        assert got == f"True {new} {new}\n"
        kept[change] = len(os.listdir(tmp_path / "kernels"))
    assert kept[()] < kept["another",] < kept[None,]
    # Without readable sources a name follows from the text, which is written first.
    got = output(text.replace("CHANGE", "(None,)"), LAYER + COUNTING, **env)
    assert got == "True True False\n"


def test_sources_that_cannot_be_read_have_no_digest(monkeypatch, tmp_path):
    whole = sources._digest()
    assert whole == sources.DIGEST
    copy = tmp_path / "cpu"
    copytree(Path(sources.__file__).parent, copy, ignore=ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "__file__", str(copy / "sources.py"))
    assert sources._digest() == whole
    changed = copy / "jit" / "language.py"
    changed.write_text(changed.read_text() + "\n")
    assert sources._digest() not in (whole, None)
    (copy / "sources.py").unlink()  # as where only bytecode is installed
    assert sources._digest() is None
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "package.zip" / "sources.py"))
    assert sources._digest() is None


DAMAGES = {
    "empty": lambda content: b"",
    "cut in the digest": lambda content: content[:20],
    "cut in the code": lambda content: content[:-100],
    "a digest alone": lambda content: content[:32],
    "another digest": lambda content: bytes(32) + content[32:],
    "a bit flipped": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "longer": lambda content: content + b"\0",
    "other bytes": lambda content: b"no kernel" * 500,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_compiled_anew_and_replaced(folder, compiled, damage):
    assert works()
    (path,) = kept(folder)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert told(works) == (True, [])
    assert len(compiled) == 2
    assert path.read_bytes() == content
    assert told(works) == (True, [])
    assert len(compiled) == 2


def test_a_folder_in_the_place_of_a_file_is_one_warning(folder, compiled):
    assert works()
    (path,) = kept(folder)
    path.unlink()
    path.mkdir()
    assert_works_without(folder, compiled, "kernels cannot be kept")


def assert_works_without(folder, compiled, sentence, calls=3):
    """Several kernels work, each is compiled in each call, and one warning says why."""
    compiled.clear()

    def all_work():
        return all(works(factor) for _ in range(calls) for factor in (3, 4))

    right, messages = told(all_work)
    assert right
    assert len(messages) == 1, messages
    assert sentence in messages[0]
    return len(compiled)


def test_a_file_in_the_place_of_the_folder(folder, compiled):
    folder.write_text("a file")
    assert assert_works_without(folder, compiled, "cannot be kept") == 6
    assert folder.read_text() == "a file"
    assert cache.usage() == cache.clear() == (0, 0)


def test_a_folder_below_a_file(folder, compiled, monkeypatch):
    folder.write_text("a file")
    monkeypatch.setenv("CONVGRAD_CACHE_DIR", str(folder / "below"))
    assert assert_works_without(folder, compiled, "cannot be kept") == 6


def refuse(monkeypatch, number):
    """As a file system would refuse: the temporary file cannot be made."""

    names = count()  # a name of its own for each file, as mkstemp chooses them

    def mkstemp(**options):
        path = Path(options["dir"]) / f"tmp{next(names)}{options['suffix']}"
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_takes_no_file_is_one_warning(folder, compiled, monkeypatch, number):
    folder.mkdir(mode=0o700)
    refuse(monkeypatch, number)
    assert assert_works_without(folder, compiled, os.strerror(number)) == 6
    assert os.listdir(folder) == []


def test_kernels_in_a_read_only_folder_are_used(folder, compiled, monkeypatch):
    assert works(3)
    assert works(4)
    refuse(monkeypatch, errno.EROFS)
    compiled.clear()
    assert told(lambda: works(3) and works(4)) == (True, [])
    assert compiled == []


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(folder, compiled, monkeypatch):
    original = os.fdopen

    class Full:
        def __init__(self, *args):
            self.file = original(*args)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, content):
            self.file.write(content[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdopen", Full)
    assert assert_works_without(folder, compiled, os.strerror(errno.ENOSPC)) == 6
    assert os.listdir(folder) == []


def test_no_home_is_one_warning(folder, compiled, monkeypatch):
    for name in ("CONVGRAD_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    assert assert_works_without(folder, compiled, "home directory") == 6


@users
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_is_not_used(folder, compiled, mode):
    assert works(3)
    folder.chmod(mode)
    # The kernel that lies there is not run, though its digest is right.
    swap(kept(folder)[0])
    assert assert_works_without(folder, compiled, str(folder)) == 6
    assert len(kept(folder)) == 1


def swap(path):
    """Put a kernel that multiplies by 8 in the place of one, with the digest that belongs to it."""
    code = compiler.compile_text(KERNEL.replace("FACTOR", "8"), compiler.target())
    mode = path.stat().st_mode
    content = len(code).to_bytes(8, "little") + code
    path.write_bytes(sha256(content).digest() + content)
    path.chmod(mode)


@users
@pytest.mark.parametrize("mode", [0o660, 0o606, 0o622])
def test_a_file_that_others_can_write_is_not_used_but_replaced(folder, compiled, mode):
    assert works()
    (path,) = kept(folder)
    swap(path)
    path.chmod(mode)
    right, messages = told(works)
    assert right
    assert len(messages) == 1
    assert str(path) in messages[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    compiled.clear()
    assert told(works) == (True, [])
    assert compiled == []


def test_the_swapped_kernel_would_have_been_run(folder):
    assert works()
    swap(kept(folder)[0])
    assert not works()


@users
def test_what_another_user_owns_is_not_used(folder, compiled, monkeypatch):
    assert works()
    swap(kept(folder)[0])
    before = [path.read_bytes() for path in kept(folder)]
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    assert assert_works_without(folder, compiled, str(folder)) == 6
    assert [path.read_bytes() for path in kept(folder)] == before


def test_a_platform_without_users_uses_the_folder(folder, compiled, monkeypatch):
    monkeypatch.delattr(os, "getuid", raising=False)
    assert works()
    assert told(works) == (True, [])
    assert len(compiled) == 1


def test_processes_fill_it_at_once(tmp_path):
    env = {"CONVGRAD_CACHE_DIR": str(tmp_path / "kernels")}
    before = LAYER + COUNTING
    with started(FILL, before, **env) as one, started(FILL, before, **env) as two:
        assert ended(one).startswith("True True")
        assert ended(two).startswith("True True")
    names = os.listdir(tmp_path / "kernels")
    assert names
    assert all(name.endswith(".kernel") for name in names)
    assert output(FILL, before, **env) == "True True False []\n"


def test_the_oldest_kernels_make_room(folder, compiled, monkeypatch):
    assert works(3)
    each = kept(folder)[0].stat().st_size
    monkeypatch.setattr(cache, "MOST_BYTES", 3 * each + each // 2)
    for age, factor in enumerate((3, 4, 5)):
        before = set(kept(folder)) if factor > 3 else set()
        assert works(factor)
        (path,) = set(kept(folder)) - before
        os.utime(path, (1000 + age, 1000 + age))
    third, names = factor, {path: path.stat().st_mtime for path in kept(folder)}
    assert works(6)
    number, size = cache.usage()
    assert number == 3
    assert size <= cache.MOST_BYTES
    oldest = min(names, key=lambda path: names[path])
    assert oldest not in kept(folder)
    compiled.clear()
    assert works(third)
    assert compiled == []
    assert works(3)
    assert len(compiled) == 1


def test_usage_counts_and_clear_deletes_kernels_only(folder):
    assert cache.usage() == cache.clear() == (0, 0)
    assert works(3)
    assert works(4)
    other = folder / "notes.part"
    other.write_text("not a kernel")
    left = folder / "tmpabc.kernel.part"  # of a process that was killed
    left.write_bytes(b"half")
    size = sum(path.stat().st_size for path in kept(folder)) + 4
    assert cache.usage() == (3, size)
    assert cache.clear() == (3, size)
    assert os.listdir(folder) == ["notes.part"]
    assert cache.usage() == (0, 0)
    assert works(3)


def test_a_file_that_another_process_deletes_meanwhile_is_no_error(folder, monkeypatch):
    assert works(3)
    assert works(4)
    gone, original = kept(folder)[0], Path.stat

    def vanished(self, **options):
        if self == gone:
            gone.unlink(missing_ok=True)
        return original(self, **options)

    monkeypatch.setattr(Path, "stat", vanished)
    assert cache.usage()[0] == 1
    assert told(lambda: works(5)) == (True, [])
    assert cache.clear()[0] == 2
