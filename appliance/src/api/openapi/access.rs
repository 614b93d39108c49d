//! The routes of signing in, pairing, and of what the owner sees and ends.

use axum::http::Method;
use serde_json::{Value, json};

use super::operation::{Operation, Part, list, maybe, object, text, truth, whole, words};

fn credential() -> Value {
    object([
        ("id", text()),
        ("name", text()),
        ("person", text()),
        ("scope", words(&["infer", "chat", "owner"])),
        ("created_at", whole()),
        ("seen_at", maybe(whole())),
        ("seen_from", maybe(text())),
        ("expires_at", maybe(whole())),
    ])
}

/// A key as it is shown once.
fn key() -> Value {
    let mut shown = credential();
    shown["properties"]["key"] = text();
    shown
}

/// A pairing that has just been opened; addresses are null where nothing listens for them.
fn opened() -> Value {
    object([
        ("id", text()),
        ("code", text()),
        ("link", maybe(text())),
        ("page", maybe(text())),
        ("http_page", maybe(text())),
        (
            "picture",
            maybe(object([("size", whole()), ("path", text())])),
        ),
        ("reachable", truth()),
        ("expires_in_ms", whole()),
    ])
}

fn person() -> Value {
    object([("id", text()), ("name", text()), ("created_at", whole())])
}

/// Whether phones get through from anywhere.
fn verdict() -> Value {
    let states = [
        "looking",
        "not_asked",
        "named",
        "public",
        "open",
        "carrier",
        "closed",
    ];
    object([
        ("state", words(&states)),
        ("endpoint", maybe(text())),
        ("by?", text()),
        ("address?", maybe(text())),
        ("why?", text()),
    ])
}

fn tunnel() -> Value {
    object([
        ("device", text()),
        ("address", text()),
        ("endpoint", maybe(text())),
        ("created_at", whole()),
        ("handshake_s", maybe(whole())),
        ("received_bytes", whole()),
        ("sent_bytes", whole()),
        ("streams", whole()),
    ])
}

/// The WireGuard app's settings, as text and as a picture.
fn settings() -> Value {
    object([
        ("endpoint", text()),
        ("settings", text()),
        (
            "picture",
            maybe(object([("size", whole()), ("path", text())])),
        ),
    ])
}

fn scope() -> Value {
    words(&["infer", "chat", "owner"])
}

fn let_in() -> Value {
    object([
        ("state", words(&["waiting", "in"])),
        ("device?", credential()),
        ("token?", text()),
    ])
}

pub(super) fn describe() -> Part {
    let deleted = || object([("deleted", truth()), ("id", text())]);
    let mut operations = vec![
        Operation::get("/pair", "Leads a device that was scanned in to the page").status(307),
        Operation::get("/ca.pem", "The certificate authority of this appliance")
            .text(200, "application/x-x509-ca-cert"),
        Operation::get(
            "/ca.mobileconfig",
            "The same as a profile for Apple's phones",
        )
        .text(200, "application/x-apple-aspen-config"),
        Operation::get("/onebit/session", "Who asks, and how it could be more").writes(object([
            ("signed_in", truth()),
            ("scope", words(&["public", "infer", "chat", "owner"])),
            ("private", truth()),
            ("transport", words(&["loopback", "lan", "mesh"])),
            ("claimable", truth()),
            ("https_port", maybe(whole())),
            (
                "authority?",
                object([("sha256", text()), ("words", text())]),
            ),
            ("person?", text()),
            ("device?", maybe(text())),
            (
                "newest_device?",
                maybe(object([("name", text()), ("created_at", whole())])),
            ),
        ])),
        Operation::delete("/onebit/session", "Signs the device out, for good")
            .writes(object([("signed_in", truth())])),
        Operation::post(
            "/onebit/session/renew",
            "A new token for a device that keeps it itself",
        )
        .writes(object([("token", text())])),
        Operation::post(
            "/onebit/claim",
            "The first owner's device, by the setup code",
        )
        .takes_form(object([
            ("code", text()),
            ("name", text()),
            ("token?", truth()),
        ]))
        .writes(let_in()),
    ];
    operations.extend(pairing());
    operations.extend(mesh());
    operations.extend([
        Operation::get("/onebit/devices", "The paired devices")
            .writes(object([("devices", list(credential()))])),
        Operation::delete(
            "/onebit/devices",
            "Revokes all devices but the one that asks",
        )
        .writes(object([("deleted", whole())])),
        Operation::new(Method::PATCH, "/onebit/devices/{id}", "Renames a device")
            .takes_form(object([("name", text())]))
            .writes(object([("id", text()), ("name", text())])),
        Operation::delete(
            "/onebit/devices/{id}",
            "Revokes a device and ends its streams",
        )
        .writes(deleted()),
        Operation::get("/onebit/keys", "The keys of programs")
            .writes(object([("keys", list(credential()))])),
        Operation::post("/onebit/keys", "Makes a key and shows it once")
            .takes_form(object([
                ("name", text()),
                ("scope?", maybe(scope())),
                ("person?", maybe(text())),
                ("days?", maybe(whole())),
            ]))
            .creates(key()),
        Operation::delete("/onebit/keys/{id}", "Removes a key").writes(deleted()),
        Operation::get("/onebit/persons", "The persons of this appliance")
            .writes(object([("persons", list(person()))])),
        Operation::post("/onebit/persons", "Adds a person")
            .takes_form(object([("name", text())]))
            .creates(person()),
        Operation::delete(
            "/onebit/persons/{id}",
            "Removes a person with all that is theirs",
        )
        .writes(deleted()),
        Operation::get(
            "/onebit/audit",
            "What was done with devices, keys and persons",
        )
        .reads("limit", whole(), "How many lines at most")
        .writes(object([(
            "events",
            list(object([
                ("at", whole()),
                ("event", text()),
                ("subject", text()),
                ("address", text()),
            ])),
        )])),
    ]);
    Part {
        name: "Access",
        prefix: "Access",
        error: super::super::openai::error_schema(),
        operations,
    }
}

fn pairing() -> Vec<Operation> {
    vec![
        Operation::post(
            "/onebit/tickets",
            "Opens one WebSocket within half a minute",
        )
        .creates(object([("ticket", text()), ("expires_in_s", whole())])),
        Operation::get("/onebit/pairing", "The pairings and where they stand")
            .writes(object([("pairings", list(json!({ "type": "object" })))])),
        Operation::post("/onebit/pairing", "Opens a pairing: code, link and picture")
            .takes_form(object([
                ("scope?", maybe(scope())),
                ("person?", maybe(text())),
            ]))
            .creates(opened()),
        Operation::post(
            "/onebit/pairing/{id}",
            "Allows or refuses the device that waits",
        )
        .takes_form(object([("allow", truth()), ("digits?", text())]))
        .writes(object([("id", text()), ("allowed", truth())])),
        Operation::post("/onebit/pair", "A device uses a code")
            .takes_form(object([("code", text()), ("name", text())]))
            .creates(object([
                ("id", text()),
                ("secret", text()),
                ("digits", text()),
                ("expires_in_ms", whole()),
            ])),
        Operation::post("/onebit/pair/{id}", "A device asks how its pairing stands")
            .takes_form(object([("secret", text()), ("token?", truth())]))
            .writes(let_in()),
    ]
}

fn mesh() -> Vec<Operation> {
    let deleted = || object([("deleted", truth()), ("id", text())]);
    vec![
        Operation::get(
            "/onebit/mesh",
            "The tunnels of devices, and how far they reach",
        )
        .writes(object([
            ("enabled", truth()),
            ("running", truth()),
            ("failure", maybe(text())),
            ("port", whole()),
            ("public_key", text()),
            ("addresses", list(text())),
            ("home", maybe(text())),
            ("anywhere", verdict()),
            (
                "tailnet",
                maybe(object([("name", text()), ("addresses", list(text()))])),
            ),
            ("peers", list(tunnel())),
        ])),
        Operation::post(
            "/onebit/mesh/peers",
            "Gives a device a tunnel and shows its private key once",
        )
        .takes_form(object([
            ("device?", maybe(text())),
            ("name?", maybe(text())),
        ]))
        .creates(object([
            ("device", text()),
            ("address", text()),
            ("own_address", text()),
            ("home", maybe(settings())),
            ("anywhere", maybe(settings())),
            ("verdict", verdict()),
        ])),
        Operation::delete(
            "/onebit/mesh/peers/{device}",
            "Takes a device's tunnel away; the device stays",
        )
        .writes(deleted()),
        Operation::get("/onebit/headscale", "The devices of the owner's Headscale").writes(object(
            [
                ("version", maybe(text())),
                (
                    "nodes",
                    list(object([
                        ("id", text()),
                        ("name", text()),
                        ("user", text()),
                        ("addresses", list(text())),
                        ("online", truth()),
                    ])),
                ),
            ],
        )),
        Operation::post(
            "/onebit/headscale/invitations",
            "A key that lets one device into the owner's Headscale, shown once",
        )
        .takes_form(object([("user", text())]))
        .creates(object([
            ("server", text()),
            ("key", text()),
            ("expires_in_min", whole()),
            (
                "picture",
                maybe(object([("size", whole()), ("path", text())])),
            ),
        ])),
        Operation::delete(
            "/onebit/headscale/nodes/{id}",
            "Ends a device's session in the owner's Headscale",
        )
        .writes(deleted()),
    ]
}
