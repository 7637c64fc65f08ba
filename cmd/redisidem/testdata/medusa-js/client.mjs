// Talks to the shop with the stock client of Medusa: one call on each line of its input, one answer on each line of its output.
import { createInterface } from "node:readline";
import medusa from "@medusajs/medusa-js";

const Client = medusa.default ?? medusa;
const [baseUrl, maxRetries] = [process.argv[2], Number(process.argv[3])];
const client = new Client({ baseUrl, maxRetries });

for await (const line of createInterface({ input: process.stdin })) {
  const { method, args } = JSON.parse(line);
  let answer;
  try {
    const path = method.split(".");
    const name = path.pop();
    const resource = path.reduce((at, part) => at[part], client);
    const { response, ...value } = await resource[name](...args);
    answer = { status: response.status, value };
  } catch (error) {
    answer = { status: error.response?.status ?? 0, value: error.response?.data ?? null, error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
process.exit(); // whatever the client still waits for
