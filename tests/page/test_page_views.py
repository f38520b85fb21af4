from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from boards import LABELS, scores
from studio import SONG, Studio, until

pytest.importorskip("playwright")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page as Tab


def test_two_models_stand_side_by_side_on_the_same_song(tab: Tab) -> None:
    tab.goto(f"/#/compare?song={SONG}")
    compare = tab.get_by_role("button", name="Compare on this song")
    expect(compare).to_be_disabled()
    tab.get_by_role("checkbox", name="models/ears").check()
    expect(tab.get_by_text("Choose one more to compare.")).to_be_visible()
    tab.get_by_role("checkbox", name="models/strict").check()
    compare.click()
    for model in ("models/ears", "models/strict"):
        panel = tab.get_by_role("region", name=model, exact=True)
        expect(panel).to_contain_text(re.compile(r"\d\.\d\d s for 0:20 of music"))
        expect(panel.locator("tag-gram canvas")).to_be_visible()
        expect(panel.locator(".tag", has_text="guitar")).to_contain_text("50 %")
    agreement = tab.get_by_role("region", name="Agreement of the models").locator("tbody tr").first
    expect(agreement.locator("td")).to_have_text(["3", "1 (33 %)", "none", "guitar, flute", "none"])


def test_models_are_listed_with_their_cards(tab: Tab) -> None:
    tab.goto("/#/compare")
    card = tab.locator(".model", has_text="models/strict")
    expect(card).to_contain_text("tones")
    expect(card).to_contain_text("ROC-AUC 0.750")
    expect(card).to_contain_text("test")
    card.get_by_text("Licence").click()
    expect(card).to_contain_text("CC0")
    expect(tab.get_by_role("link", name="Choose a song first")).to_be_visible()


def test_comparison_names_the_model_that_fails(tab: Tab, studio: Studio) -> None:
    tab.goto(f"/#/compare?song={quote('file:broken.mp3', safe='')}&models={studio.models()}")
    expect(tab.locator(".beside [role=alert]")).to_have_count(2)


def first_column(tab: Tab, table: str) -> list[str]:
    return [text.split()[0] for text in tab.locator(f"{table} tbody th").all_inner_texts()]


def test_leaderboard_is_sorted_by_any_column_and_says_so(tab: Tab) -> None:
    tab.goto("/#/leaderboard")
    score = tab.locator("#board").get_by_role("columnheader", name="ROC-AUC")
    expect(score).to_have_attribute("aria-sort", "descending")
    assert first_column(tab, "#board") == ["large", "middle", "small"]
    score.get_by_role("button").click()
    expect(score).to_have_attribute("aria-sort", "ascending")
    assert first_column(tab, "#board") == ["small", "middle", "large"]
    tab.locator("#board").get_by_role("button", name="Network").press("Enter")
    expect(score).to_have_attribute("aria-sort", "none")
    assert first_column(tab, "#board") == ["small", "middle", "large"]
    tab.locator("#runs").get_by_role("button", name="ROC-AUC").click()
    assert tab.locator("#runs code").all_inner_texts() == ["older", "newer"]


def test_score_against_cost_is_a_picture_with_words(tab: Tab) -> None:
    tab.goto("/#/leaderboard")
    picture = tab.get_by_role("img", name=re.compile(r"^ROC-AUC against parameters: .*large 0\.\d+ at 8 M"))
    expect(picture.locator("circle")).to_have_count(3)
    expect(picture.locator(".whisker")).to_have_count(3)
    tab.get_by_role("combobox", name="Cost").select_option("megabytes")
    expect(tab.get_by_role("img", name=re.compile("^ROC-AUC against megabytes"))).to_be_visible()


def test_threshold_is_a_handle_that_says_what_it_changes(tab: Tab) -> None:
    tab.goto("/#/leaderboard")
    handle = tab.get_by_label("Threshold", exact=True)
    expect(handle).to_have_attribute("aria-valuetext", re.compile(r"^0\.500: precision"))
    tab.get_by_role("combobox", name="Tag").select_option("vocal")
    expect(tab.locator("#effect caption")).to_contain_text("vocal")
    expect(handle).to_be_enabled()
    handle.focus()
    for _ in range(20):
        tab.keyboard.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuetext", re.compile(r"^0\.600"))
    probabilities = scores("large", "vocal")
    flips = int(((probabilities >= 0.5) & (probabilities < 0.6)).sum())
    expect(tab.locator("#flips")).to_have_text(f"{flips} of 400 clips flip away from ‘vocal’.")
    kept = probabilities >= 0.6
    precision, recall = LABELS[kept].mean(), kept[LABELS].mean()
    expected = [f"{precision:.3f}", f"{recall:.3f}", f"{2 * precision * recall / (precision + recall):.3f}"]
    assert tab.locator("#effect tbody td:last-child").all_inner_texts()[:3] == expected
    tab.get_by_role("button", name="Back to 0.500").click()
    expect(tab.locator("#flips")).to_have_text("Move the handle to see what another threshold would change.")


def test_network_without_curves_is_said_in_words(tab: Tab) -> None:
    tab.goto("/#/leaderboard")
    tab.get_by_role("combobox", name="Network").select_option("small")
    expect(tab.get_by_text("the scores of ‘small’ were not kept, so it has no curves")).to_be_visible()


def test_view_that_is_unknown_is_the_first_one(tab: Tab) -> None:
    tab.goto("/#/nowhere")
    expect(tab.get_by_role("heading", name="What is in this song?")).to_be_visible()


def test_server_that_is_gone_is_said_in_words(tab: Tab) -> None:
    tab.goto("/")
    expect(tab.get_by_role("list", name="Songs")).to_be_visible()
    tab.route("**/api/**", lambda route: route.fulfill(status=503, json={"error": "too much is asked at once"}))
    tab.get_by_label("Search the folder").fill("low")
    expect(tab.get_by_role("alert")).to_have_text("too much is asked at once")


def test_theme_is_switched_and_kept(tab: Tab) -> None:
    tab.goto("/")
    shade = "getComputedStyle(document.body).backgroundColor"
    bright = tab.evaluate(shade)
    button = tab.get_by_role("button", name="Theme: system")
    button.click()
    expect(tab.locator("#theme")).to_have_text("Theme: light")
    assert tab.evaluate(shade) == bright
    tab.locator("#theme").click()
    until(tab, f"{shade} !== '{bright}'")
    tab.reload()
    expect(tab.locator("#theme")).to_have_text("Theme: dark")
    assert tab.evaluate(shade) != bright


def test_whole_way_by_keyboard_alone(tab: Tab) -> None:
    tab.goto("/")
    expect(tab.get_by_role("list", name="Songs")).to_be_visible()
    tab.keyboard.press("Tab")
    expect(tab.get_by_role("link", name="Skip to the content")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(tab.locator("#main")).to_be_focused()
    tab.keyboard.press("/")
    tab.keyboard.type("low then high.wav")
    expect(tab.get_by_role("list", name="Songs").get_by_role("listitem")).to_have_count(1)
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.locator(".done")).to_be_visible()
    expect(tab.get_by_role("status").filter(has_text="Heard: ")).to_have_count(1)
    tab.keyboard.press("Space")
    expect(tab.locator("#player").get_by_role("button")).to_have_accessible_name("Pause")
    tab.keyboard.press("Space")
    leaderboard = tab.get_by_role("navigation", name="Views").get_by_role("link", name="Leaderboard")
    leaderboard.focus()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", name="Leaderboard", level=1)).to_be_focused()
    expect(leaderboard).to_have_attribute("aria-current", "page")
