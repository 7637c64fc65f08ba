// Signs webhooks with the senders' own libraries: one delivery on each line of its input, its header fields on each line
// of its output.
import { createHmac } from "node:crypto";
import { createInterface } from "node:readline";
import { sign as signGitHub } from "@octokit/webhooks-methods";
import { Webhook as Standard } from "standardwebhooks";
import { Webhook as Svix } from "svix";
import Stripe from "stripe";

const stripe = new Stripe("sk_test_1", { telemetry: false });

const senders = {
  github: async ({ secret, id, body }) => ({ "X-GitHub-Delivery": id, "X-Hub-Signature-256": await signGitHub(secret, body) }),
  // Shopify publishes no function that signs. This is the formula of its documentation.
  shopify: ({ secret, id, body }) => ({
    "X-Shopify-Webhook-Id": id, "X-Shopify-Hmac-Sha256": createHmac("sha256", secret).update(body, "utf8").digest("base64"),
  }),
  standard: ({ secret, id, at, body }) => ({
    "Webhook-Id": id, "Webhook-Timestamp": String(at), "Webhook-Signature": new Standard(secret).sign(id, new Date(at * 1000), body),
  }),
  stripe: ({ secret, at, body }) => ({
    "Stripe-Signature": stripe.webhooks.generateTestHeaderString({ payload: body, secret, timestamp: at }),
  }),
  svix: ({ secret, id, at, body }) => ({
    "Svix-Id": id, "Svix-Timestamp": String(at), "Svix-Signature": new Svix(secret).sign(id, new Date(at * 1000), body),
  }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const delivery = JSON.parse(line);
  console.log(JSON.stringify(await senders[delivery.sender](delivery)));
}
