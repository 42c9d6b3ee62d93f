"""Drives the scripted model server with the official clients `ollama` and `openai`. See `run`."""

import base64
import json
import math
import os
import struct
import subprocess
import sys
import urllib.request
import zlib

# Proxies of the environment do not know this machine's servers.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"

import ollama
import openai


def png(side=64):
    """A red square."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xc8\x14\x1e" * side) * side
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


PNG = png()
TEXT = "A red disc stands on a white ground."
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def script(url, **what):
    """Sets the faults of the server's answers; without any they are sound."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + "/script", json.dumps(what).encode(), headers)
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()


def clients(url):
    return ollama.Client(url), openai.OpenAI(base_url=url + "/v1", api_key="key", max_retries=0)


def data_url():
    return "data:image/png;base64," + PNG.decode()


def question():
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": data_url()}},
            ],
        }
    ]


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@check
def ollama_lists_and_shows_models(url):
    client, _ = clients(url)
    models = client.list().models
    assert [it.model for it in models] == ["qwen2.5vl:7b", "bge-m3:latest"]
    assert len(models[0].digest) == 64 and models[0].size > 0
    shown = client.show("qwen2.5vl:7b")
    assert shown.capabilities == ["completion", "vision"]
    assert client.show("bge-m3").modelinfo["scripted.embedding_length"] == 1024


@check
def ollama_describes_a_picture_streamed_and_whole(url):
    client, _ = clients(url)
    messages = [{"role": "user", "content": "What is this?", "images": [PNG.decode()]}]
    whole = client.chat("qwen2.5vl:7b", messages, options={"num_ctx": 8192, "num_predict": 512})
    assert whole.message.content.startswith(TEXT) and whole.done and whole.done_reason == "stop"
    pieces = list(client.chat("qwen2.5vl:7b", messages, stream=True))
    assert "".join(it.message.content for it in pieces) == whole.message.content
    assert pieces[-1].done and pieces[-1].eval_count == 40 and not pieces[0].done


@check
def ollama_loads_a_model_by_an_empty_chat(url):
    client, _ = clients(url)
    assert client.chat("qwen2.5vl:7b", []).done_reason == "load"


@check
def ollama_embeds_in_both_forms(url):
    client, _ = clients(url)
    [vector] = client.embed("bge-m3", "words").embeddings
    assert len(vector) == 1024 and abs(math.hypot(*vector) - 1) < 1e-3
    assert len(client.embed("bge-m3", ["one", "two"]).embeddings) == 2
    assert len(client.embeddings("bge-m3", "words").embedding) == 1024


@check
def ollama_pulls_with_progress(url):
    client, _ = clients(url)
    seen = list(client.pull("bge-m3", stream=True))
    assert seen[-1].status == "success" and seen[2].completed == 500 and seen[2].total == 1000
    assert client.pull("bge-m3").status == "success"
    error = raises(ollama.ResponseError, lambda: list(client.pull("no-such", stream=True)))
    assert "file does not exist" in str(error)


@check
def ollama_is_told_what_is_wrong(url):
    client, _ = clients(url)
    error = raises(ollama.ResponseError, lambda: client.chat("none", [{"role": "user", "content": "?"}]))
    assert error.status_code == 404 and "model 'none' not found" in error.error
    script(url, embed="na_n")
    error = raises(ollama.ResponseError, lambda: client.embed("bge-m3", "words"))
    assert error.status_code == 400 and "NaN" in error.error
    script(url, chat="error_line")
    messages = [{"role": "user", "content": "?"}]
    error = raises(ollama.ResponseError, lambda: list(client.chat("qwen2.5vl:7b", messages, stream=True)))
    assert "unexpected EOF" in error.error
    script(url, chat="thinking")
    answer = client.chat("qwen2.5vl:7b", messages)
    assert answer.message.thinking and not answer.message.content and answer.done_reason == "length"


@check
def openai_lists_models(url):
    _, client = clients(url)
    assert [it.id for it in client.models.list()] == ["qwen2.5vl:7b", "bge-m3:latest"]
    script(url, llama_cpp=True)
    assert [it.owned_by for it in client.models.list()] == ["llamacpp"]


@check
def openai_describes_a_picture_streamed_and_whole(url):
    _, client = clients(url)
    ask = client.chat.completions.create
    whole = ask(model="qwen2.5vl:7b", messages=question(), max_tokens=512, seed=1, temperature=0.3)
    assert whole.choices[0].message.content.startswith(TEXT) and whole.choices[0].finish_reason == "stop"
    chunks = list(ask(model="qwen2.5vl:7b", messages=question(), stream=True))
    assert "".join(it.choices[0].delta.content or "" for it in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


@check
def openai_embeds_as_base64_and_as_numbers(url):
    _, client = clients(url)
    packed = client.embeddings.create(model="bge-m3", input=["one", "two"]).data
    plain = client.embeddings.create(model="bge-m3", input=["one", "two"], encoding_format="float").data
    assert [it.index for it in packed] == [0, 1] and len(packed[0].embedding) == 1024
    assert all(abs(a - b) < 1e-6 for a, b in zip(packed[1].embedding, plain[1].embedding))


@check
def openai_is_told_what_is_wrong(url):
    _, client = clients(url)
    ask = client.chat.completions.create
    error = raises(openai.NotFoundError, lambda: ask(model="none", messages=question()))
    assert error.code == "model_not_found"
    script(url, key="another")
    error = raises(openai.AuthenticationError, lambda: ask(model="qwen2.5vl:7b", messages=question()))
    assert error.code == "invalid_api_key" and "Incorrect API key provided: key" in str(error)
    busy = {"status": {"status": 429, "message": "slow down", "headers": [["retry-after", "1"]]}}
    script(url, chat=busy)
    error = raises(openai.RateLimitError, lambda: ask(model="qwen2.5vl:7b", messages=question()))
    assert error.response.headers["retry-after"] == "1"
    script(url, chat="blind")
    error = raises(openai.InternalServerError, lambda: ask(model="qwen2.5vl:7b", messages=question()))
    assert "image input is not supported" in str(error)
    script(url, chat={"refuses": ["max_tokens"]})
    short = {"model": "qwen2.5vl:7b", "messages": question(), "max_tokens": 5}
    error = raises(openai.BadRequestError, lambda: ask(**short))
    assert error.code == "unsupported_parameter"


@check
def openai_waits_and_asks_again_when_the_server_is_busy(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key="key", max_retries=1)
    busy = {"status": {"status": 429, "message": "slow down", "headers": [["retry-after-ms", "10"]]}}
    script(url, chat=busy)
    ask = client.chat.completions.create
    raises(openai.RateLimitError, lambda: ask(model="qwen2.5vl:7b", messages=question()))
    seen = json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url + "/requests"))
    assert len(seen) == 2


@check
def a_broken_connection_is_one_for_both(url):
    local, hosted = clients(url)
    script(url, chat="cut")
    messages = [{"role": "user", "content": "?"}]
    ask = hosted.chat.completions.create
    raises(Exception, lambda: list(local.chat("qwen2.5vl:7b", messages, stream=True)))
    raises(Exception, lambda: list(ask(model="qwen2.5vl:7b", messages=messages, stream=True)))


def main():
    server = subprocess.Popen([sys.argv[1]], stdout=subprocess.PIPE, text=True)
    failed = 0
    try:
        url = server.stdout.readline().strip()
        for function in CHECKS:
            name = function.__name__
            try:
                script(url)
                function(url)
                print(f"ok     {name}")
            except Exception as error:
                failed += 1
                print(f"failed {name}: {type(error).__name__}: {error}")
    finally:
        server.kill()
        server.wait()
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
