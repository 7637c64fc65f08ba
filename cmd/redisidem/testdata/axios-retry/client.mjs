// Sends orders with axios and axios-retry: one call on each line of its input, one answer on each line of its output.
import { createInterface } from "node:readline";
import axios from "axios";
import axiosRetry, { isNetworkError, isRetryableError } from "axios-retry";

const client = axios.create({ baseURL: process.argv[2], timeout: 30000 });
axiosRetry(client, {
  retryDelay: (count, error) => axiosRetry.exponentialDelay(count, error, 20), // or a Retry-After, if that is longer
  // By default POST is not repeated. With a key it can be, also while the first request is in flight.
  retryCondition: (error) => isNetworkError(error) || isRetryableError(error) || error.response?.status === 409,
});

for await (const line of createInterface({ input: process.stdin })) {
  const { path, key, retries } = JSON.parse(line);
  const answer = ({ status, headers, data, config }) => ({
    status, run: data?.run ?? 0, replayed: headers["idempotency-replayed"] === "true", problem: headers["idempotency-problem"],
    retries: config["axios-retry"]?.retryCount ?? 0,
  });
  let result;
  try {
    result = answer(await client.post(path, { item: "book" }, { headers: { "Idempotency-Key": key }, "axios-retry": { retries } }));
  } catch (error) {
    const retried = error.config?.["axios-retry"]?.retryCount ?? 0;
    result = error.response ? answer(error.response) : { status: 0, error: error.code ?? String(error), retries: retried };
  }
  console.log(JSON.stringify(result));
}
process.exit(); // whatever the client still waits for
