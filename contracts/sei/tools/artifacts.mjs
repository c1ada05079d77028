// Builds src/ with npm's solc and writes what the Python package ships, one JSON file per contract.
//   node tools/artifacts.mjs            writes deai/chain/artifacts/sei/
//   node tools/artifacts.mjs --check    exits 1 unless the committed files are these, byte for byte
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const require = createRequire(import.meta.url);
const root = path.resolve(import.meta.dirname, "..");
const modules = path.join(root, "node_modules");
const target = path.resolve(root, "../../deai/chain/artifacts/sei");
const SHIPPED = ["ComputeToken", "Delegations", "NodeRegistry", "OrderSettlement", "PaymentChannels", "RewardDistributor", "TaskEscrow"];
const MAX_CODE = 24576; // EIP-170

const files = (dir) =>
  fs.readdirSync(path.join(root, dir), { withFileTypes: true }).flatMap((entry) => {
    const name = `${dir}/${entry.name}`;
    return entry.isDirectory() ? files(name) : name.endsWith(".sol") ? [name] : [];
  });
const sources = Object.fromEntries(
  files("src").sort().map((name) => [name, { content: fs.readFileSync(path.join(root, name), "utf8") }]),
);
const settings = {
  evmVersion: "prague", // the compiler's default is newer than what Sei executes
  viaIR: true,
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: true },
};
const wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"];
const solc = require(path.join(modules, "solc"));
const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: "Solidity",
      sources,
      settings: { ...settings, outputSelection: { "*": { "*": wanted } } },
    }),
    { import: (name) => ({ contents: fs.readFileSync(path.join(modules, name), "utf8") }) },
  ),
);
// Warnings are errors in our own files; the libraries' are not ours to fix.
const ours = (error) => error.severity === "error" || error.sourceLocation?.file.startsWith("src/");
const problems = (output.errors ?? []).filter((error) => error.severity !== "info" && ours(error));
for (const problem of problems) console.error(problem.formattedMessage);
if (problems.length) process.exit(1);

// Numbers of syntax-tree nodes change with every edit anywhere and say nothing about storage.
const layout = (found) =>
  JSON.parse(JSON.stringify(found, (key, value) => (key === "astId" ? undefined : value)).replace(/\)\d+/g, ")"));

let stale = 0;
fs.mkdirSync(target, { recursive: true });
for (const name of SHIPPED) {
  const file = Object.keys(output.contracts).find((source) => path.basename(source) === `${name}.sol`);
  const contract = output.contracts[file][name];
  const size = contract.evm.deployedBytecode.object.length / 2;
  const text = `${JSON.stringify(
    {
      contractName: name,
      sourceName: file,
      compiler: solc.version(),
      settings,
      deployedSize: size,
      abi: contract.abi,
      storageLayout: layout(contract.storageLayout),
      bytecode: `0x${contract.evm.bytecode.object}`,
    },
    null,
    1,
  )}\n`;
  const place = path.join(target, `${name}.json`);
  const same = fs.existsSync(place) && fs.readFileSync(place, "utf8") === text;
  console.log(`${name}: ${size} bytes of code, ${same ? "unchanged" : "changed"}`);
  if (size > MAX_CODE) throw new Error(`${name} exceeds ${MAX_CODE} bytes`);
  if (!same) stale += 1;
  if (!process.argv.includes("--check")) fs.writeFileSync(place, text);
}
if (stale && process.argv.includes("--check")) {
  console.error("the committed artifacts are not what these sources build: run `make build`");
  process.exit(1);
}
