"""Files that change are noticed once, however they change; those that do not are not."""

from pathlib import Path

from service.watch import FileWatch


def test_a_file_that_stays_has_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one", encoding="utf-8")
    watch = FileWatch([path])
    assert not watch.has_changed()
    assert not watch.has_changed()


def test_a_file_that_is_replaced_has_changed_once(tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("one", encoding="utf-8")
    other.write_text("two", encoding="utf-8")
    watch = FileWatch([path])
    other.replace(path)
    assert watch.has_changed()
    assert not watch.has_changed()


def test_a_file_that_comes_or_goes_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    watch = FileWatch([path])
    path.write_text("one", encoding="utf-8")
    assert watch.has_changed()
    path.unlink()
    assert watch.has_changed()


def test_a_link_that_points_elsewhere_has_changed(tmp_path: Path) -> None:
    """As a Kubernetes Secret is replaced: the link to its folder is."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tls.crt").write_text("same", encoding="utf-8")
    data = tmp_path / "data"
    data.symlink_to("old")
    watch = FileWatch([data / "tls.crt"])
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").replace(data)
    assert watch.has_changed()
