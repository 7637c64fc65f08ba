// The search of the site. The page loads the engine and the sections of all pages when the field
// gets the focus for the first time; both are files of the site, so it works without a network.
(() => {
  "use strict";
  const own = document.currentScript;
  const form = document.querySelector("form.search");
  const input = form.querySelector("input");
  const box = form.querySelector(".results");
  const status = box.querySelector("[role=status]");
  const list = box.querySelector("ol");
  const root = new URL(".", own.src); // of the site
  const most = 12; // results shown
  form.hidden = false;

  const load = (address) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(address, root);
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${address} could not be loaded`));
    document.head.append(script);
  });

  let engine; // a promise of the index, once it was asked for
  const index = () => engine ??= Promise.all([load(own.dataset.engine), load(own.dataset.sections)]).then(() => {
    const made = new MiniSearch({
      fields: ["title", "page", "text"],
      storeFields: ["title", "page", "text"],
      searchOptions: {
        boost: { title: 4, page: 2 },
        prefix: true,
        fuzzy: (term) => term.length > 4 ? 0.2 : false,
        combineWith: "AND",
      },
    });
    made.addAll(sections);
    return made;
  });

  // excerpt returns some words around the first match, with the matches marked.
  const excerpt = (text, terms) => {
    const words = terms.map((term) => term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const pattern = new RegExp(`(${words.join("|")})`, "i");
    const at = Math.max(0, text.search(pattern));
    const from = at < 60 ? 0 : text.indexOf(" ", at - 60) + 1;
    const to = text.length <= from + 160 ? text.length : text.lastIndexOf(" ", from + 160);
    const part = (from > 0 ? "… " : "") + text.slice(from, to) + (to < text.length ? " …" : "");
    const out = document.createElement("span");
    part.split(new RegExp(pattern, "gi")).forEach((piece, i) => {
      if (i % 2 === 0) {
        out.append(piece);
        return;
      }
      const mark = document.createElement("mark");
      mark.textContent = piece;
      out.append(mark);
    });
    return out;
  };

  const entry = (found) => {
    const link = document.createElement("a");
    link.href = new URL(found.id, root);
    const title = document.createElement("strong");
    title.textContent = found.title === found.page ? found.title : `${found.page}: ${found.title}`;
    link.append(title, excerpt(found.text, found.terms));
    const item = document.createElement("li");
    item.append(link);
    return item;
  };

  const show = async () => {
    const query = input.value.trim();
    box.hidden = query === "";
    if (query === "") {
      return;
    }
    try {
      const found = (await index()).search(query);
      if (query !== input.value.trim()) {
        return; // a newer query is under way
      }
      list.replaceChildren(...found.slice(0, most).map(entry));
      status.textContent = found.length === 0 ? "No section matches." : `${Math.min(most, found.length)} of ${found.length} sections`;
    } catch (err) {
      list.replaceChildren();
      status.textContent = `The search does not work: ${err.message}.`;
    }
  };

  input.addEventListener("focus", () => { index().catch(() => {}); }, { once: true });
  input.addEventListener("input", show);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await show();
    list.querySelector("a")?.click();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      box.hidden = true;
    } else if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      input.focus();
    }
  });
  document.addEventListener("click", (event) => {
    if (!form.contains(event.target)) {
      box.hidden = true;
    }
  });
  list.addEventListener("click", () => { box.hidden = true; });
})();
