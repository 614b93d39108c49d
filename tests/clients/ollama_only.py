"""A client that speaks Ollama's dialect alone does a small job: ollama_only.py http://127.0.0.1:PORT

langchain-ollama looks the model up, chats, streams, asks for a form and calls a tool, each its own way.
"""

import sys

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaLLM
from ollama import Client
from pydantic import BaseModel

base = sys.argv[1]
model = Client(host=base).list().models[0].model
checks = 0


def check(holds, told=None):
    global checks
    assert holds, told
    checks += 1


chat = ChatOllama(model=model, base_url=base, temperature=0, num_predict=16, validate_model_on_init=True)
notes = ["The kettle is broken.", "The door squeaks.", "The lamp works."]

# The job: each note is sorted into a form, then all are summed up in a stream.
class Form(BaseModel):
    broken: bool


sorter = ChatOllama(model=model, base_url=base, temperature=0, num_predict=60).with_structured_output(Form)
for note in notes:
    form = sorter.invoke([SystemMessage("Is something broken?"), HumanMessage(note)])
    check(isinstance(form.broken, bool), form)
streamed = None
for piece in chat.stream([HumanMessage("Sum up: " + " ".join(notes))]):
    streamed = piece if streamed is None else streamed + piece
summary = streamed.content
check(summary, streamed)
check(streamed.response_metadata["done"], streamed.response_metadata)
check(0 < streamed.usage_metadata["output_tokens"] <= 16, streamed.usage_metadata)
whole = chat.invoke([HumanMessage("Sum up: " + " ".join(notes))])
check(whole.content == summary, (whole.content, summary))


@tool
def repair(thing: str) -> str:
    """Repairs a thing."""
    return f"{thing} is repaired"


offered = chat.bind_tools([repair])
check(isinstance(offered.invoke([HumanMessage("Repair the kettle.")]), AIMessage))
done = AIMessage(content="", tool_calls=[{"name": "repair", "args": {"thing": "kettle"}, "id": "1"}])
told = offered.invoke([HumanMessage("Repair the kettle."), done, ToolMessage("kettle is repaired", tool_call_id="1")])
check(told.response_metadata["done"], told)
check(OllamaLLM(model=model, base_url=base, temperature=0, num_predict=4).invoke("Once upon a time"))
check(len(chat.batch([[HumanMessage("a")], [HumanMessage("b")]])) == 2)
print(f"{checks} checks")
