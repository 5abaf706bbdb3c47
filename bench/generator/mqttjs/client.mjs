// mqtt.js: the same conversation as clients/lines.py, published in the same ticks.
import mqtt from "mqtt";
import readline from "node:readline";

const [endpoint, clients, intervalS, seconds, payloadBytes, qos] = process.argv.slice(2);
const count = Number(clients);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (...words) => process.stdout.write(words.join(" ") + "\n");
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const names = Array.from({ length: count }, (_, n) => "BENCH" + String(n).padStart(12, "0"));

say("started");
await lines.next();
let began = performance.now();
const connected = [];
let next = 0;
async function connectSome() {
  while (next < count) {
    const n = next++;
    connected[n] = await mqtt.connectAsync(`mqtt://${endpoint}`, {
      clientId: names[n], clean: true, protocolVersion: 5, keepalive: 60,
    });
  }
}
await Promise.all(Array.from({ length: 500 }, connectSome));
say("connected", (performance.now() - began) / 1000);
await lines.next();

const payload = Buffer.alloc(Number(payloadBytes), "x");
const topics = names.map((name) => `fleet/v1/${name.slice(-2)}/${name}/telemetry`);
const options = { qos: Number(qos), properties: { contentType: "application/json" } };
let sent = 0, acknowledged = 0;
began = performance.now();
for (;;) {
  const elapsed = (performance.now() - began) / 1000;
  if (elapsed >= Number(seconds)) break;
  const due = Math.floor((elapsed * count) / Number(intervalS));
  for (; sent < due; sent++) {
    connected[sent % count].publish(topics[sent % count], payload, options, () => acknowledged++);
  }
  await sleep(50);
}
for (let n = 0; n < 1500 && acknowledged < sent; n++) await sleep(20);
say("published", sent, acknowledged);
await lines.next();
process.exit(0);
