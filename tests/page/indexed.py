"""What a server with an index answers, in the browser's place of it: songs of the studio by their frequency."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Page as Tab
    from playwright.sync_api import Route

SONGS = [f"file:many/song {number:03}.wav" for number in range(60)]
TAGS = ["guitar", "vocal", "flute"]


def name_of(song: str) -> str:
    return song.rpartition("/")[2]


def found(number: int, score: float) -> dict[str, Any]:
    song = SONGS[number]
    row = {"song": song, "name": name_of(song), "similarity": score, "seconds": 1.0}
    return row | {"tags": [["guitar", 0.9], ["vocal", 0.05]]}


def share(tag: str, number: int) -> float:
    """Guitar falls with the frequency, flute rises."""
    return {"guitar": 1 - number / 60, "vocal": 0.2, "flute": number / 60}[tag]


def search(query: dict[str, str]) -> dict[str, Any]:
    tag = query["q"].partition(",")[0]
    order = sorted(range(60), key=lambda number: -share(tag, number))
    page, count = int(query.get("page", 1)), int(query["count"])
    songs = [found(number, share(tag, number)) for number in order[(page - 1) * count : page * count]]
    return {"total": 60, "page": page, "pages": -(-60 // count), "songs": songs}


def similar(query: dict[str, str]) -> dict[str, Any]:
    return {"songs": [found(number, 1 - number / 100) for number in range(1, int(query["count"]) + 1)]}


def duplicates(query: dict[str, str]) -> dict[str, Any]:
    pair = [{"song": song, "name": name_of(song), "bytes": 16_000, "seconds": 1.0} for song in SONGS[:2]]
    return {"groups": [pair]}


def song_map(query: dict[str, str]) -> dict[str, Any]:
    if "tag" in query:
        return {
            "tag": query["tag"],
            "probabilities": [round(255 * share(query["tag"], number)) for number in range(60)],
        }
    bend = 2 if query["method"] == "pca" else 3
    points = [[number / 60, (number / 60) ** bend] for number in range(60)]
    names = [name_of(song) for song in SONGS]
    top = [0 if number < 30 else 2 for number in range(60)]
    return {"method": query["method"], "points": points, "songs": SONGS, "names": names, "tags": TAGS, "top": top}


def tag_map(query: dict[str, str]) -> dict[str, Any]:
    return {"tags": TAGS, "groups": ["instrument", "voice", "instrument"], "points": [[0, 0], [0.1, 0], [1, 1]]}


ANSWERS = {
    "/api/search": search,
    "/api/similar": similar,
    "/api/duplicates": duplicates,
    "/api/map": song_map,
    "/api/tag-map": tag_map,
}


def answer_from_an_index(tab: Tab) -> list[str]:
    """Answer the tab's questions to the index. Returns a list to which they are added: address and body."""
    asked: list[str] = []

    def answer(route: Route) -> None:
        address = urlsplit(route.request.url)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        asked.append(f"{address.path}?{address.query}")
        if query.get("q", "").startswith("gitar"):
            route.fulfill(status=400, json={"error": "the index has no tag ‘gitar’; did you mean ‘guitar’?"})
            return
        route.fulfill(json=ANSWERS[address.path](query))

    def state(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"index": {"model": "ears", "files": 60, "stale": 2}})

    def playlist(route: Route) -> None:
        body = json.loads(route.request.post_data or "")
        asked.append(f"/api/playlist {body['name']}")
        route.fulfill(body="#EXTM3U\n" + "\n".join(body["songs"]) + "\n", content_type="audio/x-mpegurl")

    for path in ANSWERS:
        tab.route(f"**{path}?*", answer)
        tab.route(f"**{path}", answer)
    tab.route("**/api/state", state)
    tab.route("**/api/playlist", playlist)
    return asked
