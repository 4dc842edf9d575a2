"""The `openai` client asks a server of ours whatever it can ask for.

usage: openai_asks.py URL TOKEN GENERATE_JSON
The server has the golden model with its template `qwen`.
"""

import asyncio
import json
import sys
import time
import urllib.request

import openai

url, token, vectors = sys.argv[1:]
with open(vectors, encoding="utf-8") as file:
    CASES = json.load(file)["base"]

client = openai.OpenAI(base_url=url, api_key=token, max_retries=0, timeout=120)
MODEL = client.models.list().data[0].id


def question(case):
    return case["prompt"].rsplit("<|im_start|>user\n", 1)[1].split("<|im_end|>")[0]


def ask(text, **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    return client.chat.completions.create(model=MODEL, messages=messages, **more)


def same(found, wanted, what):
    assert found == wanted, f"{what}: {found!r}, not {wanted!r}"


def refused(kind, what, call):
    try:
        call()
    except kind as error:
        assert error.body["message"] and error.body["type"], error.body
        return error
    raise AssertionError(f"{what} was not refused")


def models():
    same(client.models.retrieve(MODEL).id, MODEL, "the model")
    refused(openai.NotFoundError, "another model", lambda: client.models.retrieve("org/other"))
    stranger = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0)
    refused(openai.AuthenticationError, "a wrong token", stranger.models.list)


def answers():
    for case in CASES:
        wanted = case["text"].removesuffix("<|im_end|>")
        count = len(case["new_ids"])
        greedy = dict(temperature=0, max_tokens=count)
        answer = ask(question(case), **greedy)
        same(answer.choices[0].message.content, wanted, "an answer")
        same(answer.usage.completion_tokens, count, "its tokens")
        same(answer.usage.total_tokens, answer.usage.prompt_tokens + count, "all tokens")
        parts = ask(question(case), stream=True, stream_options={"include_usage": True}, **greedy)
        text, usage, reason = "", None, None
        for part in parts:
            usage = part.usage or usage
            for choice in part.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
        same(text, wanted, "a stream")
        same(reason, answer.choices[0].finish_reason, "why it ended")
        same(usage, answer.usage, "what it took")


def settings():
    text = question(CASES[0])
    whole = ask(text, temperature=0, max_tokens=12).choices[0].message.content
    short = ask(text, temperature=0, max_completion_tokens=2).choices[0]
    same(short.finish_reason, "length", "a short answer")
    assert whole.startswith(short.message.content)
    for stop in (whole[3:5], [whole[3:5], "never"]):
        ended = ask(text, temperature=0, max_tokens=12, stop=stop).choices[0]
        same((ended.message.content, ended.finish_reason), (whole[: whole.index(whole[3:5])], "stop"), "a stop word")

    def drawn(seed):
        choices = ask(text, n=3, seed=seed, temperature=2, top_p=1, max_tokens=8).choices
        same([choice.index for choice in choices], [0, 1, 2], "three answers")
        return [choice.message.content for choice in choices]

    same(drawn(5), drawn(5), "the same seed")
    assert len(set(drawn(5) + drawn(6))) > 1, "nothing was drawn"
    parts = [{"type": "text", "text": part} for part in (text[:3], text[3:])]
    for role in ("system", "developer"):
        brief = {"role": role, "content": [{"type": "text", "text": "Be brief."}]}
        said = [
            ask("", messages=[brief, {"role": "user", "content": content}], temperature=0, max_tokens=8)
            for content in (text, parts)
        ]
        same(said[0].choices[0].message.content, said[1].choices[0].message.content, "a text in parts")


def tools():
    tool = {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        {"role": "user", "content": "How is the weather in Paris?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    for choice in ("auto", "none"):
        answer = ask("", messages=messages, tools=[tool], tool_choice=choice, max_tokens=8)
        same(answer.choices[0].message.role, "assistant", "who answers")


def refusals():
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
    for param, more in (
        ("logprobs", {"logprobs": True}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("n", {"n": 2, "stream": True}),
        ("n", {"n": 99}),
        ("temperature", {"temperature": 3}),
        ("max_tokens", {"max_tokens": 0}),
        ("messages[0].content[0]", {"messages": [picture]}),
        ("messages", {"messages": []}),
    ):
        error = refused(openai.BadRequestError, param, lambda more=more: ask("x", **more))
        same(error.param, param, "what is refused")
    error = refused(openai.BadRequestError, "a long text", lambda: ask("long " * 9000))
    same(error.code, "context_length_exceeded", "a long text")
    error = refused(openai.NotFoundError, "completions", lambda: client.completions.create(model=MODEL, prompt="x"))
    same(error.code, "unknown_url", "completions")


async def together():
    many = openai.AsyncOpenAI(base_url=url, api_key=token, max_retries=0, timeout=120)
    wanted = {}
    for case in CASES:
        wanted[question(case)] = case["text"].removesuffix("<|im_end|>"), len(case["new_ids"])
    asked = [text for text in wanted for _ in range(3)]
    found = await asyncio.gather(
        *(
            many.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": text}],
                temperature=0,
                max_tokens=wanted[text][1],
            )
            for text in asked
        )
    )
    for text, answer in zip(asked, found):
        same(answer.choices[0].message.content, wanted[text][0], "one of many")


def leaving():
    health = url.removesuffix("/v1") + "/health"
    parts = ask("tell", stream=True, max_tokens=100000)
    next(iter(parts))
    parts.close()
    for _ in range(600):
        if json.load(urllib.request.urlopen(health))["active"] == 0:
            return
        time.sleep(0.1)
    raise AssertionError("an answer goes on that nobody hears")


for check in (models, answers, settings, tools, refusals, leaving):
    check()
asyncio.run(together())
print(f"openai {openai.__version__}: {len(CASES)} answers, settings, tools, refusals and leaving are as it expects")
