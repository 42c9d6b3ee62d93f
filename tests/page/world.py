"""A server with a data folder of its own, and browsers that look at its page."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

# Longest time until a condition holds, in seconds. It only bounds how long a failure takes.
PATIENCE = 60


def wait(condition, claim, patience=PATIENCE):
    """Returns the first result of `condition` that is true; fails if there is none in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.03)
    raise TimeoutError(f"not within {patience} s: {claim}")


class World:
    def __init__(self, folder, args, stack):
        self.folder, self.args, self.stack = folder, args, stack
        self.server, self.browsers = None, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.environment = {**os.environ, "RUST_LOG": "warn"}
        self.config = folder / "config.toml"
        self.config.write_text("")
        stack.callback(self.kill)

    def start(self, config=None):
        if config is not None:
            self.config.write_text(config)
        command = [self.args.program, "serve", "--config", self.config, "--data-dir", self.folder / "data"]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        with open(self.folder / "log", "ab") as log:
            self.server = subprocess.Popen(command, stderr=log, env=self.environment)
        wait(lambda: self.answers("health"), "the server answers")
        return self

    def answers(self, path):
        """The JSON at `path`, or `None` if the server does not answer."""
        try:
            return json.load(urllib.request.urlopen(self.url + path, timeout=5))
        except OSError:
            return None

    def ask(self, method, path):
        """Makes a request as another client of the same owner."""
        urllib.request.urlopen(urllib.request.Request(self.url + path, method=method)).close()

    def kill(self):
        if self.server:
            self.server.send_signal(signal.SIGKILL)
            self.server.wait()
            self.server = None

    def batches(self):
        return self.answers("api/v1/uploads/batches") or []

    def uploads(self, batch):
        return self.answers(f"api/v1/uploads/batches/{batch['batch_id']}/uploads")

    def send(self, files):
        """Sends (name, bytes) as one batch, as another client of the same owner."""
        boundary = "a-boundary"
        disposition = 'Content-Disposition: form-data; name="files"; filename='
        body = b"".join(
            f'--{boundary}\r\n{disposition}"{name}"\r\n\r\n'.encode() + data + b"\r\n" for name, data in files
        )
        request = urllib.request.Request(
            self.url + "api/v1/uploads/bulk", body + f"--{boundary}--\r\n".encode()
        )
        request.add_header("content-type", f"multipart/form-data; boundary={boundary}")
        return json.load(urllib.request.urlopen(request))

    def browser(self, width=1280, height=900, dark=False, still=False):
        """Opens the page. `still` asks it to do without animations."""
        browser = Browser(self, width, height, dark, still)
        self.stack.callback(browser.driver.quit)
        self.browsers.append(browser)
        browser.driver.get(self.url)
        return browser

    def show_failure(self, name):
        """Prints the state of the page and the server after a failed test."""
        for number, browser in enumerate(self.browsers):
            try:
                browser.shot(f"failed {name} {number}")
                print(browser.run("return document.body.innerText"), *browser.complaints(), sep="\n")
            except Exception as error:
                print(f"no browser: {error}")
        print((self.folder / "log").read_text())


class Browser:
    def __init__(self, world, width, height, dark, still):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        for argument in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--window-size={width},{height}",
            f"--user-data-dir={world.folder / f'browser-{len(world.browsers)}'}",
        ]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.world = world
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        media = [{"name": name, "value": value} for name, value in features.items()]
        self.cdp("Emulation.setEmulatedMedia", features=media)
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def cdp(self, method, **parameters):
        return self.driver.execute_cdp_cmd(method, parameters)

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def count(self, selector):
        return self.run("return document.querySelectorAll(arguments[0]).length", selector)

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def visible(self, selector):
        return self.run("return !!document.querySelector(arguments[0])?.checkVisibility()", selector)

    def focused(self):
        return self.run(
            "const it = document.activeElement; return it.id || it.className || it.textContent"
        )

    def wait(self, condition, claim, patience=PATIENCE):
        return wait(lambda: condition(self), claim, patience)

    def keys(self, *keys):
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def click_twice(self, selector):
        """Clicks a button that asks for confirmation, twice; returns its question."""
        return self.run(
            """
            const button = document.querySelector(arguments[0]);
            button.click();
            const question = button.textContent;
            button.click();
            return question;
            """,
            selector,
        )

    def drop(self, files):
        """Drops files (name, bytes) on the page, as a user does."""
        encoded = [(name, base64.b64encode(data).decode()) for name, data in files]
        self.run(
            """
            const transfer = new DataTransfer();
            for (const [name, data] of arguments[0]) {
              const bytes = Uint8Array.from(atob(data), (it) => it.charCodeAt(0));
              transfer.items.add(new File([bytes], name));
            }
            for (const type of ['dragenter', 'dragover', 'drop']) {
              const event = { dataTransfer: transfer, bubbles: true, cancelable: true };
              document.querySelector('#drop').dispatchEvent(new DragEvent(type, event));
            }
            """,
            encoded,
        )

    def hold_answers(self, pattern):
        """Withholds from the page the answers to GET requests of such URLs until `release_answers`.

        The server gives them at once, so that they are outdated when the page gets them."""
        self.run(
            """
            const pattern = new RegExp(arguments[0]), ask = window.fetch;
            window.withheld = 0;
            const released = new Promise((release) => {
              window.releaseAnswers = () => { window.fetch = ask; release(); };
            });
            window.fetch = async (url, options = {}) => {
              const response = await ask(url, options);
              if ((options.method || 'GET') !== 'GET' || !pattern.test(url)) return response;
              const body = await response.text();
              window.withheld += 1;
              await released;
              return new Response(body, response);
            };
            """,
            pattern,
        )

    def withheld(self):
        """How many answers are withheld."""
        return self.run("return window.withheld")

    def release_answers(self):
        self.run("window.releaseAnswers()")

    def shot(self, name):
        self.driver.save_screenshot(str(self.world.args.shots / f"{name}.png"))

    def complaints(self):
        """Errors in the console, without those of the network."""
        log = self.driver.get_log("browser")
        return [it["message"] for it in log if it["level"] == "SEVERE" and it["source"] != "network"]
