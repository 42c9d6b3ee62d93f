// node run.mjs PID-OF-REDIS CONCURRENCY: jobs a second, and CPU of both processes for each.
import fs from "node:fs";
import { Queue, Worker } from "bullmq";

const [redis, concurrency] = process.argv.slice(2).map(Number);
const jobs = 10_000;
const connection = { host: "127.0.0.1", port: 6399, maxRetriesPerRequest: null };

// Milliseconds of CPU so far; the name of a process may hold a blank.
function cpu(pid) {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(") ") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

const queue = new Queue(`bench-${process.pid}`, { connection });
const worker = new Worker(queue.name, async () => {}, { connection, concurrency });
await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
let done = 0;
const drained = new Promise((resolve) => worker.on("completed", () => ++done === jobs && resolve()));
const before = cpu(process.pid) + cpu(redis);
const started = performance.now();
for (let from = 0; from < jobs; from += 500) {
  const bulk = Array.from({ length: 500 }, (_, n) => ({
    name: "describe",
    data: { path: `/photos/${from + n}.jpg` },
    opts: { attempts: 2 },
  }));
  await queue.addBulk(bulk);
}
const submitted = performance.now() - started;
await drained;
const took = performance.now() - started;
const each = (cpu(process.pid) + cpu(redis) - before) / jobs;
console.log(
  `bullmq, ${concurrency} at once: ${jobs} jobs in ${(took / 1000).toFixed(2)} s (submitted after ${(submitted / 1000).toFixed(2)} s), ` +
    `${((jobs * 1000) / took).toFixed(0)} a second, ${each.toFixed(3)} ms CPU each`,
);
await worker.close();
await queue.close();
