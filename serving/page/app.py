"""The page's server: which address is answered by what. docs/how-to/page.md says what it does.

Songs are named by texts (serving.page.songs), models by those of their list. Everything is JSON but audio, tags as they
are heard (NDJSON) and playlists; errors are ``{"error": sentence}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from preprocessing.audio.ffmpeg import find_ffmpeg
from preprocessing.errors import AutotagError, BadInputError, ClipError
from preprocessing.names import lossless
from serving.model_info import code_version
from serving.page.answers import JsonAnswer, PageError, Query, error_answer, read_body
from serving.page.audio import HeardFiles, Outlines, media_type
from serving.page.corrections import Corrections
from serving.page.finding import Finder
from serving.page.folder import Folder
from serving.page.leaderboards import Leaderboards
from serving.page.models import Models
from serving.page.safety import Access, Guard
from serving.page.songs import FILE, UPLOAD, Song, Songs
from serving.page.tagging import MOST_MODELS, SongTagger, TagGroup
from serving.page.uploads import Limits, Uploads
from serving.page.work import Check, GoneError, Workers
from serving.tagging.tagged_files import TaggedFile

STATIC: Final = Path(__file__).with_name("static")
SWEEP_SECONDS: Final = 30.0
MOST_PEAKS: Final = 8_000
MOST_ON_A_PAGE: Final = 500
MOST_FOUND: Final = 200
MOST_IN_PLAYLIST: Final = 10_000
MOST_PLAYLIST_BYTES: Final = 8 << 20
LONGEST_NAME: Final = 100
DECODED_AT_ONCE: Final = 2
READ_AT_ONCE: Final = 2
FOUND_AT_ONCE: Final = 4
MADE_AT_ONCE: Final = 2
"""Maps and duplicates, which take long where they are not kept yet: searches need not wait for them."""
MOST_WAITING: Final = 64
"""Requests for one kind of work that may wait."""
_RANGE: Final = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})", re.ASCII)
IN_WORDS: Final = {
    404: "there is nothing at this address",
    405: "this address does not take that method",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What a page is made of.

    Attributes:
        models: that can be asked.
        access: who may ask.
        folder: the library; None for none.
        group: of each tag, such as ``instrument``.
        corrections: where people's marks are kept; None for nowhere.
        leaderboards: comparisons and runs; None for none.
        index: file of the folder's index, whether it is there yet or not; None for none.
        limits: of what people bring.
        temporary: where what they bring lies; None for the system's place.
    """

    models: Models
    access: Access
    folder: Folder | None = None
    group: TagGroup = lambda tag: "other"
    corrections: Corrections | None = None
    leaderboards: Leaderboards | None = None
    index: Path | None = None
    limits: Limits = field(default_factory=Limits)
    temporary: Path | None = None


def create_app(settings: Settings) -> ASGIApp:
    """Return the application (ASGI)."""
    return Guard(_Page(settings).app(), settings.access)


class _Page:
    """The routes and what they share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tagger = SongTagger(settings.models, settings.group, self._shown)
        self.finder = _finder(settings, self.tagger)
        self.uploads = Uploads(settings.limits, settings.temporary)
        self.songs = Songs(settings.folder, self.uploads)
        self.outlines, self.heard = Outlines(), HeardFiles(self.uploads.folder)
        self.decoders = Workers(DECODED_AT_ONCE, MOST_WAITING)
        self.finders = Workers(FOUND_AT_ONCE, MOST_WAITING)
        self.makers = Workers(MADE_AT_ONCE, MOST_WAITING)
        self.readers = Workers(READ_AT_ONCE, MOST_WAITING)

    def app(self) -> Starlette:
        """Return the routes with their handlers of errors."""
        routes = [
            Route("/", self.index),
            Route("/favicon.svg", self.icon),
            Route("/api/state", self.state),
            Route("/api/files", self.files),
            Route("/api/uploads", self.upload, methods=["POST"]),
            Route("/api/paths", self.path, methods=["POST"]),
            Route("/api/audio", self.audio),
            Route("/api/peaks", self.peaks),
            Route("/api/models", self.models),
            Route("/api/tag", self.tag, methods=["POST"]),
            Route("/api/similar", self.similar),
            Route("/api/search", self.search),
            Route("/api/duplicates", self.duplicates),
            Route("/api/playlist", self.playlist, methods=["POST"]),
            Route("/api/map", self.map),
            Route("/api/tag-map", self.tag_map),
            Route("/api/leaderboard", self.leaderboard),
            Route("/api/leaderboard/curve", self.curve),
            Route("/api/corrections", self.marks, methods=["GET"]),
            Route("/api/corrections", self.mark, methods=["PUT"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        app = Starlette(
            routes=routes,
            lifespan=self.life,
            exception_handlers={
                HTTPException: _of_http,
                AutotagError: _of_page,
                ClientDisconnect: _of_gone,
                OSError: _of_system,
                Exception: _of_fault,
            },
        )
        app.router.redirect_slashes = False
        return app

    @contextlib.asynccontextmanager
    async def life(self, app: Starlette) -> AsyncIterator[None]:
        """Sweep while the server runs, and leave nothing behind."""
        ahead = Check()
        tasks = [asyncio.ensure_future(self._sweep()), asyncio.ensure_future(self._read_ahead(ahead))]
        try:
            yield
        finally:
            ahead.leave()
            for task in tasks:
                task.cancel()
            for workers in (self.decoders, self.finders, self.makers, self.readers):
                workers.close()
            self.tagger.close()
            self.uploads.close()
            if self.finder is not None:
                self.finder.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.uploads.sweep()

    async def _read_ahead(self, check: Check) -> None:
        """Read the leaderboards before somebody asks for them: it takes a while."""
        boards = self.settings.leaderboards
        if boards is not None:
            with contextlib.suppress(AutotagError):
                await anyio.to_thread.run_sync(boards.read, check, abandon_on_cancel=True)

    async def index(self, request: Request) -> Response:
        """The page itself."""
        return _static("index.html")

    async def icon(self, request: Request) -> Response:
        """Its icon."""
        return _static("favicon.svg")

    async def state(self, request: Request) -> Response:
        """What there is, and how much is taken."""
        Query(request)
        folder = self.songs.folder
        files = None if folder is None else len((await anyio.to_thread.run_sync(folder.listing)).files)
        return JsonAnswer(
            {
                "version": code_version(),
                "folder": None if folder is None else lossless(folder.name),
                "files": files,
                "index": None if self.finder is None else await anyio.to_thread.run_sync(self.finder.state),
                "leaderboards": self.settings.leaderboards is not None,
                "ffmpeg": find_ffmpeg() is not None,
                "limits": {
                    "upload_bytes": self.settings.limits.file_bytes,
                    "models_at_once": MOST_MODELS,
                },
                "corrections": None if self.settings.corrections is None else lossless(self.settings.corrections.file),
            }
        )

    async def files(self, request: Request) -> Response:
        """A page of the folder's songs."""
        query = Query(request, "query", "folder", "page", "size")
        page, size = query.integer("page", 1, 1, 1_000_000), query.integer("size", 50, 1, MOST_ON_A_PAGE)
        words, below = query.text("query", ""), query.text("folder", "")
        found = await anyio.to_thread.run_sync(self.songs.library().search, words, below, page, size)
        return JsonAnswer(
            {
                "total": found.total,
                "page": page,
                "pages": max(1, -(-found.total // size)),
                "folders": [lossless(folder) for folder in found.folders],
                "files": [
                    {
                        "song": FILE + lossless(file.path),
                        "name": lossless(file.path.rpartition("/")[2]),
                        "folder": lossless(file.path.rpartition("/")[0]),
                        "bytes": file.size,
                        "modified": round(file.modified),
                    }
                    for file in found.files
                ],
            }
        )

    async def upload(self, request: Request) -> Response:
        """Take a file."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/octet-stream":
            raise PageError(415, "a file is sent with the header Content-Type: application/octet-stream")
        length = request.headers.get("content-length", "")
        name = Query(request, "name").text("name", "")
        key, upload = await self.uploads.take(name, request.stream(), int(length) if length.isdigit() else None)
        return JsonAnswer(
            {
                "song": UPLOAD + key,
                "name": upload.name,
                "bytes": upload.size,
                "expires_seconds": round(self.settings.limits.seconds),
            },
            201,
        )

    async def path(self, request: Request) -> Response:
        """A song by its path on this machine."""
        text = (await read_body(request, "path")).text("path")
        path = await anyio.to_thread.run_sync(self.songs.library().pasted, text)
        return JsonAnswer({"song": FILE + lossless(path), "name": lossless(path.rpartition("/")[2])})

    async def audio(self, request: Request) -> Response:
        """A song's bytes, or what autotag heard of it as a WAV file."""
        query = Query(request, "song", "decoded")
        song = await anyio.to_thread.run_sync(self.songs.find, query.text("song"))
        if not query.integer("decoded", 0, 0, 1):
            return _Audio(request, song.path, media_type(song.name))
        path = await self.decoders.run(request, lambda check: self.heard.of(song, check))
        return _Audio(request, path, "audio/wav")

    async def peaks(self, request: Request) -> Response:
        """A song's outline."""
        query = Query(request, "song", "count")
        count = query.integer("count", 1200, 1, MOST_PEAKS)
        song = await anyio.to_thread.run_sync(self.songs.find, query.text("song"))
        outline = await self.decoders.run(request, lambda check: self.outlines.of(song, check))
        peaks = [round(float(peak), 4) for peak in outline.drawn(count)]
        return JsonAnswer({"seconds": round(outline.seconds, 3), "peaks": peaks})

    async def models(self, request: Request) -> Response:
        """All models' cards."""
        Query(request)
        return JsonAnswer(await anyio.to_thread.run_sync(self.settings.models.cards))

    async def tag(self, request: Request) -> Response:
        """What models hear in a song, as they hear it."""
        body = await read_body(request, "song", "models", "hop")
        names, hop = body.texts("models", 1, MOST_MODELS), body.seconds("hop")
        song = await anyio.to_thread.run_sync(self.songs.find, body.text("song"))
        await anyio.to_thread.run_sync(self.settings.models.find, *names)
        lines = self.tagger.open(song, list(dict.fromkeys(names)), hop)
        return StreamingResponse(lines, media_type="application/x-ndjson", headers={"x-accel-buffering": "no"})

    async def leaderboard(self, request: Request) -> Response:
        """Comparisons and runs."""
        Query(request)
        boards = self.settings.leaderboards
        if boards is None:
            return JsonAnswer({"boards": [], "runs": []})
        return JsonAnswer(await self.readers.run(request, boards.read))

    async def curve(self, request: Request) -> Response:
        """A tag's curves."""
        query, boards = Query(request, "board", "data", "row", "tag"), self.settings.leaderboards
        if boards is None:
            raise PageError(404, "the page was started without a comparison: autotag page --config FILE")
        place = query.text("board"), query.text("data"), query.text("row"), query.text("tag")
        return JsonAnswer(await self.readers.run(request, lambda check: boards.curve(*place, check)))

    def finding(self) -> Finder:
        """Return what finds.

        Raises:
            PageError: there is no folder.
        """
        if self.finder is None:
            raise PageError(404, "the page was started without a folder: autotag page FOLDER")
        return self.finder

    async def similar(self, request: Request) -> Response:
        """Songs that sound like a song."""
        query, finder = Query(request, "song", "second", "count", "tags"), self.finding()
        second, count = query.seconds("second"), query.integer("count", 10, 1, MOST_FOUND)
        tags = query.text("tags", "")
        song = await anyio.to_thread.run_sync(self.songs.find, query.text("song"))
        work = partial(finder.similar, song, second, count, tags)
        return JsonAnswer(await self.finders.run(request, work))

    async def search(self, request: Request) -> Response:
        """Songs by their tags."""
        query, finder = Query(request, "q", "count", "page"), self.finding()
        count, page = query.integer("count", 50, 1, MOST_ON_A_PAGE), query.integer("page", 1, 1, 1_000_000)
        words = query.text("q")
        return JsonAnswer(await self.finders.run(request, lambda check: finder.search(words, count, page)))

    async def duplicates(self, request: Request) -> Response:
        """Songs that are one recording."""
        Query(request)
        finder = self.finding()
        return JsonAnswer(await self.makers.run(request, lambda check: finder.duplicates()))

    async def playlist(self, request: Request) -> Response:
        """Songs as a file for players."""
        body = await read_body(request, "songs", "name", most_bytes=MOST_PLAYLIST_BYTES)
        songs, name, finder = body.texts("songs", 1, MOST_IN_PLAYLIST), body.optional_text("name"), self.finding()
        content = await self.finders.run(request, lambda check: finder.playlist(songs))
        file = re.sub(r"[^\w .-]", "_", name or "", flags=re.ASCII).strip(" .")[:LONGEST_NAME] or "autotag"
        headers = {"content-disposition": f'attachment; filename="{file}.m3u8"'}
        return Response(content, media_type="audio/x-mpegurl", headers=headers)

    async def map(self, request: Request) -> Response:
        """Songs as points."""
        query, finder = Query(request, "method", "tag"), self.finding()
        method: Literal["pca", "tsne"] = "tsne" if query.text("method", "pca") == "tsne" else "pca"
        if query.text("method", "pca") != method:
            raise PageError(400, "the method is pca or tsne")
        tag = query.text("tag", "") or None
        return JsonAnswer(await self.makers.run(request, lambda check: finder.song_map(method, tag)))

    async def tag_map(self, request: Request) -> Response:
        """Tags as points."""
        Query(request)
        finder = self.finding()
        tags, points = await self.makers.run(request, lambda check: finder.tag_map())
        groups = [self.settings.group(tag) for tag in tags]
        return JsonAnswer({"tags": list(tags), "groups": groups, "points": points})

    def _shown(self, song: Song, model: str, tagged: TaggedFile) -> None:
        path, corrections = song.below_folder, self.settings.corrections
        if path is not None and corrections is not None:
            heard = [tagged.tags[number] for number in tagged.above.nonzero()[0]]
            corrections.show(path, model, heard)

    async def marks(self, request: Request) -> Response:
        """What people said of a song's tags."""
        song = await anyio.to_thread.run_sync(self.songs.find, Query(request, "song").text("song"))
        corrections = self.settings.corrections
        if corrections is None or song.below_folder is None:
            return JsonAnswer({"marks": {}})
        return JsonAnswer({"marks": await anyio.to_thread.run_sync(corrections.marks, song.below_folder)})

    async def mark(self, request: Request) -> Response:
        """Take what somebody says of a tag."""
        body = await read_body(request, "song", "tag", "mark", "model")
        said = body.text("tag"), body.optional_text("mark"), body.optional_text("model")
        song = await anyio.to_thread.run_sync(self.songs.find, body.text("song"))
        corrections = self.settings.corrections
        if corrections is None or song.below_folder is None:
            raise PageError(409, "corrections are kept of songs of the folder alone: put the song there, and start the "
                                 "page with that folder")  # fmt: skip
        return JsonAnswer({"marks": await anyio.to_thread.run_sync(corrections.mark, song.below_folder, *said)})


def _finder(settings: Settings, tagger: SongTagger) -> Finder | None:
    if settings.folder is None or settings.index is None:
        return None
    return Finder(settings.index, settings.folder.root, settings.models, tagger.turns)


class _Audio(FileResponse):
    """A file, or one range of its bytes; a header Range that is none, or has several, is passed over (RFC 9110, 14.2).

    Args:
        request: with the range.
        path: of the file, without links.
        media_type: what it is called.

    Raises:
        PageError: the file is not there, or does not have the range.
    """

    def __init__(self, request: Request, path: Path, media_type: str) -> None:
        try:
            status = self._status = path.stat()
        except OSError:
            raise PageError(404, "the song is no longer there") from None
        kept = {"cache-control": "private, no-cache"}
        super().__init__(path, media_type=media_type, stat_result=status, headers=kept)
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        first, last = asked.groups() if asked is not None else ("", "")
        self._ranged = bool(first or last) and not (first and last and int(last) < int(first))
        if self._ranged and first and int(first) >= status.st_size:
            raise PageError(416, f"the file has {status.st_size:,} bytes, and none from {int(first):,} on")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        headers = [(name, value) for name, value in scope["headers"] if self._ranged or name != b"range"]
        file = await anyio.to_thread.run_sync(self._open)
        try:
            self.path = f"/dev/fd/{file}"
            await super().__call__({**scope, "headers": headers}, receive, send)
        finally:
            os.close(file)

    def _open(self) -> int:
        """Open what was found at the path, and not what somebody has put there meanwhile."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            raise PageError(404, "the song is no longer there") from None
        place = f"/proc/self/fd/{file}"
        moved = os.path.islink(place) and os.readlink(place) != os.fspath(self.path)
        if moved or not os.path.samestat(os.fstat(file), self._status):
            os.close(file)
            raise PageError(404, "the song is no longer there")
        return file


def _static(name: str) -> Response:
    path = STATIC / name
    if not path.is_file():
        raise PageError(404, f"this installation of autotag has no {name}: install it again")
    return FileResponse(path, headers={"cache-control": "no-cache"})


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {"allow": error.headers["Allow"]} if error.headers and "Allow" in error.headers else None
    return error_answer(error.status_code, IN_WORDS.get(error.status_code, error.detail), headers)


async def _of_page(request: Request, error: Exception) -> Response:
    if isinstance(error, PageError):
        headers = None if error.retry_after is None else {"retry-after": str(error.retry_after)}
        return error_answer(error.status, str(error), headers)
    if isinstance(error, ClipError):
        return error_answer(422, error.detail)
    if isinstance(error, GoneError):
        return Response(status_code=499)
    return error_answer(400 if isinstance(error, BadInputError) else 500, str(error))


async def _of_gone(request: Request, error: Exception) -> Response:
    """Nobody is there to read it."""
    return Response(status_code=499)


async def _of_system(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return error_answer(500, f"the system says: {(error.strerror or str(error)).lower()}")


async def _of_fault(request: Request, error: Exception) -> Response:
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    return error_answer(500, f"autotag failed: {type(error).__name__}")
