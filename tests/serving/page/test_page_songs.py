from __future__ import annotations

import io
import json
import os
import socket
import time
import unicodedata
import wave
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import soundfile as sf
from page_server import Listener, Page, listening_models, local_access, running_page, write_song

from preprocessing.errors import BadInputError
from serving.page.app import Settings
from serving.page.folder import Folder

SECRET = b"RIFF, nobody's business"


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of songs, with what must not be given out in it and beside it."""
    base = tmp_path_factory.mktemp("songs")
    music = base / "music"
    for path in ("rock/Über uns.wav", "rock/live/one two.flac", "jazz/50% of #1?.ogg", "Top.wav"):
        write_song(music / path)
    (music / "rock" / "broken.mp3").write_bytes(b"ID3 but not music" * 50)
    (music / "empty.mp3").touch()
    (music / "notes.txt").write_bytes(SECRET)
    write_song(music / ".hidden.wav")
    write_song(music / ".git" / "in.wav")
    (base / "outside.wav").write_bytes(SECRET)
    (base / "music2").mkdir()
    (base / "music2" / "outside.wav").write_bytes(SECRET)
    (music / "link.wav").symlink_to(base / "outside.wav")
    (music / "linked").symlink_to(base / "music2")
    (music / "to notes.wav").symlink_to(music / "notes.txt")
    (music / "to hidden.wav").symlink_to(music / ".hidden.wav")
    (music / "to hidden folder").symlink_to(music / ".git")
    (music / "again.wav").symlink_to(music / "Top.wav")
    (music / "round").symlink_to(music)
    os.mkfifo(music / "pipe.wav")
    (music / "folder.wav").mkdir()
    (music / os.fsdecode(b"caf\xe9.wav")).write_bytes((music / "Top.wav").read_bytes())
    return music


@pytest.fixture(scope="module")
def page(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    models = listening_models(tmp_path_factory.mktemp("models"), Listener())
    with running_page(Settings(models, local_access(), Folder(music))) as page:
        yield page


def test_folder_is_listed_without_what_is_hidden_or_lies_elsewhere(page: Page) -> None:
    found = page.client.get("/api/files").json()
    assert [file["song"] for file in found["files"]] == [
        "file:Top.wav",
        "file:again.wav",
        "file:caf\udce9.wav",
        "file:empty.mp3",
        "file:jazz/50% of #1?.ogg",
        "file:pipe.wav",
        "file:rock/broken.mp3",
        "file:rock/live/one two.flac",
        "file:rock/Über uns.wav",
    ]
    assert found["total"] == 9
    assert found["pages"] == 1
    assert found["folders"] == ["jazz", "rock"]
    assert page.client.get("/api/state").json()["files"] == 9


def test_files_are_searched_by_all_words_in_any_case_and_paged(page: Page) -> None:
    get = page.client.get
    assert [file["name"] for file in get("/api/files?query=LIVE+two").json()["files"]] == ["one two.flac"]
    assert [file["name"] for file in get("/api/files?query=ÜBER").json()["files"]] == ["Über uns.wav"]
    below = get("/api/files?folder=rock&size=2&page=2").json()
    assert [file["song"] for file in below["files"]] == ["file:rock/Über uns.wav"]
    assert (below["total"], below["pages"], below["folders"]) == (3, 2, ["rock/live"])
    assert get("/api/files?folder=roc").json()["total"] == 0
    assert get("/api/files?size=0").status_code == 400
    assert get("/api/files?page=1&page=2").status_code == 400


def test_accents_are_found_however_a_system_writes_them(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        write_song(tmp_path / "music" / unicodedata.normalize(form, f"Café {form}.wav"), 1)
    with running_page(
        Settings(listening_models(tmp_path, Listener()), local_access(), Folder(tmp_path / "music"))
    ) as page:
        for form in ("NFC", "NFD"):
            words = unicodedata.normalize(form, "CAFÉ")
            assert page.client.get("/api/files", params={"query": words}).json()["total"] == 2


HOSTILE = [
    "../outside.wav", "rock/../../outside.wav", "..", ".", "", "/", "//", "/etc/passwd", "./Top.wav",
    "rock//Über uns.wav",
    "%2e%2e/outside.wav", "..%2foutside.wav", "%252e%252e%252foutside.wav", "..\\outside.wav",
    "rock\\..\\..\\outside.wav",
    "Top.wav\0.mp3", "Top.wav\0", "\0", "link.wav", "linked/outside.wav", "to notes.wav", "to hidden.wav",
    "to hidden folder/in.wav", "notes.txt", "notes.txt/", "notes.txt/.wav", ".hidden.wav", ".git/in.wav", ".git/config",
    "folder.wav", "rock", "rock/", "Top.wav/", "Top.wav/.", "TOP.WAV", "file:Top.wav", "file:///etc/passwd",
    "file:../outside.wav", "../music2/outside.wav", "../music/Top.wav", "round/../Top.wav", "round/../../outside.wav",
    "~/x.wav", "~root/x.wav", "/proc/self/environ", "/dev/zero", "con.wav", "nul",
    "a" * 300 + ".wav", "a/" * 3000 + "b.wav",
    "\u2025/outside.wav", "\uff0e\uff0e/outside.wav", "..;/outside.wav", "Top.wav?x=.mp3", "Top.wav#.mp3", "Top.wav ",
    "..%c0%afoutside.wav", "\udcff.wav", "${HOME}/x.wav", "`id`.wav", "Top.wav\n", "http://localhost/x.wav",
]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE, ids=range(len(HOSTILE)))
def test_no_file_is_given_out_that_is_not_a_song_of_the_folder(page: Page, path: str) -> None:
    song = quote("file:" + path, safe="", errors="surrogateescape")
    for address in ("/api/audio?song=", "/api/audio?decoded=1&song=", "/api/peaks?song=", "/api/corrections?song="):
        answer = page.client.get(address + song)
        assert answer.status_code in (404, 414), (address, path)
        assert SECRET not in answer.content
        assert set(answer.json()) == {"error"}
    body = json.dumps({"song": "file:" + path, "models": [], "hop": None})
    answer = page.client.post("/api/tag", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404)


@pytest.mark.parametrize("song", ["", "Top.wav", "upload:", "upload:../x", "upload:.lock", "FILE:Top.wav", "song:1"])
def test_song_of_no_known_form_is_not_there(page: Page, song: str) -> None:
    assert page.client.get("/api/audio", params={"song": song}).status_code == 404


@pytest.mark.parametrize(
    "target",
    ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/..\\app.py", "/static//etc/passwd",
     "/static/%252e%252e/app.py", "/../../etc/passwd", "/static/", "/static", "/static/%00", "//etc/passwd",
     "/static/....//app.py", "/api/../app.py", "/static/.", "/static/index.html/../../app.py"],
)  # fmt: skip
def test_no_address_leads_to_files_beside_the_pages_own(page: Page, target: str) -> None:
    """As bytes on a socket: clients tidy such addresses before they send them."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 404, 405), answer[:200]
    assert b"create_app" not in answer
    assert b"root:" not in answer


def test_song_that_a_link_in_the_folder_leads_to_is_given_out(page: Page, music: Path) -> None:
    assert page.client.get("/api/audio?song=file:again.wav").content == (music / "Top.wav").read_bytes()
    assert page.client.get("/api/audio?song=file:round/Top.wav").status_code == 200


def test_name_that_is_not_utf8_is_carried_there_and_back(page: Page, music: Path) -> None:
    (song,) = [file["song"] for file in page.client.get("/api/files?query=caf").json()["files"]]
    assert song == "file:caf\udce9.wav"
    answer = page.client.get("/api/audio?song=file:caf%E9.wav")
    assert answer.content == (music / "Top.wav").read_bytes()
    lines = page.client.post(
        "/api/tag",
        content=b'{"song": "file:caf\\udce9.wav", "models": ["' + _model(page).encode() + b'"]}',
        headers={"content-type": "application/json"},
    ).text.splitlines()
    assert json.loads(lines[-1]) == {"type": "end"}


def _model(page: Page) -> str:
    return str(page.client.get("/api/models").json()[0]["name"])


def test_pasted_path_of_a_song_is_found_in_many_forms(page: Page, music: Path) -> None:
    path = music / "rock" / "Über uns.wav"
    forms = [
        str(path),
        f'"{path}"',
        f"'{path}' ",
        path.as_uri(),
        "rock/Über uns.wav",
        f"{music}/jazz/../rock/Über uns.wav",
    ]
    for form in forms:
        answer = page.client.post("/api/paths", json={"path": form})
        assert answer.json() == {"song": "file:rock/Über uns.wav", "name": "Über uns.wav"}, form


def test_pasted_path_outside_tells_nobody_whether_it_is_there(page: Page, music: Path) -> None:
    words = set()
    for path in (music.parent / "outside.wav", music.parent / "none.wav", Path("/etc/passwd"), Path("/none"),
                 music / "link.wav", music / "linked" / "outside.wav", music / "linked" / "none.wav",
                 Path("~root/a.wav"),
                 music / ".." / "music2" / "outside.wav", Path("../outside.wav")):  # fmt: skip
        answer = page.client.post("/api/paths", json={"path": str(path)})
        assert answer.status_code == 403, path
        words.add(answer.json()["error"])
    assert words == {"that is not in the folder that the page was started with"}
    assert page.client.post("/api/paths", json={"path": str(music / "none.wav")}).status_code == 404
    assert page.client.post("/api/paths", json={"path": ""}).status_code == 400


@pytest.mark.parametrize(
    "text", ["\\ud800.wav", "file:///\\ud800.wav", "file://{}/%00.wav", "file://{}/a%00.wav", "file:", "''"]
)
def test_pasted_text_that_is_no_path_is_refused_in_words(page: Page, music: Path, text: str) -> None:
    content = f'{{"path": "{text.format(music)}"}}'.encode()
    answer = page.client.post("/api/paths", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code in (400, 403), "fail" in answer.text) == (True, False), answer.text


def test_pasted_path_does_not_tell_who_has_an_account(page: Page) -> None:
    answers = [page.client.post("/api/paths", json={"path": f"~{name}/a.wav"}) for name in ("root", "nobody-at-all")]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].json() == answers[1].json()


def test_bytes_are_given_in_ranges(page: Page, music: Path) -> None:
    data = (music / "Top.wav").read_bytes()

    def ask(header: str) -> httpx.Response:
        return page.client.get("/api/audio?song=file:Top.wav", headers={"range": header})

    part = ask("bytes=100-199")
    assert (part.status_code, part.content) == (206, data[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(data)}"
    assert ask("bytes=-5").content == data[-5:]
    assert ask("bytes=40000-999999").content == data[40000:]
    for whole in ("bytes=0-1,5-6", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=9-3", "bytes=" + "0-," * 500):
        assert (ask(whole).status_code, ask(whole).content) == (200, data), whole
    beyond = ask(f"bytes={len(data)}-")
    assert beyond.status_code == 416
    assert f"{len(data):,} bytes" in beyond.json()["error"]
    assert page.client.get("/api/audio?song=file:Top.wav").headers["content-type"] == "audio/wav"
    head = page.client.head("/api/audio?song=file:Top.wav")
    assert (head.headers["content-length"], head.content) == (str(len(data)), b"")


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_file_that_is_swapped_for_a_link_after_it_was_found_is_not_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    music, outside = tmp_path / "music", tmp_path / "outside"
    song = write_song(music / "in" / "a.wav", 1)
    secret = write_song(outside / "a.wav", 2)
    find = Folder.find

    def swap(folder: Folder, path: str) -> Path:
        found = find(folder, path)
        if swapped == "file":
            song.unlink()
            song.symlink_to(secret)
        else:
            song.parent.rename(music / "was")
            song.parent.symlink_to(outside)
        return found

    with running_page(Settings(listening_models(tmp_path, Listener()), local_access(), Folder(music))) as page:
        assert page.client.get("/api/audio?song=file:in/a.wav").content == song.read_bytes()
        monkeypatch.setattr(Folder, "find", swap)
        answer = page.client.get("/api/audio?song=file:in/a.wav")
        assert (answer.status_code, answer.json()) == (404, {"error": "the song is no longer there"})


def test_what_autotag_heard_is_a_wav_file_of_one_channel(page: Page) -> None:
    answer = page.client.get("/api/audio?decoded=1&song=file:rock/live/one two.flac")
    with wave.open(io.BytesIO(answer.content)) as heard:
        assert (heard.getframerate(), heard.getnchannels(), heard.getsampwidth()) == (16_000, 1, 2)
        assert heard.getnframes() == 5 * 16_000
    part = page.client.get("/api/audio?decoded=1&song=file:rock/live/one two.flac", headers={"range": "bytes=44-143"})
    assert part.content == answer.content[44:144]


def test_outline_has_the_peaks_of_the_song(page: Page, music: Path) -> None:
    levels = np.repeat([0.1, 0.8, 0.0, 0.4], 8_000) * np.sin(2 * np.pi * 220 * np.arange(32_000) / 8_000)
    sf.write(music / "steps.wav", levels.astype(np.float32), 8_000)
    outline = page.client.get("/api/peaks?song=file:steps.wav&count=4").json()
    assert outline["seconds"] == 4
    assert outline["peaks"] == pytest.approx([0.1, 0.8, 0.0, 0.4], abs=0.02)
    assert len(page.client.get("/api/peaks?song=file:steps.wav&count=3000").json()["peaks"]) == 3000


@pytest.mark.parametrize("path", ["rock/broken.mp3", "empty.mp3", "pipe.wav"])
def test_file_that_cannot_be_heard_is_an_error_in_words(page: Page, path: str) -> None:
    for address in ("/api/peaks?song=file:", "/api/audio?decoded=1&song=file:"):
        answer = page.client.get(address + path)
        assert answer.status_code in (404, 422)
        assert path.rpartition("/")[2] in answer.json()["error"]
        assert "/tmp" not in answer.text


def test_new_files_are_listed_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.page.folder.FRESH_SECONDS", 0.0)
    folder = Folder(tmp_path)
    assert folder.listing().files == ()
    write_song(tmp_path / "a.wav")
    for _ in range(200):
        if folder.listing().files:
            break
        time.sleep(0.01)
    else:
        pytest.fail("never listed")
    assert folder.listing().files == ("a.wav",)


def test_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none: no such file or directory"):
        Folder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="not a directory"):
        Folder(tmp_path / "file")


def test_page_without_a_folder_says_so(tmp_path: Path) -> None:
    with running_page(Settings(listening_models(tmp_path, Listener()), local_access())) as page:
        assert page.client.get("/api/state").json()["folder"] is None
        for answer in (page.client.get("/api/files"), page.client.get("/api/audio?song=file:a.wav")):
            assert answer.status_code == 404
            assert "autotag page FOLDER" in answer.json()["error"]
