"""Lemonade's way to be written down live, as its own example does it: lemonade_realtime.py http://127.0.0.1:PORT SOUND [EXPECTED]

The model is loaded by its route, the port is asked of /health, and what is told while somebody speaks takes the place of
what was told before. SOUND is a WAV file at 16 kHz, 16 bits, one channel, in which somebody speaks.
"""

import asyncio
import base64
import json
import sys
import urllib.parse
import urllib.request
import wave

import websockets

address, sound = sys.argv[1:3]
expected = sys.argv[3] if len(sys.argv) > 3 else ""
checks = 0


def check(holds, told=None):
    global checks
    assert holds, told
    checks += 1


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


models = [model["id"] for model in ask("/api/v1/models")["data"] if "transcription" in model["labels"]]
check(len(models) == 1, models)
check(ask("/api/v1/load", {"model_name": models[0]})["status"] == "success")
port = ask("/api/v1/health")["websocket_port"]
check(isinstance(port, int), port)
with wave.open(sound) as file:
    assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (16_000, 2, 1), file.getparams()
    speech = file.readframes(file.getnframes())


async def talk():
    host = urllib.parse.urlsplit(address).hostname
    async with websockets.connect(f"ws://{host}:{port}/realtime?model={models[0]}") as socket:
        created = json.loads(await socket.recv())
        check(created["type"] == "session.created" and created["session"]["id"], created)
        pcm = bytes(16_000) + speech + bytes(16_000 * 4)
        shown, done, kinds = [], None, []
        for at in range(0, len(pcm), 8192):
            await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm[at : at + 8192]).decode()}))
            await asyncio.sleep(0)
        while done is None:
            event = json.loads(await socket.recv())
            kinds.append(event["type"])
            check(event["type"] != "error", event)
            if event["type"].endswith("transcription.delta"):
                shown.append(event["delta"])
            if event["type"].endswith("transcription.completed"):
                done = event["transcript"]
        check(expected.lower() in done.lower(), done)
        # The line on the screen ends as the transcript.
        check(shown and shown[-1] == done, (shown, done))
        check(kinds[:1] == ["input_audio_buffer.speech_started"], kinds)
        # By hand: no detection, a commit, a clear.
        await socket.send(json.dumps({"type": "session.update", "session": {"model": models[0], "turn_detection": None}}))
        while json.loads(await socket.recv())["type"] != "session.updated":
            pass
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(speech[:64_000]).decode()}))
        await socket.send(json.dumps({"type": "input_audio_buffer.clear"}))
        check(json.loads(await socket.recv())["type"] == "input_audio_buffer.cleared")
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(speech[:64_000]).decode()}))
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        while (event := json.loads(await socket.recv()))["type"] != "conversation.item.input_audio_transcription.completed":
            check(event["type"] != "error", event)
        check(event["transcript"].strip() != "", event)


asyncio.run(talk())
print(f"lemonade_realtime.py: {checks} checks")
