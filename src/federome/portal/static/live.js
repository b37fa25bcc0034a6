// Live pages: when the server says that there is news, fetch this page again and put its live parts in place.
// Every page is complete without this file.
"use strict";

(() => {
  const marked = document.querySelector("[data-live]");
  if (!marked || !("EventSource" in window)) return;
  const source = new EventSource(marked.dataset.live);

  source.addEventListener("news", async () => {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (!answer.ok) return source.close();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = fresh.getElementById(part.id);
      if (other) part.replaceChildren(...other.childNodes);
    }
    if (!fresh.querySelector("[data-live]")) source.close();
  });
})();
