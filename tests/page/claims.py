"""The tests: what users of the page can rely on. No test waits for a time to pass, only for conditions."""

import hashlib
import importlib.util
import pathlib
import urllib.request

from model_server import ModelServer
from pictures import cat, damaged, drawing, small
from world import wait

DONE = ".card[data-is=completed]"
FAILED = ".card[data-is=failed]"


def is_there(browser):
    return browser.visible("#drop")


def test_size_and_policy(world):
    world.start()
    sizes = {}
    for path in ["", "app.js", "style.css", "icon.svg"]:
        response = urllib.request.urlopen(world.url + path)
        sizes[path] = len(response.read())
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, policy
    assert sum(sizes.values()) < 64 * 1024, sizes
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    assert not browser.complaints(), browser.complaints()
    browser.shot("empty")
    return f"{sum(sizes.values()) / 1024:.1f} KiB"


def test_drop_watch_kill_start_and_see_it_end(world):
    world.start()
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    files = [("cat.jpg", cat()), ("notes.txt", b"no picture"), ("damaged.png", damaged())]
    browser.drop(files + [(f"drawing {n}.jpg", drawing(n)) for n in range(30)])
    browser.wait(lambda it: it.count(".card") == 32, "a card for each file that was taken")
    assert "notes.txt: the file is no picture or video" in browser.text(".refused")
    browser.wait(lambda it: it.count(DONE) >= 4, "some are done")
    browser.wait(lambda it: it.count(".card img") >= 4, "thumbnails appear")
    browser.shot("working")
    world.kill()
    browser.wait(
        lambda it: "reconnecting" in it.text("#provider") and it.visible("#alarm"),
        "the page says that the server is gone",
    )
    browser.shot("server gone")
    world.start()
    browser.wait(lambda it: not it.visible("#alarm"), "the page goes on by itself")
    browser.wait(lambda it: it.count(DONE) == 31 and it.text(".state") == "completed", "it sees the end")
    assert browser.text(f"{FAILED} .says").startswith("damaged.png: cannot decode")
    assert "1 failed" in browser.text(".counts"), browser.text(".counts")
    assert "a cat" in browser.text(".card .says"), browser.text(".card .says")
    truth = world.batches()[0]
    assert (truth["successful_uploads"], truth["failed_uploads"]) == (31, 1), truth
    browser.shot("ended")
    before = browser.text("#batches")
    browser.driver.refresh()
    browser.wait(lambda it: it.count(".card") == 32, "after a reload it is all there")
    browser.wait(lambda it: it.text("#batches") == before, "and says the same")
    assert not browser.complaints(), browser.complaints()


def test_a_large_file_arrives_though_the_server_is_killed_meanwhile(world):
    world.start()
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 8 << 20}
    browser.cdp("Network.emulateNetworkConditions", **slow)
    browser.drop([("large.jpg", cat() + bytes(20 << 20)), ("cat.jpg", cat())])
    browser.wait(lambda it: "MB of 20." in it.text("#sending"), "it is being sent")
    world.kill()
    browser.wait(lambda it: "continues by itself" in it.text("#sending"), "the page says so")
    browser.shot("continues")
    world.start()
    browser.wait(lambda it: it.count(DONE) == 2 and it.text(".state") == "completed", "both arrive")
    [batch] = world.batches()
    assert batch["total_uploads"] == 2, batch
    assert sorted(it["file_size"] for it in world.uploads(batch)) == [len(cat()), len(cat()) + (20 << 20)]


def test_look_search_retry_and_delete(world):
    world.start()
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    browser.drop([("cat.jpg", cat()), ("damaged.png", damaged()), ("red.jpg", drawing(3))])
    browser.wait(lambda it: it.count(DONE) == 2 and it.count(FAILED) == 1, "all have ended")
    browser.one(DONE + " .open").click()
    browser.wait(lambda it: it.count("#viewer-text .tags li") >= 1, "facts and tags are read")
    words = browser.text("#viewer-text")
    for part in ["a cat", "cat", "×", "image/jpeg", "Described by builtin"]:
        assert part in words, (part, words)
    width = "return document.querySelector('#viewer-picture img')?.naturalWidth"
    browser.wait(lambda it: (it.run(width) or 0) > 256, "the original is shown")
    browser.shot("viewer")
    browser.one("#after").click()
    browser.wait(lambda it: it.text("#viewer-name") == "damaged.png", "the next one is shown")
    browser.wait(lambda it: it.text("#viewer-text").count("Attempt ") == 2, "both failures are shown")
    browser.shot("failure")
    browser.one("#viewer-text button:not(.danger)").click()
    browser.wait(lambda it: "Attempt 4" in it.text("#viewer-text"), "it was tried twice again")
    question = browser.click_twice("#viewer-text .danger")
    assert question == "Really delete?", question
    browser.wait(lambda it: it.count(".card") == 2 and "2 files" in it.text(".counts"), "it is gone")
    browser.one("#words").send_keys("kitten\n")
    browser.wait(
        lambda it: it.visible("#found") and "“kitten”" in it.text("#found-title"),
        "it is found by its meaning",
    )
    assert browser.count("#found .card") == 2
    assert "cat.jpg" in browser.text("#found .card"), browser.text("#found .card")
    browser.shot("found")
    browser.one("#found-close").click()
    browser.wait(lambda it: it.visible(".batch"), "the batches are there again")
    assert not browser.complaints(), browser.complaints()


def test_a_question_outlasts_a_repaint(world):
    models = ModelServer(world)
    models.hold()
    world.start(models.config)
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    # A question is withdrawn after 4 s, which must not happen here however slow the machine is.
    browser.run("const set = setTimeout; window.setTimeout = (does, ms) => ms === 4000 ? 0 : set(does, ms)")
    browser.drop(small(1))
    browser.wait(lambda it: it.count(".card[data-is=active]") == 1, "it is being described")
    browser.one(".open").click()
    browser.wait(lambda it: it.visible("#viewer-text .danger"), "it is looked at")
    browser.run(
        """
        window.repaints = 0;
        const text = document.querySelector('#viewer-text');
        new MutationObserver(() => { window.repaints += 1; }).observe(text, { childList: true });
        document.querySelector('#viewer-text .danger').focus();
        document.querySelector('#viewer-text .danger').click();
        """
    )
    browser.wait(lambda it: it.run("return window.repaints >= 2"), "progress is shown meanwhile")
    assert browser.text("#viewer-text .danger") == "Really delete?", browser.text("#viewer-text")
    assert browser.run("return document.activeElement.matches('.danger')"), "it has lost the focus"
    browser.run("document.querySelector('#viewer-text .danger').click()")
    browser.wait(lambda it: it.count(".card") == 0 and not it.visible("#viewer"), "it is gone")


def test_deleted_pictures_stay_gone_when_an_older_answer_arrives(world):
    models = ModelServer(world)
    world.start(models.config)
    world.send(small(4))
    browser = world.browser()
    browser.wait(lambda it: it.count(DONE) == 4, "all have ended")
    uploads = [it["id"] for it in world.uploads(world.batches()[0])]
    browser.hold_answers(r"/uploads\?limit")
    world.ask("DELETE", f"api/v1/uploads/{uploads[3]}")
    browser.wait(lambda it: it.withheld() == 1, "the page reads what is left")
    browser.one(".open").click()
    browser.click_twice("#viewer-text .danger")
    browser.wait(lambda it: it.count(".card") == 3 and not it.visible("#viewer"), "the first is gone")
    world.ask("DELETE", f"api/v1/uploads/{uploads[2]}")
    browser.wait(lambda it: it.text(".counts") == "1 file", "the page has heard of all deletions")
    browser.run(
        """
        window.added = 0;
        new MutationObserver((changes) => {
          for (const change of changes) window.added += change.addedNodes.length;
        }).observe(document.querySelector('.grid'), { childList: true });
        """
    )
    browser.release_answers()
    browser.wait(lambda it: it.count(".card") == 1, "the one that is left is shown")
    assert "1.jpg" in browser.text(".card"), browser.text(".card")
    assert browser.run("return window.added") == 0, "a deleted one came back for a moment"


def test_an_answer_from_before_a_message_is_not_the_last_word(world):
    world.start()
    world.send([("damaged.png", damaged())])
    browser = world.browser()
    browser.wait(lambda it: it.count(FAILED) == 1, "it has failed")
    batch = world.batches()[0]
    retry = f"api/v1/uploads/batches/{batch['batch_id']}/retry"
    browser.one(".open").click()
    browser.wait(lambda it: "Attempt 2" in it.text("#viewer-text"), "its failures are shown")
    browser.hold_answers(r"/uploads/[^/?]+$")
    world.ask("POST", retry)
    browser.wait(lambda it: it.withheld() == 1, "the page reads the new failures")
    world.ask("POST", retry)

    def attempts():
        return [it["attempt"] for it in world.uploads(batch)[0]["failures"]]

    wait(lambda: 6 in attempts(), "it has failed again")
    world.send([("marker.jpg", drawing(1))])
    browser.wait(lambda it: it.withheld() == 1 and it.count(".batch") == 2, "all messages were heard")
    browser.release_answers()
    browser.wait(lambda it: "Attempt 6" in it.text("#viewer-text"), "the last failures are shown")


def test_pause_resume_and_cancel(world):
    models = ModelServer(world)
    world.start(models.config + "[workers]\nconcurrency = 1\n")
    models.hold()
    models.allow(5)
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    browser.drop(small(100))
    browser.wait(lambda it: it.count(DONE) == 5, "it works")
    browser.one("[data-do=pause]").click()
    browser.wait(
        lambda it: it.text(".state") == "paused" and "resume it to go on" in it.text(".waiting"),
        "it is paused",
    )
    browser.shot("paused")
    models.go_on()
    for n in range(2):
        world.send(small(1, 100 + n))
        newest = ".batch:first-child .state"
        browser.wait(
            lambda it: it.count(".batch") == n + 2 and it.text(newest) == "completed",
            "a batch after it has ended",
        )
    assert browser.count(f".batch:last-child {DONE}") == 6, "more was begun than what was running"
    models.hold()
    browser.one(".batch:last-child [data-do=resume]").click()
    models.allow(3)
    browser.wait(lambda it: it.count(f".batch:last-child {DONE}") == 9, "it goes on")
    question = browser.click_twice(".batch:last-child [data-do=cancel]")
    assert question == "Really cancel?", question
    browser.wait(lambda it: it.text(".batch:last-child .state") == "cancelled", "it is cancelled")
    browser.wait(lambda it: it.count(".card[data-is=cancelled]") == 91, "each card says so")


def test_older_batches_and_another_window(world):
    world.start()
    for n in range(25):
        world.send(small(1, n))
    browser, other = world.browser(), world.browser(900, 700)
    for it in (browser, other):
        it.wait(lambda it: it.count(".batch") == 20, "the newest batches are listed")
    browser.wait(lambda it: it.visible("#older"), "there are older ones")
    browser.one("#older").click()
    browser.wait(
        lambda it: it.count(".batch") == 25 and not it.visible("#older"), "older ones are listed on request"
    )
    browser.drop([("new.jpg", drawing(99))])
    newest = ".batch:first-child"
    for it in (browser, other):
        it.wait(lambda it: it.text(f"{newest} .name") == "new.jpg", "a new batch is on top in each window")
        it.wait(lambda it: it.text(f"{newest} .state") == "completed", "and moves there")


def test_a_batch_that_runs_is_shown_however_old_it_is(world):
    models = ModelServer(world)
    world.start(models.config + "[workers]\nconcurrency = 1\n")
    for n in range(3):
        world.send(small(1, 200 + n))
    wait(lambda: all(it["status"] == "completed" for it in world.batches()), "the first have ended")
    models.hold()
    world.send(small(90))
    for n in range(20):
        world.send(small(1, 100 + n))
    browser = world.browser()
    running, shown = ".batch:last-child", f".batch:last-child {DONE}"
    browser.wait(lambda it: it.count(".batch") == 21, "the newest batches are listed, and the one that runs")
    browser.wait(lambda it: it.text(f"{running} .state") == "working", "it says so")
    browser.wait(lambda it: it.count(f"{running} .card") == 90, "its files are listed")
    models.allow(3)
    browser.wait(lambda it: it.count(shown) == 3, "each of its files moves")
    identity = browser.run("return document.querySelector('.batch:last-child').batch.id")
    requests = """
        return performance.getEntriesByType('resource').map((it) => it.name)
          .filter((it) => it.includes('batches?') || it.includes(arguments[0]));
        """
    before = browser.run(requests, identity)
    models.allow(10)
    browser.wait(lambda it: it.count(shown) == 13, "it goes on")
    after = browser.run(requests, identity)
    assert after == before, f"read although messages say it: {after[len(before):]}"
    browser.wait(lambda it: it.visible("#older"), "there are older ones")
    browser.one("#older").click()
    browser.wait(
        lambda it: it.count(".batch") == 24 and not it.visible("#older"),
        "the rest is listed on request, and nothing twice",
    )
    order = browser.run("return [...document.querySelectorAll('.batch')].map((it) => it.batch.id)")
    assert order == sorted(order, reverse=True), order


def test_a_new_batch_appears_while_another_works(world):
    models = ModelServer(world)
    models.hold()
    world.start(models.config)
    browser = world.browser()
    browser.wait(is_there, "the page is there")

    def with_movement(condition):
        """The condition, with a picture described at each look, so that messages never pause."""
        models.allow(1)
        return condition()

    world.send(small(400))
    wait(
        lambda: with_movement(lambda: browser.count(".batch") == 1 and browser.count(DONE) >= 1),
        "it appears while its files move",
    )
    world.send(small(1, 999))
    wait(lambda: with_movement(lambda: browser.count(".batch") == 2), "and so does another")
    assert browser.text(".batch:last-child .state") == "working", "it has ended before"


def test_thumbnails_that_did_not_load_are_fetched_again(world):
    world.start()
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    browser.run(
        """
        window.broken = 0;
        addEventListener('error', (event) => { window.broken += event.target.tagName === 'IMG'; }, true);
        """
    )
    browser.cdp("Network.enable")
    browser.cdp("Network.setBlockedURLs", urls=["*/thumbnail"])
    world.send([("one.jpg", drawing(1)), ("two.jpg", drawing(2))])
    browser.wait(lambda it: it.count(DONE) == 2, "all have ended")
    browser.wait(lambda it: it.run("return window.broken >= 2"), "neither thumbnail loads")
    assert browser.count(".card img") == 0, "a broken picture is shown"
    browser.cdp("Network.setBlockedURLs", urls=[])
    loaded = "[...document.querySelectorAll('.card img')].filter((it) => it.naturalWidth > 0)"
    browser.wait(lambda it: it.run(f"return {loaded}.length") == 2, "they appear")


def test_a_browser_that_keeps_nothing(world):
    world.start()
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    browser.run(
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }"
    )
    browser.drop([("one.jpg", drawing(1)), ("notes.txt", b"no picture")])
    browser.wait(lambda it: it.count(DONE) == 1 and it.count(".sent") == 0, "the files are sent")
    assert "notes.txt: the file is no picture or video" in browser.text(".refused"), browser.text(".refused")
    assert not browser.complaints(), browser.complaints()


def test_a_provider_that_goes_away_and_descriptions_to_review(world):
    models = ModelServer(world, poor=True)
    world.start(models.config)
    browser = world.browser()
    browser.wait(
        lambda it: "openai ready" in it.text("#provider") and not it.visible("#notice"),
        "the provider is there",
    )
    models.hold()
    models.allow(8)
    browser.drop([(f"{n}.jpg", drawing(n)) for n in range(12)])
    browser.wait(
        lambda it: it.count(DONE) >= 1 and it.count(".card[data-is=review]") >= 1,
        "some are done, some to be reviewed",
    )
    models.stop()
    browser.wait(
        lambda it: "away" in it.text("#provider") and "away" in it.text("#alarm"),
        "the page says that the provider is away",
    )
    browser.wait(lambda it: "The provider has been away since" in it.text(".waiting"), "and so does the batch")
    browser.shot("provider away")
    ModelServer(world, poor=True, port=models.port)
    browser.wait(lambda it: it.text(".state") == "completed", "it goes on by itself")
    browser.wait(lambda it: not it.visible("#alarm") and not it.visible(".waiting"), "nothing is waited for")
    to_review = browser.count(".card[data-is=review]")
    assert f"{to_review} to review" in browser.text(".counts") and to_review >= 1, browser.text(".counts")
    browser.one("[data-show=review]").click()
    browser.wait(
        lambda it: len([card for card in it.all(".card") if card.is_displayed()]) == to_review,
        "those are shown alone",
    )
    browser.shot("to review")
    browser.one(".card[data-is=review] .open").click()
    browser.wait(lambda it: "A person should review it" in it.text("#viewer-text"), "one says why")


def test_keyboard(world):
    from selenium.webdriver.common.keys import Keys

    world.start()
    world.send([("one.jpg", drawing(1)), ("two.jpg", drawing(2))])
    browser = world.browser()
    browser.wait(lambda it: it.count(DONE) == 2, "all have ended")
    way = []
    for _ in range(12):
        browser.keys(Keys.TAB)
        way.append(browser.focused())
    for stop in ["skip", "words", "choose", "choose-folder", "toggle", "open"]:
        assert stop in way, (stop, way)
    browser.run("document.querySelector('.open').focus()")
    browser.keys(Keys.ENTER)
    browser.wait(
        lambda it: it.visible("#viewer") and it.text("#viewer-name") == "one.jpg", "Enter opens a picture"
    )
    browser.keys(Keys.ARROW_RIGHT)
    browser.wait(lambda it: it.text("#viewer-name") == "two.jpg", "an arrow goes to the next")
    browser.keys(Keys.ESCAPE)
    browser.wait(lambda it: not it.visible("#viewer"), "Escape closes it")
    browser.wait(lambda it: it.focused() == "open", "the focus is where it was")
    browser.keys("/")
    browser.wait(lambda it: it.focused() == "words", "a slash goes to the search")
    browser.run("document.querySelector('.toggle').focus()")
    browser.keys(Keys.SPACE)
    browser.wait(lambda it: not it.visible(".card"), "Space folds a batch")
    assert browser.run("return document.querySelector('.toggle').getAttribute('aria-expanded')") == "false"


def test_accessibility_light_dark_and_a_phone(world):
    world.start()
    world.send([("cat.jpg", cat()), ("damaged.png", damaged()), ("notes.txt", b"text")])
    wait(lambda: world.batches()[0]["status"] == "completed", "all have ended")
    package = importlib.util.find_spec("axe_playwright_python").submodule_search_locations[0]
    axe = next(pathlib.Path(package).rglob("axe.min.js")).read_text()
    loaded = "return [...document.images].every((it) => it.complete)"
    for name, size, dark in [
        ("light", (1280, 900), False),
        ("dark", (1280, 900), True),
        ("phone", (390, 844), False),
    ]:
        browser = world.browser(*size, dark=dark, still=True)
        browser.wait(lambda it: it.count(".card") == 2 and it.count(".card img") >= 1, "the page is there")
        for view in ["list", "viewer"]:
            if view == "viewer":
                browser.one(".open").click()
                browser.wait(lambda it: it.count("#viewer-text dl") == 1, "a picture is looked at")
            browser.wait(lambda it: it.run(loaded), "all pictures have loaded")
            browser.shot(f"{name} {view}")
            wide = browser.run("return document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name}: {wide} px wider than the window"
            browser.cdp("Runtime.evaluate", expression=axe)
            found = browser.driver.execute_async_script(
                "axe.run().then((it) => arguments[0](it.violations))"
            )
            violations = [(it["id"], [node["html"][:90] for node in it["nodes"]][:3]) for it in found]
            assert not violations, f"{name} {view}: {violations}"


def test_signing_in(world):
    keys = [("ann", "ann-key"), ("bob", "bob-key")]
    hashes = [(name, hashlib.sha256(key.encode()).hexdigest()) for name, key in keys]
    entries = ", ".join(f'{{ owner = "{name}", sha256 = "{hash}" }}' for name, hash in hashes)
    world.start(f"[auth]\nkeys = [{entries}]")
    browser = world.browser()
    browser.wait(lambda it: it.visible("#sign-in") and not it.visible("#drop"), "it asks who is there")
    browser.shot("sign in")
    browser.one("#token").send_keys("wrong\n")
    browser.wait(lambda it: "not known" in it.text("#sign-in-error"), "a wrong key is refused")
    browser.one("#token").clear()
    browser.one("#token").send_keys("ann-key\n")
    browser.wait(is_there, "she is in")
    browser.drop([("cat.jpg", cat())])
    loaded = "return document.querySelector('.card img')?.naturalWidth > 0"
    browser.wait(lambda it: it.count(DONE) == 1 and it.run(loaded), "pictures and events work")
    world.kill()
    browser.wait(lambda it: it.visible("#alarm"), "the page says that the server is gone")
    world.start()
    browser.wait(
        lambda it: not it.visible("#alarm") and it.visible("#drop") and it.count(DONE) == 1,
        "she is still in after a restart",
    )
    browser.one("#sign-out").click()
    browser.wait(lambda it: it.visible("#sign-in") and it.count(".card") == 0, "she is out")
    browser.one("#token").send_keys("bob-key\n")
    browser.wait(lambda it: it.visible("#drop") and it.visible("#empty"), "another one sees nothing of hers")


def test_a_thousand_files_stay_smooth(world):
    models = ModelServer(world)
    models.hold()
    world.start(models.config + "vision_concurrency = 4\n")
    browser = world.browser()
    browser.wait(is_there, "the page is there")
    files = [(f"{n:04}.jpg", drawing(n, (64, 48))) for n in range(world.args.files)]
    browser.drop(files)
    browser.wait(lambda it: it.count(".card") == len(files), "a card for each file", 180)
    browser.run(
        """
        window.gaps = [];
        let last = performance.now();
        const frame = (now) => { window.gaps.push(now - last); last = now; requestAnimationFrame(frame); };
        requestAnimationFrame(frame);
        """
    )
    # Processor time of the page's thread, since the time that a frame takes depends on other processes.
    browser.cdp("Performance.enable", timeDomain="threadTicks")

    def spent():
        metrics = {it["name"]: it["value"] for it in browser.cdp("Performance.getMetrics")["metrics"]}
        return 1000 * metrics["TaskDuration"]

    def ends_while_scrolled(it):
        it.run("scrollTo({ top: Math.random() * document.body.scrollHeight })")
        return it.text(".state") == "completed"

    before = spent()
    models.go_on()
    browser.wait(lambda it: it.count(DONE) >= len(files) / 2, "half are done", 300)
    browser.shot("a thousand")
    browser.wait(ends_while_scrolled, "all have ended", 300)
    cost = spent() - before
    gaps = sorted(browser.run("return window.gaps"))
    frame, file = cost / len(gaps), cost / len(files)
    heap = browser.run("return performance.memory.usedJSHeapSize") / 2**20
    note = f"{len(files)} files; {frame:.1f} ms of processor a frame, {file:.1f} ms a file; "
    note += f"{len(gaps)} frames, 99 % within {gaps[int(len(gaps) * 0.99)]:.0f} ms, worst {gaps[-1]:.0f} ms; "
    note += f"heap {heap:.0f} MiB"
    assert frame < 30, note
    return note
