// The page without this file is whole, but stands still. This asks for it again and again, and puts in what is new.
"use strict";
(() => {
  const EVERY = 500, AFTER_FAILURE = 2000;
  const $ = (id) => document.getElementById(id);
  const news = $("news");
  const NEWS_LAST = 5000, LIST_LASTS = 10000, PRESS_LASTS = 5000;
  let seen = $("snapshot").dataset.seen, timer = 0, lost = false, changes = 0, silence = 0, listOpen = 0, pressed = 0;

  // Says something to all, or only to those who hear the page; for a while, unless it stays true.
  const say = (text, { heard = false, stays = false } = {}) => {
    clearTimeout(silence);
    news.classList.toggle("heard", heard);
    news.textContent = text;
    if (!stays) silence = setTimeout(() => { news.textContent = ""; }, NEWS_LAST);
  };

  const address = () => {
    const url = new URL(location.href);
    url.hash = "";
    url.searchParams.set("seen", seen);
    return url;
  };

  // Replaces an element's content, and keeps what the user is doing: the focus, a choice that was not sent yet, what is
  // unfolded, and how far tables are scrolled.
  const replace = (old, fresh) => {
    const active = document.activeElement, focus = old.contains(active) ? active.id : "";
    const chosen = [...old.querySelectorAll("select")].map((select) => [select.id, select.value, select.dataset.mine]);
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => [box.parentElement.id, box.scrollLeft, box === active]);
    const unfolded = [...old.querySelectorAll("details[open]")].map((details) => details.id);
    old.replaceChildren(...fresh.childNodes);
    for (const id of unfolded) if ($(id)) $(id).open = true;
    for (const [id, value, mine] of chosen) {
      const select = $(id);
      if (mine && select && [...select.options].some((option) => option.value === value)) {
        select.value = value;
        select.dataset.mine = mine;
      }
    }
    for (const [id, left, isActive] of scrolled) {
      const box = $(id) && $(id).querySelector(".scroll");
      if (box) {
        box.scrollLeft = left;
        if (isActive) box.focus({ preventScroll: true });
      }
    }
    if (focus && $(focus)) $(focus).focus({ preventScroll: true });
  };

  const take = (page) => {
    const reader = page.getElementById("reader"), figures = page.getElementById("snapshot");
    if ($("reader").innerHTML !== reader.innerHTML) $("reader").replaceChildren(...reader.childNodes);
    const tag = figures.dataset.seen;
    // A list that is open would close under the user's hand. (Nothing says for sure whether one is.) And what is
    // exchanged while it is pressed is not clicked.
    if (!tag || tag === seen || !figures.childElementCount || Date.now() < Math.max(listOpen, pressed)) return;
    const before = $("shown") && $("shown").value;
    replace($("snapshot"), figures);
    $("snapshot").dataset.seen = seen = tag;
    document.documentElement.dataset.changes = ++changes;
    if ($("shown") && $("shown").value !== before) {
      say("New: " + $("overview-title").textContent.trim(), { heard: true });
    }
  };

  const ask = async () => {
    let pause = EVERY;
    try {
      const answer = await fetch(address(), { cache: "no-store", signal: AbortSignal.timeout(12000) });
      take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      if (lost) say("The reader answers again.");
      lost = false;
    } catch (error) {
      if (!lost) say("The reader does not answer. This page tries again, and shows what it had.", { stays: true });
      lost = true;
      pause = AFTER_FAILURE;
    }
    since();
    timer = document.hidden ? 0 : setTimeout(ask, pause);
  };

  // Says beside a time how long ago that was.
  const since = () => {
    for (const time of document.querySelectorAll("time.ago")) {
      const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time.dateTime)) / 1000));
      const [n, unit] = seconds < 90 ? [seconds, "s"] : seconds < 5400 ? [Math.round(seconds / 60), "min"]
        : seconds < 129600 ? [Math.round(seconds / 3600), "h"] : [Math.round(seconds / 86400), "days"];
      time.title = time.dateTime;
      time.textContent = `${n} ${unit} ago`;
    }
  };

  // In the grid, the arrow keys go from cell to cell.
  const STEPS = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  document.addEventListener("keydown", (event) => {
    const at = /^cell-(\d)(\d)$/.exec(event.target.id || ""), step = STEPS[event.key];
    if (!at || !step || event.altKey || event.ctrlKey || event.metaKey) return;
    const next = $(`cell-${+at[1] + step[0]}${+at[2] + step[1]}`);
    if (next) {
      next.focus();
      event.preventDefault();
    }
  });
  const isList = (event) => event.target.tagName === "SELECT";
  document.addEventListener("change", (event) => {
    if (!isList(event)) return;
    event.target.dataset.mine = "yes";
    listOpen = 0;
  });
  // Not every press is told its end, so it also ends by itself: a list keeps it, and so does a scroll bar.
  document.addEventListener("pointerdown", (event) => { pressed = isList(event) ? 0 : Date.now() + PRESS_LASTS; });
  for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => { pressed = 0; });
  document.addEventListener("pointermove", (event) => { if (!event.buttons) pressed = 0; });
  document.addEventListener("pointerdown", (event) => { listOpen = isList(event) ? Date.now() + LIST_LASTS : 0; });
  document.addEventListener("keydown", (event) => {
    if (isList(event)) listOpen = event.key === "Escape" || event.key === "Tab" ? 0 : Date.now() + LIST_LASTS;
  });
  document.addEventListener("focusout", (event) => { if (isList(event)) listOpen = 0; });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !timer) ask();
  });
  since();
  timer = setTimeout(ask, EVERY);
})();
