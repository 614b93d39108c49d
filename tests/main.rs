//! The appliance from outside: one test binary, one file for each capability.
//!
//! Most tests start the real program on a free port in a folder of its own, with a small model that
//! `install.sh --fetch-model` fetches, and talk to it over loopback. `tests/run` prepares what they need.

mod support;

// The sources themselves.
mod architecture; // the layers and homes that ARCHITECTURE.md promises
mod hygiene; // no forgotten test files, no leftovers, files of readable size

// The program on its own.
mod bench; // one report of speed and perplexity, as a table and as JSON
mod command_line; // exit codes and the one line on stderr
mod convert; // packings there and back
mod doctor; // prerequisites, as a person and as a program reads them
mod installer; // install.sh: dry run, truncation, both shells
mod installing; // install.sh with a program in name: killed at every step, told to stop, with a firewall

// What the appliance starts, and what leaves it.
mod chaos; // engines that fail in every way while requests keep coming
mod fetch; // the one door out, against servers that do not play fair
mod process; // children of every bad kind; nothing outlives the appliance
mod pull; // models from a mirror that cuts, lies and dies

// The program as a server.
mod access; // what a stranger sees, pairing, persons, keys
mod acme; // certificates of others: from Let's Encrypt's own test authority, and from a tailscaled
mod agents; // tasks worked through with tools, asked about, stopped, taken up again
mod anthropic; // messages, their events and their token count
mod backup; // one file of everything, made while the appliance runs
mod bad_requests; // every refusal, in the dialect's shape, and the process lives on
mod builtin; // the model that comes with the program, and a chat without any network
mod chats; // the page's own routes: the tree, turns that outlive their stream
mod documents; // the library: in, found, cited, deleted
mod drawing; // pictures: steps, what is refused, a client that leaves
mod elsewhere; // another server's models, and what the hub's own programs have fetched
mod embeddings; // vectors, with an engine that makes them and without
mod flm; // FastFlowLM's faults, one by one
mod headscale; // the owner's own server: its devices, keys for new ones
mod health; // the first answer, and who may ask
mod hostile; // forty files that are broken or mean harm
mod incidents; // what has happened to others, from a second machine on the network
mod kernels; // the GPU's kernels: compiled, checked, kept, set aside; a chat on a software device
mod kills; // documents while the appliance dies
mod lemonade; // models, pulls, policies and the log, below four prefixes
mod llamacpp; // the routes of llama.cpp's own server: text, tokens, grammars
mod mcp; // our own server, and servers that mean harm
mod mesh; // a phone's tunnel: WireGuard in user space, from the same house and through a router
mod network; // its name, certificate and pairing, as another machine finds them
mod ollama; // the same by Ollama's names, in lines, with its refusals
mod openai; // models, chat, completions, streams
mod openapi; // the description of all routes, and the manual beside them
mod outgrown; // conversations longer than the context: refused, or without their oldest turns
mod pictures; // images in every dialect: to an engine that sees, or refused by name
mod realtime; // live speech over a WebSocket: turns, answers, interruptions
mod recognition; // scanned pages and pictures, with tesseract and without
mod residency; // many models loaded at once
mod responses; // OpenAI's Responses: items, events, what is kept
mod routing; // lanes, fall-back, measurements, pins, and what is told of them
mod scenarios; // forty conversations, the same tokens in every dialect
mod service; // what systemd hears
mod speech; // recordings to text: forms, containers, refusals; no model yet
mod starter; // the models that a new appliance is worth having
mod streams; // clients that leave, dawdle and break off; nothing is missing afterwards

// What needs more than this repository; `tests/run` passes --ignored for these.
mod appimage; // the AppImage from awkward places, and install.sh with it
mod clients; // the official OpenAI, Anthropic and Ollama clients for Python and JavaScript
mod full;
mod update; // releases over a loopback mirror: signed, forged, damaged, and one that does not start // minutes of work: parity with llama.cpp, perplexity, many streams
