// Makes charges with Stripe's own client: one call on each line of its input, one answer on each line of its output.
import { createInterface } from "node:readline";
import Stripe from "stripe";

const url = new URL(process.argv[2]);
const stripe = new Stripe("sk_test_1", {
  protocol: url.protocol.replace(":", ""), host: url.hostname, port: url.port, telemetry: false,
});

for await (const line of createInterface({ input: process.stdin })) {
  const { resource, method, args, options } = JSON.parse(line);
  let answer;
  try {
    const object = await stripe[resource][method](...args, options);
    const { headers, requestId } = object.lastResponse;
    answer = { id: object.id, amount: object.amount, replayed: headers["idempotent-replayed"] === "true", requestId };
  } catch (error) {
    const { type, rawType, code, statusCode, message, headers } = error;
    answer = { error: { type, rawType, code, status: statusCode, message }, replayed: headers?.["idempotent-replayed"] === "true" };
  }
  console.log(JSON.stringify(answer));
}
process.exit(); // whatever the client still waits for
