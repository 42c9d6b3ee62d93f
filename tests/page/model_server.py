"""A server of OpenAI's interface that answers when a test lets it."""

import http.server
import itertools
import json
import threading

GOOD = "A narrow street in the evening. People walk past small shops, and the lamps are already lit."
POOR = "xx xx xx xx xx xx xx"


class ModelServer:
    """`poor`: the descriptions of every second picture do not pass the audit."""

    def __init__(self, world, poor=False, port=0):
        self.poor = poor
        self.asked = itertools.count()
        self.known = {}
        # Descriptions that may still be given.
        self.permits = float("inf")
        self.stopped = False
        self.changed = threading.Condition()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self.handler())
        # A server that is killed drops its connections.
        self.server.handle_error = lambda *_: None
        self.port = self.server.server_address[1]
        self.config = f"""[provider]
kind = "openai"
base_url = "http://127.0.0.1:{self.port}/v1"
vision_model = "eyes"
embedding_model = "vectors"
embedding_dimensions = 16
"""
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        world.stack.callback(self.stop)

    def hold(self):
        """Gives no further descriptions; calls wait."""
        self.permit(0)

    def go_on(self):
        """Gives each description at once."""
        self.permit(float("inf"))

    def allow(self, more):
        """Gives this many further descriptions."""
        self.permit(self.permits + more)

    def permit(self, descriptions):
        with self.changed:
            self.permits = descriptions
            self.changed.notify_all()

    def stop(self):
        """Ends like a server that is killed: calls that wait get no answer."""
        with self.changed:
            if self.stopped:
                return
            self.stopped = True
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()

    def describe(self, question):
        """Waits for a permit; returns `None` if the server is stopped."""
        with self.changed:
            self.changed.wait_for(lambda: self.permits > 0 or self.stopped)
            if self.stopped:
                return None
            self.permits -= 1
            picture = json.dumps(question["messages"])[-2000:]
            number = self.known.setdefault(picture, next(self.asked))
        return POOR if self.poor and number % 2 else GOOD

    def handler(models):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, value):
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.answer({"object": "list", "data": [{"id": "eyes"}, {"id": "vectors"}]})

            def do_POST(self):
                question = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path.endswith("/embeddings"):
                    texts = question["input"] if isinstance(question["input"], list) else [question["input"]]
                    data = [
                        {"index": n, "embedding": [1.0] * 15 + [float(len(text))]}
                        for n, text in enumerate(texts)
                    ]
                    return self.answer({"data": data})
                text = models.describe(question)
                if text is None:
                    self.close_connection = True
                    return None
                return self.answer({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

        return Handler
