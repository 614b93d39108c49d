"""The official Python client's realtime interface against an appliance:

    realtime_client.py http://127.0.0.1:PORT SOUND [EXPECTED]

SOUND is a WAV file at 24 kHz, 16 bits, one channel, in which somebody speaks once. Where the appliance has a voice, the
answers are spoken; else they are text. Every event is held against the client's own types: a field that they demand and
the appliance leaves out is an error.
"""

import base64
import sys
import time
import wave

import openai
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

address, sound = sys.argv[1:3]
expected = sys.argv[3] if len(sys.argv) > 3 else ""
client = openai.OpenAI(base_url=address + "/v1", api_key="unused", max_retries=0)
typed = TypeAdapter(RealtimeServerEvent)
checks = 0


def check(holds, told=None):
    global checks
    assert holds, told
    checks += 1


def voices():
    try:
        client.get("/audio/voices", cast_to=object)
        return True
    except openai.ConflictError:
        return False


speaks = voices()
with wave.open(sound) as file:
    assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (24_000, 2, 1), file.getparams()
    speech = file.readframes(file.getnframes())
silence = bytes(24_000 * 2)


class Talk:
    """A session, with its events read one by one."""

    def __init__(self, connection):
        self.connection = connection
        self.seen = []

    def next(self):
        event = typed.validate_json(self.connection.recv_bytes())
        self.seen.append(event)
        return event

    def until(self, *kinds):
        """Reads on to an event of one of these types; gives all that came."""
        events = []
        while True:
            event = self.next()
            check(event.type != "error", event)
            events.append(event)
            if event.type in kinds:
                return events

    def say(self, pcm):
        """Sends sound as a microphone does, a tenth of a second at a time."""
        for at in range(0, len(pcm), 4800):
            self.connection.input_audio_buffer.append(audio=base64.b64encode(pcm[at : at + 4800]).decode())


def kinds(events):
    return [event.type for event in events]


def text_of(events):
    return "".join(event.delta for event in events if event.type in ("response.output_text.delta", "response.output_audio_transcript.delta"))


# Somebody is written down.
with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
    talk = Talk(connection)
    check(talk.until("session.created")[-1].session.type == "transcription")
    connection.session.update(session={"type": "transcription", "audio": {"input": {
        "format": {"type": "audio/pcm", "rate": 24000}, "transcription": {"model": "whisper-1", "language": "en"},
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 300}}}})
    session = talk.until("session.updated")[-1].session
    check(session.audio.input.turn_detection.silence_duration_ms == 300, session)
    talk.say(silence + speech + silence)
    events = talk.until("conversation.item.input_audio_transcription.completed")
    names = kinds(events)
    for name in ("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed", "conversation.item.added"):
        check(names.count(name) == 1, names)
    heard = events[-1].transcript
    check(heard and expected.lower() in heard.lower(), heard)
    deltas = "".join(event.delta for event in events if event.type == "conversation.item.input_audio_transcription.delta")
    check(heard.startswith(deltas[:8]), (heard, deltas))
    item = events[-1].item_id
    check(all(event.item_id == item for event in events if event.type.startswith("input_audio_buffer.")), names)
    connection.input_audio_buffer.clear()
    talk.until("input_audio_buffer.cleared")
    connection.input_audio_buffer.commit()
    error = talk.next()
    check(error.type == "error" and error.error.code == "input_audio_buffer_commit_empty", error)

# Somebody asks, is answered, and interrupts.
with client.realtime.connect(model="gpt-realtime") as connection:
    talk = Talk(connection)
    talk.until("session.created")
    form = "audio" if speaks else "text"
    connection.session.update(session={"type": "realtime", "output_modalities": [form], "instructions": "Answer at length.",
        "max_output_tokens": 60 if speaks else 300, "audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 300}}}})
    check(talk.until("session.updated")[-1].session.output_modalities == [form])
    talk.say(silence + speech + silence)
    begun = time.perf_counter()
    events = talk.until(f"response.output_{form}.delta")
    first = time.perf_counter() - begun
    names = kinds(events)
    check(names.index("conversation.item.input_audio_transcription.completed") < names.index("response.created"), names)
    # Who speaks stops the answer.
    talk.say(speech[: 24_000 * 2] if len(speech) > 48_000 else speech)
    stopped = talk.until("response.done")
    check("input_audio_buffer.speech_started" in kinds(stopped) or stopped[-1].response.status == "completed", kinds(stopped))
    if stopped[-1].response.status == "cancelled":
        check(stopped[-1].response.status_details.reason == "turn_detected", stopped[-1])
    connection.input_audio_buffer.clear()
    talk.until("input_audio_buffer.cleared")

# Somebody types; a tool is called.
with client.realtime.connect(model="gpt-realtime") as connection:
    talk = Talk(connection)
    talk.until("session.created")
    connection.session.update(session={"type": "realtime", "output_modalities": ["text"], "max_output_tokens": 60})
    talk.until("session.updated")
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Name a colour."}]})
    talk.until("conversation.item.done")
    connection.response.create()
    events = talk.until("response.done")
    response = events[-1].response
    check(response.status in ("completed", "incomplete"), response)
    check(response.output[0].content[0].text == text_of(events), response.output)
    check(response.usage.output_tokens > 0, response.usage)
    tool = {"type": "function", "name": "light", "description": "Switches a light.",
            "parameters": {"type": "object", "properties": {"on": {"enum": [True, False]}}, "required": ["on"], "additionalProperties": False}}
    connection.response.create(response={"tools": [tool], "tool_choice": "required"})
    events = talk.until("response.done")
    call = next(item for item in events[-1].response.output if item.type == "function_call")
    check(call.name == "light" and '"on"' in call.arguments, call)
    check("response.function_call_arguments.done" in kinds(events), kinds(events))
    connection.conversation.item.create(item={"type": "function_call_output", "call_id": call.call_id, "output": "done"})
    talk.until("conversation.item.done")
    connection.response.create(response={"tool_choice": "none"})
    check(talk.until("response.done")[-1].response.status in ("completed", "incomplete"))

print(f"realtime_client.py: {checks} checks, answers as {form}, first of it {first * 1000:.0f} ms after the sound was sent")
