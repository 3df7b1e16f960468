"""Drives the example `chat` in headless Chromium, and asserts what its collector holds.

Called by `run`, with the address of the service.
"""

import json
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import expect, sync_playwright

URL = sys.argv[1]
CHROMIUM = sys.argv[2]
AXE = Path(sys.argv[3]).read_text()
PATIENCE = 15  # seconds


def arrived(answer):
    """What the collector holds of an answer."""
    about = urlencode({key: answer[key] for key in ("trace_id", "span_id")})
    with urllib.request.urlopen(f"{URL}/arrived?{about}") as response:
        return json.load(response)


def await_feedback(answer, expected):
    """Waits until an answer's feedback is as expected."""
    until = time.monotonic() + PATIENCE
    while (found := arrived(answer)["feedback"]) != expected:
        assert time.monotonic() < until, f"expected {expected}, found {found}"
        time.sleep(0.05)


class Page:
    """The page, and the answers it has got."""

    def __init__(self, context):
        self.page = context.new_page()
        self.answers = []
        self.trouble = []
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("console", self.hear)
        self.page.on("response", self.keep)
        self.page.goto(URL)

    def hear(self, message):
        if message.type == "error":
            self.trouble.append(message.text)

    def keep(self, response):
        if response.url == f"{URL}/ask":
            self.answers.append(response.json())

    def wait_for_answers(self, count):
        expect(self.page.locator("#turns > li")).to_have_count(count)
        until = time.monotonic() + PATIENCE
        while len(self.answers) < count:
            assert time.monotonic() < until, "no answer"
            self.page.wait_for_timeout(20)

    def turn(self, number):
        return self.page.locator("#turns > li").nth(number)

    def saved(self, number, word="Saved"):
        expect(self.turn(number).locator(".state")).to_have_text(word)

    def check_accessibility(self, what):
        self.page.evaluate(AXE)
        result = self.page.evaluate("axe.run()")
        found = [(each["id"], [node["html"] for node in each["nodes"]]) for each in result["violations"]]
        assert not found, f"{what}: {json.dumps(found, indent=2)}"

    def close(self):
        assert not self.trouble, self.trouble
        # As a user does it: handlers run.
        self.page.close(run_before_unload=True)


def with_a_mouse(browser):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = Page(context)
    page.page.get_by_label("Your question").fill("What is the capital of New York?")
    page.page.get_by_role("button", name="Ask").click()
    page.wait_for_answers(1)
    first = page.answers[0]
    turn = page.turn(0)

    turn.get_by_role("button", name="Good answer").click()
    page.saved(0)
    turn.get_by_label("Comment").fill("Albany, in fact")
    page.saved(0)
    turn.get_by_role("button", name="Copy the answer").click()
    page.saved(0, "Copied")
    assert page.page.evaluate("navigator.clipboard.readText()") == first["answer"]
    turn.get_by_role("button", name="Another answer").click()
    page.wait_for_answers(2)
    # A change of mind.
    turn.get_by_role("button", name="Bad answer").click()
    page.saved(0)
    turn.get_by_label("2 stars").check(force=True)
    page.saved(0)
    await_feedback(first, {
        "feedback.comment": "Albany, in fact",
        "feedback.copied": True,
        "feedback.copied_share": 1,
        "feedback.rating": False,
        "feedback.regenerated": True,
        "feedback.stars": 2,
    })
    shown = page.page.locator("#spans table").first
    turn.get_by_label("Comment").focus()
    expect(shown).to_contain_text("feedback.stars")

    # Taken back.
    turn.get_by_role("button", name="Bad answer").click()
    page.saved(0, "Taken back")
    left = {"comment": "Albany, in fact", "copied": True, "copied_share": 1, "regenerated": True, "stars": 2}
    await_feedback(first, {f"feedback.{key}": value for key, value in left.items()})

    # Said in the moment in which the page goes.
    second = page.answers[1]
    page.turn(1).get_by_label("Comment").fill("That is right")
    page.turn(1).get_by_role("button", name="Good answer").click(no_wait_after=True)
    page.close()
    await_feedback(second, {"feedback.comment": "That is right", "feedback.rating": True})

    both = [arrived(answer)["spans"] for answer in (first, second)]
    sessions = {span["attributes"]["session.id"] for spans in both for span in spans}
    assert len(sessions) == 1, f"one conversation is one session, not {sessions}"
    for spans in both:
        late = [span for span in spans if span["attributes"].get("tracing_feedback.late")]
        assert late and all(span["name"] == "feedback" for span in late), spans
        assert [span["name"] for span in spans if span not in late] == ["answer"], spans
    context.close()


def with_a_keyboard(browser):
    context = browser.new_context()
    page = Page(context)
    keyboard = page.page.keyboard
    page.page.get_by_label("Your question").focus()
    keyboard.type("How far away is the Moon?")
    keyboard.press("Enter")
    page.wait_for_answers(1)

    def go_to(element):
        for _ in range(60):
            if element.evaluate("element => element === document.activeElement"):
                return
            keyboard.press("Shift+Tab")
        raise AssertionError("a keyboard can't reach it")

    turn = page.turn(0)
    go_to(turn.get_by_label("Comment"))
    keyboard.type("A light-second is nearer")
    go_to(turn.get_by_role("button", name="Good answer"))
    keyboard.press("Space")
    keyboard.press("Tab")  # to the other thumb
    keyboard.press("Tab")  # to the stars
    four = turn.get_by_label("4 stars")
    for _ in range(6):  # from whichever of them Tab goes to
        if four.is_checked():
            break
        keyboard.press("ArrowRight")
    page.saved(0)
    await_feedback(page.answers[0], {
        "feedback.comment": "A light-second is nearer",
        "feedback.rating": True,
        "feedback.stars": 4,
    })
    page.close()
    context.close()


def for_everyone(browser):
    sizes = {"desktop": (1280, 800), "phone": (390, 844)}
    for scheme in ("light", "dark"):
        for name, (width, height) in sizes.items():
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": height}
            )
            page = Page(context)
            page.check_accessibility(f"{scheme} {name}, empty")
            page.page.get_by_role("button", name="What is the capital of Australia?").click()
            page.wait_for_answers(1)
            page.turn(0).get_by_role("button", name="Bad answer").click()
            page.saved(0)
            expect(page.page.locator("#spans table").first).to_be_visible()
            page.check_accessibility(f"{scheme} {name}, judged")
            wider = page.page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not wider, f"{scheme} {name}: the page scrolls sideways"
            if len(sys.argv) > 4:
                page.page.screenshot(path=f"{sys.argv[4]}/{scheme}-{name}.png", full_page=True)
            page.close()
            context.close()


with sync_playwright() as playwright:
    # As root there is no sandbox; and nothing but the page's own requests leaves the browser.
    quiet = ["background-networking", "component-update", "sync", "quic"]
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox", "--no-first-run", *(f"--disable-{each}" for each in quiet)],
    )
    for test in (with_a_mouse, with_a_keyboard, for_everyone):
        test(browser)
        print(f"{test.__name__}: ok", flush=True)
    browser.close()
