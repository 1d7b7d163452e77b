// A WebSocket peer made with ws: "client" is one call as Exotel has it, "agent" serves as a tenant's agent until its input ends.
// Options come as one line of JSON on standard input, reports go as lines of JSON to standard output; interop_test.go knows both.
"use strict";
const readline = require("node:readline");
const { WebSocket, WebSocketServer } = require("ws");

const tell = (report) => process.stdout.write(JSON.stringify(report) + "\n");

// send sends a message, in parts where that is wanted, with a ping in front of each further one.
function send(ws, message, { parts, pings, binary }) {
  const bytes = Buffer.from(message);
  if (!parts) {
    if (pings) ws.ping();
    ws.send(bytes, { binary });
    return;
  }
  const size = Math.ceil(bytes.length / parts);
  for (let at = 0; at < bytes.length; at += size) {
    if (pings && at > 0) ws.ping();
    ws.send(bytes.subarray(at, at + size), { binary, fin: at + size >= bytes.length });
  }
}

function client(o) {
  const report = { status: 0, error: "", extensions: "", subprotocol: "", messages: [], binary: 0, pongs: 0, code: 0, reason: "" };
  const ws = new WebSocket(o.url, o.subprotocols || [], { perMessageDeflate: Boolean(o.deflate) });
  let echoes = 0;
  const end = () => {
    if (o.vanish) ws.terminate();
    else if (o.code) ws.close(o.code, o.reason);
    else send(ws, o.stop, o);
  };
  ws.on("unexpected-response", (_, response) => {
    report.status = response.statusCode;
    ws.terminate();
  });
  ws.on("error", (error) => (report.error ||= String(error.message)));
  ws.on("open", () => {
    report.extensions = ws.extensions;
    report.subprotocol = ws.protocol;
    for (const message of o.messages) send(ws, message, o);
    if (o.echoes === 0) end();
  });
  ws.on("pong", () => report.pongs++);
  ws.on("message", (data, binary) => {
    report.messages.push(data.toString());
    if (binary) report.binary++;
    if (JSON.parse(data).event === "media" && ++echoes === o.echoes) end();
  });
  ws.on("close", (code, reason) => {
    report.code = code;
    report.reason = reason.toString();
    tell(report);
  });
}

function serve(o, lines) {
  const server = new WebSocketServer({
    host: "127.0.0.1", port: 0, perMessageDeflate: Boolean(o.deflate),
    handleProtocols: o.subprotocols ? () => o.subprotocols[0] : undefined,
  });
  server.on("listening", () => tell({ port: server.address().port }));
  server.on("connection", (ws, request) => take(o, ws, request));
  lines.on("close", () => {
    for (const ws of server.clients) ws.terminate();
    server.close();
  });
}

// take is one call of an agent that says what it hears.
function take(o, ws, request) {
  const report = { path: request.url, key: request.headers["x-agent-key"] || "", offered: request.headers["sec-websocket-extensions"] || "",
    extensions: ws.extensions, subprotocol: ws.protocol, start: null, events: [], heard: [], pongs: 0, code: 0, reason: "" };
  let id = "";
  const hear = (payload) => {
    report.heard.push(payload);
    if (report.heard.length === o.closeAfter) ws.close(o.code, o.reason);
    return !o.closeAfter || report.heard.length < o.closeAfter;
  };
  ws.on("pong", () => report.pongs++);
  ws.on("message", (data, binary) => {
    if (o.protocol === "pcm" && binary) {
      if (hear(data.toString("base64"))) send(ws, data, { ...o, binary: true });
      return;
    }
    const message = JSON.parse(data);
    report.events.push(message.event);
    if (message.event === "start") {
      report.start = message;
      id = message.stream_sid || message.streamSid;
    } else if (message.event === "media" && hear(message.media.payload)) {
      const stream = o.protocol === "twilio" ? { streamSid: id } : { stream_sid: id };
      send(ws, JSON.stringify({ event: "media", ...stream, media: { payload: message.media.payload } }), o);
    }
  });
  ws.on("error", () => {}); // a close with its code follows
  ws.on("close", (code, reason) => {
    report.code = code;
    report.reason = reason.toString();
    tell(report);
  });
}

const lines = readline.createInterface({ input: process.stdin });
lines.once("line", (line) => {
  const o = JSON.parse(line);
  if (process.argv[2] === "agent") serve(o, lines);
  else client(o);
});
