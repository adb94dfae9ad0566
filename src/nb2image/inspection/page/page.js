"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const MOST_TILES = 300;
  const HEADER = 20;
  const LETTER = 7; // about the pixels that a letter of a tile takes
  const KINDS = ["file", "hard link", "symbolic link", "special file"];
  const COLOURS = {
    "/opt/kernel": "kernel", "/opt/runner": "runner", "/opt/support": "support", debian: "debian", nb2image: "nb2image",
    notebook: "notebook", base: "base", nobody: "nobody",
  };

  // Text only ever reaches the page through textContent: names come from the image.
  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function button(text, action) {
    const made = element("button", "", text);
    made.type = "button";
    made.addEventListener("click", action);
    return made;
  }

  function shown(size) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (size >= 1024 && unit < 4) { size /= 1024; unit += 1; }
    return unit ? `${size.toFixed(1)} ${units[unit]}` : `${size} B`;
  }

  const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  // -- the tree: parents before children in `nodes`, so that sizes add up from the end --------------------

  const nodes = [];
  const files = [];
  const ofOwner = new Map();

  // Rows as tree.py says: each folder states how many children follow it, with all that is below them.
  function plant(rows) {
    const open = [];
    for (const raw of rows) {
      while (open.length && !open.at(-1).left) open.pop();
      const parent = open.length ? open.at(-1).node : null;
      if (parent) open.at(-1).left -= 1;
      const folder = raw.length === 3;
      const extra = folder ? raw[2] : {};
      const node = {
        name: raw[0], parent, size: folder ? 0 : raw[1], files: folder ? 0 : 1, children: folder ? [] : null,
        layer: folder ? -1 : raw[2], kind: folder ? -1 : raw[3],
        owner: extra.o ?? (parent ? parent.owner : -1), part: extra.t ?? (parent ? parent.part : ""),
        path: extra.p ?? (parent ? (parent.path === "/" ? "/" : `${parent.path}/`) + raw[0] : "/"),
      };
      nodes.push(node);
      if (parent) parent.children.push(node);
      if (folder) {
        if (extra.o !== undefined) ofOwner.set(extra.o, node);
        open.push({ node, left: raw[1] });
      } else {
        files.push(node);
      }
    }
    for (let n = nodes.length - 1; n > 0; n -= 1) {
      nodes[n].parent.size += nodes[n].size;
      nodes[n].parent.files += nodes[n].files;
    }
    for (const node of nodes) {
      if (node.children) node.children.sort((a, b) => b.size - a.size || (a.name < b.name ? -1 : 1));
    }
    return nodes[0];
  }

  const root = plant(data.tree);
  const colour = (node) => COLOURS[node.part] ?? (node.part ? "wheel" : "nobody");
  let here = root;
  let found = null;

  function ownerOf(node) {
    if (node.owner < 0) return "";
    const [kind, name, version, place] = data.owners[node.owner];
    if (kind === "wheel") return `${name} ${version}, installed in ${place}`;
    return { debian: `${name} ${version}, of Debian`, nb2image: "nb2image", notebook: "the notebook", base: "the base image" }[kind] ?? "no package";
  }

  function described(node) {
    const lines = [];
    const share = root.size ? ` (${((100 * node.size) / root.size).toFixed(1)} % of all files)` : "";
    lines.push(shown(node.size) + share + (node.children ? `, ${count(node.files, "file")}` : ""));
    if (ownerOf(node)) lines.push(`brought by ${ownerOf(node)}`);
    if (node.layer >= 0) {
      const [role, comment] = data.layers[node.layer];
      lines.push(`layer ${node.layer + 1}${role ? ` (${role})` : ""}: ${comment.length > 120 ? `${comment.slice(0, 120)}…` : comment}`);
      if (node.kind > 0) lines.push(KINDS[node.kind]);
    }
    return lines;
  }

  const heading = (node) => (node === root ? "image" : node.children && (node.parent === root || node.owner !== node.parent.owner) ? node.name : node.path);

  // -- squarified treemap (Bruls, Huizing, van Wijk 2000) -------------------------------------------------

  function squarify(items, x, y, width, height, place) {
    let rest = items.reduce((sum, item) => sum + item.size, 0);
    let start = 0;
    while (start < items.length && rest > 0 && width > 0 && height > 0) {
      const side = Math.min(width, height);
      const scale = (width * height) / rest;
      let sum = 0;
      let worst = Infinity;
      let end = start;
      while (end < items.length) {
        const next = sum + items[end].size;
        const thick = (next * scale) / side;
        const longest = (items[start].size * scale) / thick;
        const shortest = (items[end].size * scale) / thick;
        const ratio = Math.max(longest / thick, thick / shortest);
        if (ratio > worst) break;
        worst = ratio;
        sum = next;
        end += 1;
      }
      const thick = (sum * scale) / side;
      let along = 0;
      for (let n = start; n < end; n += 1) {
        const length = (items[n].size / sum) * side;
        if (width >= height) place(items[n], x, y + along, thick, length);
        else place(items[n], x + along, y, length, thick);
        along += length;
      }
      if (width >= height) { x += thick; width -= thick; } else { y += thick; height -= thick; }
      rest -= sum;
      start = end;
    }
  }

  // The largest children; what is beyond them is one area, so that areas stay proportional.
  function drawn(node) {
    const all = node.children.filter((child) => child.size > 0);
    if (all.length <= MOST_TILES) return all;
    const rest = all.slice(MOST_TILES - 1);
    const files = rest.reduce((sum, child) => sum + child.files, 0);
    const size = rest.reduce((sum, child) => sum + child.size, 0);
    const others = {
      name: `${count(rest.length, "smaller one")}`, parent: node, size, files, children: null, rest: true, layer: -1, kind: 0,
      owner: -1, part: node.part, path: node.path,
    };
    return [...all.slice(0, MOST_TILES - 1), others].sort((a, b) => b.size - a.size);
  }

  const map = $("map");
  let tiles = [];

  function tile(node, x, y, width, height, inner) {
    const made = button(undefined, () => {
      if (node.children) go(node);
      else point(made);
    });
    made.className = `tile ${colour(node)}${inner ? " inner" : ""}${node.children ? "" : " leaf"}`;
    // A style attribute would break the page's own security policy; the object model does not.
    Object.assign(made.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
    const holder = !inner && holds(node, width, height);
    if (holder) made.classList.add("holder");
    const room = Math.floor((width - 12) / LETTER);
    const label = node.name.length > room && ofOwner.get(node.owner) === node ? data.owners[node.owner][1] : node.name;
    if (room >= Math.min(label.length, 6) && height > 18) {
      const size = shown(node.size);
      made.append(element("b", "", label || node.name));
      if (holder ? room > Math.min(label.length, 12) + size.length + 1 : height > 38 && room >= size.length) made.append(element("i", "", size));
    } else {
      made.classList.add("tiny");
    }
    made.tabIndex = -1;
    made.setAttribute("aria-label", `${node.name}, ${described(node).join(", ")}`);
    made.node = node;
    made.dataset.size = node.size;
    made.dataset.name = node.name;
    map.append(made);
    tiles.push(made);
    return made;
  }

  // Whether a tile has room to show what is in it.
  const holds = (node, width, height) => node.children !== null && width >= 44 && height >= 44;

  function draw() {
    map.replaceChildren();
    tiles = [];
    const width = map.clientWidth;
    const height = map.clientHeight;
    squarify(drawn(here), 0, 0, width, height, (node, x, y, w, h) => {
      if (w < 1.5 || h < 1.5) return;
      tile(node, x, y, w, h, false);
      if (!holds(node, w, h)) return;
      squarify(drawn(node), x + 1, y + HEADER, w - 2, h - HEADER - 1, (child, cx, cy, cw, ch) => {
        if (cw >= 3 && ch >= 3) tile(child, cx, cy, cw, ch, true);
      });
    });
    if (tiles.length) tiles[0].tabIndex = 0;
    else map.append(element("p", "hint", "Nothing here takes space."));
    dim();
  }

  function dim() {
    for (const made of tiles) made.classList.toggle("dim", found !== null && !found.has(made.node));
  }

  // -- where we are ---------------------------------------------------------------------------------------

  function trail(node) {
    const steps = [];
    for (let step = node; step; step = step.parent) steps.unshift(step);
    return steps;
  }

  const address = (node) => `#${trail(node).slice(1).map((step) => step.parent.children.indexOf(step)).join(".")}`;

  function go(node) {
    if (node === here) return;
    if (location.hash === address(node)) follow();
    else location.hash = address(node);
  }

  function follow() {
    let node = root;
    for (const step of location.hash.slice(1).split(".").filter((word) => /^\d+$/.test(word))) {
      const child = node.children && node.children[Number(step)];
      if (!child || !child.children) break;
      node = child;
    }
    const before = here;
    const inside = document.activeElement && map.contains(document.activeElement);
    here = node;
    show();
    if (inside) {
      const back = tiles.find((made) => made.node === before) ?? tiles[0];
      if (back) move(back);
    }
  }

  function show() {
    hideTip();
    const crumbs = $("crumbs");
    crumbs.replaceChildren();
    for (const node of trail(here)) {
      if (node !== root) crumbs.append(element("span", "", "›"));
      const made = button(node.name, () => go(node));
      if (node === here) made.setAttribute("aria-current", "location");
      crumbs.append(made);
    }
    draw();
    if (!$("search").value.trim()) list();
  }

  // -- pointing and keys ----------------------------------------------------------------------------------

  const tip = $("tip");

  function showTip(made, x, y) {
    tip.replaceChildren(element("b", "", heading(made.node)));
    for (const line of described(made.node)) tip.append(element("div", "", line));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 14 + box.width > innerWidth - 8 ? x - 14 - box.width : x + 14;
    const top = y + 16 + box.height > innerHeight - 8 ? y - 12 - box.height : y + 16;
    Object.assign(tip.style, { left: `${Math.max(8, left)}px`, top: `${Math.max(8, top)}px` });
  }

  // Say what a tile is at its middle: for keys and fingers.
  function point(made) {
    const box = made.getBoundingClientRect();
    showTip(made, box.left + box.width / 2, box.top + box.height / 2);
  }

  function hideTip() { tip.hidden = true; }

  function move(made) {
    for (const other of tiles) other.tabIndex = -1;
    made.tabIndex = 0;
    made.focus();
  }

  map.addEventListener("pointermove", (event) => {
    const made = event.target.closest(".tile");
    if (made && event.pointerType === "mouse") showTip(made, event.clientX, event.clientY);
    else hideTip();
  });
  map.addEventListener("pointerleave", hideTip);
  map.addEventListener("focusin", (event) => {
    const made = event.target.closest(".tile");
    if (!made || !made.matches(":focus-visible")) return;
    point(made);
  });
  map.addEventListener("focusout", hideTip);
  map.addEventListener("keydown", (event) => {
    const made = event.target.closest(".tile");
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if ((event.key === "Escape" || event.key === "Backspace") && here.parent) {
      event.preventDefault();
      go(here.parent);
    } else if (made && step) {
      event.preventDefault();
      const next = neighbour(made, step);
      if (next) move(next);
    }
  });

  function neighbour(made, [dx, dy]) {
    const centre = (each) => [each.offsetLeft + each.offsetWidth / 2, each.offsetTop + Math.min(each.offsetHeight / 2, HEADER)];
    const [x, y] = centre(made);
    let best = null;
    let least = Infinity;
    for (const each of tiles) {
      const [tx, ty] = centre(each);
      const ahead = (tx - x) * dx + (ty - y) * dy;
      const aside = Math.abs((tx - x) * dy) + Math.abs((ty - y) * dx);
      if (each !== made && ahead > 1 && ahead + 2 * aside < least) { least = ahead + 2 * aside; best = each; }
    }
    return best;
  }

  // -- tables ---------------------------------------------------------------------------------------------

  // columns: [title, kind ("n": number, "text", …), value of a row to sort by, cell of a row]
  function table(target, columns, rows, sorted, downwards) {
    const body = element("tbody");
    const head = element("tr");
    const heads = columns.map(([title, kind]) => {
      const cell = element("th", kind);
      cell.scope = "col";
      if (sorted !== null) cell.append(button(title, () => sort(heads.indexOf(cell))));
      else cell.textContent = title;
      head.append(cell);
      return cell;
    });
    function fill(list) {
      body.replaceChildren(...list.map((row) => {
        const line = element("tr");
        for (const [, kind, value, cell] of columns) {
          const made = element("td", kind);
          const content = cell ? cell(row) : value(row);
          made.append(typeof content === "object" ? content : String(content));
          line.append(made);
        }
        return line;
      }));
    }
    function sort(column, down) {
      const [, kind, value] = columns[column];
      const before = heads[column].getAttribute("aria-sort");
      down ??= before ? before === "ascending" : kind.startsWith("n") && !kind.startsWith("name");
      for (const each of heads) each.removeAttribute("aria-sort");
      heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
      const ordered = rows.map((row) => [value(row), row]).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      fill((down ? ordered.reverse() : ordered).map(([, row]) => row));
    }
    const top = element("thead");
    top.append(head);
    target.replaceChildren(top, body);
    if (sorted === null) fill(rows);
    else sort(sorted, downwards);
  }

  function jump(node) {
    go(node.children ? node : node.parent);
    $("crumbs").scrollIntoView({ block: "nearest" });
  }

  // A size with a bar that shows its share of the largest.
  function bar(node, size, largest) {
    const made = document.createDocumentFragment();
    const line = element("div", colour(node));
    line.style.setProperty("--share", `${largest ? (100 * size) / largest : 0}%`);
    made.append(shown(size), line);
    return made;
  }

  const link = (node, text) => (node && node.children ? button(text, () => jump(node)) : text);
  const MOST_ROWS = 200;

  function list() {
    const rows = here.children;
    $("list-title").textContent = `In ${heading(here)}: ${count(here.files, "file")}, ${shown(here.size)}`;
    table($("list"), [
      ["Name", "name", (row) => row.name, (row) => link(row, row.name)],
      ["Files", "n", (row) => row.files, (row) => row.files.toLocaleString("en")],
      ["Layer", "n optional", (row) => row.layer, (row) => (row.layer < 0 ? "" : row.layer + 1)],
      ["Size", "n size", (row) => row.size, (row) => bar(row, row.size, rows[0].size)],
    ].filter(([title]) => title !== "Layer" || rows.some((row) => row.layer >= 0)), rows.slice(0, MOST_ROWS), null);
    if (rows.length > MOST_ROWS) note(`and ${count(rows.length - MOST_ROWS, "smaller one")}`);
  }

  function note(text) {
    const line = element("tr");
    const cell = element("td", "hint", text);
    cell.colSpan = $("list").tHead.rows[0].cells.length;
    line.append(cell);
    $("list").tBodies[0].append(line);
  }

  function marked(text, word) {
    const part = document.createDocumentFragment();
    const at = text.toLowerCase().indexOf(word);
    if (at < 0) part.append(text);
    else part.append(text.slice(0, at), element("mark", "", text.slice(at, at + word.length)), text.slice(at + word.length));
    return part;
  }

  function search() {
    const word = $("search").value.trim().toLowerCase();
    if (!word) {
      found = null;
      dim();
      list();
      return;
    }
    const packages = data.packages.filter((number) => data.owners[number][1].toLowerCase().includes(word) && ofOwner.has(number));
    const hits = files.filter((file) => file.path.toLowerCase().includes(word)).sort((a, b) => b.size - a.size);
    found = new Set();
    for (const hit of [...packages.map((number) => ofOwner.get(number)), ...hits]) {
      for (let node = hit; node && !found.has(node); node = node.parent) found.add(node);
    }
    // What lies in a package that was found is found with it.
    const whole = new Set(packages);
    for (const node of nodes) if (whole.has(node.owner)) found.add(node);
    const size = hits.reduce((sum, hit) => sum + hit.size, 0);
    $("list-title").textContent = `Found: ${count(packages.length, "package")}; ${count(hits.length, "file")} of ${shown(size)}`;
    const rows = [...packages.map((number) => ofOwner.get(number)), ...hits.slice(0, MOST_ROWS)];
    table($("list"), [
      ["Name", "name", (row) => row.path, (row) => {
        const made = button("", () => jump(row));
        made.append(marked(row.children ? row.name : row.path, word));
        return made;
      }],
      ["Brought by", "text optional", (row) => ownerOf(row), (row) => ownerOf(row)],
      ["Size", "n", (row) => row.size, (row) => shown(row.size)],
      ["Layer", "n optional", (row) => row.layer, (row) => (row.layer < 0 ? "" : row.layer + 1)],
    ], rows, null);
    if (hits.length > MOST_ROWS) note(`and ${count(hits.length - MOST_ROWS, "smaller file")}`);
    dim();
  }

  const compiled = data.packages.some((number) => data.owners[number][6]);
  table($("packages"), [
    ["Package", "name", (n) => data.owners[n][1], (n) => link(ofOwner.get(n), data.owners[n][1])],
    ["Version", "text", (n) => data.owners[n][2]],
    ["In", "mono optional", (n) => data.owners[n][3] || "Debian"],
    ["Files", "n optional", (n) => data.owners[n][4], (n) => data.owners[n][4].toLocaleString("en")],
    ["Bytecode", "n optional", (n) => data.owners[n][6], (n) => (data.owners[n][6] ? shown(data.owners[n][6]) : "")],
    ["Size", "n size", (n) => data.owners[n][5], (n) => bar(ofOwner.get(n) ?? root, data.owners[n][5], data.owners[data.packages[0]][5])],
  ].filter(([title]) => title !== "Bytecode" || compiled), data.packages, compiled ? 5 : 4, true);

  // Columns that say nothing of this image take no room.
  const empty = { Brings: 0, Hidden: 6 };
  for (const [title, member] of Object.entries(empty)) if (data.layers.some((layer) => layer[member])) delete empty[title];
  $("hidden").hidden = "Hidden" in empty;
  table($("layers"), [
    ["Layer", "n", (n) => n, (n) => n + 1],
    ["Brings", "text optional", (n) => data.layers[n][0]],
    ["History", "text long", (n) => data.layers[n][1], (n) => element("div", "clip", data.layers[n][1])],
    ["Stored", "n", (n) => data.layers[n][2], (n) => shown(data.layers[n][2])],
    ["Tar", "n optional", (n) => data.layers[n][3], (n) => shown(data.layers[n][3])],
    ["Files", "n optional", (n) => data.layers[n][4], (n) => data.layers[n][4].toLocaleString("en")],
    ["Hidden", "n optional", (n) => data.layers[n][6], (n) => (data.layers[n][6] ? shown(data.layers[n][6]) : "")],
    ["Digest", "mono optional", (n) => data.layers[n][7], (n) => data.layers[n][7].slice(0, 19)],
  ].filter(([title]) => !(title in empty)), data.layers.map((_, n) => n), 0, false);

  for (const part of root.children) {
    const item = element("li");
    const made = button(part.name, () => go(part));
    made.prepend(element("span", colour(part)));
    made.append(element("i", "", shown(part.size)));
    item.append(made);
    $("legend").append(item);
  }
  for (const each of document.querySelectorAll(".wide")) each.tabIndex = 0;

  let waiting = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 120);
  });
  addEventListener("hashchange", follow);
  let width = 0;
  new ResizeObserver(() => {
    if (map.clientWidth !== width) { width = map.clientWidth; draw(); }
  }).observe(map);
  follow();
})();
