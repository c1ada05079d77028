// Fetches the page again every two seconds and swaps what changed, by id. Everything works
// without it; it leaves alone whatever has the focus, holds a selection, or was opened.
"use strict";
(() => {
  const PARTS = [
    "heads", "lead", "notice", "figures", "throughput", "chains", "states", "money", "workloads",
    "tabs", "tasks", "nodes", "days", "offers", "seats", "path", "lanes", "transactions", "timeline",
  ];
  const busy = (part) => {
    const selection = document.getSelection();
    return part.contains(document.activeElement) ||
      (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  };
  const refresh = async () => {
    if (document.hidden) return;
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of PARTS) {
      const now = document.getElementById(id);
      const next = page.getElementById(id);
      if (now && next && now.innerHTML !== next.innerHTML && !busy(now)) {
        now.replaceWith(document.adoptNode(next));
      }
    }
  };
  const loop = () => refresh().catch(() => {}).finally(() => setTimeout(loop, 2000));
  setTimeout(loop, 2000);
})();
