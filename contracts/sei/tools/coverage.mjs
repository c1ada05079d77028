// Runs the tests with coverage and fails if a contract has fewer covered lines than wanted.
//   node tools/coverage.mjs [percent]
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const wanted = Number(process.argv[2] ?? 95);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "coverage-"));
const report = path.join(folder, "lcov.info");
// The vectors and the invariants call nothing that the others do not; without them this takes a third of the time.
const run = spawnSync(
  "forge",
  ["coverage", "--no-match-contract", "VectorsTest|InvariantsTest", "--report", "lcov", "--report-file", report],
  { cwd: path.resolve(import.meta.dirname, ".."), env: { ...process.env, SHIPPED: "false" }, encoding: "utf8" },
);
if (run.status !== 0) {
  console.error(run.error?.message ?? run.stdout + run.stderr);
  process.exit(1);
}
let file = "";
let poor = 0;
let measured = 0;
const found = {};
for (const line of fs.readFileSync(report, "utf8").split("\n")) {
  const [key, value] = [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)];
  if (key === "SF") found[(file = value)] = {};
  else if (["LF", "LH", "BRF", "BRH"].includes(key)) found[file][key] = Number(value);
}
fs.rmSync(folder, { recursive: true });
for (const [name, { LF, LH, BRF, BRH }] of Object.entries(found)) {
  if (!name.startsWith("src/") || !LF) continue;
  measured += 1;
  const percent = (100 * LH) / LF;
  console.log(`${name.padEnd(28)} lines ${LH}/${LF} (${percent.toFixed(1)} %)  branches ${BRH}/${BRF}`);
  if (percent < wanted) poor += 1;
}
if (poor || !measured) {
  console.error(`${poor} of ${measured} files are below ${wanted} % of their lines`);
  process.exit(1);
}
